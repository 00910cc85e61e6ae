/* The life of a run: its threads, its window, its end. */
#include "engines/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engines/flow.h"
#include "engines/run.h"
#include "meter/meter.h"
#include "net/io.h"

#define RESOLVE_TIMEOUT_NS (5 * KN_NS_PER_S)
#define FAMILY_TIMEOUT_NS KN_NS_PER_S
#define SEND_GRACE_NS (300 * KN_NS_PER_MS)    /* for a worker in send() past its end */
#define ANSWER_GRACE_NS (1 * KN_NS_PER_S)     /* for one that waits for an answer */
#define STOP_GRACE_NS (100 * KN_NS_PER_MS)    /* the same, where somebody wants it to end now */
#define STALL_NS (15 * KN_NS_PER_S)           /* a counted run in which nothing moves for so long is lost */
#define TICK_NS (100 * KN_NS_PER_MS)
#define STACK_SIZE (256u << 10)

static const struct kn_test_ops *const table[KN_TEST_COUNT] = {
    [KN_TCP_STREAM] = &kn_tcp_stream_ops, [KN_TCP_SENDFILE] = &kn_tcp_sendfile_ops, [KN_TCP_BW] = &kn_tcp_bw_ops,
    [KN_TCP_RR] = &kn_tcp_rr_ops, [KN_TCP_LAT] = &kn_tcp_lat_ops, [KN_TCP_CRR] = &kn_tcp_crr_ops,
    [KN_UDP_STREAM] = &kn_udp_stream_ops, [KN_UDP_RR] = &kn_udp_rr_ops,
    [KN_HTTP] = &kn_http_ops, [KN_PING] = &kn_ping_ops,
};

const struct kn_test_ops *kn_test_ops(enum kn_test test)
{
    return (unsigned)test < KN_TEST_COUNT ? table[test] : NULL;
}

/* ---- new and free ---- */

static void slot_free(struct kn_slot *slot)
{
    if (!slot)
        return;
    kn_figures_fini(&slot->w.figures);
    free(slot);
}

static struct kn_slot *slot_new(struct kn_run *run, unsigned index, unsigned first, unsigned n, struct kn_error *err)
{
    size_t size = (sizeof(struct kn_slot) + 127) / 128 * 128; /* workers share no cache line */
    struct kn_slot *slot = aligned_alloc(128, size);
    if (!slot) {
        kn_fail(err, KN_E_MEMORY, "no memory for a worker");
        return NULL;
    }
    memset(slot, 0, size);
    slot->w.run = run;
    slot->w.spec = &run->spec;
    slot->w.stop = &run->stop;
    slot->w.target = &run->target;
    slot->w.index = index;
    slot->w.first_flow = first;
    slot->w.n_flows = n;
    if (kn_figures_init(&slot->w.figures, run->spec.interval_ns, err)) {
        free(slot);
        return NULL;
    }
    return slot;
}

static unsigned thread_count(const struct kn_spec *spec)
{
    uint64_t n = spec->threads ? spec->threads : kn_cpus_allowed();
    uint64_t flows = spec->flows ? spec->flows : 1;
    return (unsigned)(n < flows ? (n ? n : 1) : flows);
}

static int make_slots(struct kn_run *run, struct kn_error *err)
{
    unsigned n = thread_count(&run->spec), flows = (unsigned)run->spec.flows, first = 0;
    run->slots = calloc(n, sizeof *run->slots);
    run->fds = malloc(flows * sizeof *run->fds);
    if (!run->slots || !run->fds)
        return kn_fail(err, KN_E_MEMORY, "no memory for %u flows", flows);
    for (unsigned i = 0; i < flows; i++)
        run->fds[i] = -1;
    for (; run->n_slots < n; run->n_slots++) {
        unsigned share = flows / n + (run->n_slots < flows % n);
        run->slots[run->n_slots] = slot_new(run, run->n_slots, first, share, err);
        if (!run->slots[run->n_slots])
            return -1;
        run->slots[run->n_slots]->w.n_workers = n;
        first += share;
    }
    return 0;
}

static void init_lock(struct kn_run *run)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&run->changed, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&run->lock, NULL);
}

