/* tcp_rr over many flows or with a burst of requests outstanding: one thread, sockets that never block it.
 *
 * Both directions go on at once, so that no sizes can lock the two sides into waiting for each other. A flow that fails
 * is counted and opened again while the others go on. */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "core/pace.h"
#include "engines/rr/rr.h"
#include "net/io.h"
#include "run/dial.h"
#include "run/flow.h"

#define LOOK_NS (10 * KN_NS_PER_MS) /* between two looks at all flows, at least */
#define LOOK_DOWN_NS KN_NS_PER_MS   /* the same while one is down */
#define BACKOFF_NS KN_NS_PER_MS     /* after a flow could not be opened again; doubles */
#define BACKOFF_DOUBLINGS 6
#define GONE_NS (5 * KN_NS_PER_S) /* and the timeout: no flow for so long, and the server is lost */
#define GONE "the server closed every flow in the middle of the run"

struct flow {
    int fd;                       /* -1: down, or being opened again */
    uint32_t head, pending;       /* of `begun`: the oldest, how many */
    uint32_t failures;            /* to open it, in a row */
    uint64_t to_send, to_receive; /* bytes: of requests begun, of the oldest response */
    uint64_t *begun;              /* when each outstanding request was sent or due; a ring of `burst` */
    uint64_t asked_ns;            /* since when the oldest is waited for; of a flow that is down: when to open it */
    uint64_t ops;                 /* in the window */
};

struct rr {
    struct kn_worker *w;
    const struct kn_spec *spec;
    uint8_t *chunk;
    uint64_t request, response;
    uint32_t burst, next, alive;
    uint64_t pending; /* over all flows */
    bool dry;         /* `count` has given its last, or the time is over */
    uint64_t looked_ns, alive_ns;
    struct kn_loop *loop;
    struct kn_pace pace;
    struct flow *flows;
    struct kn_dial *dials;
    uint64_t *rings;
};

static unsigned number(const struct rr *r, const struct flow *f)
{
    return r->w->first_flow + (unsigned)(f - r->flows);
}

/* The connection's end is one failure, however much was outstanding. */
static void fail(struct rr *r, struct flow *f, enum kn_ended how, uint64_t now_ns)
{
    if (f->pending) {
        kn_worker_end(r->w, how, f->begun[f->head], now_ns);
        kn_worker_drop(r->w, f->pending - 1);
    }
    r->pending -= f->pending;
    f->pending = f->head = 0;
    f->to_send = 0;
    kn_dial_end(r->w, number(r, f), &r->dials[f - r->flows]);
    f->fd = -1;
    f->asked_ns = now_ns;
    r->alive--;
}

/* ---- requests ---- */

/* What finds no room goes on at the next edge. */
static void push(struct rr *r, struct flow *f)
{
    while (f->to_send) {
        size_t size = kn_rr_chunk(f->to_send);
        ssize_t n = kn_send(f->fd, r->chunk, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0) {
            fail(r, f, KN_ENDED_ERROR, kn_now_ns());
            return;
        }
        f->to_send -= (uint64_t)n;
    }
}

static void begin(struct rr *r, struct flow *f, uint64_t at_ns, uint64_t now_ns)
{
    uint32_t at = f->head + f->pending;
    f->begun[at < r->burst ? at : at - r->burst] = at_ns;
    if (!f->pending++) {
        f->to_receive = r->response;
        f->asked_ns = now_ns;
    }
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
            begin(r, f, now_ns, now_ns);
    }
    if (f->pending != before)
        push(r, f);
}

/* Open loop: what is due goes to the next flow with room; what finds none stays due. */
static void spend(struct rr *r, uint64_t now_ns)
{
    unsigned n = r->w->n_flows, full = 0;
    while (!r->dry && full < n && kn_pace_due_ns(&r->pace) <= now_ns) {
        struct flow *f = &r->flows[r->next];
        uint64_t due_ns = kn_pace_due_ns(&r->pace);
        r->next = r->next + 1 < n ? r->next + 1 : 0;
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
        begin(r, f, due_ns, now_ns);
        push(r, f);
    }
}

/* ---- responses ---- */

/* Each one that is whole is an operation. False: they belong to nothing that was asked. */
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
        r->w->backend = r->dials[f - r->flows].backend;
        kn_worker_end(r->w, KN_ENDED_OK, f->begun[f->head], now_ns);
        f->ops += kn_worker_measures(r->w, now_ns);
        f->head = f->head + 1 < r->burst ? f->head + 1 : 0;
        f->asked_ns = now_ns;
        f->pending--;
        r->pending--;
        f->to_receive = r->response;
    }
    return true;
}

