#include "engines/http/conn_inside.h"

#include <errno.h>
#include <unistd.h>

#include "net/io.h"
#include "run/flow.h"

#define CLOSING_NS (250 * KN_NS_PER_MS) /* for the server to close what it said it would */

void kn_http_close(struct kn_http_conn *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    kn_tls_free(c->tls);
    c->tls = NULL;
    c->state = KN_HTTP_NONE;
    c->used = c->began = false;
    c->out_left = 0;
    c->deadline_ns = 0;
}

/* After the server, which closed first: a reset leaves no TIME_WAIT there either. */
static void close_last(const struct kn_http_client *h, struct kn_http_conn *c)
{
    if (h->w->spec->own[KN_HTTP_RESET])
        kn_http_reset(c);
    else
        kn_http_close(c);
}

/* ---- sending ---- */

/* What another connection could not do. */
static void stands(struct kn_http_client *h, struct kn_http_conn *c)
{
    c->failures = 0;
    if (!h->connected++)
        kn_worker_found(h->w);
}

static bool is_figure(const struct kn_http_client *h, uint64_t now_ns)
{
    return !(h->measured && h->w->untracked && kn_worker_measures(h->w, now_ns));
}

static void connected(struct kn_http_client *h, struct kn_http_conn *c)
{
    uint64_t now_ns = kn_now_ns();
    struct kn_figures *f = &h->w->figures;
    c->connect_ns = now_ns - c->connect_from_ns;
    if (!h->tls)
        stands(h, c);
    kn_worker_connecting(h->w, c->connect_from_ns, now_ns);
    if (!is_figure(h, now_ns))
        return;
    f->connects++;
    kn_hist_record(f->connect, c->connect_ns);
}

