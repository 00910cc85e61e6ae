/* The timing of a run: starts its workers, opens and closes its window, and ends workers that hang. */
#include <sys/socket.h>

#include "core/cpus.h"
#include "meter/meter.h"
#include "run/inside.h"

#define GRACE_NS (1 * KN_NS_PER_S)         /* for a worker past its end, in addition to its timeout */
#define STOP_GRACE_NS (300 * KN_NS_PER_MS) /* for one after kn_run_stop */
#define STALL_NS (15 * KN_NS_PER_S)        /* a run with `count` has failed if nothing moves for this long */
#define TICK_NS (100 * KN_NS_PER_MS)
#define STACK_SIZE (256u << 10)

/* ---- the workers' threads ---- */

static int pin(struct kn_worker *w, struct kn_error *err)
{
    if (!*w->spec->cpus)
        return 0;
    kn_worker_chosen(w, "cpus", "%s", w->spec->cpus);
    return kn_cpus_pin("cpus", w->spec->cpus, err);
}

/* What the network or a server did: with several targets the others go on. */
static bool is_lost(const struct kn_run *run, enum kn_code code)
{
    static const enum kn_code codes[] = {KN_E_LOST,        KN_E_REFUSED, KN_E_TIMEOUT,
                                         KN_E_UNREACHABLE, KN_E_SYSTEM,  KN_E_PROTOCOL};
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (code == codes[i])
            return run->n_parts > 1;
    return false;
}

static void give_up(struct kn_slot *slot)
{
    struct kn_worker *w = &slot->w;
    struct kn_run *run = w->run;
    slot->failed = true;
    /* a worker that gave up because others had failed, or because of a stop, is not the cause */
    if (atomic_load(&run->asked_to_stop) || (slot->err.code == KN_E_INTERRUPTED && atomic_load(&run->stop)))
        return;
    if (!is_lost(run, slot->err.code) || kn_worker_lost(w, &slot->err)) {
        kn_run_fail(run, &slot->err);
        return;
    }
    kn_run_flag(run, "target_lost");
    if (atomic_load(&run->start_ns))
        kn_worker_stray(w, KN_ENDED_ERROR, kn_now_ns());
    else
        kn_worker_unopened(w);
}

static void *work(void *arg)
{
    struct kn_slot *slot = arg;
    struct kn_run *run = slot->w.run;
    if (pin(&slot->w, &slot->err) || run->spec.test->client(&slot->w, &slot->err))
        give_up(slot);
    kn_worker_cpu_close(&slot->w);
    pthread_mutex_lock(&run->lock);
    slot->done = true;
    pthread_cond_broadcast(&run->changed);
    pthread_mutex_unlock(&run->lock);
    return NULL;
}

static int start_workers(struct kn_run *run, struct kn_error *err)
{
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_SIZE);
    int failed = 0;
    for (unsigned i = 0; i < run->n_slots && !failed; i++) {
        struct kn_slot *slot = run->slots[i];
        slot->w.peer = slot->w.part->peer;
        failed = pthread_create(&slot->thread, &attr, work, slot);
        slot->started = !failed;
    }
    pthread_attr_destroy(&attr);
    return failed ? kn_fail_from(err, failed, "cannot start a thread") : 0;
}

/* ---- the controller ---- */

enum mark { MARK_READY, MARK_LOOP_OVER };

/* Of the workers that were started; the lock is held. */
static bool all(const struct kn_run *run, enum mark mark)
{
    for (unsigned i = 0; i < run->n_slots; i++) {
        const struct kn_slot *s = run->slots[i];
        if (s->started && !s->done && !(mark == MARK_READY ? s->ready : s->loop_over))
            return false;
    }
    return true;
}