/* Takes all that is there: until what was asked for has come, or a call brings less than it could. `ended`: an end may
 * be behind it. */
static void pull(struct rr *r, struct flow *f, bool ended)
{
    for (;;) {
        uint64_t asked = f->pending ? f->to_receive + r->response * (f->pending - 1) : 1;
        size_t room = kn_rr_chunk(asked);
        ssize_t n = kn_recv(f->fd, r->chunk, room, MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0 && errno == EINTR)
            continue;
        uint64_t now_ns = kn_now_ns();
        if (n <= 0 || !take_bytes(r, f, (uint64_t)n, now_ns)) {
            fail(r, f, KN_ENDED_ERROR, now_ns);
            return;
        }
        if (!r->pace.per)
            fill(r, f, now_ns);
        if (f->fd < 0 || (!ended && ((uint64_t)n == asked || (size_t)n < room)))
            return;
    }
}

/* ---- flows that are down ---- */

static void could_not_open(struct rr *r, struct flow *f, uint64_t now_ns)
{
    uint32_t doublings = f->failures < BACKOFF_DOUBLINGS ? f->failures : BACKOFF_DOUBLINGS;
    kn_worker_stray(r->w, KN_ENDED_CONNECT, now_ns);
    f->failures++;
    f->asked_ns = now_ns + (BACKOFF_NS << doublings);
}

static void reopen(struct rr *r, struct flow *f, uint64_t now_ns)
{
    struct kn_error ignored;
    unsigned i = (unsigned)(f - r->flows);
    if (kn_dial_begin(r->w, r->loop, number(r, f), (epoll_data_t){.u32 = i}, &r->dials[i], &ignored))
        could_not_open(r, f, now_ns);
}

static void step_open(struct rr *r, struct flow *f, uint64_t now_ns)
{
    struct kn_error ignored;
    struct kn_dial *d = &r->dials[f - r->flows];
    int done = kn_dial_step(r->w, number(r, f), d, now_ns, &ignored);
    if (done < 0)
        could_not_open(r, f, now_ns);
    if (done <= 0)
        return;
    f->fd = d->fd;
    f->failures = 0;
    if (!r->alive++)
        kn_worker_found(r->w);
    if (kn_flow_go(f->fd, &ignored))
        fail(r, f, KN_ENDED_ERROR, now_ns);
    else if (!r->pace.per)
        fill(r, f, now_ns);
}

/* False: there is no server any more. */
static bool is_served(struct rr *r, uint64_t now_ns)
{
    struct kn_error why;
    if (r->alive || now_ns - r->alive_ns < GONE_NS + r->spec->timeout_ns)
        return true;
    r->alive_ns = now_ns;
    kn_fail(&why, KN_E_LOST, GONE);
    return !kn_worker_lost(r->w, &why);
}

/* What waits for too long, and what is to be opened again. False: there is no server any more. */
static bool look(struct rr *r, uint64_t now_ns)
{
    uint64_t least_ns = r->alive < r->w->n_flows ? LOOK_DOWN_NS : LOOK_NS;
    if (r->alive)
        r->alive_ns = now_ns;
    if (now_ns - r->looked_ns < least_ns + r->w->n_flows * KN_NS_PER_US)
        return true;
    r->looked_ns = now_ns;
    for (unsigned i = 0; i < r->w->n_flows; i++) {
        struct flow *f = &r->flows[i];
        if (f->fd >= 0 && f->pending && now_ns > f->asked_ns && now_ns - f->asked_ns > r->spec->timeout_ns)
            fail(r, f, KN_ENDED_TIMEOUT, now_ns);
        if (f->fd >= 0 || r->dry)
            continue;
        if (r->dials[i].fd >= 0)
            step_open(r, f, now_ns);
        else if (now_ns >= f->asked_ns)
            reopen(r, f, now_ns);
    }
    return is_served(r, now_ns);
}

/* ---- the loop ---- */

/* Till the next request is due, the end, or the next look. */
static uint64_t wake_at(const struct rr *r, uint64_t now_ns)
{
    uint64_t until_ns = now_ns + (r->alive < r->w->n_flows ? LOOK_DOWN_NS : LOOK_NS);
    if (!r->dry && r->pace.per && r->pending < (uint64_t)r->alive * r->burst && kn_pace_due_ns(&r->pace) < until_ns)
        until_ns = kn_pace_due_ns(&r->pace);
    if (r->w->end_ns > now_ns && r->w->end_ns < until_ns)
        until_ns = r->w->end_ns;
    return until_ns;
}

