/* A server that fails as it is told, for tests/net/https_test.lua: a TCP server that breaks a TLS handshake, or an
 * HTTP/2 server in clear text.
 *
 *   http_faults PORT MODE [TARGET]
 *
 * With TARGET, a third argument: `flaky` hands connections on to that port, but resets each fifth.
 * TLS: `reset` resets the connection after the client's first bytes, `close` closes it, `stall` never answers.
 * HTTP/2: `ping` and `settings` send these frames without end after the first request, `interim` responses with status
 * 100, `continuation` one header block; `goaway` takes each connection out of use after 20 requests, `refuse` refuses
 * each tenth request, `silent` answers none, `garbage` sends bytes that are no frames. */
#include <poll.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "net/addr.h"
#include "net/io.h"
#include "faulty.h"

enum { DATA, HEADERS, RST_STREAM = 3, SETTINGS, PING = 6, GOAWAY, CONTINUATION = 9 };
#define END_STREAM 1
#define END_HEADERS 4
#define PREFACE 24

static const char *mode;
static uint16_t target;
static atomic_uint connections;

static bool is(const char *name)
{
    return !strcmp(mode, name);
}

static bool send_all(int fd, const void *bytes, size_t n)
{
    return send(fd, bytes, n, MSG_NOSIGNAL) == (ssize_t)n;
}

static bool send_frame(int fd, uint8_t type, uint8_t flags, uint32_t stream, const void *payload, uint8_t n)
{
    uint8_t frame[9 + 255] = {0, 0, n, type, flags, 0, 0, (uint8_t)(stream >> 8), (uint8_t)stream};
    memcpy(frame + 9, payload, n);
    return send_all(fd, frame, 9u + n);
}

static bool read_all(int fd, uint8_t *to, size_t n)
{
    return recv(fd, to, n, MSG_WAITALL) == (ssize_t)n;
}

/* The next frame's type and stream; its payload is passed over. */
static bool next_frame(int fd, uint8_t *type, uint32_t *stream)
{
    uint8_t head[9], rest[16384];
    if (!read_all(fd, head, sizeof head))
        return false;
    size_t n = (size_t)head[0] << 16 | (size_t)head[1] << 8 | head[2];
    *type = head[3];
    *stream = (uint32_t)head[7] << 8 | head[8];
    return n <= sizeof rest && (!n || read_all(fd, rest, n));
}

static void flood(int fd, uint32_t stream)
{
    static const uint8_t zeros[8], interim[] = {8, 3, '1', '0', '0'}, field[] = {0, 1, 'a', 1, 'b'};
    bool open = !is("continuation") || send_frame(fd, HEADERS, 0, stream, "\x88", 1);
    while (open) {
        if (is("ping"))
            open = send_frame(fd, PING, 0, 0, zeros, 8);
        else if (is("settings"))
            open = send_frame(fd, SETTINGS, 0, 0, zeros, 0);
        else if (is("interim"))
            open = send_frame(fd, HEADERS, END_HEADERS, stream, interim, sizeof interim);
        else if (is("continuation"))
            open = send_frame(fd, CONTINUATION, 0, stream, field, sizeof field);
        else
            open = send_all(fd, "no frame at all, but text", 25);
    }
}

static bool answer(int fd, unsigned n, uint32_t stream)
{
    const uint8_t last[8] = {0, 0, (uint8_t)(stream >> 8), (uint8_t)stream}, refused[4] = {0, 0, 0, 7};
    if (is("silent"))
        return true;
    if (is("refuse") && n % 10 == 0)
        return send_frame(fd, RST_STREAM, 0, stream, refused, 4);
    if (is("goaway") && n > 20)
        return true;
    if (!is("goaway") && !is("refuse"))
        return flood(fd, stream), false;
    return send_frame(fd, HEADERS, END_STREAM | END_HEADERS, stream, "\x88", 1) &&
           (!is("goaway") || n < 20 || send_frame(fd, GOAWAY, 0, 0, last, 8));
}

static void serve_http2(int fd)
{
    uint8_t preface[PREFACE], type;
    uint32_t stream;
    unsigned n = 0;
    bool open = read_all(fd, preface, sizeof preface) && send_frame(fd, SETTINGS, 0, 0, preface, 0);
    while (open && (open = next_frame(fd, &type, &stream)))
        if (type == HEADERS)
            open = answer(fd, ++n, stream);
}

static void break_tls(int fd)
{
    char first[4096];
    recv(fd, first, sizeof first, 0);
    if (is("reset") || is("flaky"))
        reset(fd);
    if (is("stall"))
        stay_silent(fd);
}

static bool copy(int from, int to)
{
    char bytes[16384];
    ssize_t n = recv(from, bytes, sizeof bytes, 0);
    return n > 0 && send_all(to, bytes, (size_t)n);
}

static void hand_on(int fd)
{
    struct kn_error err;
    struct kn_addr at;
    if (kn_addr_resolve("127.0.0.1", target, 4, KN_NS_PER_S, &at, &err))
        return;
    int far = kn_tcp_connect(&at, NULL, 0, &err);
    struct pollfd both[2] = {{.fd = fd, .events = POLLIN}, {.fd = far, .events = POLLIN}};
    for (bool open = far >= 0; open && poll(both, 2, -1) > 0;)
        open = (!both[0].revents || copy(fd, far)) && (!both[1].revents || copy(far, fd));
    if (far >= 0)
        close(far);
}

static void serve(int fd)
{
    if (is("flaky") && atomic_fetch_add(&connections, 1) % 5 != 4)
        hand_on(fd);
    else if (is("flaky") || is("reset") || is("close") || is("stall"))
        break_tls(fd);
    else
        serve_http2(fd);
}

int main(int argc, char **argv)
{
    struct kn_error err;
    struct kn_addr at;
    mode = argc > 2 ? argv[2] : "";
    target = argc > 3 ? (uint16_t)atoi(argv[3]) : 0;
    if (argc < 3 || kn_addr_resolve("127.0.0.1", (uint16_t)atoi(argv[1]), 4, KN_NS_PER_S, &at, &err))
        return 2;
    int listener = kn_tcp_listen(&at, 128, &err);
    if (listener < 0) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    serve_all(listener, serve);
}
