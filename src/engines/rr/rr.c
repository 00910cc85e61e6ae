/* tcp_rr and tcp_lat: a request, its response, and again. One flow a worker and one request at a time goes through the
 * fewest calls there are, two a side; all else goes through many.c. */
#include "engines/rr/rr.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "core/pace.h"
#include "engines/engines.h"
#include "net/io.h"
#include "run/flow.h"
#include "run/payload.h"
#include "run/served.h"
#include "run/wait.h"

#define CHUNK (256u << 10) /* of a long message: what one call takes */

size_t kn_rr_chunk(uint64_t size)
{
    return size < CHUNK ? (size_t)size : CHUNK;
}

/* ---- both sides ---- */

/* The whole of a message; -1 with errno, where the peer is gone. */
static int send_message(int fd, const uint8_t *chunk, uint64_t size)
{
    while (size) {
        ssize_t n = kn_send(fd, chunk, kn_rr_chunk(size), MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        size -= (uint64_t)n;
    }
    return 0;
}

static int receive_message(struct kn_waiter *wait, int fd, uint8_t *chunk, uint64_t size)
{
    while (size) {
        ssize_t n = kn_recv_wait(wait, fd, chunk, kn_rr_chunk(size), 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        size -= (uint64_t)n;
    }
    return 0;
}

/* ---- the client ---- */

/* What ended the trip: the socket's own timeout, or the flow's end. */
static enum kn_ended failure_of(const struct kn_worker *w, uint64_t begun_ns, uint64_t now_ns)
{
    return w->spec->timeout_ns && now_ns - begun_ns >= w->spec->timeout_ns ? KN_ENDED_TIMEOUT : KN_ENDED_ERROR;
}

/* When the next request is sent: now, or where there is a rate when it is due. False: not before the end. */
static bool next_due(struct kn_worker *w, struct kn_pace *pace, uint64_t now_ns, uint64_t *at_ns)
{
    *at_ns = now_ns;
    if (!pace->per)
        return true;
    *at_ns = kn_pace_due_ns(pace);
    kn_pace_take(pace, 1);
    return kn_worker_await(w, *at_ns);
}

struct trip {
    uint64_t begun_ns, ended_ns; /* ended_ns 0: none */
};

static void book(struct kn_worker *w, struct trip *trip)
{
    if (trip->ended_ns)
        kn_worker_end(w, KN_ENDED_OK, trip->begun_ns, trip->ended_ns);
    trip->ended_ns = 0;
}

/* A request and its response. False: the flow is of no use any more; errno says why. */
static bool go_and_return(struct kn_worker *w, struct kn_waiter *wait, int fd, uint8_t *chunk, uint64_t begun_ns,
                          struct trip *last)
{
    atomic_store_explicit(&w->begun_ns, begun_ns, memory_order_relaxed);
    bool sent = !send_message(fd, chunk, w->spec->size);
    book(w, last); /* while the request is on its way, not while the server waits for it */
    bool came = sent && !receive_message(wait, fd, chunk, w->spec->response_size);
    atomic_store_explicit(&w->begun_ns, 0, memory_order_relaxed); /* nothing is awaited until the next one is due */
    return came;
}

/* So that an answer that does not come ends the call in time; while it spins, the controller does, a little later. */
static void set_timeout(const struct kn_worker *w, int fd)
{
    uint64_t ns = w->spec->timeout_ns;
    struct timeval t = {.tv_sec = (time_t)(ns / KN_NS_PER_S), .tv_usec = (suseconds_t)(ns % KN_NS_PER_S / 1000)};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t);
}

/* The flow failed under a request: counted, and opened again. */
static int recover(struct kn_worker *w, int *fd, uint64_t begun_ns, struct kn_error *err)
{
    uint64_t now_ns = kn_now_ns();
    if (kn_worker_stopped(w))
        return kn_fail(err, KN_E_INTERRUPTED, "stopped");
    kn_worker_end(w, failure_of(w, begun_ns, now_ns), begun_ns, now_ns);
    *fd = kn_flow_reopen(w, w->first_flow, *fd, err);
    if (*fd >= 0)
        set_timeout(w, *fd);
    return *fd >= 0 || *fd == KN_FLOW_OVER ? 0 : -1;
}

static int one_at_a_time(struct kn_worker *w, int *fd, uint8_t *chunk, struct kn_error *err)
{
    const struct kn_spec *spec = w->spec;
    uint64_t begun_ns, now_ns = kn_now_ns();
    struct kn_waiter wait;
    struct kn_pace pace = {0};
    struct trip last = {0};
    kn_waiter_init(&wait, (enum kn_wait)spec->wait);
    kn_worker_pace(w, &pace);
    while (!kn_worker_over(w, now_ns) && kn_worker_take(w, 1)) {
        if (!next_due(w, &pace, now_ns, &begun_ns))
            break;
        if (!go_and_return(w, &wait, *fd, chunk, begun_ns, &last)) {
            if (recover(w, fd, begun_ns, err))
                return -1;
            if (*fd < 0)
                break;
            now_ns = kn_now_ns();
            continue;
        }
        now_ns = kn_now_ns();
        last = (struct trip){.begun_ns = begun_ns, .ended_ns = now_ns};
        if (pace.per)
            book(w, &last);
    }
    book(w, &last);
    kn_worker_cpu_close(w);
    if (spec->wait == KN_WAIT_AUTO)
        kn_worker_chosen(w, "wait",
                         wait.spun > wait.blocked ? "asked again for up to %u us"
                                                  : "blocked; asking again for %u us did not pay",
                         (unsigned)(wait.budget_ns / 1000));
    return 0;
}

static int run_one(struct kn_worker *w, uint8_t *chunk, struct kn_error *err)
{
    int fd = kn_flow_open(w, w->first_flow, err);
    if (fd < 0)
        return -1;
    set_timeout(w, fd);
    if (kn_worker_ready(w, err) || kn_flow_go(fd, err) || one_at_a_time(w, &fd, chunk, err)) {
        kn_flow_abandon(w, fd, w->first_flow);
        return -1;
    }
    return fd < 0 ? 0 : kn_flow_close(w, fd, w->first_flow, NULL, 0, err);
}

static int client(struct kn_worker *w, struct kn_error *err)
{
    uint64_t request = w->spec->size, response = w->spec->response_size;
    uint64_t burst = w->spec->burst ? w->spec->burst : 1;
    uint8_t *chunk = kn_payload_new(kn_rr_chunk((request > response ? request : response) * burst));
    if (!chunk)
        return kn_fail(err, KN_E_MEMORY, "no memory for a message");
    if (kn_spec_open_loop(w->spec))
        prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0); /* a request is due when it is due, not up to 50 µs later */
    w->figures.has |= KN_HAS_LATENCY;
    int failed = w->n_flows == 1 && w->spec->burst <= 1 ? run_one(w, chunk, err) : kn_rr_many(w, chunk, err);
    free(chunk);
    return failed;
}

