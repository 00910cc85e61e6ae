/* HTTP, the client's side: many connections on a few threads, and how a thread waits for them.
 *
 * Two ways. epoll wakes for each response as it comes. A sweep asks the sockets themselves, in the order in which
 * their requests went out, and naps in between: nobody is woken, so the server's send() is cheaper, and where the
 * server is what limits, it serves more. Where the path is what limits, the nap costs. So with many connections both
 * are tried at the beginning, in turn, and the faster one does the rest; the result says which. */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "core/stats.h"
#include "engines/crr.h"
#include "engines/http_conn.h"
#include "engines/http_serve.h"

#define EVENTS 256
#define TICK_NS KN_NS_PER_MS                /* between two looks at all connections, at least */
#define SPIN_NS (50 * KN_NS_PER_US)
#define SPIN_JUDGE 256
#define NAP_LEAST_NS (20 * KN_NS_PER_US)    /* from one sweep to the next */
#define NAP_MOST_NS (300 * KN_NS_PER_US)
#define NAP_FIRST_NS (100 * KN_NS_PER_US)
#define SWEEP_SHARE 3                       /* one in so many is ready when a nap ends; the server has the others */
#define SWEEP_MISSES 8                      /* in a row: those behind were asked later and are not ready either */
#define SWEEP_FLOWS 16                      /* fewer: epoll */
#define SWEEP_GAIN 1.01                     /* what it must win, for it sees responses later */
#define TRIAL_NS (80 * KN_NS_PER_MS)        /* where there is no warm-up, or hardly any */
#define ROUNDS 8                            /* of a trial: each way once, in either order by turns */
#define SLICES (1 + 2 * ROUNDS)             /* the first is left out: connections settle */

enum way { EPOLL, SWEEP };

struct loop {
    struct kn_http_client h;
    enum way way;
    bool chosen;
    uint64_t tick_after_ns;     /* not before */
    unsigned at;                /* sweep: where to go on */
    bool all;                   /* sweep: the last one found nothing, so look at all */
    uint64_t swept_ns, nap_ns;
    uint32_t spins, hits;
    bool no_spin;
    bool no_pwait2;             /* an older kernel, or a sandbox */
    unsigned slice;             /* of the trial */
    uint64_t slice_ns, slice_done;
    double rates[2][ROUNDS];
    unsigned tried[2];
};

/* ---- epoll ---- */

static int wait_ns(struct loop *l, struct epoll_event *events, uint64_t ns)
{
    struct timespec t = {.tv_sec = (time_t)(ns / KN_NS_PER_S), .tv_nsec = (long)(ns % KN_NS_PER_S)};
    if (!l->no_pwait2) {
        int n = epoll_pwait2(l->h.ep, events, EVENTS, &t, NULL);
        if (n >= 0 || errno != ENOSYS)
            return n;
        l->no_pwait2 = true;
    }
    if (ns >= 2 * KN_NS_PER_MS)
        return epoll_wait(l->h.ep, events, EVENTS, (int)(ns / KN_NS_PER_MS));
    sched_yield();
    return epoll_wait(l->h.ep, events, EVENTS, 0);
}

/* As kn_recv_wait, for many sockets. */
static int spin(struct loop *l, struct epoll_event *events, uint64_t until_ns)
{
    bool forever = l->h.w->spec->wait == KN_WAIT_SPIN;
    uint64_t give_up_ns = kn_now_ns() + SPIN_NS;
    int n;
    while (!(n = epoll_wait(l->h.ep, events, EVENTS, 0))) {
        uint64_t now_ns = kn_now_ns();
        if (now_ns >= until_ns || kn_worker_stopped(l->h.w) || (!forever && now_ns >= give_up_ns))
            break;
        sched_yield();
    }
    l->hits += n != 0;
    if (!forever && ++l->spins == SPIN_JUDGE) {
        l->no_spin = l->hits * 2 < l->spins;
        l->spins = l->hits = 0;
    }
    return n;
}

static uint64_t next_event_ns(const struct loop *l)
{
    const struct kn_http_client *h = &l->h;
    uint64_t until_ns = h->wake_ns > l->tick_after_ns ? h->wake_ns : l->tick_after_ns;
    if (h->w->end_ns < until_ns)
        until_ns = h->w->end_ns;
    if (h->open_loop && h->n_idle && !h->dry && kn_pace_due_ns(&h->pace) < until_ns)
        until_ns = kn_pace_due_ns(&h->pace);
    return until_ns;
}

