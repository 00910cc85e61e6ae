/* udp_rr: a datagram, its answer, and again; what is lost is given up at its timeout and stays in the figures.
 *
 * Requests carry their number, answers bring it back, so that a late answer or a copy is never taken for another's. */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "run/payload.h"
#include "core/pace.h"
#include "engines/engines.h"
#include "engines/udp/sequence.h"
#include "engines/udp/udp_rr.h"
#include "net/io.h"
#include "run/flow.h"
#include "run/flow_udp.h"
#include "run/loop.h"
#include "run/wait.h"

#define SWEEP_MAX_NS (5 * KN_NS_PER_MS) /* between two looks at what timed out, over many flows */
#define REFUSED_NS (2 * KN_NS_PER_S)    /* errors and no answer for so long: there is nobody any more */

struct flow {
    int fd;
    struct kn_pending pending;
    struct kn_udp_drops drops;
    uint64_t ops; /* in the window */
};

struct rr {
    struct kn_worker *w;
    const struct kn_spec *spec;
    struct flow *flows;
    uint8_t *request, *answer;
    size_t head;              /* bytes of the number that go there and come back */
    unsigned n, next, failed; /* errors since the last answer; failed_ns: since when */
    uint64_t failed_ns;
    uint64_t waiting; /* requests, over all flows */
    bool dry;         /* nothing more is to be sent */
    bool measured;    /* the window has opened */
    struct kn_loop loop;
    uint64_t sweep_ns; /* when next */
    uint64_t now_ns;   /* as read last */
    struct {
        uint64_t begun_ns, ended_ns;
        bool any;
    } owed; /* an operation that is over and not counted yet */
    struct kn_pace pace;
    struct kn_waiter wait;
};

static bool is_open_loop(const struct rr *r)
{
    return r->pace.per != 0;
}

/* ---- counting ---- */

/* What was sent in the window has one of two ends, whenever it comes: answered, or lost. */
static bool in_window(const struct rr *r, const struct kn_request *q)
{
    return q->sent_ns >= r->w->open_ns && q->sent_ns < r->w->end_ns;
}

/* The books are kept while the next request is on its way, not while the server waits for it. */
static void pay(struct rr *r)
{
    if (r->owed.any)
        kn_worker_end(r->w, KN_ENDED_OK, r->owed.begun_ns, r->owed.ended_ns);
    r->owed.any = false;
}

static void count_answer(struct rr *r, const struct kn_request *q, uint64_t now_ns)
{
    struct kn_figures *f = &r->w->figures;
    r->waiting--;
    if (in_window(r, q)) {
        f->tx_packets++;
        f->rx_packets++;
    }
    pay(r);
    r->owed.any = true;
    r->owed.ended_ns = now_ns;
    r->owed.begun_ns = q->due_ns;
}

/* No answer will come: it timed out, or the way there said so. */
static void count_loss(struct rr *r, const struct kn_request *q, enum kn_ended how, uint64_t ended_ns)
{
    struct kn_figures *f = &r->w->figures;
    r->waiting--;
    if (in_window(r, q)) {
        f->tx_packets++;
        f->lost++;
    }
    kn_worker_end(r->w, how, q->due_ns, ended_ns);
}

static void take_answer(struct rr *r, struct flow *f, size_t size, uint64_t now_ns)
{
    struct kn_request q;
    bool measured; /* whether the request was sent in the window, however late its answer */
    if (size != r->spec->response_size || kn_udp_kind(r->answer, size) != KN_UDP_NONE)
        return; /* a welcome that was said twice */
    switch (kn_pending_answer(&f->pending, kn_udp_head_get(r->answer, r->head, &measured), &q)) {
    case KN_ANSWER_RIGHT:
        if (r->failed)
            kn_worker_found(r->w);
        r->failed = 0;
        if (now_ns - q.sent_ns <= r->spec->timeout_ns) {
            f->ops += in_window(r, &q);
            count_answer(r, &q, now_ns);
            break;
        }
        count_loss(r, &q, KN_ENDED_TIMEOUT, now_ns); /* it had timed out already, though nobody had looked */
        r->w->figures.late += measured;
        break;
    case KN_ANSWER_DUPLICATE: r->w->figures.duplicated += measured; break;
    case KN_ANSWER_LATE: r->w->figures.late += measured; break;
    case KN_ANSWER_STRANGE: kn_worker_stray(r->w, KN_ENDED_ERROR, now_ns);
    }
}

static void expire(struct rr *r, struct flow *f, uint64_t now_ns)
{
    struct kn_request q;
    while (f->pending.waiting && now_ns >= r->spec->timeout_ns &&
           kn_pending_expire(&f->pending, now_ns - r->spec->timeout_ns, &q))
        count_loss(r, &q, KN_ENDED_TIMEOUT, q.sent_ns + r->spec->timeout_ns);
}

