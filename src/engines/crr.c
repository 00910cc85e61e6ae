/* tcp_crr: connect, request, response, close.
 *
 * The server closes first, so that TIME_WAIT is on its side and the client never runs out of ports, however long it
 * goes on. The hello is the request (padded to its size), and is packed once a flow: every connection carries all that
 * any backend of a Service needs. The client's five calls: socket, connect, send, one recv for the response and the
 * end after it, close. */
#include "engines/crr.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engines/crr_client.h"
#include "engines/payload.h"
#include "engines/rr.h"

#define FAILURES_MAX 1000              /* in a row */
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
    if (c->options && kn_tcp_options(fd, c->spec, &err)) {
        close(fd);
        return -1;
    }
    if (c->spec->fin) /* the handshake's last ACK waits for the request and rides on it */
        setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &off, sizeof off);
    return fd;
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

/* The response and the end behind it: one byte more than there can be is asked for, so that the call returns at the end. */
static int receive_response(const struct kn_crr *c, int fd)
{
    uint64_t left = c->spec->response_size;
    for (;;) {
        ssize_t n = kn_recv(fd, c->response, left < KN_CRR_CHUNK ? (size_t)left + 1 : KN_CRR_CHUNK, left < KN_CRR_CHUNK ? MSG_WAITALL : 0);
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

void kn_crr_done(struct kn_crr *c, uint64_t begun_ns, uint64_t connected_ns, uint64_t now_ns)
{
    struct kn_worker *w = c->w;
    c->transactions++;
    c->failures = 0;
    if (connected_ns >= w->open_ns && connected_ns < w->end_ns) {
        w->figures.connects++;
        kn_hist_record(w->figures.connect, connected_ns - begun_ns);
    }
    uint64_t took_ns = now_ns - begun_ns;
    if (kn_worker_late(w, now_ns, took_ns, took_ns))
        w->figures.errors++;
    else
        kn_worker_op(w, now_ns, took_ns, c->request_size, c->spec->response_size);
}

/* What took as long as the timeout is one, and is in the latencies with the time that it took. */
int kn_crr_failed(struct kn_crr *c, bool connected, uint64_t begun_ns, uint64_t now_ns, struct kn_error *err)
{
    struct kn_worker *w = c->w;
    int why = errno;
    kn_worker_drop(w, 1);
    if (kn_worker_stopped(w))
        return 0;
    if (connected)
        w->figures.errors++;
    else
        w->figures.connect_errors++;
    if (now_ns - begun_ns >= c->spec->timeout_ns) {
        w->figures.timeouts++;
        if (now_ns >= w->open_ns && now_ns < w->end_ns)
            kn_hist_record(w->figures.latency, now_ns - begun_ns);
    } else {
        kn_sleep_until_ns(now_ns + FAILURE_PAUSE_NS);
    }
    if (++c->failures >= FAILURES_MAX)
        return kn_fail(err, KN_E_LOST, "%u transactions failed in a row: %s", c->failures, strerror(why));
    return 0;
}

/* Socket to close. */
static int transaction(struct kn_crr *c, unsigned flow, uint64_t begun_ns, uint64_t *now_ns, struct kn_error *err)
{
    struct kn_worker *w = c->w;
    uint64_t connected_ns = 0;
    int fd = kn_crr_socket(c, 0), failed = -1;
    if (fd >= 0) {
        kn_flow_watch(w, flow, fd);
        atomic_store_explicit(&w->begun_ns, begun_ns, memory_order_relaxed);
        if (!connect(fd, &w->peer.u.sa, w->peer.len)) {
            connected_ns = kn_now_ns();
            failed = send_request(c, fd) || receive_response(c, fd);
        }
        int why = errno;
        atomic_store_explicit(&w->begun_ns, 0, memory_order_relaxed);
        kn_flow_unwatch(w, flow);
        close(fd);
        errno = why;
    }
    *now_ns = kn_now_ns();
    if (failed)
        return kn_crr_failed(c, connected_ns != 0, begun_ns, *now_ns, err);
    kn_crr_done(c, begun_ns, connected_ns, *now_ns);
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
            if (!kn_rr_await(w, begun_ns))
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
    c->w->figures.has |= KN_HAS_LATENCY | KN_HAS_CONNECT;
    return 0;
}

static int run(struct kn_crr *c, struct kn_error *err)
{
    if (prepare(c, err) || kn_crr_knock(c->w, err) || kn_worker_ready(c->w, err))
        return -1;
    if (c->spec->fin)
        kn_worker_chosen(c->w, "fin", "the FIN rides on the response, the handshake's ACK on the request");
    if (c->spec->rate_per_1000s)
        kn_pace_init(&c->pace, c->spec->rate_per_1000s, c->w->start_ns, c->w->index, c->w->n_workers);
    int failed = c->w->n_flows > 1 ? kn_crr_many(c, err) : one_at_a_time(c, err);
    kn_worker_cpu_close(c->w);
    return kn_crr_settle(c->w, c->transactions, failed, err);
}

static int client(struct kn_worker *w, struct kn_error *err)
{
    struct kn_crr c = {.w = w, .spec = w->spec};
    int failed = run(&c, err);
    free(c.request);
    free(c.response);
    return failed;
}

const struct kn_test_ops kn_tcp_crr_ops = {.client = client};
