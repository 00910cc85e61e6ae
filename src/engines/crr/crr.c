/* tcp_crr: connect, request, response, close.
 *
 * The server closes first, so that TIME_WAIT is on its side and the client never runs out of ports, however long it
 * goes on. The hello is the request (padded to its size), and is packed once a flow: every connection carries all that
 * any backend of a Service needs. The client's five calls: socket, connect, send, one recv for the response and the
 * end after it, close. */
#include "engines/crr/crr.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engines/engines.h"
#include "net/io.h"
#include "run/flow.h"
#include "run/payload.h"
#include "run/short.h"

#define FAILURES_MAX 1000 /* in a row */
#define FAILURE_PAUSE_NS (1 * KN_NS_PER_MS)

static size_t padded(const struct kn_spec *spec)
{
    return spec->size > kn_hello_size() ? (size_t)spec->size : kn_hello_size();
}

/* ---- one transaction ---- */

int kn_crr_socket(const struct kn_crr *c, int flags)
{
    struct kn_error err;
    const int off = 0;
    int fd = socket(c->w->peer.u.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
    if (fd < 0)
        return -1;
    if (kn_flow_bind(c->w, 0, fd) || (c->options && kn_tcp_options(fd, c->spec, &err))) {
        close(fd);
        return -1;
    }
    if (kn_crr_fin(c->spec)) /* the handshake's last ACK waits for the request and rides on it */
        setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &off, sizeof off);
    return fd;
}

/* The server has closed first and waits for our FIN: a reset instead ends the connection there, without TIME_WAIT. */
void kn_crr_close(const struct kn_crr *c, int fd)
{
    const struct linger now = {.l_onoff = 1};
    if (c->spec->own[KN_CRR_RESET])
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(fd);
}