/* What routers and the other host say about datagrams before is counted; where nothing else is heard for long, the
 * server is lost. */
static int take_failure(struct rr *r, struct flow *f, int why, struct kn_error *err)
{
    struct kn_request q;
    if (why == EAGAIN || why == EINTR)
        return 0;
    if (why == ENOBUFS || why == ENOMEM || why == EPERM) { /* this host's queue or firewall */
        r->w->figures.send_drops += r->measured;
        return 0;
    }
    kn_udp_forget_errors(f->fd);
    uint64_t now_ns = kn_now_ns();
    if (kn_pending_expire(&f->pending, now_ns, &q)) /* the oldest is the one that it speaks of */
        count_loss(r, &q, KN_ENDED_ERROR, now_ns);
    if (!r->failed++)
        r->failed_ns = now_ns;
    if (r->failed < 3 || now_ns - r->failed_ns < REFUSED_NS) {
        if (r->failed > 10)
            kn_udp_nap(KN_NS_PER_MS);
        return 0;
    }
    errno = why;
    kn_fail_errno(err, "the server became unreachable");
    if (kn_worker_lost(r->w, err))
        return -1;
    kn_udp_nap(KN_NS_PER_MS);
    return 0;
}

/* ---- sending ---- */

static int send_one(struct rr *r, struct flow *f, uint64_t due_ns, uint64_t now_ns, struct kn_error *err)
{
    uint64_t seq = kn_pending_send(&f->pending, due_ns, now_ns);
    kn_udp_head_put(r->request, r->spec->size, seq, r->measured);
    if (kn_send(f->fd, r->request, r->spec->size, MSG_NOSIGNAL) >= 0) {
        r->waiting++;
        return 0;
    }
    int why = errno;
    kn_pending_cancel(&f->pending, seq);
    kn_worker_drop(r->w, 1);
    return take_failure(r, f, why, err);
}

/* The next flow in turn that may have another request outstanding. */
static struct flow *free_flow(struct rr *r)
{
    for (unsigned i = 0; i < r->n; i++) {
        struct flow *f = &r->flows[r->next];
        if (f->pending.waiting < r->spec->burst)
            return f;
        r->next = r->next + 1 < r->n ? r->next + 1 : 0;
    }
    return NULL;
}

static uint64_t due_ns(const struct rr *r, uint64_t now_ns)
{
    return is_open_loop(r) ? kn_pace_due_ns(&r->pace) : now_ns;
}

static int issue(struct rr *r, uint64_t now_ns, struct kn_error *err)
{
    uint64_t room = r->n * r->spec->burst;
    while (!r->dry && r->waiting < room && due_ns(r, now_ns) <= now_ns) {
        struct flow *f = free_flow(r);
        if (!f)
            return 0;
        if (!kn_worker_take(r->w, 1)) {
            r->dry = true;
            return 0;
        }
        if (send_one(r, f, due_ns(r, now_ns), now_ns, err))
            return -1;
        r->next = r->next + 1 < r->n ? r->next + 1 : 0;
        if (is_open_loop(r))
            kn_pace_take(&r->pace, 1);
        else if (f->pending.waiting == 0) /* it could not be sent; others come first */
            return 0;
    }
    return 0;
}

/* ---- waiting ---- */

/* How long it makes sense to wait: the next request, a timeout, a look at the stop. */
static uint64_t wait_until(struct rr *r, uint64_t now_ns)
{
    uint64_t until_ns = now_ns + KN_UDP_STOP_POLL_NS;
    if (!r->dry && r->waiting < r->n * r->spec->burst)
        until_ns = kn_least(until_ns, due_ns(r, now_ns));
    if (r->n == 1 && r->waiting)
        until_ns = kn_least(until_ns, kn_pending_oldest_ns(&r->flows[0].pending) + r->spec->timeout_ns);
    else if (r->waiting)
        until_ns = kn_least(until_ns, r->sweep_ns);
    return kn_least(until_ns, r->w->end_ns > now_ns ? r->w->end_ns : until_ns);
}

/* Whether the socket's own timeout is enough, which saves a system call. */
static bool may_block_in_socket(const struct rr *r)
{
    return r->dry || r->waiting >= r->spec->burst;
}

