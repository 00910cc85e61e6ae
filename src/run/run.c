/* A run from its owner's view: new, start, progress, stop, free. */
#include "run/run.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "core/cpus.h"
#include "core/json.h"
#include "core/thread.h"
#include "run/inside.h"

/* ---- new and free ---- */

static void slot_free(struct kn_slot *slot)
{
    if (!slot)
        return;
    kn_figures_fini(&slot->w.figures);
    if (slot->w.own)
        slot->w.own_free(slot->w.own);
    kn_backends_free(slot->w.backends);
    free(slot);
}

static struct kn_slot *slot_new(struct kn_run *run, struct kn_part *part, unsigned index, unsigned first, unsigned n,
                                struct kn_error *err)
{
    size_t size = (sizeof(struct kn_slot) + 127) / 128 * 128; /* workers share no cache line */
    struct kn_slot *slot = aligned_alloc(128, size);
    if (!slot)
        return kn_null(kn_fail(err, KN_E_MEMORY, "no memory for a worker"));
    memset(slot, 0, size);
    slot->w.run = run;
    slot->w.part = part;
    slot->w.spec = &part->spec;
    slot->w.stop = &run->stop;
    slot->w.target = &part->target;
    slot->w.index = index;
    slot->w.n_workers = part->n_workers;
    slot->w.first_flow = first;
    slot->w.n_flows = n;
    slot->w.tx_size = run->spec.size;
    slot->w.rx_size = run->spec.response_size;
    if (kn_figures_init(&slot->w.figures, run->spec.interval_ns, err)) {
        free(slot);
        return NULL;
    }
    return slot;
}

static unsigned cpus_of(const struct kn_spec *spec)
{
    cpu_set_t set;
    struct kn_error ignored;
    return *spec->cpus && !kn_cpus_parse("cpus", spec->cpus, &set, &ignored) ? (unsigned)CPU_COUNT(&set)
                                                                             : kn_cpus_allowed();
}

static unsigned thread_count(const struct kn_spec *spec)
{
    uint64_t n = spec->threads ? spec->threads : cpus_of(spec);
    uint64_t flows = spec->flows ? spec->flows : 1;
    return (unsigned)(n < flows ? (n ? n : 1) : flows);
}

static int fill_part(struct kn_run *run, struct kn_part *part, struct kn_error *err)
{
    unsigned n = part->n_workers, flows = (unsigned)part->spec.flows, first = 0;
    for (unsigned i = 0; i < n; i++) {
        unsigned share = flows / n + (i < flows % n);
        struct kn_slot *slot = slot_new(run, part, i, first, share, err);
        if (!slot)
            return -1;
        run->slots[run->n_slots++] = slot;
        first += share;
    }
    return 0;
}

static int make_slots(struct kn_run *run, struct kn_error *err)
{
    unsigned n = thread_count(&run->spec), flows = (unsigned)run->spec.flows;
    kn_parts_threads(run, n);
    run->slots = calloc(n > run->n_parts ? n : run->n_parts, sizeof *run->slots);
    run->fds = malloc(flows * sizeof *run->fds);
    if (!run->slots || !run->fds)
        return kn_fail(err, KN_E_MEMORY, "no memory for %u flows", flows);
    for (unsigned i = 0; i < flows; i++)
        run->fds[i] = -1;
    for (unsigned i = 0; i < run->n_parts; i++)
        if (fill_part(run, &run->parts[i], err))
            return -1;
    return 0;
}

struct kn_run *kn_run_new(const struct kn_spec *spec, const struct kn_target *target, struct kn_error *err)
{
    return kn_run_new_to(spec, target, 1, err);
}

struct kn_run *kn_run_new_to(const struct kn_spec *spec, const struct kn_target *targets, unsigned n,
                             struct kn_error *err)
{
    struct kn_run *run = calloc(1, sizeof *run);
    if (!run)
        return kn_null(kn_fail(err, KN_E_MEMORY, "no memory for a run"));
    kn_lock_init(&run->lock, &run->changed);
    run->spec = *spec;
    if (!run->spec.flows)
        run->spec.flows = 1;
    if (spec->count && spec->test->counts_bytes)
        run->spec.warmup_ns = 0; /* messages of the warm-up cannot be told from others, and the count must be exact */
    run->chosen = json_object();
    run->flags = json_array();
    if (!run->chosen || !run->flags) {
        kn_fail_memory(err);
        goto fail;
    }
    if (getrandom(run->nonce, sizeof run->nonce, 0) < 0) {
        kn_fail_errno(err, "no random numbers");
        goto fail;
    }
    if (kn_parts_new(run, targets, n, err) || make_slots(run, err))
        goto fail;
    if (spec->threads && spec->threads < n)
        kn_run_chosen(run, "threads", "one for each target, which is the least");
    return run;
fail:
    kn_run_free(run);
    return NULL;
}

static void join(struct kn_run *run)
{
    if (run->controller_started && !run->joined) {
        pthread_join(run->controller, NULL);
        run->joined = true;
    }
}

