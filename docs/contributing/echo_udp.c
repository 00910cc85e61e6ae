/* echo_udp: a datagram, its echo, and again. The worked example of CONTRIBUTING.md: the least that a test is.
 *
 * The client sends `size` bytes and waits for the same bytes. An echo that does not come within `timeout` is a timeout,
 * and the next datagram is sent. One flow a worker. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "engines/engines.h"
#include "run/flow.h"
#include "run/flow_udp.h"
#include "run/payload.h"
#include "run/served.h"

#define MOST 65507

/* ---- the client ---- */

/* The echo of `number`: one that comes after its timeout is told from the next by it. */
static bool await_echo(int fd, uint8_t *in, size_t size, uint64_t number, uint64_t until_ns)
{
    while (kn_now_ns() < until_ns) {
        ssize_t n = kn_udp_receive(fd, in, MOST, until_ns);
        if (n == (ssize_t)size && !memcmp(in, &number, sizeof number))
            return true;
    }
    return false;
}

static void measure(struct kn_worker *w, int fd, uint8_t *out, uint8_t *in)
{
    const struct kn_spec *spec = w->spec;
    uint64_t number = 0;
    for (uint64_t now_ns = kn_now_ns(); !kn_worker_over(w, now_ns) && kn_worker_take(w, 1); number++) {
        uint64_t begun_ns = now_ns;
        memcpy(out, &number, sizeof number);
        bool sent = send(fd, out, spec->size, MSG_NOSIGNAL) == (ssize_t)spec->size;
        bool came = sent && await_echo(fd, in, spec->size, number, begun_ns + spec->timeout_ns);
        now_ns = kn_now_ns();
        kn_worker_end(w, came ? KN_ENDED_OK : sent ? KN_ENDED_TIMEOUT : KN_ENDED_ERROR, begun_ns, now_ns);
    }
    kn_worker_cpu_close(w);
}

static int client(struct kn_worker *w, struct kn_error *err)
{
    uint8_t *out = kn_payload_new(w->spec->size), *in = malloc(MOST);
    int fd = -1, failed = !out || !in ? kn_fail_memory(err) : 0;
    w->figures.has |= KN_HAS_LATENCY;
    w->rx_size = w->spec->size;
    if (!failed)
        fd = kn_flow_open_udp(w, w->first_flow, err);
    if (fd >= 0 && !kn_worker_ready(w, err)) {
        measure(w, fd, out, in);
        failed = kn_flow_close_udp(w, fd, w->first_flow, 0, err);
    } else if (!failed) {
        kn_flow_abandon(w, fd, w->first_flow);
        failed = -1;
    }
    free(out);
    free(in);
    return failed;
}

/* ---- the agent's side ---- */

static int serve(struct kn_served *s, int fd, struct kn_error *err)
{
    uint8_t *in = malloc(MOST);
    uint64_t heard_ns = kn_now_ns();
    int failed = in ? 0 : kn_fail_memory(err);
    kn_served_start(s, heard_ns);
    while (!failed && !kn_served_stopped(s) && !kn_served_forsaken(s, heard_ns, kn_now_ns())) {
        ssize_t n = kn_udp_receive(fd, in, MOST, kn_now_ns() + KN_UDP_STOP_POLL_NS);
        bool open = kn_served_tick(s, kn_now_ns());
        if (n <= 0)
            continue;
        heard_ns = kn_now_ns();
        enum kn_udp_next next = kn_served_datagram(s, fd, in, (size_t)n);
        if (next == KN_UDP_WANTS_ACCOUNT)
            break;
        if (next == KN_UDP_WAS_CONTROL || !kn_served_moves(s, 2 * (uint64_t)n))
            continue;
        send(fd, in, (size_t)n, MSG_NOSIGNAL);
        s->figures.ops += open;
    }
    free(in);
    return failed;
}

/* ---- the test ---- */

/* `threads` is none of its options: it follows from them. */
static void complete(struct kn_spec *spec)
{
    spec->threads = spec->flows;
}

static const char *const columns[] = {KN_RATE_COLUMNS, NULL}, *const compared[] = {KN_RATE_COMPARED, NULL};
static const struct kn_preset presets[] = {
    {offsetof(struct kn_spec, size), 64},
    {offsetof(struct kn_spec, timeout_ns), KN_NS_PER_S},
    {0, 0},
};
static const struct kn_limit limits[] = {{offsetof(struct kn_spec, size), 8, MOST}, {0, 0, 0}};

const struct kn_test kn_echo_udp = {
    .name = "echo_udp",
    .help = "a datagram and its echo, one at a time: rate and latency",
    .transport = KN_UDP,
    .shape = KN_RR,
    .rate = KN_RATE_NONE,
    .headline = "rate",
    .columns = columns,
    .compared = compared,
    .options = (KN_TEST_OPTIONS & ~KN_HAS(THREADS)) | KN_HAS(SIZE),
    .presets = presets,
    .limits = limits,
    .complete = complete,
    .client = client,
    .serve = serve,
};
