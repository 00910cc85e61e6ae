#include "engines/http_conn.h"

#include <errno.h>
#include <unistd.h>

#define BACKOFF_NS KN_NS_PER_MS           /* after a connect that failed; doubles */
#define BACKOFF_DOUBLINGS 6
#define CLOSING_NS (250 * KN_NS_PER_MS)   /* for the server to close what it said it would */

static void wake_at(struct kn_http_client *h, uint64_t when_ns)
{
    if (when_ns < h->wake_ns)
        h->wake_ns = when_ns;
}

static void await(struct kn_http_client *h, struct kn_http_conn *c, uint64_t deadline_ns)
{
    c->deadline_ns = deadline_ns;
    wake_at(h, deadline_ns);
}

/* What ends now is measured, and not part of the warm-up of a run that counts. */
static bool counts(const struct kn_http_client *h, uint64_t now_ns)
{
    const struct kn_worker *w = h->w;
    return h->measured && !w->untracked && now_ns >= w->open_ns && now_ns <= w->end_ns;
}

void kn_http_close(struct kn_http_conn *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    c->state = KN_HTTP_NONE;
    c->used = c->began = false;
    c->out_left = 0;
    c->deadline_ns = 0;
}

/* ---- operations that fail ---- */

static void op_over(struct kn_http_client *h, struct kn_http_conn *c)
{
    c->busy = c->again = false;
    h->busy--;
    kn_http_parse_next(&c->parse);
}

static void op_failed(struct kn_http_client *h, struct kn_http_conn *c, uint64_t *counter)
{
    if (!c->busy)
        return;
    if (counts(h, kn_now_ns()))
        ++*counter;
    kn_worker_drop(h->w, 1);
    op_over(h, c);
}

static void give_up(struct kn_http_client *h, const struct kn_error *why)
{
    if (!h->failed)
        *h->err = *why;
    h->failed = true;
}

/* No connection. With none ever, and each tried once, there is nothing to measure: `why` is the run's error. */
static void no_connection(struct kn_http_client *h, struct kn_http_conn *c, const struct kn_error *why)
{
    unsigned doublings = c->failures < BACKOFF_DOUBLINGS ? c->failures : BACKOFF_DOUBLINGS;
    struct kn_figures *f = &h->w->figures;
    op_failed(h, c, &f->connect_errors);
    f->connect_errors += !h->measured;
    kn_http_close(c);
    c->failures++;
    await(h, c, kn_now_ns() + (BACKOFF_NS << doublings));
    if (++h->refused >= h->n && !h->connected)
        give_up(h, why);
}

static void connect_failed(struct kn_http_client *h, struct kn_http_conn *c, int sys_errno)
{
    struct kn_error why;
    char text[KN_ADDR_TEXT_MAX];
    kn_addr_text(&h->w->peer, text, sizeof text);
    if (sys_errno == ETIMEDOUT)
        kn_fail(&why, KN_E_TIMEOUT, "connect to %s: no answer in time", text);
    else if (sys_errno)
        kn_fail_from(&why, sys_errno, "connect to %s", text);
    else
        kn_fail(&why, KN_E_PROTOCOL, "%s hung up instead of answering the hello", text);
    no_connection(h, c, &why);
}

/* The connection broke, or the server closed it. A server may close one that it has served, and the request that
 * crosses its FIN may be sent again on another (RFC 9112, 9.3.1); that is no failure. */
static void lost(struct kn_http_client *h, struct kn_http_conn *c, int sys_errno)
{
    if (c->state == KN_HTTP_CONNECTING || c->state == KN_HTTP_WELCOME) {
        connect_failed(h, c, sys_errno);
        return;
    }
    bool again = c->busy && c->used && !c->again && !kn_http_parse_begun(&c->parse);
    kn_http_close(c);
    wake_at(h, 0); /* who called goes on with others: the next tick takes up this one */
    if (again) {
        c->again = true;
        kn_http_dial(h, c);
        return;
    }
    op_failed(h, c, &h->w->figures.errors);
}

/* An agent that refuses says so in a welcome, also where none is expected. */
static void check_refusal(struct kn_http_client *h, const uint8_t *bytes, size_t n)
{
    struct kn_welcome answer;
    struct kn_error why;
    bool may_be = !h->w->spec->external && n >= h->welcome_size && bytes[0] != 'H';
    if (may_be && kn_welcome_unpack(bytes, h->welcome_size, &answer, &why))
        give_up(h, &why);
}

static void nonsense(struct kn_http_client *h, struct kn_http_conn *c, size_t n)
{
    check_refusal(h, h->buf, n);
    kn_http_close(c);
    if (c->busy && counts(h, kn_now_ns()))
        h->w->figures.bad_responses++;
    op_failed(h, c, &h->w->figures.errors);
}

/* Where the server would not close first: leaves no TIME_WAIT behind. */
static void reset(struct kn_http_conn *c)
{
    const struct linger now = {.l_onoff = 1};
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    kn_http_close(c);
}

