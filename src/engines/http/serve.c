#include "engines/http/serve.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "engines/http/options.h"
#include "net/io.h"
#include "run/payload.h"
#include "run/served.h"
#include "run/short.h"

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

/* What every request of a run is answered with. */
struct reply {
    uint64_t size;
    size_t out_size; /* of `out`: its head and the beginning of its body */
    uint8_t out[KN_HTTP_REPLY_HEAD + KN_HTTP_REPLY_WHOLE];
};

struct connection {
    int fd;
    const struct reply *reply;
    uint64_t left; /* of the reply that is being sent */
};

static void *reply_new(const struct kn_spec *spec)
{
    uint64_t body = kn_http_body(spec), first = body < KN_HTTP_REPLY_WHOLE ? body : KN_HTTP_REPLY_WHOLE;
    struct reply *r = malloc(sizeof *r);
    if (!r)
        return NULL;
    size_t head = reply_head((char *)r->out, body, true);
    kn_payload_fill(r->out + head, (size_t)first);
    r->out_size = head + (size_t)first;
    r->size = head + body;
    return r;
}

static ssize_t send_some(const struct connection *c, int flags)
{
    const struct reply *r = c->reply;
    uint64_t at = r->size - c->left;
    if (r->size == r->out_size)
        return kn_send(c->fd, r->out + at, (size_t)c->left, flags | MSG_NOSIGNAL);
    struct iovec pieces[PIECES];
    size_t n = 0;
    uint64_t left = c->left;
    if (at < r->out_size) {
        pieces[n++] = (struct iovec){(void *)(uintptr_t)(r->out + at), r->out_size - (size_t)at};
        left -= r->out_size - at;
    }
    for (; left && n < PIECES; left -= pieces[n++].iov_len)
        pieces[n] = (struct iovec){(void *)(uintptr_t)kn_payload(),
                                   left < KN_PAYLOAD_SIZE ? (size_t)left : KN_PAYLOAD_SIZE};
    struct msghdr m = {.msg_iov = pieces, .msg_iovlen = n};
    return sendmsg(c->fd, &m, flags | MSG_NOSIGNAL);
}

/* 1 sent, 0 not all of it yet, -1 it cannot be. */
static int flush(struct connection *c, int flags)
{
    while (c->left) {
        ssize_t n = send_some(c, flags);
        if (n < 0 && errno == EAGAIN)
            return 0;
        if (n < 0 && errno != EINTR)
            return -1;
        c->left -= n > 0 ? (uint64_t)n : 0;
    }
    return 1;
}

static void count(struct kn_served *s, size_t request)
{
    if (!s->opened || s->closed)
        return;
    s->figures.ops++;
    s->figures.rx_bytes += request;
    s->figures.tx_bytes += kn_http_body(s->spec);
}

/* ---- a flow on a thread of its own ---- */

/* Replies to the requests that are whole; what is left of them stays at the front of `in`. */
static int reply_all(struct kn_served *s, struct connection *c, uint8_t *in, size_t *have)
{
    ssize_t length;
    while (*have && (length = request_length(in, *have)) != 0) {
        if (length < 0)
            return -1;
        if (!kn_served_moves(s, (uint64_t)length + kn_http_body(s->spec)))
            return -1;
        kn_serve_delay(s->server, s->spec);
        kn_served_tick(s, kn_now_ns());
        count(s, (size_t)length);
        *have -= (size_t)length;
        memmove(in, in + length, *have);
        c->left = c->reply->size;
        if (flush(c, 0) < 0)
            return -1;
    }
    return 0;
}

int kn_http_serve(struct kn_served *s, int fd, struct kn_error *err)
{
    uint8_t in[KN_HTTP_REQUEST_MAX];
    size_t have = 0;
    struct reply *reply = reply_new(s->spec);
    struct connection c = {.fd = fd, .reply = reply};
    ssize_t n = reply ? 1 : -1;
    while (n > 0) {
        n = kn_recv(fd, in + have, sizeof in - have, 0);
        if (n < 0 && errno == EINTR)
            n = 1;
        else if (n > 0)
            have += (size_t)n, n = reply_all(s, &c, in, &have) ? -1 : n;
    }
    free(reply);
    return n == 0 ? 0 : kn_fail(err, KN_E_PROTOCOL, "the client closed in the middle, or sent an unsupported request");
}

/* ---- a flow at a desk ---- */

struct flow {
    struct kn_desk_flow desk;
    struct connection c;
    uint64_t due_ns; /* of the reply that is delayed; 0: none */
    uint8_t *kept;   /* of requests that are not whole, or not answered yet */
    size_t have;
};

static int begin(struct kn_desk_flow *flow, struct kn_error *err)
{
    struct flow *f = (struct flow *)flow;
    (void)err;
    f->c = (struct connection){.fd = flow->fd, .reply = flow->shared};
    return 0;
}

static void end(struct kn_desk_flow *flow)
{
    free(((struct flow *)flow)->kept);
}

static bool keep(struct flow *f, const uint8_t *in, size_t n)
{
    if (n && !f->kept && !(f->kept = malloc(KN_HTTP_REQUEST_MAX)))
        return false;
    if (n)
        memcpy(f->kept, in, n);
    f->have = n;
    return true;
}

