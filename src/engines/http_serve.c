#include "engines/http_serve.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "engines/crr.h"
#include "engines/payload.h"

#define PIECES 16
#define ONCE_TIMEOUT_NS (30 * KN_NS_PER_S)

/* ---- requests and replies ---- */

/* `to` has KN_HTTP_REPLY_HEAD bytes. */
static size_t reply_head(char *to, uint64_t body, bool keepalive)
{
    int n = snprintf(to, KN_HTTP_REPLY_HEAD,
                     "HTTP/1.1 200 OK\r\nServer: knbl/" KNBL_VERSION "\r\nContent-Type: application/octet-stream\r\n"
                     "Content-Length: %llu\r\nConnection: %s\r\n\r\n",
                     (unsigned long long)body, keepalive ? "keep-alive" : "close");
    return (size_t)n;
}

/* Of the request that `bytes` begin with; 0 where it is not whole yet, -1 where it is none. */
static ssize_t request_length(const uint8_t *bytes, size_t n)
{
    if (memcmp(bytes, "GET /", n < 5 ? n : 5))
        return -1;
    const uint8_t *end = memmem(bytes, n, "\r\n\r\n", 4);
    if (end)
        return end + 4 - bytes;
    return n < KN_HTTP_REQUEST_MAX ? 0 : -1;
}

void kn_http_flow_init(struct kn_http_flow *f, struct kn_served *s, int fd)
{
    uint64_t body = s->spec->body, first = body < KN_HTTP_REPLY_WHOLE ? body : KN_HTTP_REPLY_WHOLE;
    f->fd = fd;
    f->s = s;
    f->failed = f->at_desk = false;
    f->have = 0;
    f->left = f->served = 0;
    size_t head = reply_head((char *)f->out, body, true);
    kn_payload_fill(f->out + head, (size_t)first);
    f->out_size = head + (size_t)first;
    f->reply_size = head + body;
}

static ssize_t send_some(const struct kn_http_flow *f, int flags)
{
    uint64_t at = f->reply_size - f->left;
    if (f->reply_size == f->out_size)
        return kn_send(f->fd, f->out + at, (size_t)f->left, flags | MSG_NOSIGNAL);
    struct iovec pieces[PIECES];
    size_t n = 0;
    uint64_t left = f->left;
    if (at < f->out_size) {
        pieces[n++] = (struct iovec){(void *)(uintptr_t)(f->out + at), f->out_size - (size_t)at};
        left -= f->out_size - at;
    }
    for (; left && n < PIECES; left -= pieces[n++].iov_len)
        pieces[n] = (struct iovec){(void *)(uintptr_t)kn_payload(), left < KN_PAYLOAD_SIZE ? (size_t)left : KN_PAYLOAD_SIZE};
    struct msghdr m = {.msg_iov = pieces, .msg_iovlen = n};
    return sendmsg(f->fd, &m, flags | MSG_NOSIGNAL);
}

/* 1 sent, 0 not all of it yet, -1 it cannot be. */
static int flush(struct kn_http_flow *f, int flags)
{
    while (f->left) {
        ssize_t n = send_some(f, flags);
        if (n < 0 && errno == EAGAIN)
            return 0;
        if (n < 0 && errno != EINTR)
            return -1;
        f->left -= n > 0 ? (uint64_t)n : 0;
    }
    return 1;
}

static void count(struct kn_http_flow *f, size_t request)
{
    struct kn_served *s = f->s;
    f->served++;
    if (!f->at_desk)
        kn_served_tick(s, kn_now_ns());
    if (!s->opened || s->closed)
        return;
    s->figures.ops++;
    s->figures.rx_bytes += request;
    s->figures.tx_bytes += s->spec->body;
}

/* Replies to the requests that are whole, as far as they can be sent. 1: to all of them. */
static int reply(struct kn_http_flow *f, int flags)
{
    int sent = flush(f, flags);
    while (sent > 0 && f->have) {
        ssize_t length = request_length(f->in, f->have);
        if (length <= 0)
            return length ? -1 : 1;
        if (f->s->spec->delay_ns)
            kn_sleep_until_ns(kn_now_ns() + f->s->spec->delay_ns);
        count(f, (size_t)length);
        f->have -= (size_t)length;
        memmove(f->in, f->in + length, f->have);
        f->left = f->reply_size;
        sent = flush(f, flags);
    }
    return sent;
}