static int receive_one(struct rr *r, uint64_t now_ns, struct kn_error *err)
{
    struct flow *f = &r->flows[0];
    ssize_t n;
    if (may_block_in_socket(r)) {
        n = kn_udp_rr_receive(&r->wait, f->fd, r->answer, r->spec->timeout_ns);
    } else {
        uint64_t until_ns = wait_until(r, now_ns), early_ns = r->spec->wait == KN_WAIT_BLOCK ? 0 : KN_SPIN_NS;
        while ((n = kn_recv(f->fd, r->answer, KN_UDP_RR_ROOM, MSG_DONTWAIT)) < 0 && errno == EAGAIN &&
               (now_ns = kn_now_ns()) < until_ns) {
            struct timespec t = kn_timespec(until_ns - now_ns > early_ns ? until_ns - now_ns - early_ns : 0);
            struct pollfd p = {.fd = f->fd, .events = POLLIN};
            if (ppoll(&p, 1, &t, NULL) == 0 && early_ns)
                sched_yield();
        }
    }
    int why = errno;
    r->now_ns = kn_now_ns();
    if (n < 0)
        return take_failure(r, f, why, err);
    take_answer(r, f, (size_t)n, r->now_ns);
    return 0;
}

static int receive_many(struct rr *r, uint64_t now_ns, struct kn_error *err)
{
    unsigned n = kn_loop_wait(&r->loop, now_ns, wait_until(r, now_ns));
    for (unsigned i = 0; i < n; i++) {
        struct flow *f = &r->flows[r->loop.events[i].data.u32];
        for (uint64_t k = 0; k < r->spec->burst; k++) {
            ssize_t got = kn_recv(f->fd, r->answer, KN_UDP_RR_ROOM, MSG_DONTWAIT);
            if (got < 0 && take_failure(r, f, errno, err))
                return -1;
            if (got < 0)
                break;
            r->now_ns = kn_now_ns();
            take_answer(r, f, (size_t)got, r->now_ns);
        }
    }
    if (!n)
        r->now_ns = kn_now_ns();
    return 0;
}

static void expire_all(struct rr *r, uint64_t now_ns)
{
    if (r->n > 1 && now_ns < r->sweep_ns)
        return;
    for (unsigned i = 0; i < r->n; i++)
        expire(r, &r->flows[i], now_ns);
    r->sweep_ns = now_ns + kn_least(r->spec->timeout_ns / 8, SWEEP_MAX_NS);
}

/* ---- the client ---- */

static void open_window(struct rr *r)
{
    r->measured = true;
    for (unsigned i = 0; i < r->n; i++)
        kn_udp_drops_open(&r->flows[i].drops, r->flows[i].fd);
}

/* A late answer that was dropped, or a copy, makes no second loss. */
static void count_drops(struct rr *r)
{
    struct kn_figures *f = &r->w->figures;
    for (unsigned i = 0; i < r->n; i++)
        kn_udp_drops_close(&r->flows[i].drops, r->flows[i].fd, f);
    f->recv_drops = kn_least(f->recv_drops, f->lost);
}

static int loop(struct rr *r, struct kn_error *err)
{
    struct kn_worker *w = r->w;
    r->now_ns = kn_now_ns();
    while (!kn_worker_over(w, r->now_ns) && !(r->dry && !r->waiting)) {
        if (!r->measured && r->now_ns >= w->open_ns)
            open_window(r);
        if (issue(r, r->now_ns, err))
            return -1;
        pay(r);
        if (!r->waiting && r->dry)
            break;
        if (!r->waiting && is_open_loop(r)) {
            if (!kn_worker_sleep(w, kn_least(due_ns(r, r->now_ns), w->end_ns)))
                break;
            r->now_ns = kn_now_ns();
            continue;
        }
        if (r->n == 1 ? receive_one(r, r->now_ns, err) : receive_many(r, r->now_ns, err))
            return -1;
        expire_all(r, r->now_ns);
    }
    pay(r);
    kn_worker_cpu_close(w);
    return 0;
}

/* What is still on its way at the end is either answered or lost; it is in no rate any more. */
static int settle(struct rr *r, struct kn_error *err)
{
    r->dry = true;
    while (r->waiting && !kn_worker_stopped(r->w)) {
        expire_all(r, r->now_ns);
        if (r->waiting && (r->n == 1 ? receive_one(r, r->now_ns, err) : receive_many(r, r->now_ns, err)))
            return -1;
    }
    pay(r);
    return 0;
}

static int open_flow(struct rr *r, unsigned i, struct kn_error *err)
{
    struct flow *f = &r->flows[i];
    f->fd = kn_flow_open_udp(r->w, r->w->first_flow + i, err);
    if (f->fd < 0 || kn_pending_init(&f->pending, kn_udp_seq_bits(r->head), r->spec->burst, err) ||
        kn_udp_timeouts(f->fd, kn_least(r->spec->timeout_ns, KN_UDP_STOP_POLL_NS), err))
        return -1;
    if (r->n > 1 && kn_loop_add(&r->loop, f->fd, EPOLLIN, (epoll_data_t){.u32 = i}))
        return kn_fail_errno(err, "cannot wait for flow %u", i);
    return 0;
}