/* True: the reply to this request goes out now. */
static bool is_due(struct flow *f)
{
    uint64_t now_ns = f->desk.seat->now_ns;
    if (f->due_ns > now_ns)
        return false;
    f->due_ns = 0;
    f->c.left = f->c.reply->size;
    return true;
}

/* Replies to what is whole, from *at on. 1: to all of it; 0: it waits for room or for its time; -1: it cannot go on. */
static int answer(struct flow *f, const uint8_t *in, size_t n, size_t *at)
{
    for (;;) {
        int sent = flush(&f->c, MSG_DONTWAIT);
        if (sent <= 0)
            return sent;
        if (f->due_ns && !is_due(f))
            return 0;
        if (f->c.left)
            continue;
        ssize_t length = *at < n ? request_length(in + *at, n - *at) : 0;
        if (length <= 0)
            return length ? -1 : 1;
        *at += (size_t)length;
        f->desk.turns++;
        if (!kn_served_moves(&f->desk.s, (uint64_t)length + kn_http_body(f->desk.s.spec)))
            return -1;
        count(&f->desk.s, (size_t)length);
        if (f->desk.s.spec->delay_ns)
            kn_desk_wake(&f->desk, f->due_ns = kn_now_ns() + f->desk.s.spec->delay_ns);
        else
            f->c.left = f->c.reply->size;
    }
}

static enum kn_desk_next serve_at_desk(struct kn_desk_flow *flow, uint32_t events)
{
    struct flow *f = (struct flow *)flow;
    uint8_t *in = flow->seat->room;
    size_t have = f->have;
    bool drained = false;
    if (have)
        memcpy(in, f->kept, have);
    for (int i = 0;; i++) {
        size_t at = 0;
        int answered = answer(f, in, have, &at);
        have -= at;
        memmove(in, in + at, have);
        if (answered < 0 || (answered == 0 && !keep(f, in, have)))
            return KN_DESK_FAILED;
        if (answered == 0)
            return KN_DESK_WAIT;
        if (drained || i == KN_DESK_CALLS)
            return !keep(f, in, have) ? KN_DESK_FAILED : drained ? KN_DESK_WAIT : KN_DESK_AGAIN;
        ssize_t n = kn_recv(flow->fd, in + have, KN_HTTP_REQUEST_MAX - have, MSG_DONTWAIT);
        if (n == 0)
            return KN_DESK_OVER;
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return KN_DESK_FAILED;
        if (n < 0)
            return keep(f, in, have) ? KN_DESK_WAIT : KN_DESK_FAILED;
        have += (size_t)n;
        drained = have < KN_HTTP_REQUEST_MAX && !(events & KN_LOOP_ENDS);
    }
}

const struct kn_desk_test kn_http_desk = {
    .size = sizeof(struct flow), .share = reply_new, .begin = begin, .serve = serve_at_desk, .end = end};

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
    if (!whole || spec->delay_ns || kn_http_body(spec) > KN_HTTP_REPLY_WHOLE)
        return false;
    if (!kn_short_note(server, hello, kn_hello_size() + extra_size, kn_http_body(spec)))
        return true;
    kn_send(fd, wire, reply_short(wire, kn_http_body(spec)), MSG_NOSIGNAL | MSG_DONTWAIT);
    return true;
}

static int read_request(int fd, uint8_t *in, size_t have, uint64_t deadline_ns, struct kn_error *err)
{
    ssize_t length;
    while (!(length = request_length(in, have)))
        if (kn_read_full(fd, in + have++, 1, deadline_ns, err))
            return -1;
    return length < 0 ? kn_fail(err, KN_E_PROTOCOL, "unsupported HTTP request") : 0;
}

int kn_http_serve_once(struct kn_server *server, int fd, const struct kn_hello *hello, const uint8_t *extra,
                       size_t extra_size, struct kn_error *err)
{
    char head[KN_HTTP_REPLY_HEAD];
    uint8_t in[KN_HTTP_REQUEST_MAX];
    uint64_t deadline_ns = kn_now_ns() + ONCE_TIMEOUT_NS + hello->spec.delay_ns, left = kn_http_body(&hello->spec);
    if (extra_size > sizeof in)
        return kn_fail(err, KN_E_PROTOCOL, "HTTP request too long");
    if (extra_size)
        memcpy(in, extra, extra_size);
    if (read_request(fd, in, extra_size, deadline_ns, err))
        return -1;
    kn_serve_delay(server, &hello->spec);
    if (!kn_short_note(server, hello, kn_hello_size() + extra_size, kn_http_body(&hello->spec)))
        return kn_served_limit(err);
    if (kn_write_full(fd, head, reply_head(head, left, false), deadline_ns, err))
        return -1;
    for (size_t n; left; left -= n) {
        n = left < KN_PAYLOAD_SIZE ? (size_t)left : KN_PAYLOAD_SIZE;
        if (kn_write_full(fd, kn_payload(), n, deadline_ns, err))
            return -1;
    }
    return 0;
}