bool kn_http_flow_serve(struct kn_http_flow *f, int flags, bool to_end)
{
    for (;;) {
        int replied = reply(f, flags);
        f->failed = replied < 0;
        if (replied <= 0)
            return replied == 0;
        size_t room = sizeof f->in - f->have;
        ssize_t n = kn_recv(f->fd, f->in + f->have, room, flags);
        if (n == 0)
            return false;
        if (n < 0 && errno != EINTR) {
            f->failed = errno != EAGAIN;
            return !f->failed;
        }
        f->have += n > 0 ? (size_t)n : 0;
        if (flags && !to_end && n > 0 && (size_t)n < room) { /* nothing more is there */
            replied = reply(f, flags);
            f->failed = replied < 0;
            return replied >= 0;
        }
    }
}

int kn_http_broke_off(struct kn_error *err)
{
    return kn_fail(err, KN_E_PROTOCOL, "a client of http broke off, or asked for what there is not");
}

int kn_http_serve(struct kn_served *s, int fd, struct kn_error *err)
{
    if (s->server->http && !s->spec->delay_ns)
        return kn_http_desk_serve(s->server->http, s, fd, err);
    struct kn_http_flow *f = malloc(sizeof *f);
    if (!f)
        return kn_fail(err, KN_E_MEMORY, "no memory for a flow");
    kn_http_flow_init(f, s, fd);
    while (kn_http_flow_serve(f, 0, true))
        ;
    int failed = f->failed ? kn_http_broke_off(err) : 0;
    free(f);
    return failed;
}

/* ---- a connection a request ---- */

static size_t reply_short(uint8_t *to, uint64_t body)
{
    size_t head = reply_head((char *)to, body, false);
    kn_payload_fill(to + head, (size_t)body);
    return head + (size_t)body;
}

bool kn_http_serve_short(struct kn_server *server, int fd, const struct kn_hello *hello, const uint8_t *extra,
                         size_t extra_size)
{
    const struct kn_spec *spec = &hello->spec;
    uint8_t wire[KN_HTTP_REPLY_HEAD + KN_HTTP_REPLY_WHOLE];
    bool whole = extra_size && request_length(extra, extra_size) == (ssize_t)extra_size;
    if (!whole || spec->delay_ns || spec->body > KN_HTTP_REPLY_WHOLE)
        return false;
    kn_crr_note(server, hello, kn_hello_size() + extra_size, spec->body);
    kn_send(fd, wire, reply_short(wire, spec->body), MSG_NOSIGNAL | MSG_DONTWAIT);
    return true;
}

static int read_request(int fd, uint8_t *in, size_t have, uint64_t deadline_ns, struct kn_error *err)
{
    ssize_t length;
    while (!(length = request_length(in, have)))
        if (kn_read_full(fd, in + have++, 1, deadline_ns, err))
            return -1;
    return length < 0 ? kn_fail(err, KN_E_PROTOCOL, "a client of http asked for what there is not") : 0;
}

int kn_http_serve_once(struct kn_server *server, int fd, const struct kn_hello *hello, const uint8_t *extra,
                       size_t extra_size, struct kn_error *err)
{
    char head[KN_HTTP_REPLY_HEAD];
    uint8_t in[KN_HTTP_REQUEST_MAX];
    uint64_t deadline_ns = kn_now_ns() + ONCE_TIMEOUT_NS + hello->spec.delay_ns, left = hello->spec.body;
    if (extra_size > sizeof in)
        return kn_fail(err, KN_E_PROTOCOL, "a client of http asked at length");
    if (extra_size)
        memcpy(in, extra, extra_size);
    if (read_request(fd, in, extra_size, deadline_ns, err))
        return -1;
    if (hello->spec.delay_ns)
        kn_sleep_until_ns(kn_now_ns() + hello->spec.delay_ns);
    kn_crr_note(server, hello, kn_hello_size() + extra_size, hello->spec.body);
    if (kn_write_full(fd, head, reply_head(head, left, false), deadline_ns, err))
        return -1;
    for (size_t n; left; left -= n) {
        n = left < KN_PAYLOAD_SIZE ? (size_t)left : KN_PAYLOAD_SIZE;
        if (kn_write_full(fd, kn_payload(), n, deadline_ns, err))
            return -1;
    }
    return 0;
}