struct kn_run *kn_run_new(const struct kn_spec *spec, const struct kn_target *target, struct kn_error *err)
{
    if (kn_spec_check(spec, err))
        return NULL;
    struct kn_run *run = calloc(1, sizeof *run);
    if (!run) {
        kn_fail(err, KN_E_MEMORY, "no memory for a run");
        return NULL;
    }
    init_lock(run);
    run->spec = *spec;
    if (!run->spec.flows)
        run->spec.flows = 1;
    if (spec->count && (spec->test == KN_TCP_STREAM || spec->test == KN_TCP_SENDFILE || spec->test == KN_TCP_BW))
        run->spec.warmup_ns = 0; /* a stream's messages cannot be told apart: all are counted, or the count is not exact */
    run->target = *target;
    run->ops = kn_test_ops((enum kn_test)spec->test);
    atomic_store(&run->left, spec->count);
    run->chosen = json_object();
    run->flags = json_array();
    if (getrandom(&run->id, sizeof run->id, 0) < 0 || getrandom(run->nonce, sizeof run->nonce, 0) < 0) {
        kn_fail_errno(err, "no random numbers");
        goto fail;
    }
    if (make_slots(run, err))
        goto fail;
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

static void halt(struct kn_run *run)
{
    atomic_store(&run->stop, true);
    pthread_mutex_lock(&run->lock);
    pthread_cond_broadcast(&run->changed);
    pthread_mutex_unlock(&run->lock);
}

void kn_run_stop(struct kn_run *run)
{
    atomic_store(&run->asked_to_stop, true);
    halt(run);
}

/* Keeps the first, and stops the run. */
static void fail_run(struct kn_run *run, const struct kn_error *err)
{
    pthread_mutex_lock(&run->lock);
    if (!run->failed) {
        run->failed = true;
        run->err = *err;
    }
    pthread_mutex_unlock(&run->lock);
    halt(run);
}

void kn_run_flag(struct kn_run *run, const char *flag)
{
    size_t i;
    json_t *have;
    bool known = false;
    pthread_mutex_lock(&run->lock);
    json_array_foreach(run->flags, i, have)
        known = known || !strcmp(json_string_value(have), flag);
    if (!known)
        json_array_append_new(run->flags, json_string(flag));
    pthread_mutex_unlock(&run->lock);
}

/* Flows that chose otherwise are named beside; of very many, the first few. */
void kn_run_chosen(struct kn_run *run, const char *key, const char *text)
{
    const char *old = json_string_value(json_object_get(run->chosen, key));
    if (!old)
        json_object_set_new(run->chosen, key, json_string(text));
    else if (!strstr(old, text) && strlen(old) < 200)
        json_object_set_new(run->chosen, key, json_sprintf("%s, %s", old, text));
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

static void timespec_of(uint64_t ns, struct timespec *t)
{
    t->tv_sec = (time_t)(ns / KN_NS_PER_S);
    t->tv_nsec = (long)(ns % KN_NS_PER_S);
}

bool kn_run_wait(struct kn_run *run, uint64_t timeout_ns)
{
    struct timespec until;
    uint64_t now_ns = kn_now_ns();
    timespec_of(timeout_ns < UINT64_MAX - now_ns ? now_ns + timeout_ns : UINT64_MAX / 2, &until);
    pthread_mutex_lock(&run->lock);
    while (!run->over && !pthread_cond_timedwait(&run->changed, &run->lock, &until))
        ;
    bool over = run->over;
    pthread_mutex_unlock(&run->lock);
    return over;
}

/* ---- the workers' threads ---- */

static void *work(void *arg)
{
    struct kn_slot *slot = arg;
    struct kn_run *run = slot->w.run;
    if (run->ops->client(&slot->w, &slot->err)) {
        slot->failed = true;
        /* a worker that gave up because others had failed, or because it was told to, is not the cause */
        if (!atomic_load(&run->asked_to_stop) && (slot->err.code != KN_E_INTERRUPTED || !atomic_load(&run->stop)))
            fail_run(run, &slot->err);
    }
    kn_worker_cpu_close(&slot->w);
    pthread_mutex_lock(&run->lock);
    slot->done = true;
    pthread_cond_broadcast(&run->changed);
    pthread_mutex_unlock(&run->lock);
    return NULL;
}

static int start_workers(struct kn_run *run)
{
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_SIZE);
    int failed = 0;
    for (unsigned i = 0; i < run->n_slots && !failed; i++) {
        struct kn_slot *slot = run->slots[i];
        slot->w.peer = run->peer;
        failed = pthread_create(&slot->thread, &attr, work, slot);
        slot->started = !failed;
    }
    pthread_attr_destroy(&attr);
    return failed;
}

/* ---- the controller ---- */

enum mark { MARK_READY, MARK_LOOP_OVER, MARK_DONE };

/* Of the workers that were started; the lock is held. */
static bool all(const struct kn_run *run, enum mark mark)
{
    for (unsigned i = 0; i < run->n_slots; i++) {
        const struct kn_slot *s = run->slots[i];
        if (s->started && !s->done && !(mark == MARK_READY && s->ready) && !(mark == MARK_LOOP_OVER && s->loop_over))
            return false;
    }
    return true;
}

/* Until the time, the mark, or a stop where `heed_stop`. True: the mark was reached. */
static bool await(struct kn_run *run, enum mark mark, uint64_t until_ns, bool heed_stop)
{
    struct timespec until;
    timespec_of(until_ns, &until);
    int timed_out = 0;
    pthread_mutex_lock(&run->lock);
    while (!all(run, mark) && !timed_out && !(heed_stop && atomic_load(&run->stop)))
        timed_out = pthread_cond_timedwait(&run->changed, &run->lock, &until);
    bool reached = all(run, mark);
    pthread_mutex_unlock(&run->lock);
    return reached;
}

static void cut(struct kn_run *run, int how)
{
    pthread_mutex_lock(&run->lock);
    run->cut = run->cut || how == SHUT_RDWR;
    for (unsigned i = 0; i < run->n_slots; i++) {
        const struct kn_slot *s = run->slots[i];
        for (unsigned f = s->w.first_flow; !s->done && !s->loop_over && f < s->w.first_flow + s->w.n_flows; f++)
            if (run->fds[f] >= 0)
                shutdown(run->fds[f], how);
    }
    pthread_mutex_unlock(&run->lock);
}

/* Operations that have outlived their timeout: their sockets are shut down, the worker counts it. */
static void end_stuck(struct kn_run *run)
{
    uint64_t now_ns = kn_now_ns();
    pthread_mutex_lock(&run->lock);
    for (unsigned i = 0; i < run->n_slots; i++) {
        const struct kn_worker *w = &run->slots[i]->w;
        uint64_t begun_ns = atomic_load_explicit(&w->begun_ns, memory_order_relaxed);
        if (begun_ns && now_ns > begun_ns && now_ns - begun_ns > run->spec.timeout_ns && run->fds[w->first_flow] >= 0)
            shutdown(run->fds[w->first_flow], SHUT_RDWR);
    }
    pthread_mutex_unlock(&run->lock);
}

/* Until the loops are over, the time, or a stop. */
static bool await_loops(struct kn_run *run, uint64_t until_ns)
{
    uint64_t now_ns;
    while ((now_ns = kn_now_ns()) < until_ns && !atomic_load(&run->stop)) {
        uint64_t step_ns = now_ns + TICK_NS;
        if (await(run, MARK_LOOP_OVER, step_ns < until_ns ? step_ns : until_ns, true))
            return true;
        end_stuck(run);
    }
    return false;
}

static void open_window(struct kn_run *run)
{
    uint64_t now_ns = kn_now_ns(), open_ns = now_ns + run->spec.warmup_ns;
    pthread_mutex_lock(&run->lock);
    atomic_store(&run->open_ns, open_ns);
    atomic_store(&run->end_ns, run->spec.duration_ns ? open_ns + run->spec.duration_ns : UINT64_MAX);
    atomic_store(&run->start_ns, now_ns);
    pthread_cond_broadcast(&run->changed);
    pthread_mutex_unlock(&run->lock);
    atomic_store(&run->phase, KN_PHASE_WARMUP);
}

static uint64_t live(const struct kn_run *run)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < run->n_slots; i++)
        sum += atomic_load_explicit(&run->slots[i]->w.live_ops, memory_order_relaxed) +
               atomic_load_explicit(&run->slots[i]->w.live_bytes, memory_order_relaxed);
    return sum;
}