void kn_run_free(struct kn_run *run)
{
    if (!run)
        return;
    kn_run_stop(run);
    join(run);
    for (unsigned i = 0; i < run->n_slots; i++)
        slot_free(run->slots[i]);
    free(run->slots);
    free(run->parts);
    free(run->fds);
    for (unsigned i = 0; i < run->n_servers; i++) {
        kn_figures_fini(&run->servers[i].figures);
        json_decref(run->servers[i].cpu);
    }
    free(run->servers);
    json_decref(run->chosen);
    json_decref(run->flags);
    pthread_cond_destroy(&run->changed);
    pthread_mutex_destroy(&run->lock);
    free(run);
}

/* ---- what any thread may do ---- */

/* No further operation. */
static void halt(struct kn_run *run)
{
    atomic_store(&run->stop, true);
    pthread_mutex_lock(&run->lock);
    pthread_cond_broadcast(&run->changed);
    pthread_mutex_unlock(&run->lock);
}

void kn_run_stop(struct kn_run *run)
{
    pthread_mutex_lock(&run->lock);
    if (!run->over) /* else it stops nothing, and the result is whole */
        atomic_store(&run->asked_to_stop, true);
    pthread_mutex_unlock(&run->lock);
    halt(run);
}

/* The lock is held. */
static void set_failed(struct kn_run *run, const struct kn_error *err)
{
    if (!run->failed) {
        run->failed = true;
        run->err = *err;
    }
}

void kn_run_fail(struct kn_run *run, const struct kn_error *err)
{
    pthread_mutex_lock(&run->lock);
    set_failed(run, err);
    pthread_mutex_unlock(&run->lock);
    halt(run);
}

/* Out of memory is an error here: a result without one of its flags would look better than it is. The lock is held. */
static void fail_if_lost(struct kn_run *run, unsigned long losses)
{
    struct kn_error err;
    if (kn_json_losses() == losses)
        return;
    kn_fail_memory(&err);
    set_failed(run, &err);
    atomic_store(&run->stop, true);
    pthread_cond_broadcast(&run->changed);
}

void kn_run_flag(struct kn_run *run, const char *flag)
{
    size_t i;
    json_t *have;
    bool known = false;
    pthread_mutex_lock(&run->lock);
    unsigned long losses = kn_json_losses();
    json_array_foreach(run->flags, i, have) known = known || !strcmp(json_string_value(have), flag);
    if (!known)
        kn_json_append(run->flags, json_string(flag));
    fail_if_lost(run, losses);
    pthread_mutex_unlock(&run->lock);
}

void kn_run_nonce(const struct kn_run *run, uint64_t number, uint8_t nonce[KN_NONCE_SIZE])
{
    memcpy(nonce, run->nonce, KN_NONCE_SIZE);
    for (size_t i = 0; i < sizeof number; i++)
        nonce[KN_NONCE_SIZE - 1 - i] ^= (uint8_t)(number >> 8 * i);
}

/* Values of flows that chose differently are appended; with very many, only the first few. */
void kn_run_chosen(struct kn_run *run, const char *key, const char *text)
{
    const char *old = json_string_value(json_object_get(run->chosen, key));
    unsigned long losses = kn_json_losses();
    if (!old)
        kn_json_set(run->chosen, key, json_string(text));
    else if (!strstr(old, text) && strlen(old) < 200)
        kn_json_set(run->chosen, key, json_sprintf("%s, %s", old, text));
    fail_if_lost(run, losses);
}

void kn_run_progress(struct kn_run *run, struct kn_progress *out)
{
    uint64_t now_ns = kn_now_ns(), open_ns = atomic_load(&run->open_ns), over_ns = atomic_load(&run->over_ns);
    *out = (struct kn_progress){.phase = (enum kn_phase)atomic_load(&run->phase), .total_ns = run->spec.duration_ns};
    if (over_ns && over_ns < now_ns)
        now_ns = over_ns;
    if (open_ns && now_ns > open_ns)
        out->elapsed_ns = now_ns - open_ns;
    if (out->total_ns && out->elapsed_ns > out->total_ns)
        out->elapsed_ns = out->total_ns;
    for (unsigned i = 0; i < run->n_slots; i++) {
        out->ops += atomic_load_explicit(&run->slots[i]->w.live_ops, memory_order_relaxed);
        out->bytes += atomic_load_explicit(&run->slots[i]->w.live_bytes, memory_order_relaxed);
    }
}

bool kn_run_wait(struct kn_run *run, uint64_t timeout_ns)
{
    struct timespec until;
    uint64_t now_ns = kn_now_ns();
    until = kn_timespec(timeout_ns < UINT64_MAX - now_ns ? now_ns + timeout_ns : UINT64_MAX / 2);
    pthread_mutex_lock(&run->lock);
    while (!run->over && !pthread_cond_timedwait(&run->changed, &run->lock, &until))
        ;
    bool over = run->over;
    pthread_mutex_unlock(&run->lock);
    return over;
}

int kn_run_start(struct kn_run *run, struct kn_error *err)
{
    if (run->controller_started)
        return kn_fail(err, KN_E_ARGUMENT, "a run starts once");
    int failed = pthread_create(&run->controller, NULL, kn_run_control, run);
    if (failed)
        return kn_fail_from(err, failed, "cannot start a thread");
    run->controller_started = true;
    return 0;
}
