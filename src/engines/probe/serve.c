/* The agent's side of the probe: a welcome for each hello, so that the client knows who answered; the same in HTTP; and
 * an echo on a session. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "engines/probe/probe.h"
#include "net/io.h"
#include "run/served.h"
#include "run/short.h"

#define BLOCKING_TIMEOUT_NS (10 * KN_NS_PER_S)
#define ECHO_SIZE 4096

static size_t answer_of(const struct kn_server *server, int fd, const struct kn_spec *spec, uint8_t *wire)
{
    struct kn_welcome w;
    kn_welcome_fill(server, fd, &w);
    if (kn_probe_kind(spec) != KN_PROBE_HTTP) {
        kn_welcome_pack(&w, wire);
        return kn_welcome_size();
    }
    return (size_t)snprintf(
        (char *)wire, KN_PROBE_HEAD_MAX,
        "HTTP/1.1 200 OK\r\n" KN_PROBE_BACKEND "%s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", w.name);
}

static bool is_whole(const struct kn_spec *spec, const uint8_t *request, size_t size)
{
    return kn_probe_kind(spec) != KN_PROBE_HTTP || (size >= 4 && !memcmp(request + size - 4, "\r\n\r\n", 4));
}

/* False: more bytes than this agent allows. */
static bool answer(struct kn_server *server, int fd, const struct kn_hello *hello, size_t request_size)
{
    uint8_t wire[KN_PROBE_HEAD_MAX];
    size_t size = answer_of(server, fd, &hello->spec, wire);
    if (!kn_short_note(server, hello, kn_hello_size() + request_size, size))
        return false;
    send(fd, wire, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    return true;
}

bool kn_probe_serve_short(struct kn_server *server, int fd, const struct kn_hello *hello, const uint8_t *extra,
                          size_t extra_size)
{
    if (!is_whole(&hello->spec, extra, extra_size))
        return false;
    answer(server, fd, hello, extra_size);
    return true;
}

int kn_probe_serve_once(struct kn_server *server, int fd, const struct kn_hello *hello, const uint8_t *extra,
                        size_t extra_size, struct kn_error *err)
{
    uint8_t request[KN_PROBE_REQUEST_MAX];
    uint64_t deadline_ns = kn_now_ns() + BLOCKING_TIMEOUT_NS;
    size_t have = extra_size < sizeof request ? extra_size : sizeof request;
    memcpy(request, extra ? extra : request, extra ? have : 0);
    while (!is_whole(&hello->spec, request, have)) {
        if (have == sizeof request)
            return kn_fail(err, KN_E_PROTOCOL, "a probe's request must be at most %u bytes", KN_PROBE_REQUEST_MAX);
        if (kn_read_full(fd, request + have, 1, deadline_ns, err))
            return -1;
        have++;
    }
    return answer(server, fd, hello, have) ? 0 : kn_served_limit(err);
}

int kn_probe_serve(struct kn_served *s, int fd, struct kn_error *err)
{
    uint8_t bytes[ECHO_SIZE];
    uint64_t have = 0;
    while (!kn_served_stopped(s)) {
        ssize_t n = kn_recv(fd, bytes, sizeof bytes, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n ? kn_fail(err, KN_E_LOST, "the client reset the connection") : 0;
        bool open = kn_served_tick(s, kn_now_ns());
        if (!kn_served_moves(s, 2 * (uint64_t)n))
            return kn_served_limit(err);
        if (kn_write_full(fd, bytes, (size_t)n, kn_now_ns() + BLOCKING_TIMEOUT_NS, err))
            return -1;
        have += (uint64_t)n;
        if (open) {
            s->figures.ops += have / KN_PROBE_MESSAGE;
            s->figures.rx_bytes += (uint64_t)n;
            s->figures.tx_bytes += (uint64_t)n;
        }
        have %= KN_PROBE_MESSAGE;
    }
    return kn_fail(err, KN_E_INTERRUPTED, "stopped");
}
