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

#include "engines/run.h"
#include "net/io.h"

#define COLLECT_TRIES 16               /* connections without news, after which a backend is taken for gone */
#define COLLECT_TIMEOUT_NS (5 * KN_NS_PER_S)
#define FAILURES_MAX 1000              /* in a row */
#define CHUNK (64u << 10)

struct crr {
    struct kn_worker *w;
    const struct kn_spec *spec;
    uint8_t *request, *response;
    size_t request_size;
    bool options;                      /* some must be set before connect */
    uint64_t transactions;             /* warm-up too: what the servers' counts are held against */
};

static size_t padded(const struct kn_spec *spec)
{
    return spec->size > kn_hello_size() ? (size_t)spec->size : kn_hello_size();
}

/* ---- one transaction ---- */

static int open_socket(const struct crr *c)
{
    struct kn_error err;
    const int off = 0;
    int fd = socket(c->w->peer.u.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
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

static int send_request(const struct crr *c, int fd)
{
    size_t sent = 0;
    while (sent < c->request_size) {
        ssize_t n = send(fd, c->request + sent, c->request_size - sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        sent += (size_t)n;
    }
    return 0;
}

/* The response and the end behind it: one byte more than there can be is asked for, so that the call returns at the end. */
static int receive_response(const struct crr *c, int fd)
{
    uint64_t left = c->spec->response_size;
    for (;;) {
        ssize_t n = recv(fd, c->response, left < CHUNK ? (size_t)left + 1 : CHUNK, left < CHUNK ? MSG_WAITALL : 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 || (uint64_t)n > left)
            return -1;
        bool whole = (uint64_t)n == left && left < CHUNK;
        left -= (uint64_t)n;
        if (whole)
            return 0;
        if (n == 0)
            return left ? -1 : 0;
    }
}

static int transact(struct crr *c, int fd, uint64_t begun_ns)
{
    struct kn_figures *f = &c->w->figures;
    if (connect(fd, &c->w->peer.u.sa, c->w->peer.len)) {
        f->connect_errors++;
        return -1;
    }
    uint64_t connected_ns = kn_now_ns();
    if (send_request(c, fd) || receive_response(c, fd)) {
        f->errors++;
        return -1;
    }
    c->transactions++;
    if (connected_ns >= c->w->open_ns && connected_ns < c->w->end_ns) {
        f->connects++;
        kn_hist_record(f->connect, connected_ns - begun_ns);
    }
    return 0;
}

/* Socket to close. The time of a failure counts too: a transaction that timed out took that long. */
static int transaction(struct crr *c, unsigned flow, uint64_t begun_ns, uint64_t *now_ns)
{
    struct kn_worker *w = c->w;
    int fd = open_socket(c);
    if (fd < 0) {
        w->figures.connect_errors++;
        *now_ns = kn_now_ns();
        return -1;
    }
    kn_flow_watch(w, flow, fd);
    int failed = transact(c, fd, begun_ns);
    kn_flow_unwatch(w, flow);
    close(fd);
    *now_ns = kn_now_ns();
    if (!failed)
        kn_worker_op(w, *now_ns, *now_ns - begun_ns, c->request_size, c->spec->response_size);
    return failed;
}

static int loop(struct crr *c, struct kn_error *err)
{
    struct kn_worker *w = c->w;
    unsigned failures = 0, flow = 0;
    uint64_t now_ns = kn_now_ns();
    while (!kn_worker_over(w, now_ns) && kn_worker_take(w, 1)) {
        if (!transaction(c, w->first_flow + flow, now_ns, &now_ns)) {
            failures = 0;
        } else {
            kn_worker_drop(w, 1);
            if (++failures >= FAILURES_MAX)
                return kn_fail(err, KN_E_LOST, "%u transactions failed in a row: %s", failures, strerror(errno));
            kn_sleep_until_ns(kn_now_ns() + KN_NS_PER_MS);
        }
    }
    kn_worker_cpu_close(w);
    return 0;
}

/* ---- what the servers have counted ---- */

static json_t *ask_one(struct kn_worker *w, struct kn_error *err)
{
    uint8_t hello[kn_hello_size()], answer[kn_welcome_size()], *text = NULL;
    uint64_t deadline_ns = kn_now_ns() + COLLECT_TIMEOUT_NS;
    size_t have = 0, room = 1 << 20;
    struct kn_welcome welcome;
    json_t *report = NULL;
    int fd = kn_tcp_connect(&w->peer, w->spec, deadline_ns, err);
    if (fd < 0)
        return NULL;
    kn_flow_hello(w, w->first_flow, KN_HELLO_STATS, hello);
    if (kn_write_full(fd, hello, sizeof hello, deadline_ns, err) || kn_read_full(fd, answer, sizeof answer, deadline_ns, err) ||
        kn_welcome_unpack(answer, sizeof answer, &welcome, err))
        goto out;
    text = malloc(room);
    for (ssize_t n = 1; text && n > 0 && have < room; have += n > 0 ? (size_t)n : 0)
        n = recv(fd, text + have, room - have, 0);
    if (!text || have < KN_TRAILER_FOOT) {
        kn_fail(err, KN_E_LOST, "a server closed without its report");
        goto out;
    }
    int64_t length = kn_trailer_length(text + have - KN_TRAILER_FOOT, err);
    if (length >= 0 && (size_t)length <= have)
        report = kn_trailer_unpack(text + have - (size_t)length, (size_t)length, err);
    else if (length >= 0)
        kn_fail(err, KN_E_PROTOCOL, "a server's report is cut short");
out:
    free(text);
    close(fd);
    return report;
}

/* One report a backend, by name and node. True: it was new. */
static bool keep(json_t *reports, json_t *report)
{
    size_t i;
    json_t *have;
    json_array_foreach(reports, i, have)
        if (json_equal(json_object_get(have, "name"), json_object_get(report, "name")) &&
            json_equal(json_object_get(have, "node"), json_object_get(report, "node")))
            return false;
    json_array_append(reports, report);
    return true;
}

static uint64_t transactions_of(const json_t *reports)
{
    uint64_t sum = 0;
    size_t i;
    json_t *report;
    json_array_foreach(reports, i, report)
        sum += (uint64_t)json_integer_value(json_object_get(report, "transactions"));
    return sum;
}

/* A Service sends each connection where it likes: asked again until the backends' counts make up our own. */
static int collect(struct kn_worker *w, uint64_t expected, struct kn_error *err)
{
    json_t *reports = json_array();
    int failed = 0;
    for (unsigned idle = 0; idle < COLLECT_TRIES && transactions_of(reports) < expected && !failed;) {
        json_t *report = ask_one(w, err);
        if (!report)
            failed = -1;
        else
            idle = keep(reports, report) ? 0 : idle + 1;
        json_decref(report);
    }
    for (size_t i = 0; i < json_array_size(reports) && !failed; i++)
        failed = kn_flow_report(w, json_array_get(reports, i), err);
    if (!failed && transactions_of(reports) < expected)
        kn_worker_flag(w, "backend_missing");
    json_decref(reports);
    return failed;
}

/* ---- the client ---- */

static bool options_needed(const struct kn_spec *spec)
{
    return spec->mss || spec->sndbuf || spec->rcvbuf || spec->cc[0]; /* nodelay says nothing to one message */
}

static int prepare(struct crr *c, struct kn_error *err)
{
    c->request_size = padded(c->spec);
    c->request = calloc(1, c->request_size);
    c->response = malloc(CHUNK);
    c->w->figures.connect = kn_hist_new();
    c->options = options_needed(c->spec);
    if (!c->request || !c->response || !c->w->figures.connect)
        return kn_fail(err, KN_E_MEMORY, "no memory for a request");
    kn_flow_hello(c->w, c->w->first_flow, KN_HELLO_FLOW, c->request);
    c->w->figures.has |= KN_HAS_LATENCY | KN_HAS_CONNECT;
    return 0;
}

int kn_crr_knock(struct kn_worker *w, struct kn_error *err)
{
    json_t *report = ask_one(w, err);
    json_decref(report);
    return report ? 0 : -1;
}

int kn_crr_settle(struct kn_worker *w, uint64_t transactions, bool failed, struct kn_error *err)
{
    uint64_t sum = atomic_fetch_add(&w->run->transactions, transactions) + transactions;
    if (atomic_fetch_add(&w->run->closing, 1) + 1 < w->run->n_slots || failed)
        return failed ? -1 : 0;
    return collect(w, sum, err);
}

static int run(struct crr *c, struct kn_error *err)
{
    if (prepare(c, err) || kn_crr_knock(c->w, err) || kn_worker_ready(c->w, err))
        return -1;
    if (c->spec->fin)
        kn_worker_chosen(c->w, "fin", "the FIN rides on the response, the handshake's ACK on the request");
    int failed = loop(c, err);
    return kn_crr_settle(c->w, c->transactions, failed, err);
}

static int client(struct kn_worker *w, struct kn_error *err)
{
    struct crr c = {.w = w, .spec = w->spec};
    int failed = run(&c, err);
    free(c.request);
    free(c.response);
    return failed;
}

const struct kn_test_ops kn_tcp_crr_ops = {.test = KN_TCP_CRR, .client = client};