/* A run limited by count ends by itself, unless nothing moves any more. */
static void measure_count(struct kn_run *run)
{
    uint64_t last = live(run), since_ns = kn_now_ns();
    uint64_t stall_ns = STALL_NS + 2 * (run->spec.timeout_ns + run->spec.delay_ns);
    if (run->spec.rate_per_1000s)
        stall_ns += 2 * (1000 * KN_NS_PER_S / run->spec.rate_per_1000s) * run->spec.flows;
    while (!await_loops(run, kn_now_ns() + TICK_NS) && !atomic_load(&run->stop)) {
        uint64_t sum = live(run), now_ns = kn_now_ns();
        if (sum != last)
            since_ns = now_ns;
        last = sum;
        if (now_ns - since_ns > stall_ns) {
            struct kn_error err;
            kn_fail(&err, KN_E_LOST, "nothing moved for %llu s", (unsigned long long)(stall_ns / KN_NS_PER_S));
            fail_run(run, &err);
        }
    }
}

static void measure(struct kn_run *run)
{
    uint64_t end_ns = atomic_load(&run->end_ns);
    await_loops(run, atomic_load(&run->open_ns));
    kn_cpu_read(&run->cpu_open);
    atomic_store(&run->phase, KN_PHASE_MEASURE);
    if (end_ns == UINT64_MAX)
        measure_count(run);
    else
        await_loops(run, end_ns);
    kn_cpu_read(&run->cpu_close);
    atomic_store(&run->over_ns, kn_now_ns());
}

