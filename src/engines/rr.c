/* tcp_rr and tcp_lat: a request, its response, and again. One flow a worker and one request at a time goes through the
 * fewest calls there are, two a side; all else goes through rr_many.c. */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "core/pace.h"
#include "engines/flow.h"
#include "engines/payload.h"
#include "engines/rr.h"

#define SPIN_NS (60 * KN_NS_PER_US)
#define STEP_NS (50 * KN_NS_PER_MS)
#define CHUNK (256u << 10)   /* of a long message: what one call takes */

uint64_t kn_rr_response_size(const struct kn_spec *spec)
{
    return spec->test == KN_TCP_LAT ? spec->size : spec->response_size; /* qperf's messages are alike both ways */
}

uint64_t kn_rr_latency(const struct kn_spec *spec, uint64_t round_trip_ns)
{
    return spec->test == KN_TCP_LAT ? round_trip_ns / 2 : round_trip_ns;
}

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

static int lost(struct kn_worker *w, struct kn_error *err)
{
    w->figures.errors++;
    if (kn_worker_stopped(w))
        return kn_fail(err, KN_E_INTERRUPTED, "stopped");
    return kn_fail(err, KN_E_LOST, "the server closed the flow in the middle of the run");
}

bool kn_rr_sleep(const struct kn_worker *w, uint64_t until_ns)
{
    uint64_t early_ns = w->spec->wait == KN_WAIT_BLOCK ? 0 : SPIN_NS, now_ns;
    while ((now_ns = kn_now_ns()) < until_ns) {
        if (kn_worker_stopped(w))
            return false;
        uint64_t wake_ns = until_ns > early_ns ? until_ns - early_ns : 0;
        if (now_ns >= wake_ns)
            sched_yield();
        else /* in steps, so that a stop is heard */
            kn_sleep_until_ns(wake_ns - now_ns > STEP_NS ? now_ns + STEP_NS : wake_ns);
    }
    return true;
}

bool kn_rr_await(const struct kn_worker *w, uint64_t due_ns)
{
    if (due_ns < w->end_ns)
        return kn_rr_sleep(w, due_ns);
    kn_rr_sleep(w, w->end_ns); /* the time without requests is part of the window */
    return false;
}

/* When the next request is sent: now, or where there is a rate when it is due. False: not before the end. */
static bool next_due(struct kn_worker *w, struct kn_pace *pace, uint64_t now_ns, uint64_t *at_ns)
{
    *at_ns = now_ns;
    if (!pace->per)
        return true;
    *at_ns = kn_pace_due_ns(pace);
    kn_pace_take(pace, 1);
    return kn_rr_await(w, *at_ns);
}

struct trip { uint64_t ended_ns, took_ns; };    /* ended_ns 0: none */

static void book(struct kn_worker *w, struct trip *trip)
{
    uint64_t latency_ns = kn_rr_latency(w->spec, trip->took_ns);
    if (trip->ended_ns && !kn_worker_late(w, trip->ended_ns, trip->took_ns, latency_ns))
        kn_worker_op(w, trip->ended_ns, latency_ns, w->spec->size, kn_rr_response_size(w->spec));
    trip->ended_ns = 0;
}

static int one_at_a_time(struct kn_worker *w, int fd, uint8_t *chunk, struct kn_error *err)
{
    const struct kn_spec *spec = w->spec;
    uint64_t request = spec->size, response = kn_rr_response_size(spec), begun_ns, now_ns = kn_now_ns();
    struct kn_waiter wait;
    struct kn_pace pace = {0};
    struct trip last = {0};
    kn_waiter_init(&wait, (enum kn_wait)spec->wait);
    if (spec->rate_per_1000s)
        kn_pace_init(&pace, spec->rate_per_1000s, w->start_ns, w->index, w->n_workers);
    while (!kn_worker_over(w, now_ns) && kn_worker_take(w, 1)) {
        if (!next_due(w, &pace, now_ns, &begun_ns))
            break;
        int failed = send_message(fd, chunk, request);
        book(w, &last); /* while the next request is on its way, not while the server waits for it */
        if (failed || receive_message(&wait, fd, chunk, response))
            return lost(w, err);
        now_ns = kn_now_ns();
        last = (struct trip){.ended_ns = now_ns, .took_ns = now_ns - begun_ns};
        if (pace.per)
            book(w, &last);
    }
    book(w, &last);
    kn_worker_cpu_close(w);
    if (spec->wait == KN_WAIT_AUTO)
        kn_worker_chosen(w, "wait", wait.spun > wait.blocked ? "asked again for up to %u us" : "blocked; asking again for %u us did not pay",
                         (unsigned)(wait.budget_ns / 1000));
    return 0;
}

static int run_one(struct kn_worker *w, uint8_t *chunk, struct kn_error *err)
{
    int fd = kn_flow_open(w, w->first_flow, err);
    if (fd < 0)
        return -1;
    if (kn_worker_ready(w, err) || kn_flow_go(fd, err) || one_at_a_time(w, fd, chunk, err)) {
        kn_flow_abandon(w, fd, w->first_flow);
        return -1;
    }
    return kn_flow_close(w, fd, w->first_flow, NULL, 0, err);
}

static int client(struct kn_worker *w, struct kn_error *err)
{
    uint64_t request = w->spec->size, response = kn_rr_response_size(w->spec);
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
    uint64_t response = kn_rr_response_size(spec);
    if (!spec->delay_ns)
        return send_message(fd, chunk, n * response);
    for (; n; n--) {
        kn_serve_delay(s->server, spec);
        if (send_message(fd, chunk, response))
            return -1;
    }
    return 0;
}

static int serve_loop(struct kn_served *s, int fd, uint8_t *chunk, size_t room)
{
    const struct kn_spec *spec = s->spec;
    uint64_t have = 0, response = kn_rr_response_size(spec);
    struct kn_waiter wait;
    kn_waiter_init(&wait, (enum kn_wait)spec->wait);
    while (!kn_served_stopped(s)) {
        ssize_t got = kn_recv_wait(&wait, fd, chunk, room, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got ? -1 : 0;
        bool open = kn_served_tick(s, kn_now_ns());
        have += (uint64_t)got;
        uint64_t n = have / spec->size;
        have %= spec->size;
        if (n && answer(s, fd, chunk, n))
            return -1;
        if (open) {
            s->figures.ops += n;
            s->figures.rx_bytes += (uint64_t)got;
            s->figures.tx_bytes += n * response;
        }
    }
    return -1;
}

static int serve(struct kn_served *s, int fd, struct kn_error *err)
{
    uint64_t response = kn_rr_response_size(s->spec), burst = s->spec->burst ? s->spec->burst : 1;
    size_t room = kn_rr_chunk(s->spec->size > CHUNK / burst ? CHUNK : s->spec->size * burst);
    uint8_t *chunk = kn_payload_new(room > kn_rr_chunk(response * burst) ? room : CHUNK);
    if (!chunk)
        return kn_fail(err, KN_E_MEMORY, "no memory for a message");
    prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
    int failed = serve_loop(s, fd, chunk, room);
    free(chunk);
    return failed ? kn_fail(err, KN_E_LOST, "the client went away in the middle of the run") : 0;
}

const struct kn_test_ops kn_tcp_rr_ops = {.client = client, .serve = serve};
const struct kn_test_ops kn_tcp_lat_ops = {.client = client, .serve = serve};