static ssize_t send_some(struct kn_http_conn *c)
{
    if (c->tls)
        return kn_tls_send(c->tls, c->out, c->out_left);
    return kn_send(c->fd, c->out, c->out_left, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static ssize_t receive_some(struct kn_http_client *h, struct kn_http_conn *c)
{
    if (c->tls)
        return kn_tls_recv(c->tls, h->buf, KN_HTTP_BUF);
    return kn_recv(c->fd, h->buf, KN_HTTP_BUF, MSG_DONTWAIT);
}

/* A socket that is still connecting says EAGAIN to send(), or what became of its connect. */
static void push(struct kn_http_client *h, struct kn_http_conn *c)
{
    while (c->out_left) {
        ssize_t n = send_some(c);
        if (n < 0) {
            if (errno != EAGAIN && errno != EINTR)
                kn_http_lost(h, c, errno);
            return;
        }
        c->out += n;
        c->out_left -= (uint32_t)n;
        if (c->state == KN_HTTP_CONNECTING) {
            connected(h, c);
            c->state = h->greets ? KN_HTTP_WELCOME : KN_HTTP_ASKED;
        }
    }
}

static void send_request(struct kn_http_client *h, struct kn_http_conn *c)
{
    bool go = h->greets && !c->began;
    c->out = h->request - go;
    c->out_left = h->request_size + go;
    c->began = true;
    c->state = KN_HTTP_ASKED;
    c->first_ns = 0;
    push(h, c);
}

/* This is a limit of this process, not a fault of the network. With fewer connections than asked for, the run would
 * measure something else. */
static void no_socket(struct kn_http_client *h, struct kn_http_conn *c)
{
    struct kn_error why;
    if (errno == EMFILE || errno == ENFILE)
        kn_fail(&why, KN_E_LIMIT,
                "%llu connections are more than the files that this process may have open (ulimit -n)",
                (unsigned long long)h->w->spec->flows);
    else
        kn_fail_errno(&why, "socket");
    kn_http_no_connection(h, c, &why);
    kn_http_give_up(h, &why);
}

/* A connection that stays has a hello of its own; others begin with the same bytes, again and again. */
static const uint8_t *fresh_hello(struct kn_http_client *h, const struct kn_http_conn *c)
{
    size_t i = (size_t)(c - h->conns);
    uint8_t *hello = h->hellos + i * h->first_size;
    kn_flow_hello(h->w, h->w->first_flow + (unsigned)i, KN_HELLO_FLOW, hello);
    return hello;
}

/* Tries to send at once: over loopback the handshake is through when connect() returns. */
void kn_http_dial(struct kn_http_client *h, struct kn_http_conn *c)
{
    struct kn_error why;
    const struct kn_addr *to = &h->w->peer;
    c->connect_from_ns = kn_now_ns();
    c->first_ns = 0;
    c->out_left = 0;
    kn_http_parse_next(&c->parse);
    c->state = KN_HTTP_CONNECTING;
    kn_http_await(h, c, c->connect_from_ns + h->w->spec->timeout_ns);
    c->fd = socket(to->u.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (c->fd < 0) {
        no_socket(h, c);
    } else if (kn_tcp_options(c->fd, h->w->spec, &why)) {
        kn_http_no_connection(h, c, &why);
    } else if (kn_flow_bind(h->w, h->w->first_flow + (unsigned)(c - h->conns), c->fd) ||
               (connect(c->fd, &to->u.sa, to->len) && errno != EINPROGRESS) || !kn_http_register(h, c)) {
        kn_http_connect_failed(h, c, errno);
    } else if (!h->tls && (h->greets || c->busy)) {
        c->out = h->greets ? fresh_hello(h, c) : h->first;
        c->out_left = h->first_size;
        push(h, c);
    }
}

/* ---- operations ---- */

/* `from_ns`: where its latency counts from; now, or when it was due. */
static void begin(struct kn_http_client *h, struct kn_http_conn *c, uint64_t from_ns, uint64_t now_ns)
{
    c->busy = true;
    h->busy++;
    c->start_ns = from_ns;
    if (c->fd < 0) {
        kn_http_dial(h, c);
        return;
    }
    kn_http_await(h, c, now_ns + h->w->spec->timeout_ns);
    send_request(h, c);
}

/* One more operation to begin? What is begun after the end would load the server for nothing. */
static bool take(struct kn_http_client *h, uint64_t now_ns)
{
    if (h->dry || now_ns >= h->w->end_ns)
        return false;
    h->dry = !kn_worker_take(h->w, 1);
    return !h->dry;
}

/* Closed loop: the next operation on a connection that is free. Open loop: it goes to the idle ones. */
static void next_op(struct kn_http_client *h, struct kn_http_conn *c, uint64_t now_ns)
{
    if (c->busy || c->state == KN_HTTP_CLOSING || !h->measured)
        return;
    if (c->state == KN_HTTP_NONE && now_ns < c->deadline_ns) {
        kn_http_wake_at(h, c->deadline_ns);
        return;
    }
    if (!h->open_loop) {
        if (take(h, now_ns))
            begin(h, c, now_ns, now_ns);
    } else if (!c->idle) {
        c->idle = true;
        h->idle[h->n_idle++] = (unsigned)(c - h->conns);
    }
}

void kn_http_issue(struct kn_http_client *h, uint64_t now_ns)
{
    while (h->n_idle && kn_pace_due_ns(&h->pace) <= now_ns && take(h, now_ns)) {
        struct kn_http_conn *c = &h->conns[h->idle[--h->n_idle]];
        uint64_t due_ns = kn_pace_due_ns(&h->pace);
        c->idle = false;
        kn_pace_take(&h->pace, 1);
        begin(h, c, due_ns, now_ns);
    }
}

static void count_response(struct kn_http_client *h, struct kn_http_conn *c)
{
    c->ops++;
    struct kn_figures *f = &h->w->figures;
    const struct kn_http_parse *p = &c->parse;
    unsigned class = p->status / 100u;
    f->status[class < 6 ? class : 0]++;
    f->header_bytes += p->wire_bytes - p->body_bytes;
    f->length_mismatch += kn_worker_first(h->w, p->body_bytes) != p->body_bytes;
    kn_hist_record(f->first_byte, c->first_ns - c->start_ns);
}

/* The response is whole; `at_end`: because the server closed. */
static void complete(struct kn_http_client *h, struct kn_http_conn *c, bool at_end)
{
    uint64_t now_ns = kn_now_ns(), ops = h->w->figures.ops;
    bool stays = c->parse.keepalive && kn_http_keepalive(h->w->spec);
    if (!c->first_ns)
        c->first_ns = now_ns;
    h->w->tx_size = h->request_size;
    h->w->rx_size = c->parse.body_bytes;
    h->w->backend = c->backend;
    kn_worker_end(h->w, KN_ENDED_OK, c->start_ns, now_ns);
    if (h->w->figures.ops != ops)
        count_response(h, c);
    h->done++;
    kn_http_op_over(h, c);
    c->used = true;
    if (stays) {
        c->state = KN_HTTP_READY;
    } else if (at_end) {
        close_last(h, c);
    } else if (c->parse.framed_twice && kn_http_keepalive(h->w->spec)) {
        kn_http_reset(c);
    } else {
        c->state = KN_HTTP_CLOSING;
        kn_http_await(h, c, now_ns + CLOSING_NS);
        return;
    }
    next_op(h, c, now_ns);
}

/* ---- receiving ---- */

static void end_of_stream(struct kn_http_client *h, struct kn_http_conn *c)
{
    bool answering = c->state == KN_HTTP_ASKED && !c->out_left && kn_http_parse_begun(&c->parse);
    if (answering && kn_http_parse_end(&c->parse) == KN_HTTP_DONE) {
        complete(h, c, true);
        return;
    }
    kn_http_lost(h, c, 0);
    next_op(h, c, kn_now_ns());
}

static void take_bytes(struct kn_http_client *h, struct kn_http_conn *c, size_t n)
{
    size_t used;
    enum kn_http_got got = kn_http_parse_feed(&c->parse, &h->memo, h->buf, n, &used);
    if (got == KN_HTTP_MORE) {
        if (!c->first_ns)
            c->first_ns = kn_now_ns();
    } else if (got == KN_HTTP_BAD || used < n || c->out_left) { /* what nobody asked for is nonsense too */
        kn_http_nonsense(h, c, n);
        next_op(h, c, kn_now_ns());
    } else {
        complete(h, c, false);
    }
}

static bool take_result(struct kn_http_client *h, struct kn_http_conn *c, ssize_t n)
{
    if (n > 0) {
        take_bytes(h, c, (size_t)n);
    } else if (n == 0) {
        end_of_stream(h, c);
    } else {
        if (errno == EAGAIN || errno == EINTR)
            return false;
        kn_http_lost(h, c, errno);
        next_op(h, c, kn_now_ns());
    }
    return true;
}

/* The response may be long: until nothing is left, or the connection is at something else. */
static bool receive(struct kn_http_client *h, struct kn_http_conn *c)
{
    bool moved = false;
    while (c->state == KN_HTTP_ASKED && c->busy) {
        uint64_t before = h->done;
        ssize_t n = receive_some(h, c);
        if (!take_result(h, c, n))
            return moved;
        moved = true;
        if (h->done != before || (!c->tls && n < (ssize_t)KN_HTTP_BUF))
            break;
    }
    return moved;
}

/* Nothing is expected here, but the end. */
static bool drain(struct kn_http_client *h, struct kn_http_conn *c)
{
    ssize_t n = receive_some(h, c);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n > 0 && c->state == KN_HTTP_CLOSING) /* an agent's report */
        return true;
    close_last(h, c);
    next_op(h, c, kn_now_ns());
    return true;
}

static bool welcome(struct kn_http_client *h, struct kn_http_conn *c)
{
    struct kn_welcome answer;
    struct kn_error why;
    ssize_t n = kn_recv(c->fd, h->buf, h->welcome_size, MSG_DONTWAIT | MSG_PEEK);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n <= 0) {
        kn_http_lost(h, c, n < 0 ? errno : 0);
        return true;
    }
    if ((size_t)n < h->welcome_size)
        return false;
    kn_recv(c->fd, h->buf, h->welcome_size, MSG_DONTWAIT);
    if (kn_welcome_unpack(h->buf, h->welcome_size, &answer, &why)) {
        kn_http_check_refusal(h, h->buf, h->welcome_size);
        kn_http_no_connection(h, c, &why);
        return true;
    }
    c->backend = kn_backends_number(&h->w->backends, answer.name);
    if (c->busy)
        send_request(h, c);
    else
        c->state = KN_HTTP_READY;
    return true;
}

/* The request follows at once where an operation waits for this connection. */
static bool shake_hands(struct kn_http_client *h, struct kn_http_conn *c)
{
    struct kn_error why;
    enum kn_tls_fault fault;
    int done = kn_tls_handshake(c->tls, &fault, &why);
    if (!done)
        return false;
    if (done < 0) {
        kn_http_handshake_failed(h, c, fault, &why);
        return true;
    }
    uint64_t now_ns = kn_now_ns();
    stands(h, c);
    kn_http_tls_done(h->w, c->tls, now_ns - c->shake_from_ns, is_figure(h, now_ns));
    c->state = KN_HTTP_READY;
    if (c->busy)
        send_request(h, c);
    return true;
}

static void begin_handshake(struct kn_http_client *h, struct kn_http_conn *c)
{
    struct kn_error why;
    c->shake_from_ns = kn_now_ns();
    c->state = KN_HTTP_HANDSHAKE;
    c->tls = kn_tls_new(h->tls, c->fd, &why);
    if (c->tls) {
        shake_hands(h, c);
    } else {
        kn_http_no_connection(h, c, &why);
        kn_http_give_up(h, &why);
    }
}

/* A connect without anything to send; called when the socket can be written to, or failed. */
static bool check_connect(struct kn_http_client *h, struct kn_http_conn *c)
{
    int failure = kn_socket_error(c->fd);
    if (failure) {
        kn_http_lost(h, c, failure);
    } else {
        connected(h, c);
        c->state = KN_HTTP_READY;
        if (h->tls)
            begin_handshake(h, c);
    }
    return true;
}

bool kn_http_step(struct kn_http_client *h, struct kn_http_conn *c)
{
    uint8_t before = c->state;
    if (c->fd < 0)
        return false;
    if (c->out_left)
        push(h, c);
    else if (c->state == KN_HTTP_CONNECTING)
        return check_connect(h, c);
    bool moved = c->state != before;
    if (c->state == KN_HTTP_HANDSHAKE)
        moved |= shake_hands(h, c);
    if (c->state == KN_HTTP_WELCOME)
        moved |= welcome(h, c);
    if (c->state == KN_HTTP_ASKED)
        moved |= receive(h, c);
    else if (c->state == KN_HTTP_READY && before == KN_HTTP_READY)
        moved |= drain(h, c);
    while (c->state == KN_HTTP_CLOSING && drain(h, c))
        moved = true;
    return moved;
}

/* ---- time ---- */

void kn_http_tick(struct kn_http_client *h, uint64_t now_ns)
{
    h->wake_ns = UINT64_MAX;
    for (unsigned i = 0; i < h->n; i++) {
        struct kn_http_conn *c = &h->conns[i];
        bool waits = c->busy || c->state == KN_HTTP_CLOSING;
        if (waits && now_ns >= c->deadline_ns)
            kn_http_timed_out(h, c);
        else if (waits)
            kn_http_wake_at(h, c->deadline_ns);
        next_op(h, c, now_ns);
    }
}