/* Waits until the time, the mark, or (with `heed_stop`) a stop. True: the mark was reached. */
static bool await(struct kn_run *run, enum mark mark, uint64_t until_ns, bool heed_stop)
{
    struct timespec until = kn_timespec(until_ns);
    int timed_out = 0;
    pthread_mutex_lock(&run->lock);
    while (!all(run, mark) && !timed_out && !(heed_stop && atomic_load(&run->stop)))
        timed_out = pthread_cond_timedwait(&run->changed, &run->lock, &until);
    bool reached = all(run, mark);
    pthread_mutex_unlock(&run->lock);
    return reached;
}

static void cut(struct kn_run *run)
{
    pthread_mutex_lock(&run->lock);
    run->cut = true;
    for (unsigned i = 0; i < run->n_slots; i++) {
        const struct kn_slot *s = run->slots[i];
        const int *fds = run->fds + s->w.part->first_flow + s->w.first_flow;
        for (unsigned f = 0; !s->done && !s->loop_over && f < s->w.n_flows; f++)
            if (fds[f] >= 0)
                shutdown(fds[f], SHUT_RDWR);
    }
    pthread_mutex_unlock(&run->lock);
}

/* Shuts down the sockets of operations that are past their timeout; the worker counts them. */
static void end_stuck(struct kn_run *run)
{
    uint64_t now_ns = kn_now_ns();
    pthread_mutex_lock(&run->lock);
    for (unsigned i = 0; i < run->n_slots; i++) {
        const struct kn_worker *w = &run->slots[i]->w;
        int fd = run->fds[w->part->first_flow + w->first_flow];
        uint64_t begun_ns = atomic_load_explicit(&w->begun_ns, memory_order_relaxed);
        if (begun_ns && now_ns > begun_ns && now_ns - begun_ns > run->spec.timeout_ns && fd >= 0)
            shutdown(fd, SHUT_RDWR);
    }
    pthread_mutex_unlock(&run->lock);
}

/* Waits until the loops are over, until the time, or until a stop. */
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
            kn_run_fail(run, &err);
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
    uint64_t grace_ns = GRACE_NS + run->spec.delay_ns * (run->spec.burst ? run->spec.burst : 1) + run->spec.timeout_ns;
    bool now = atomic_load(&run->stop);
    if (await(run, MARK_LOOP_OVER, kn_now_ns() + (now ? STOP_GRACE_NS : grace_ns), !now))
        return;
    if (!now && atomic_load(&run->stop) && await(run, MARK_LOOP_OVER, kn_now_ns() + STOP_GRACE_NS, false))
        return;
    cut(run);
}

/* A target that was lost before the run began and never came up: a window shorter than its timeout sees no failure. */
static void note_lost(struct kn_run *run)
{
    for (unsigned i = 0; run->n_parts > 1 && i < run->n_slots; i++) {
        struct kn_worker *w = &run->slots[i]->w;
        const struct kn_figures *f = &w->figures;
        if (!w->part->lost)
            continue;
        kn_run_flag(run, "target_lost");
        if (!f->ops && !f->errors && !f->timeouts && !f->connect_errors && !f->rx_bytes && !f->tx_bytes)
            kn_worker_unopened(w);
    }
}

static void finish(struct kn_run *run)
{
    for (unsigned i = 0; i < run->n_slots; i++)
        if (run->slots[i]->started)
            pthread_join(run->slots[i]->thread, NULL);
    note_lost(run);
    pthread_mutex_lock(&run->lock);
    atomic_store(&run->phase, run->failed ? KN_PHASE_FAILED : KN_PHASE_DONE);
    run->over = true;
    pthread_cond_broadcast(&run->changed);
    pthread_mutex_unlock(&run->lock);
}

void *kn_run_control(void *arg)
{
    struct kn_run *run = arg;
    struct kn_error err;
    atomic_store(&run->phase, KN_PHASE_CONNECT);
    if (kn_parts_find(run, &err)) {
        kn_run_fail(run, &err);
    } else {
        if (start_workers(run, &err))
            kn_run_fail(run, &err);
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