static void epoll_round(struct loop *l, uint64_t now_ns)
{
    struct epoll_event events[EVENTS];
    uint64_t until_ns = next_event_ns(l), most_ns = now_ns + 100 * KN_NS_PER_MS; /* a stop is noticed by then */
    int n = 0;
    if (until_ns > most_ns)
        until_ns = most_ns;
    if (l->h.w->spec->wait != KN_WAIT_BLOCK && !l->no_spin)
        n = spin(l, events, until_ns);
    if (!n)
        n = wait_ns(l, events, until_ns > now_ns ? until_ns - now_ns : 0);
    for (int i = 0; i < n; i++) {
        struct kn_http_conn *c = events[i].data.ptr;
        kn_http_step(&l->h, c);
        if (events[i].events & EPOLLRDHUP) /* the end came with the bytes: no other edge will tell */
            kn_http_step(&l->h, c);
    }
}

/* ---- the sweep ---- */

static unsigned sweep(struct loop *l)
{
    struct kn_http_client *h = &l->h;
    unsigned hits = 0, misses = 0, most = l->all ? h->n : SWEEP_MISSES, at = l->at;
    for (unsigned i = 0; i < h->n && misses < most; i++) {
        struct kn_http_conn *c = &h->conns[at];
        at = at + 1 == h->n ? 0 : at + 1;
        if (!c->busy && c->state != KN_HTTP_CLOSING)
            continue;
        if (kn_http_step(h, c)) {
            hits++;
            misses = 0;
            l->at = at;
        } else {
            misses++;
        }
    }
    l->all = !hits;
    return hits;
}

/* While it is tried, the nap finds its length, by a tenth at a time. */
static void adapt(struct loop *l, unsigned hits)
{
    l->nap_ns = hits * SWEEP_SHARE < l->h.n ? l->nap_ns + l->nap_ns / 10 : l->nap_ns - l->nap_ns / 10;
    if (l->nap_ns < NAP_LEAST_NS)
        l->nap_ns = NAP_LEAST_NS;
    if (l->nap_ns > NAP_MOST_NS)
        l->nap_ns = NAP_MOST_NS;
}

/* Where half of them had answered already, the server is faster than we are, and there is no time to nap. */
static void sweep_round(struct loop *l)
{
    unsigned hits = sweep(l);
    if (!l->chosen)
        adapt(l, hits);
    if (hits * 2 < l->h.n)
        kn_sleep_until_ns(l->swept_ns + l->nap_ns);
    l->swept_ns = kn_now_ns();
}

/* ---- which way ---- */

static int go(struct loop *l, enum way way)
{
    l->way = way;
    if (way == EPOLL)
        return kn_http_register_all(&l->h);
    kn_http_unregister_all(&l->h);
    l->swept_ns = kn_now_ns();
    return 0;
}

static int settle(struct loop *l, enum way way)
{
    l->chosen = true;
    if (way == SWEEP)
        kn_worker_chosen(l->h.w, "waiting", "sweep every %llu us", (unsigned long long)(l->nap_ns / KN_NS_PER_US));
    else
        kn_worker_chosen(l->h.w, "waiting", "epoll");
    return way == l->way ? 0 : go(l, way);
}

/* 0 is left out; then epoll, sweep, sweep, epoll, and so on. */
static enum way way_of(unsigned slice)
{
    unsigned i = slice - 1;
    return slice && (i + i / 2) % 2 ? SWEEP : EPOLL;
}

/* A slice in which the machine was busy with something else says nothing: the median does not see it. */
static enum way faster(const struct loop *l)
{
    struct kn_interval epoll, swept;
    struct kn_error err;
    if (kn_stats_median(l->rates[EPOLL], l->tried[EPOLL], 0.5, &epoll, &err) ||
        kn_stats_median(l->rates[SWEEP], l->tried[SWEEP], 0.5, &swept, &err))
        return EPOLL;
    return swept.median > SWEEP_GAIN * epoll.median ? SWEEP : EPOLL;
}

/* All workers change at the same time, so that none is judged by what another does. */
static int try_ways(struct loop *l, uint64_t now_ns)
{
    const struct kn_worker *w = l->h.w;
    uint64_t trial_ns = w->spec->warmup_ns > TRIAL_NS ? w->spec->warmup_ns : TRIAL_NS;
    unsigned slice = (unsigned)((now_ns - w->start_ns) * SLICES / trial_ns);
    if (slice == l->slice)
        return 0;
    if (l->slice)
        l->rates[l->way][l->tried[l->way]++] = (double)(l->h.done - l->slice_done) / (double)(now_ns - l->slice_ns);
    l->slice = slice;
    l->slice_ns = now_ns;
    l->slice_done = l->h.done;
    if (slice >= SLICES)
        return settle(l, faster(l));
    return way_of(slice) == l->way ? 0 : go(l, way_of(slice));
}

