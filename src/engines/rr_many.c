/* tcp_rr over many flows or with a burst of requests outstanding: one thread, sockets that never block it.
 *
 * Blocking sleeps in epoll; auto and spin sweep over the sockets, and auto sleeps in epoll when a while went by without
 * an answer. Both directions go on at once, so that no sizes can lock the two sides into waiting for each other. */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/pace.h"
#include "engines/flow.h"
#include "engines/rr.h"

#define SWEEP_NS (50 * KN_NS_PER_US)
#define SLEEP_MAX_NS (50 * KN_NS_PER_MS)   /* so that a stop is heard */
#define EVENTS 64

struct flow {
    int fd;
    bool writing;                  /* waits for room */
    uint32_t head, pending;        /* of `begun`: the oldest, how many */
    uint64_t to_send, to_receive;  /* bytes: of requests begun, of the oldest response */
    uint64_t *begun;               /* when each outstanding request was sent or due; a ring of `burst` */
};

struct rr {
    struct kn_worker *w;
    const struct kn_spec *spec;
    uint8_t *chunk;
    uint64_t request, response;
    uint32_t burst, next, alive;
    uint64_t pending;              /* over all flows */
    bool dry;                      /* `count` has given its last, or the time is over */
    int epoll;
    struct kn_pace pace;
    struct flow *flows;
    uint64_t *rings;
};

static void forget(struct rr *r, struct flow *f)
{
    unsigned i = (unsigned)(f - r->flows);
    kn_worker_drop(r->w, f->pending);
    r->pending -= f->pending;
    f->pending = 0;
    kn_flow_abandon(r->w, f->fd, r->w->first_flow + i);
    f->fd = -1;
    r->alive--;
    r->w->figures.errors++;
}

static void want_room(struct rr *r, struct flow *f, bool writing)
{
    if (f->writing == writing)
        return;
    f->writing = writing;
    struct epoll_event e = {.events = EPOLLIN | (writing ? (uint32_t)EPOLLOUT : 0), .data.u32 = (uint32_t)(f - r->flows)};
    epoll_ctl(r->epoll, EPOLL_CTL_MOD, f->fd, &e);
}