static void take_events(struct rr *r, unsigned n, uint64_t now_ns)
{
    for (unsigned i = 0; i < n; i++) {
        struct flow *f = &r->flows[r->loop->events[i].data.u32];
        uint32_t events = r->loop->events[i].events;
        if (f->fd < 0) {
            if (r->dials[f - r->flows].fd >= 0)
                step_open(r, f, now_ns);
            continue;
        }
        if (f->to_send)
            push(r, f);
        if (f->fd >= 0)
            pull(r, f, events & KN_LOOP_ENDS);
    }
}

/* After the end what is outstanding is awaited, so that the flows close in order. */
static bool loop(struct rr *r)
{
    uint64_t now_ns = kn_now_ns();
    bool served = true;
    r->alive_ns = r->looked_ns = now_ns;
    while (served && !kn_worker_stopped(r->w)) {
        if (r->pace.per)
            spend(r, now_ns);
        if (r->dry && !r->pending)
            break;
        unsigned n = kn_loop_wait(r->loop, now_ns, wake_at(r, now_ns));
        now_ns = kn_now_ns();
        take_events(r, n, now_ns);
        served = look(r, now_ns);
        r->dry = r->dry || kn_worker_over(r->w, now_ns);
    }
    kn_worker_cpu_close(r->w);
    return served;
}

/* ---- opening and closing ---- */

static int go(struct rr *r, struct kn_error *err)
{
    for (unsigned i = 0; i < r->w->n_flows; i++) {
        struct flow *f = &r->flows[i];
        f->fd = r->dials[i].fd;
        f->begun = r->rings + (size_t)i * r->burst;
        r->alive++;
    }
    for (unsigned i = 0; i < r->w->n_flows; i++) {
        if (kn_flow_go(r->flows[i].fd, err))
            return -1;
        if (!r->pace.per)
            fill(r, &r->flows[i], kn_now_ns());
    }
    return 0;
}

/* Half-closes all before it waits for one: their servers end at the same time. */
static int collect(struct rr *r, struct kn_error *err)
{
    int failed = 0;
    r->w->watched = r->loop->ep;
    for (unsigned i = 0; i < r->w->n_flows; i++)
        if (r->flows[i].fd >= 0)
            shutdown(r->flows[i].fd, SHUT_WR);
    for (unsigned i = 0; i < r->w->n_flows; i++) {
        struct flow *f = &r->flows[i];
        kn_figures_flow(&r->w->figures, f->ops);
        if (f->fd < 0 || failed)
            continue;
        failed = kn_flow_close(r->w, f->fd, number(r, f), NULL, 0, err);
        r->dials[i].fd = -1;
    }
    return failed;
}

static int run(struct rr *r, struct kn_error *err)
{
    if (kn_dial_all(r->w, r->loop, r->dials, err) || kn_worker_ready(r->w, err))
        return -1;
    kn_worker_pace(r->w, &r->pace);
    if (go(r, err))
        return -1;
    if (!loop(r))
        return kn_fail(err, KN_E_LOST, GONE);
    return collect(r, err);
}

int kn_rr_many(struct kn_worker *w, uint8_t *chunk, struct kn_error *err)
{
    struct kn_loop loop = {.ep = -1};
    struct rr r = {.w = w,
                   .spec = w->spec,
                   .chunk = chunk,
                   .request = w->spec->size,
                   .response = w->spec->response_size,
                   .burst = w->spec->burst ? (uint32_t)w->spec->burst : 1,
                   .loop = &loop};
    int failed = -1;
    r.flows = calloc(w->n_flows, sizeof *r.flows);
    r.dials = kn_dials_new(w->n_flows);
    r.rings = calloc((size_t)w->n_flows * r.burst, sizeof *r.rings);
    if (!r.flows || !r.dials || !r.rings)
        kn_fail(err, KN_E_MEMORY, "out of memory for %u flows", w->n_flows);
    else if (!kn_loop_init(&loop, kn_worker_wait(w), w->stop, err))
        failed = run(&r, err);
    kn_dials_free(w, r.dials);
    kn_loop_fini(&loop);
    free(r.flows);
    free(r.rings);
    return failed;
}
