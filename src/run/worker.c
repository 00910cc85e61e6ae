#include "run/worker.h"

#include <sched.h>
#include <stdarg.h>
#include <stdio.h>

#include "run/inside.h"
#include "run/loop.h"

#define SPIN_NS (60 * KN_NS_PER_US)
#define STEP_NS (50 * KN_NS_PER_MS)
#define SYN_RESENT_NS (KN_NS_PER_S - 10 * KN_NS_PER_MS) /* a SYN without an answer is sent again after a second */
#define COLLECT_NS (60 * KN_NS_PER_S)                   /* for data that a slow path still holds */
#define COLLECT_EACH_NS (10 * KN_NS_PER_MS)             /* in addition for each flow */
#define COLLECT_STOPPED_NS (500 * KN_NS_PER_MS)

int kn_worker_ready(struct kn_worker *w, struct kn_error *err)
{
    struct kn_run *run = w->run;
    struct kn_slot *slot = kn_slot_of(w);
    pthread_mutex_lock(&run->lock);
    slot->ready = true;
    pthread_cond_broadcast(&run->changed);
    while (!atomic_load(&run->start_ns) && !atomic_load(&run->stop))
        pthread_cond_wait(&run->changed, &run->lock);
    w->start_ns = atomic_load(&run->start_ns);
    w->open_ns = atomic_load(&run->open_ns);
    w->end_ns = atomic_load(&run->end_ns);
    pthread_mutex_unlock(&run->lock);
    if (!w->start_ns)
        return kn_fail(err, KN_E_INTERRUPTED, "stopped before it began");
    return 0;
}

uint64_t kn_worker_take(struct kn_worker *w, uint64_t n)
{
    if (!w->spec->count)
        return n;
    if (!w->cpu_open_ns && w->spec->warmup_ns && kn_now_ns() < w->open_ns) {
        w->untracked += n;
        return n;
    }
    uint64_t left = atomic_load_explicit(&w->part->left, memory_order_relaxed), take;
    do {
        take = left < n ? left : n;
    } while (take && !atomic_compare_exchange_weak(&w->part->left, &left, left - take));
    return take;
}

void kn_worker_drop(struct kn_worker *w, uint64_t n)
{
    w->untracked -= n < w->untracked ? n : w->untracked;
}

uint64_t kn_worker_first(struct kn_worker *w, uint64_t value)
{
    uint64_t first = atomic_load_explicit(&w->part->first, memory_order_relaxed);
    if (!first && atomic_compare_exchange_strong(&w->part->first, &first, value + 1))
        return value;
    return first - 1;
}

static void count_ok(struct kn_worker *w, uint64_t latency_ns, uint64_t ended_ns)
{
    struct kn_figures *f = &w->figures;
    if (!w->cpu_open_ns)
        kn_worker_cpu_open(w);
    f->tx_bytes += w->tx_size;
    f->rx_bytes += w->rx_size;
    if (f->has & KN_HAS_LATENCY)
        kn_hist_record(f->latency, latency_ns);
    if (w->backend)
        kn_backends_count(w->backends, w->backend, latency_ns);
    f->ops++;
    kn_figures_add(f, ended_ns - w->open_ns, w->rx_size, 1);
    atomic_store_explicit(&w->live_ops, f->ops, memory_order_relaxed);
    atomic_store_explicit(&w->live_bytes, f->rx_bytes, memory_order_relaxed);
}

static void count_failure(struct kn_worker *w, enum kn_ended how, uint64_t latency_ns)
{
    struct kn_figures *f = &w->figures;
    bool timed_out = how == KN_ENDED_LATE || how == KN_ENDED_TIMEOUT;
    f->timeouts += timed_out;
    f->errors += how == KN_ENDED_ERROR;
    f->connect_errors += how == KN_ENDED_CONNECT;
    if (timed_out && (f->has & KN_HAS_LATENCY))
        kn_hist_record(f->latency, latency_ns);
}

void kn_worker_end(struct kn_worker *w, enum kn_ended how, uint64_t begun_ns, uint64_t ended_ns)
{
    uint64_t took_ns = ended_ns > begun_ns ? ended_ns - begun_ns : 0;
    uint64_t latency_ns = w->spec->test->halves ? took_ns / 2 : took_ns;
    if (w->untracked) { /* begun in the warm-up of a run with `count` */
        w->untracked--;
        return;
    }
    if (how == KN_ENDED_OK && w->spec->timeout_ns && took_ns > w->spec->timeout_ns)
        how = KN_ENDED_LATE;
    if (how == KN_ENDED_OK && kn_worker_measures(w, ended_ns))
        count_ok(w, latency_ns, ended_ns);
    else if (how != KN_ENDED_OK && kn_worker_measures(w, begun_ns))
        count_failure(w, how, latency_ns);
}

void kn_worker_stray(struct kn_worker *w, enum kn_ended how, uint64_t at_ns)
{
    if (kn_worker_measures(w, at_ns))
        count_failure(w, how, 0);
}