static bool can_sweep(const struct kn_http_client *h)
{
    const struct kn_spec *spec = h->w->spec;
    return spec->tune == KN_TUNE_AUTO && spec->wait == KN_WAIT_BLOCK && spec->keepalive && !h->open_loop &&
           h->n >= SWEEP_FLOWS;
}

/* ---- the loop ---- */

static void tick(struct loop *l, uint64_t now_ns)
{
    if (now_ns < l->h.wake_ns || now_ns < l->tick_after_ns)
        return;
    kn_http_tick(&l->h, now_ns);
    l->tick_after_ns = now_ns + TICK_NS + l->h.n * KN_NS_PER_US;
}

static int measure(struct loop *l)
{
    struct kn_http_client *h = &l->h;
    int failed = go(l, EPOLL);
    h->measured = true;
    h->wake_ns = 0;
    if (h->open_loop)
        kn_pace_init(&h->pace, h->w->spec->rate_per_1000s, h->w->start_ns, h->w->index, h->w->n_workers);
    if (!failed && !can_sweep(h))
        failed = settle(l, EPOLL);
    while (!failed) {
        uint64_t now_ns = kn_now_ns();
        if (kn_worker_over(h->w, now_ns) || h->failed)
            break;
        tick(l, now_ns);
        if (h->open_loop)
            kn_http_issue(h, now_ns);
        if (h->dry && !h->busy)
            break;
        if (!l->chosen)
            failed = try_ways(l, now_ns);
        if (l->way == SWEEP)
            sweep_round(l);
        else
            epoll_round(l, now_ns);
    }
    return failed || h->failed ? -1 : 0;
}

/* ---- before and after ---- */

/* The Host header: the target as it was named. */
static void name_host(const struct kn_worker *w, char *host, size_t size)
{
    if (w->spec->host[0])
        snprintf(host, size, "%s", w->spec->host);
    else if (strchr(w->target->host, ':'))
        snprintf(host, size, "[%s]:%u", w->target->host, w->target->port);
    else if (w->target->port == 80)
        snprintf(host, size, "%s", w->target->host);
    else
        snprintf(host, size, "%s:%u", w->target->host, w->target->port);
}

/* Half-closes all before it waits for one: their servers end at the same time. */
static int collect(struct kn_http_client *h, struct kn_error *err)
{
    struct kn_worker *w = h->w;
    int failed = 0;
    for (unsigned i = 0; i < h->n; i++)
        if (h->conns[i].fd >= 0 && h->conns[i].state >= KN_HTTP_READY && !w->spec->external)
            shutdown(h->conns[i].fd, SHUT_WR);
    for (unsigned i = 0; i < h->n; i++) {
        struct kn_http_conn *c = &h->conns[i];
        if (c->fd < 0 || (c->state != KN_HTTP_READY && c->state != KN_HTTP_ASKED) || (h->greets && !c->began))
            continue; /* one that had nothing to do was not begun: there is no report */
        int fd = c->fd;
        c->fd = -1;
        failed |= kn_flow_close(w, fd, w->first_flow + i, NULL, 0, err);
    }
    return failed;
}

/* Where an agent is asked over a connection a request, its part is as short as tcp_crr's, and so are the report's
 * ways. */
static bool is_short(const struct kn_spec *spec)
{
    return !spec->external && !spec->keepalive;
}

static int run(struct loop *l, struct kn_error *err)
{
    char host[300];
    struct kn_worker *w = l->h.w;
    name_host(w, host, sizeof host);
    if (kn_http_client_init(&l->h, w, host, err) || (is_short(w->spec) && kn_crr_knock(w, err)) ||
        (w->spec->keepalive && kn_http_open_all(&l->h)) || kn_worker_ready(w, err))
        return -1;
    int failed = measure(l);
    kn_worker_cpu_close(w);
    if (is_short(w->spec))
        return kn_crr_settle(w, l->h.done, failed, err);
    return failed ? -1 : collect(&l->h, err);
}

static int client(struct kn_worker *w, struct kn_error *err)
{
    struct loop *l = calloc(1, sizeof *l);
    if (!l)
        return kn_fail(err, KN_E_MEMORY, "no memory for a worker");
    prctl(PR_SET_TIMERSLACK, 1ul); /* naps are as long as they are meant to be */
    l->h.w = w;
    l->nap_ns = NAP_FIRST_NS;
    int failed = run(l, err);
    kn_http_client_fini(&l->h);
    free(l);
    return failed;
}

const struct kn_test_ops kn_http_ops = {.client = client, .serve = kn_http_serve};