void kn_http_timed_out(struct kn_http_client *h, struct kn_http_conn *c, uint64_t now_ns)
{
    struct kn_figures *f = &h->w->figures;
    if (c->state == KN_HTTP_CLOSING) { /* it kept its side open */
        reset(c);
        return;
    }
    if (c->state == KN_HTTP_CONNECTING || c->state == KN_HTTP_WELCOME) {
        connect_failed(h, c, ETIMEDOUT);
        return;
    }
    if (counts(h, now_ns))
        kn_hist_record(f->latency, now_ns - c->start_ns);
    op_failed(h, c, &f->timeouts);
    kn_http_close(c);
}

/* ---- sending ---- */

static void connected(struct kn_http_client *h, struct kn_http_conn *c)
{
    uint64_t now_ns = kn_now_ns();
    struct kn_figures *f = &h->w->figures;
    c->connect_ns = now_ns - c->connect_from_ns;
    c->failures = 0;
    h->connected++;
    if (h->measured && !counts(h, now_ns))
        return;
    f->connects++;
    kn_hist_record(f->connect, c->connect_ns);
}

/* A socket that is still connecting says EAGAIN to send(), or what became of its connect. */
static void push(struct kn_http_client *h, struct kn_http_conn *c)
{
    while (c->out_left) {
        ssize_t n = kn_send(c->fd, c->out, c->out_left, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0) {
            if (errno != EAGAIN && errno != EINTR)
                lost(h, c, errno);
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

/* That is our own lack, and nothing that the network did: fewer connections than were asked for would measure
 * something else. */
static void no_socket(struct kn_http_client *h, struct kn_http_conn *c)
{
    struct kn_error why;
    if (errno == EMFILE || errno == ENFILE)
        kn_fail(&why, KN_E_LIMIT, "%llu connections are more than this process may have open (ulimit -n)",
                (unsigned long long)h->w->spec->flows);
    else
        kn_fail_errno(&why, "socket");
    no_connection(h, c, &why);
    give_up(h, &why);
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
    await(h, c, c->connect_from_ns + h->w->spec->timeout_ns);
    c->fd = socket(to->u.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (c->fd < 0) {
        no_socket(h, c);
    } else if (kn_tcp_options(c->fd, h->w->spec, &why)) {
        no_connection(h, c, &why);
    } else if ((connect(c->fd, &to->u.sa, to->len) && errno != EINPROGRESS) || !kn_http_register(h, c)) {
        connect_failed(h, c, errno);
    } else if (h->greets || c->busy) {
        c->out = h->first;
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
    await(h, c, now_ns + h->w->spec->timeout_ns);
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
        wake_at(h, c->deadline_ns);
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

static void count_response(struct kn_http_client *h, const struct kn_http_conn *c)
{
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
    bool stays = c->parse.keepalive && h->w->spec->keepalive;
    if (!c->first_ns)
        c->first_ns = now_ns;
    kn_worker_op(h->w, now_ns, now_ns - c->start_ns, h->request_size, c->parse.body_bytes);
    if (h->w->figures.ops != ops)
        count_response(h, c);
    h->done++;
    op_over(h, c);
    c->used = true;
    if (stays) {
        c->state = KN_HTTP_READY;
    } else if (at_end) {
        kn_http_close(c);
    } else if (c->parse.framed_twice && h->w->spec->keepalive) {
        reset(c);
    } else {
        c->state = KN_HTTP_CLOSING;
        await(h, c, now_ns + CLOSING_NS);
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
    lost(h, c, 0);
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
        nonsense(h, c, n);
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
        lost(h, c, errno);
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
        ssize_t n = kn_recv(c->fd, h->buf, KN_HTTP_BUF, MSG_DONTWAIT);
        if (!take_result(h, c, n))
            return moved;
        moved = true;
        if (h->done != before || n < (ssize_t)KN_HTTP_BUF)
            break;
    }
    return moved;
}

/* Nothing is expected here, but the end. */
static bool drain(struct kn_http_client *h, struct kn_http_conn *c)
{
    ssize_t n = kn_recv(c->fd, h->buf, KN_HTTP_BUF, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n > 0 && c->state == KN_HTTP_CLOSING) /* an agent's report */
        return true;
    kn_http_close(c);
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
        lost(h, c, n < 0 ? errno : 0);
        return true;
    }
    if ((size_t)n < h->welcome_size)
        return false;
    kn_recv(c->fd, h->buf, h->welcome_size, MSG_DONTWAIT);
    if (kn_welcome_unpack(h->buf, h->welcome_size, &answer, &why)) {
        check_refusal(h, h->buf, h->welcome_size);
        no_connection(h, c, &why);
    } else if (c->busy) {
        send_request(h, c);
    } else {
        c->state = KN_HTTP_READY;
    }
    return true;
}

/* A connect without anything to send; called when the socket can be written to, or failed. */
static bool check_connect(struct kn_http_client *h, struct kn_http_conn *c)
{
    int failure = 0;
    socklen_t len = sizeof failure;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &failure, &len);
    if (failure) {
        lost(h, c, failure);
    } else {
        connected(h, c);
        c->state = KN_HTTP_READY;
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
            kn_http_timed_out(h, c, now_ns);
        else if (waits)
            wake_at(h, c->deadline_ns);
        next_op(h, c, now_ns);
    }
}