void kn_worker_unopened(struct kn_worker *w)
{
    w->figures.connect_errors += w->n_flows;
}

void kn_worker_connecting(struct kn_worker *w, uint64_t begun_ns, uint64_t now_ns)
{
    bool concerns = now_ns >= w->open_ns && (!w->end_ns || begun_ns < w->end_ns);
    if (concerns && now_ns > begun_ns && now_ns - begun_ns >= SYN_RESENT_NS)
        kn_run_flag(w->run, "syn_resent");
}

bool kn_worker_lost(struct kn_worker *w, const struct kn_error *why)
{
    struct kn_run *run = w->run;
    bool all = true;
    if (run->n_parts == 1)
        return true;
    if (atomic_load(&run->start_ns)) /* before, it may still come up */
        kn_run_flag(run, "target_lost");
    pthread_mutex_lock(&run->lock);
    if (!w->part->lost)
        w->part->why = *why;
    w->part->lost = true;
    for (unsigned i = 0; i < run->n_parts; i++)
        all = all && run->parts[i].lost;
    pthread_mutex_unlock(&run->lock);
    return all;
}

void kn_worker_found(struct kn_worker *w)
{
    pthread_mutex_lock(&w->run->lock);
    w->part->lost = false;
    if (!atomic_load(&w->run->start_ns))
        w->part->why = (struct kn_error){.code = KN_OK};
    pthread_mutex_unlock(&w->run->lock);
}

bool kn_worker_collects(struct kn_worker *w, uint64_t now_ns)
{
    if (!w->collect_by_ns)
        w->collect_by_ns = now_ns + COLLECT_NS + w->n_flows * COLLECT_EACH_NS;
    if (!w->stop_by_ns && kn_worker_stopped(w))
        w->stop_by_ns = now_ns + COLLECT_STOPPED_NS;
    return now_ns < w->collect_by_ns && (!w->stop_by_ns || now_ns < w->stop_by_ns);
}

void kn_worker_chosen(struct kn_worker *w, const char *key, const char *format, ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    pthread_mutex_lock(&w->run->lock);
    kn_run_chosen(w->run, key, text);
    pthread_mutex_unlock(&w->run->lock);
}

void kn_worker_flag(struct kn_worker *w, const char *flag)
{
    kn_run_flag(w->run, flag);
}

enum kn_wait kn_worker_wait(struct kn_worker *w)
{
    enum kn_wait wait = kn_loop_wait_of(w->spec);
    if (wait != (enum kn_wait)w->spec->wait)
        kn_worker_chosen(w, "wait", "blocked until the next request is due");
    return wait;
}

void kn_worker_cpu_open(struct kn_worker *w)
{
    if (w->cpu_open_ns)
        return;
    w->cpu_open_ns = kn_thread_cpu_ns();
    w->figures.has |= KN_HAS_CPU;
}

void kn_worker_cpu_close(struct kn_worker *w)
{
    if (w->cpu_closed)
        return;
    w->cpu_closed = true;
    uint64_t now_ns = kn_now_ns(), end_ns = now_ns < w->end_ns ? now_ns : w->end_ns;
    if (w->cpu_open_ns)
        w->figures.cpu_ns += kn_thread_cpu_ns() - w->cpu_open_ns;
    if (w->open_ns && end_ns > w->open_ns)
        w->figures.window_ns = end_ns - w->open_ns;
    pthread_mutex_lock(&w->run->lock);
    kn_slot_of(w)->loop_over = true;
    pthread_cond_broadcast(&w->run->changed);
    pthread_mutex_unlock(&w->run->lock);
}

/* ---- when it is due ---- */

void kn_worker_pace(const struct kn_worker *w, struct kn_pace *pace)
{
    if (w->spec->rate_per_1000s)
        kn_pace_init(pace, w->spec->rate_per_1000s, w->start_ns, w->index, w->n_workers);
}

bool kn_worker_sleep(const struct kn_worker *w, uint64_t until_ns)
{
    uint64_t early_ns = w->spec->wait == KN_WAIT_BLOCK ? 0 : SPIN_NS, now_ns;
    while ((now_ns = kn_now_ns()) < until_ns) {
        if (kn_worker_stopped(w))
            return false;
        uint64_t wake_ns = until_ns > early_ns ? until_ns - early_ns : 0;
        if (now_ns >= wake_ns)
            sched_yield();
        else /* in steps, so that a stop is noticed */
            kn_sleep_until_ns(wake_ns - now_ns > STEP_NS ? now_ns + STEP_NS : wake_ns);
    }
    return true;
}

bool kn_worker_await(const struct kn_worker *w, uint64_t due_ns)
{
    if (due_ns < w->end_ns)
        return kn_worker_sleep(w, due_ns);
    kn_worker_sleep(w, w->end_ns); /* the time without requests is part of the window */
    return false;
}