static int rr_init(struct rr *r, struct kn_worker *w, struct kn_error *err)
{
    const struct kn_spec *spec = w->spec;
    *r = (struct rr){.w = w, .spec = spec, .n = w->n_flows, .loop = {.ep = -1}};
    r->head = kn_least(kn_least(spec->size, spec->response_size), KN_UDP_SEQ_SIZE);
    r->request = kn_payload_new(spec->size);
    r->answer = malloc(KN_UDP_RR_ROOM);
    r->flows = calloc(w->n_flows, sizeof *r->flows);
    if (!r->request || !r->answer || !r->flows)
        return kn_fail(err, KN_E_MEMORY, "no memory for %u flows", w->n_flows);
    for (unsigned i = 0; i < r->n; i++)
        r->flows[i].fd = -1;
    if (r->n > 1 && kn_loop_init(&r->loop, kn_worker_wait(w), w->stop, err))
        return -1;
    for (unsigned i = 0; i < r->n; i++)
        if (open_flow(r, i, err))
            return -1;
    kn_waiter_init(&r->wait, (enum kn_wait)spec->wait);
    return 0;
}

static void rr_fini(struct rr *r)
{
    for (unsigned i = 0; r->flows && i < r->n; i++) {
        kn_flow_abandon(r->w, r->flows[i].fd, r->w->first_flow + i);
        kn_pending_fini(&r->flows[i].pending);
    }
    kn_loop_fini(&r->loop);
    free(r->flows);
    free(r->request);
    free(r->answer);
}

static int measure(struct rr *r, struct kn_error *err)
{
    struct kn_worker *w = r->w;
    if (kn_worker_ready(w, err))
        return -1;
    kn_worker_pace(w, &r->pace);
    if (loop(r, err) || settle(r, err))
        return -1;
    count_drops(r);
    if (r->spec->wait == KN_WAIT_AUTO && r->n == 1)
        kn_worker_chosen(w, "wait", r->wait.spin.rest ? "block" : "spin up to %u us, then block",
                         (unsigned)(r->wait.budget_ns / 1000));
    for (unsigned i = 0; i < r->n; i++)
        kn_udp_announce(w, r->flows[i].fd, w->first_flow + i, 0);
    for (unsigned i = 0; i < r->n; i++) {
        int fd = r->flows[i].fd;
        r->flows[i].fd = -1;
        kn_figures_flow(&w->figures, r->flows[i].ops);
        if (kn_flow_close_udp(w, fd, w->first_flow + i, 0, err))
            return -1;
    }
    return 0;
}

static int run_client(struct kn_worker *w, struct kn_error *err)
{
    struct rr r;
    prctl(PR_SET_TIMERSLACK, 1ul, 0ul, 0ul, 0ul);
    w->figures.has |= KN_HAS_LATENCY | KN_HAS_LOSS;
    int failed = rr_init(&r, w, err) || measure(&r, err);
    rr_fini(&r);
    return failed ? -1 : 0;
}

/* ---- the test ---- */

static const char *const columns[] = {KN_RATE_COLUMNS, NULL}, *const compared[] = {KN_RATE_COMPARED, NULL};
static const struct kn_preset presets[] = {
    {offsetof(struct kn_spec, size), 1},
    {offsetof(struct kn_spec, response_size), 1},
    {offsetof(struct kn_spec, burst), 1},
    {offsetof(struct kn_spec, timeout_ns), KN_NS_PER_S},
    {0, 0},
};
static const struct kn_limit limits[] = {
    {offsetof(struct kn_spec, size), 1, KN_UDP_MAX},
    {offsetof(struct kn_spec, response_size), 1, KN_UDP_MAX},
    {0, 0, 0},
};
static const struct kn_alias aliases[] = {{"request", "size"}, {NULL, NULL}};

const struct kn_test kn_udp_rr = {
    .name = "udp_rr",
    .help = "requests and responses in datagrams: rate, latency and loss",
    .transport = KN_UDP,
    .shape = KN_RR,
    .rate = KN_RATE_EVENTS,
    .headline = "rate",
    .columns = columns,
    .compared = compared,
    .options = KN_TEST_OPTIONS | KN_HAS(SIZE) | KN_HAS(RESPONSE) | KN_HAS(BURST) | KN_HAS(RATE) | KN_HAS(WAIT) |
               KN_HAS(DELAY),
    .presets = presets,
    .limits = limits,
    .aliases = aliases,
    .client = run_client,
    .serve = kn_udp_rr_serve,
    .desk = &kn_udp_rr_desk,
};