static int send_request(const struct kn_crr *c, int fd)
{
    size_t sent = 0;
    while (sent < c->request_size) {
        ssize_t n = kn_send(fd, c->request + sent, c->request_size - sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        sent += (size_t)n;
    }
    return 0;
}

/* The response and the end behind it: one byte more than there can be is asked for, so that the call returns at the
 * end. */
static int receive_response(const struct kn_crr *c, int fd)
{
    uint64_t left = c->spec->response_size;
    for (;;) {
        ssize_t n = kn_recv(fd, c->response, left < KN_CRR_CHUNK ? (size_t)left + 1 : KN_CRR_CHUNK,
                            left < KN_CRR_CHUNK ? MSG_WAITALL : 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 || (uint64_t)n > left)
            return -1;
        bool whole = (uint64_t)n == left && left < KN_CRR_CHUNK;
        left -= (uint64_t)n;
        if (whole)
            return 0;
        if (n == 0)
            return left ? -1 : 0;
    }
}

uint64_t kn_crr_tried(const struct kn_crr *c, uint64_t begun_ns)
{
    return c->pace.per ? kn_now_ns() : begun_ns;
}

void kn_crr_done(struct kn_crr *c, const struct kn_crr_times *t, uint64_t now_ns)
{
    struct kn_worker *w = c->w;
    c->transactions++;
    if (c->failures >= FAILURES_MAX)
        kn_worker_found(w);
    c->failures = 0;
    kn_worker_connecting(w, t->tried_ns, t->connected_ns);
    if (t->connected_ns >= w->open_ns && t->connected_ns < w->end_ns) {
        w->figures.connects++;
        kn_hist_record(w->figures.connect, t->connected_ns - t->tried_ns);
    }
    kn_worker_end(w, KN_ENDED_OK, t->begun_ns, now_ns);
}

int kn_crr_failed(struct kn_crr *c, const struct kn_crr_times *t, uint64_t now_ns, struct kn_error *err)
{
    struct kn_worker *w = c->w;
    int why = errno;
    bool timed_out = now_ns - t->begun_ns >= c->spec->timeout_ns;
    kn_worker_connecting(w, t->tried_ns, t->connected_ns ? t->connected_ns : now_ns);
    if (kn_worker_stopped(w)) {
        kn_worker_drop(w, 1);
        return 0;
    }
    if (t->connected_ns)
        kn_worker_end(w, timed_out ? KN_ENDED_TIMEOUT : KN_ENDED_ERROR, t->begun_ns, now_ns);
    else
        kn_worker_end(w, KN_ENDED_CONNECT, t->begun_ns, now_ns);
    if (!timed_out)
        kn_sleep_until_ns(now_ns + FAILURE_PAUSE_NS);
    if (++c->failures < FAILURES_MAX)
        return 0;
    kn_fail(err, KN_E_LOST, "%u transactions failed in a row: %s", c->failures, strerror(why));
    return kn_worker_lost(w, err) ? -1 : 0;
}

/* Socket to close. */
static int transaction(struct kn_crr *c, unsigned flow, uint64_t begun_ns, uint64_t *now_ns, struct kn_error *err)
{
    struct kn_worker *w = c->w;
    struct kn_crr_times t = {.begun_ns = begun_ns, .tried_ns = kn_crr_tried(c, begun_ns)};
    int fd = kn_crr_socket(c, 0), failed = -1;
    if (fd >= 0) {
        kn_flow_watch(w, flow, fd);
        atomic_store_explicit(&w->begun_ns, begun_ns, memory_order_relaxed);
        if (!connect(fd, &w->peer.u.sa, w->peer.len)) {
            t.connected_ns = kn_now_ns();
            failed = send_request(c, fd) || receive_response(c, fd);
        }
        int why = errno;
        atomic_store_explicit(&w->begun_ns, 0, memory_order_relaxed);
        kn_flow_unwatch(w, flow);
        kn_crr_close(c, fd);
        errno = why;
    }
    *now_ns = kn_now_ns();
    if (failed)
        return kn_crr_failed(c, &t, *now_ns, err);
    kn_crr_done(c, &t, *now_ns);
    return 0;
}

static int one_at_a_time(struct kn_crr *c, struct kn_error *err)
{
    struct kn_worker *w = c->w;
    uint64_t begun_ns, now_ns = kn_now_ns();
    while (!kn_worker_over(w, now_ns) && kn_worker_take(w, 1)) {
        begun_ns = now_ns;
        if (c->pace.per) {
            begun_ns = kn_pace_due_ns(&c->pace);
            kn_pace_take(&c->pace, 1);
            if (!kn_worker_await(w, begun_ns))
                break;
        }
        if (transaction(c, w->first_flow, begun_ns, &now_ns, err))
            return -1;
    }
    return 0;
}

/* ---- the client ---- */

static bool options_needed(const struct kn_spec *spec)
{
    return spec->mss || spec->sndbuf || spec->rcvbuf || spec->cc[0]; /* nodelay says nothing to one message */
}

static int prepare(struct kn_crr *c, struct kn_error *err)
{
    c->request_size = padded(c->spec);
    c->request = kn_payload_new(c->request_size);
    c->response = malloc(KN_CRR_CHUNK);
    c->w->figures.connect = kn_hist_new();
    c->options = options_needed(c->spec);
    if (!c->request || !c->response || !c->w->figures.connect)
        return kn_fail(err, KN_E_MEMORY, "no memory for a request");
    kn_flow_hello(c->w, c->w->first_flow, KN_HELLO_FLOW, c->request);
    c->w->tx_size = c->request_size;
    c->w->figures.has |= KN_HAS_LATENCY | KN_HAS_CONNECT;
    return 0;
}

static int run(struct kn_crr *c, struct kn_error *err)
{
    if (prepare(c, err) || kn_short_knock(c->w, err) || kn_worker_ready(c->w, err))
        return -1;
    if (kn_crr_fin(c->spec))
        kn_worker_chosen(c->w, "fin", "the FIN rides on the response, the handshake's ACK on the request");
    if (c->spec->own[KN_CRR_RESET])
        kn_worker_chosen(c->w, "reset", "the client ends connections with a reset: no TIME_WAIT at the server");
    kn_worker_pace(c->w, &c->pace);
    int failed = c->w->n_flows > 1 ? kn_crr_many(c, err) : one_at_a_time(c, err);
    kn_worker_cpu_close(c->w);
    return kn_short_settle(c->w, c->transactions, failed, err);
}

static int client(struct kn_worker *w, struct kn_error *err)
{
    struct kn_crr c = {.w = w, .spec = w->spec};
    int failed = run(&c, err);
    free(c.request);
    free(c.response);
    return failed;
}

/* ---- the test ---- */

static bool is_short(const struct kn_spec *spec)
{
    (void)spec;
    return true;
}

static const char *const columns[] = {KN_RATE_COLUMNS, NULL}, *const compared[] = {KN_RATE_COMPARED, NULL};
static const struct kn_spec_option own[] = {
    [KN_CRR_FIN] = KN_FLAG("fin", KN_AT(own[KN_CRR_FIN]), "the FIN rides on the data (labelled in the result)"),
    [KN_CRR_RESET] = KN_FLAG("reset", KN_AT(own[KN_CRR_RESET]),
                             "the client ends each connection with a reset, so that no TIME_WAIT stays at the server "
                             "(labelled in the result; set on Kubernetes and for gVisor, where a SYN for a port in "
                             "TIME_WAIT can be dropped)"),
    {.name = NULL},
};
static const struct kn_preset presets[] = {
    {offsetof(struct kn_spec, size), 1},
    {offsetof(struct kn_spec, response_size), 1},
    {offsetof(struct kn_spec, nodelay), 1},
    {0, 0},
};
static const struct kn_alias aliases[] = {{"request", "size"}, {NULL, NULL}};

const struct kn_test kn_tcp_crr = {
    .name = "tcp_crr",
    .help = "connect, request, response, close: new connections a second",
    .transport = KN_TCP,
    .shape = KN_SHORT,
    .rate = KN_RATE_EVENTS,
    .headline = "rate",
    .columns = columns,
    .compared = compared,
    /* acceptors serve the connections of all runs in turn: they are no run's to pin */
    .options = (KN_TEST_OPTIONS & ~KN_HAS(SERVER_CPUS)) | KN_TCP_OPTIONS | KN_HAS(SIZE) | KN_HAS(RESPONSE) |
               KN_HAS(RATE) | KN_HAS(WAIT) | KN_HAS(DELAY),
    .own = own,
    .presets = presets,
    .aliases = aliases,
    .client = client,
    .is_short = is_short,
    .serve_short = kn_crr_serve_short,
    .serve_once = kn_crr_serve_once,
};