/* ---- the server ---- */

/* Answers `n` requests that came whole; together where they came together and nothing is to be waited for. */
static int answer(const struct kn_served *s, int fd, const uint8_t *chunk, uint64_t n)
{
    const struct kn_spec *spec = s->spec;
    uint64_t response = spec->response_size;
    if (!spec->delay_ns)
        return send_message(fd, chunk, n * response);
    for (; n; n--) {
        kn_serve_delay(s->server, spec);
        if (send_message(fd, chunk, response))
            return -1;
    }
    return 0;
}

static int gone(struct kn_error *err)
{
    return kn_fail(err, KN_E_LOST, "the client went away in the middle of the run");
}

static int serve_loop(struct kn_served *s, int fd, uint8_t *chunk, size_t room, struct kn_error *err)
{
    const struct kn_spec *spec = s->spec;
    uint64_t have = 0, response = spec->response_size;
    struct kn_waiter wait;
    kn_waiter_init(&wait, (enum kn_wait)spec->wait);
    while (!kn_served_stopped(s)) {
        ssize_t got = kn_recv_wait(&wait, fd, chunk, room, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got ? gone(err) : 0;
        bool open = kn_served_tick(s, kn_now_ns());
        if (!kn_served_moves(s, (uint64_t)got))
            return kn_served_limit(err);
        have += (uint64_t)got;
        uint64_t n = have / spec->size;
        have %= spec->size;
        if (n && answer(s, fd, chunk, n))
            return gone(err);
        kn_served_moves(s, n * response);
        if (open) {
            s->figures.ops += n;
            s->figures.rx_bytes += (uint64_t)got;
            s->figures.tx_bytes += n * response;
        }
    }
    return kn_fail(err, KN_E_INTERRUPTED, "stopped");
}

static int serve(struct kn_served *s, int fd, struct kn_error *err)
{
    uint64_t response = s->spec->response_size, burst = s->spec->burst ? s->spec->burst : 1;
    size_t room = kn_rr_chunk(s->spec->size > CHUNK / burst ? CHUNK : s->spec->size * burst);
    uint8_t *chunk = kn_payload_new(room > kn_rr_chunk(response * burst) ? room : CHUNK);
    if (!chunk)
        return kn_fail(err, KN_E_MEMORY, "no memory for a message");
    prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
    int failed = serve_loop(s, fd, chunk, room, err);
    free(chunk);
    return failed;
}

/* ---- the tests ---- */

#define OPTIONS (KN_TEST_OPTIONS | KN_TCP_OPTIONS | KN_HAS(SIZE) | KN_HAS(WAIT))

static const char *const rate_columns[] = {KN_RATE_COLUMNS, NULL}, *const rate_compared[] = {KN_RATE_COMPARED, NULL};
static const char *const lat_columns[] = {KN_LATENCY_COLUMNS, NULL};
static const char *const lat_compared[] = {"mean", "p99", "cpu_per_op", NULL};
static const struct kn_preset presets[] = {
    {offsetof(struct kn_spec, size), 1},
    {offsetof(struct kn_spec, response_size), 1},
    {offsetof(struct kn_spec, burst), 1},
    {offsetof(struct kn_spec, nodelay), 1},
    {0, 0},
};
static const struct kn_alias aliases[] = {{"request", "size"}, {NULL, NULL}};

const struct kn_test kn_tcp_rr = {
    .name = "tcp_rr",
    .help = "requests and responses over a TCP connection: rate and latency",
    .transport = KN_TCP,
    .shape = KN_RR,
    .rate = KN_RATE_EVENTS,
    .headline = "rate",
    .columns = rate_columns,
    .compared = rate_compared,
    .options = OPTIONS | KN_HAS(RESPONSE) | KN_HAS(BURST) | KN_HAS(RATE) | KN_HAS(DELAY),
    .presets = presets,
    .aliases = aliases,
    .client = client,
    .serve = serve,
    .desk = &kn_rr_desk,
};

/* qperf's messages are alike both ways. */
static void same_size(struct kn_spec *spec)
{
    spec->response_size = spec->size;
}

const struct kn_test kn_tcp_lat = {
    .name = "tcp_lat",
    .help = "one-way latency over a TCP connection, as half of the round trip, over a list of sizes (qperf tcp_lat)",
    .transport = KN_TCP,
    .shape = KN_RR,
    .rate = KN_RATE_NONE,
    .headline = "mean",
    .columns = lat_columns,
    .compared = lat_compared,
    .sized = true,
    .halves = true,
    .options = OPTIONS,
    .presets = presets,
    .complete = same_size,
    .client = client,
    .serve = serve,
    .desk = &kn_rr_desk,
};