static void push(struct rr *r, struct flow *f)
{
    while (f->to_send) {
        ssize_t n = kn_send(f->fd, r->chunk, kn_rr_chunk(f->to_send), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            break;
        if (n < 0) {
            forget(r, f);
            return;
        }
        f->to_send -= (uint64_t)n;
    }
    want_room(r, f, f->to_send > 0);
}

static void begin(struct rr *r, struct flow *f, uint64_t at_ns)
{
    f->begun[(f->head + f->pending) % r->burst] = at_ns;
    if (!f->pending++)
        f->to_receive = r->response;
    f->to_send += r->request;
    r->pending++;
}

/* Closed loop: a flow has as many requests outstanding as it may. */
static void fill(struct rr *r, struct flow *f, uint64_t now_ns)
{
    uint32_t before = f->pending;
    while (!r->dry && f->pending < r->burst) {
        if (kn_worker_over(r->w, now_ns) || !kn_worker_take(r->w, 1))
            r->dry = true;
        else
            begin(r, f, now_ns);
    }
    if (f->pending != before)
        push(r, f);
}

/* Open loop: what is due goes to the next flow with room; what finds none stays due. */
static void spend(struct rr *r, uint64_t now_ns)
{
    unsigned n = r->w->n_flows, full = 0;
    while (!r->dry && full < n && kn_pace_due_ns(&r->pace) <= now_ns) {
        struct flow *f = &r->flows[r->next++ % n];
        uint64_t due_ns = kn_pace_due_ns(&r->pace);
        if (f->fd < 0 || f->pending >= r->burst) {
            full++;
            continue;
        }
        full = 0;
        if (due_ns >= r->w->end_ns || kn_worker_over(r->w, now_ns) || !kn_worker_take(r->w, 1)) {
            r->dry = true;
            break;
        }
        kn_pace_take(&r->pace, 1);
        begin(r, f, due_ns);
        push(r, f);
    }
}

/* Bytes of responses came: each one that is whole is an operation. False: they belong to nothing that was asked. */
static bool take_bytes(struct rr *r, struct flow *f, uint64_t n, uint64_t now_ns)
{
    while (n) {
        if (!f->pending)
            return false;
        uint64_t part = n < f->to_receive ? n : f->to_receive;
        n -= part;
        f->to_receive -= part;
        if (f->to_receive)
            break;
        uint64_t took_ns = now_ns - f->begun[f->head], latency_ns = kn_rr_latency(r->spec, took_ns);
        if (!kn_worker_late(r->w, now_ns, took_ns, latency_ns))
            kn_worker_op(r->w, now_ns, latency_ns, r->request, r->response);
        f->head = (f->head + 1) % r->burst;
        f->pending--;
        r->pending--;
        f->to_receive = r->response;
    }
    return true;
}

/* True: something came. */
static bool pull(struct rr *r, struct flow *f)
{
    uint64_t most = r->response * (f->pending ? f->pending : 1);
    ssize_t n = kn_recv(f->fd, r->chunk, kn_rr_chunk(most), MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    uint64_t now_ns = kn_now_ns();
    if (n <= 0 || !take_bytes(r, f, (uint64_t)n, now_ns))
        forget(r, f);
    else if (!r->pace.per)
        fill(r, f, now_ns);
    return true;
}

/* How long to sleep: till the next request is due, the end, or so that a stop is heard. */
static uint64_t sleep_ns(const struct rr *r, uint64_t now_ns)
{
    uint64_t until_ns = now_ns + SLEEP_MAX_NS;
    if (!r->dry && r->pace.per && r->pending < (uint64_t)r->alive * r->burst && kn_pace_due_ns(&r->pace) < until_ns)
        until_ns = kn_pace_due_ns(&r->pace);
    if (r->w->end_ns > now_ns && r->w->end_ns < until_ns)
        until_ns = r->w->end_ns;
    return until_ns > now_ns ? until_ns - now_ns : 0;
}

static void sleep_for_events(struct rr *r, uint64_t for_ns)
{
    struct epoll_event events[EVENTS];
    struct timespec t = {.tv_sec = (time_t)(for_ns / KN_NS_PER_S), .tv_nsec = (long)(for_ns % KN_NS_PER_S)};
    int n = epoll_pwait2(r->epoll, events, EVENTS, &t, NULL);
    for (int i = 0; i < n; i++) {
        struct flow *f = &r->flows[events[i].data.u32];
        if (f->fd >= 0 && (events[i].events & EPOLLOUT))
            push(r, f);
        if (f->fd >= 0 && (events[i].events & ~(uint32_t)EPOLLOUT))
            pull(r, f);
    }
}

static bool sweep(struct rr *r)
{
    bool any = false;
    for (unsigned i = 0; i < r->w->n_flows; i++) {
        struct flow *f = &r->flows[i];
        if (f->fd >= 0 && f->to_send)
            push(r, f);
        if (f->fd >= 0 && f->pending && pull(r, f))
            any = true;
    }
    return any;
}

static void loop(struct rr *r)
{
    uint64_t now_ns = kn_now_ns(), busy_ns = now_ns;
    for (unsigned i = 0; i < r->w->n_flows && !r->pace.per; i++)
        fill(r, &r->flows[i], now_ns);
    /* after the end: what is outstanding is awaited, so that the flows close in order */
    while (r->alive && (!r->dry || r->pending) && !kn_worker_stopped(r->w)) {
        if (r->pace.per)
            spend(r, now_ns);
        if (r->dry && !r->pending)
            break;
        if (r->spec->wait == KN_WAIT_BLOCK || (r->spec->wait == KN_WAIT_AUTO && now_ns - busy_ns > SWEEP_NS)) {
            sleep_for_events(r, sleep_ns(r, now_ns));
            now_ns = busy_ns = kn_now_ns();
        } else {
            bool any = sweep(r);
            now_ns = kn_now_ns();
            if (any)
                busy_ns = now_ns;
            else
                sched_yield();
        }
        r->dry = r->dry || kn_worker_over(r->w, now_ns);
    }
    kn_worker_cpu_close(r->w);
}

/* ---- opening and closing ---- */

static int open_flows(struct rr *r, struct kn_error *err)
{
    for (unsigned i = 0; i < r->w->n_flows; i++) {
        struct flow *f = &r->flows[i];
        f->begun = r->rings + (size_t)i * r->burst;
        f->fd = kn_flow_open(r->w, r->w->first_flow + i, err);
        if (f->fd < 0)
            return -1;
        r->alive++;
        struct epoll_event e = {.events = EPOLLIN, .data.u32 = i};
        if (epoll_ctl(r->epoll, EPOLL_CTL_ADD, f->fd, &e))
            return kn_fail_errno(err, "cannot wait for a flow");
    }
    return 0;
}

static int run(struct rr *r, struct kn_error *err)
{
    unsigned n = r->w->n_flows;
    if (open_flows(r, err) || kn_worker_ready(r->w, err))
        return -1;
    if (r->spec->rate_per_1000s)
        kn_pace_init(&r->pace, r->spec->rate_per_1000s, r->w->start_ns, r->w->index, r->w->n_workers);
    for (unsigned i = 0; i < n; i++)
        if (kn_flow_go(r->flows[i].fd, err))
            return -1;
    loop(r);
    if (!r->alive)
        return kn_fail(err, KN_E_LOST, "the server closed every flow in the middle of the run");
    int failed = 0;
    for (unsigned i = 0; i < n; i++) {
        struct flow *f = &r->flows[i];
        if (f->fd >= 0 && !failed)
            failed = kn_flow_close(r->w, f->fd, r->w->first_flow + i, NULL, 0, err), f->fd = -1;
    }
    return failed;
}

int kn_rr_many(struct kn_worker *w, uint8_t *chunk, struct kn_error *err)
{
    struct rr r = {.w = w, .spec = w->spec, .chunk = chunk, .request = w->spec->size, .response = kn_rr_response_size(w->spec),
                   .burst = w->spec->burst ? (uint32_t)w->spec->burst : 1};
    int failed = -1;
    r.epoll = epoll_create1(EPOLL_CLOEXEC);
    r.flows = calloc(w->n_flows, sizeof *r.flows);
    r.rings = calloc((size_t)w->n_flows * r.burst, sizeof *r.rings);
    for (unsigned i = 0; r.flows && i < w->n_flows; i++)
        r.flows[i].fd = -1;
    if (r.epoll < 0)
        kn_fail_errno(err, "cannot wait for many flows");
    else if (!r.flows || !r.rings)
        kn_fail(err, KN_E_MEMORY, "no memory for %u flows", w->n_flows);
    else
        failed = run(&r, err);
    for (unsigned i = 0; r.flows && i < w->n_flows; i++)
        if (r.flows[i].fd >= 0)
            kn_flow_abandon(w, r.flows[i].fd, w->first_flow + i);
    if (r.epoll >= 0)
        close(r.epoll);
    free(r.flows);
    free(r.rings);
    return failed;
}