/* The loops end by themselves within one operation; those that do not are freed by closing their sockets. */
static void end_loops(struct kn_run *run)
{
    uint64_t grace_ns = ANSWER_GRACE_NS + run->spec.delay_ns * (run->spec.burst ? run->spec.burst : 1) + run->spec.timeout_ns;
    if (run->ops->sends) {
        if (await(run, MARK_LOOP_OVER, kn_now_ns() + SEND_GRACE_NS, false))
            return;
        cut(run, SHUT_WR);
    }
    bool now = atomic_load(&run->stop);
    if (await(run, MARK_LOOP_OVER, kn_now_ns() + (now ? STOP_GRACE_NS : grace_ns), !now))
        return;
    if (!now && atomic_load(&run->stop) && await(run, MARK_LOOP_OVER, kn_now_ns() + STOP_GRACE_NS, false))
        return;
    cut(run, SHUT_RDWR);
}

static void finish(struct kn_run *run)
{
    for (unsigned i = 0; i < run->n_slots; i++)
        if (run->slots[i]->started)
            pthread_join(run->slots[i]->thread, NULL);
    pthread_mutex_lock(&run->lock);
    atomic_store(&run->phase, run->failed ? KN_PHASE_FAILED : KN_PHASE_DONE);
    run->over = true;
    pthread_cond_broadcast(&run->changed);
    pthread_mutex_unlock(&run->lock);
}

/* A name of both families, of which the server may serve one alone: the first that takes a connection, as of curl and ab. */
static void choose_family(struct kn_run *run)
{
    uint64_t test = run->spec.test;
    struct kn_addr other;
    struct kn_error ignored;
    if (run->spec.ip || test == KN_UDP_STREAM || test == KN_UDP_RR || test == KN_PING)
        return;
    if (kn_addr_resolve(run->target.host, run->target.port, kn_addr_is_v6(&run->peer) ? 4 : 6, RESOLVE_TIMEOUT_NS, &other, &ignored))
        return;
    int fd = kn_tcp_connect(&run->peer, &run->spec, kn_now_ns() + FAMILY_TIMEOUT_NS, &ignored);
    if (fd < 0 && (fd = kn_tcp_connect(&other, &run->spec, kn_now_ns() + FAMILY_TIMEOUT_NS, &ignored)) >= 0)
        run->peer = other;
    if (fd >= 0)
        close(fd);
}

static void *control(void *arg)
{
    struct kn_run *run = arg;
    struct kn_error err;
    atomic_store(&run->phase, KN_PHASE_CONNECT);
    if (kn_addr_resolve(run->target.host, run->target.port, (unsigned)run->spec.ip, RESOLVE_TIMEOUT_NS, &run->peer, &err)) {
        fail_run(run, &err);
    } else {
        choose_family(run);
        int failed = start_workers(run);
        if (failed) {
            kn_fail_from(&err, failed, "cannot start a thread");
            fail_run(run, &err);
        }
        if (await(run, MARK_READY, kn_now_ns() + 3600 * KN_NS_PER_S, true) && !atomic_load(&run->stop)) {
            open_window(run);
            measure(run);
        }
        atomic_store(&run->phase, KN_PHASE_COLLECT);
        end_loops(run);
    }
    finish(run);
    return NULL;
}

int kn_run_start(struct kn_run *run, struct kn_error *err)
{
    if (run->controller_started)
        return kn_fail(err, KN_E_ARGUMENT, "a run starts once");
    int failed = pthread_create(&run->controller, NULL, control, run);
    if (failed)
        return kn_fail_from(err, failed, "cannot start a thread");
    run->controller_started = true;
    return 0;
}
