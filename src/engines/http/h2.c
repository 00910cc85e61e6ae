#include "engines/http/h2.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "net/io.h"
#include "run/flow.h"

#define BACKOFF_NS KN_NS_PER_MS /* after a connect that failed; doubles */
#define BACKOFF_DOUBLINGS 6
#define READS 16         /* of one connection, before the others have their turn */
#define WINDOW (1 << 30) /* bytes that the server may send ahead */

/* ---- connections that fail ---- */

void kn_h2_close(struct kn_h2_conn *c)
{
    if (c->fd >= 0)
        close(c->fd);
    kn_tls_free(c->tls);
    nghttp2_session_del(c->session);
    c->h->pending -= c->state != KN_H2_DOWN && c->state != KN_H2_UP;
    c->h->more -= c->more;
    c->fd = -1;
    c->tls = NULL;
    c->session = NULL;
    c->state = KN_H2_DOWN;
    c->leaving = c->more = false;
    c->chunk_n = c->out_n = c->out_at = 0;
    c->idle_frames = 0;
}

static void void_run(struct kn_h2_client *h, struct kn_error *why)
{
    char text[KN_ADDR_TEXT_MAX];
    if (h->failed)
        return;
    kn_error_context(why, "%s", kn_addr_text(&h->w->peer, text, sizeof text));
    *h->err = *why;
    h->failed = true;
}

/* If all connections were tried and none ever succeeded, there is nothing to measure: `why` is the run's error. */
static void no_connection(struct kn_h2_conn *c, struct kn_error *why)
{
    struct kn_h2_client *h = c->h;
    unsigned doublings = c->failures < BACKOFF_DOUBLINGS ? c->failures : BACKOFF_DOUBLINGS;
    kn_h2_ops_failed(c, KN_ENDED_CONNECT);
    kn_h2_close(c);
    c->failures++;
    c->deadline_ns = kn_now_ns() + (BACKOFF_NS << doublings);
    kn_h2_wake_at(h, c->deadline_ns);
    if (++h->refused >= h->n && !h->connected && kn_worker_lost(h->w, why))
        void_run(h, why);
}

static void handshake_failed(struct kn_h2_conn *c, enum kn_tls_fault fault, struct kn_error *why)
{
    struct kn_figures *f = &c->h->w->figures;
    uint64_t errors = f->connect_errors;
    no_connection(c, why);
    f->own[KN_HTTP_FAULTS + fault] += f->connect_errors - errors;
}

/* This is a limit of this process, not a fault of the network. */
static void give_up(struct kn_h2_conn *c, struct kn_error *why)
{
    void_run(c->h, why);
    kn_h2_close(c);
}

/* An established connection ended. `invalid`: because of what the server sent. */
static void lost(struct kn_h2_conn *c, bool invalid, const char *reason)
{
    struct kn_error why;
    struct kn_figures *f = &c->h->w->figures;
    uint64_t errors = f->errors;
    if (c->state == KN_H2_SETTLING) {
        kn_fail(&why, KN_E_PROTOCOL, "the server does not speak HTTP/2%s: %s",
                c->tls ? "" : " in clear text (prior knowledge)", reason);
        no_connection(c, &why);
        return;
    }
    kn_h2_ops_failed(c, KN_ENDED_ERROR);
    f->bad_responses += invalid ? f->errors - errors : 0;
    kn_h2_close(c);
    if (invalid && !c->h->done && ++c->h->invalid >= c->h->n) {
        kn_fail(&why, KN_E_PROTOCOL, "the server's HTTP/2 is invalid: %s", reason);
        if (kn_worker_lost(c->h->w, &why))
            void_run(c->h, &why);
    }
    c->deadline_ns = 0;
    kn_h2_wake_at(c->h, 0);
}

/* ---- sending ---- */

/* Frames one after another, as many as fit: a call for many small ones. False: nothing is left to send. */
static bool gather(struct kn_h2_conn *c)
{
    c->out_at = c->out_n = 0;
    while (c->out_n < KN_H2_OUT) {
        if (!c->chunk_n) {
            ssize_t n = nghttp2_session_mem_send(c->session, &c->chunk);
            if (n <= 0)
                break;
            c->chunk_n = (size_t)n;
        }
        size_t room = KN_H2_OUT - c->out_n, n = c->chunk_n < room ? c->chunk_n : room;
        memcpy(c->out + c->out_n, c->chunk, n);
        c->chunk += n;
        c->chunk_n -= n;
        c->out_n += n;
    }
    return c->out_n > 0;
}

/* False: the connection is gone. */
static bool flush(struct kn_h2_conn *c)
{
    while (c->out_at < c->out_n || gather(c)) {
        const uint8_t *from = c->out + c->out_at;
        size_t size = c->out_n - c->out_at;
        ssize_t n = c->tls ? kn_tls_send(c->tls, from, size) : kn_send(c->fd, from, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return true;
        if (n < 0) {
            lost(c, false, strerror(errno));
            return false;
        }
        c->out_at += (size_t)n;
    }
    if (nghttp2_session_want_read(c->session) || nghttp2_session_want_write(c->session))
        return true;
    lost(c, !c->leaving, "its frames are invalid");
    return false;
}

static bool submit(struct kn_h2_conn *c, struct kn_h2_stream *s)
{
    s->status = 0;
    s->sent = s->head = 0;
    s->first_ns = s->body = 0;
    s->id = nghttp2_submit_request(c->session, NULL, c->h->fields, KN_H2_FIELDS, NULL, s);
    if (s->id >= 0)
        return true;
    c->leaving = true; /* its numbers are used up */
    return false;
}

/* What was not taken before goes first. */
static void send_again(struct kn_h2_conn *c)
{
    for (unsigned i = 0; i < c->h->per_conn && c->waiting; i++) {
        struct kn_h2_stream *s = &c->streams[i];
        if (!s->waiting || !submit(c, s))
            continue;
        s->waiting = false;
        s->again = true;
        c->waiting--;
    }
}

static bool due(const struct kn_h2_client *h)
{
    return !h->open_loop || kn_pace_due_ns(&h->pace) <= h->now_ns;
}

static bool take(struct kn_h2_client *h)
{
    if (h->dry || !h->measured || h->now_ns >= h->w->end_ns || !due(h))
        return false;
    h->dry = !kn_worker_take(h->w, 1);
    return !h->dry;
}

static void begin(struct kn_h2_conn *c, struct kn_h2_stream *s)
{
    struct kn_h2_client *h = c->h;
    s->start_ns = h->now_ns;
    if (h->open_loop) {
        s->start_ns = kn_pace_due_ns(&h->pace);
        kn_pace_take(&h->pace, 1);
    }
    s->busy = true;
    c->busy++;
    h->busy++;
    s->deadline_ns = h->now_ns + h->w->spec->timeout_ns;
    kn_h2_wake_at(h, s->deadline_ns);
    if (submit(c, s))
        return;
    s->waiting = true;
    c->waiting++;
}

void kn_h2_fill(struct kn_h2_conn *c)
{
    struct kn_h2_client *h = c->h;
    if (c->state != KN_H2_UP)
        return;
    if (c->waiting && !c->leaving)
        send_again(c);
    for (unsigned i = 0; i < h->per_conn && c->busy < c->limit && !c->leaving; i++)
        if (!c->streams[i].busy) {
            if (!take(h))
                break;
            begin(c, &c->streams[i]);
        }
    if (c->leaving && c->busy == c->waiting) {
        kn_h2_close(c);
        c->deadline_ns = 0;
        kn_h2_wake_at(h, 0);
        return;
    }
    flush(c);
}

/* ---- receiving ---- */

static ssize_t receive_some(struct kn_h2_conn *c)
{
    ssize_t n = c->tls ? kn_tls_recv(c->tls, c->h->buf, KN_HTTP_BUF)
                       : kn_recv(c->fd, c->h->buf, KN_HTTP_BUF, MSG_DONTWAIT);
    c->h->now_ns = kn_now_ns();
    return n;
}

static bool take_bytes(struct kn_h2_conn *c, size_t n)
{
    ssize_t taken = nghttp2_session_mem_recv(c->session, c->h->buf, n);
    if (taken >= 0)
        return true;
    bool flooded = c->idle_frames > KN_H2_IDLE_FRAMES || taken == NGHTTP2_ERR_FLOODED;
    lost(c, true,
         flooded ? "it sent too many frames in a row without a part of a response" : nghttp2_strerror((int)taken));
    return false;
}

static void set_more(struct kn_h2_conn *c, bool more)
{
    c->h->more += more;
    c->h->more -= c->more;
    c->more = more;
}

/* False: the connection is gone. */
static bool receive(struct kn_h2_conn *c)
{
    for (int i = 0; i < READS; i++) {
        ssize_t n = receive_some(c);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            set_more(c, false);
            return true;
        }
        if (n <= 0) {
            lost(c, false, n ? strerror(errno) : "it closed the connection");
            return false;
        }
        if (!take_bytes(c, (size_t)n))
            return false;
        if (!c->tls && n < (ssize_t)KN_HTTP_BUF && c->state == KN_H2_UP) {
            set_more(c, false);
            return true;
        }
    }
    set_more(c, true);
    return true;
}

/* ---- from connect to the server's SETTINGS ---- */

static void settle(struct kn_h2_conn *c)
{
    static const nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
                                                      {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, WINDOW}};
    struct kn_error why;
    c->state = KN_H2_SETTLING;
    if (nghttp2_session_client_new2(&c->session, c->h->callbacks, c, c->h->option) ||
        nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, settings, 2) ||
        nghttp2_session_set_local_window_size(c->session, NGHTTP2_FLAG_NONE, 0, WINDOW)) {
        kn_fail_memory(&why);
        give_up(c, &why);
        return;
    }
    flush(c);
}

static void shake_hands(struct kn_h2_conn *c)
{
    char alpn[32];
    struct kn_error why;
    enum kn_tls_fault fault;
    int done = kn_tls_handshake(c->tls, &fault, &why);
    if (done < 0)
        handshake_failed(c, fault, &why);
    if (done <= 0)
        return;
    kn_tls_alpn(c->tls, alpn, sizeof alpn);
    kn_http_tls_done(c->h->w, c->tls, kn_now_ns() - c->from_ns, true);
    if (!strcmp(alpn, "h2")) {
        settle(c);
        return;
    }
    kn_fail(&why, KN_E_PROTOCOL, "the server does not speak HTTP/2: it selected %s by ALPN", *alpn ? alpn : "nothing");
    handshake_failed(c, KN_TLS_PROTOCOL, &why);
}

static void connected(struct kn_h2_conn *c)
{
    struct kn_error why;
    int failure = kn_socket_error(c->fd);
    struct kn_figures *f = &c->h->w->figures;
    if (failure) {
        kn_fail_from(&why, failure, "connect");
        no_connection(c, &why);
        return;
    }
    uint64_t now_ns = kn_now_ns();
    kn_worker_connecting(c->h->w, c->from_ns, now_ns);
    f->connects++;
    kn_hist_record(f->connect, now_ns - c->from_ns);
    c->from_ns = now_ns;
    if (!c->h->tls) {
        settle(c);
        return;
    }
    c->state = KN_H2_HANDSHAKE;
    if ((c->tls = kn_tls_new(c->h->tls, c->fd, &why)))
        shake_hands(c);
    else
        give_up(c, &why);
}

static int open_socket(struct kn_h2_conn *c, struct kn_error *why)
{
    struct kn_h2_client *h = c->h;
    const struct kn_addr *to = &h->w->peer;
    c->fd = socket(to->u.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (c->fd < 0)
        return kn_fail_errno(why, "socket");
    if (kn_tcp_options(c->fd, h->w->spec, why))
        return -1;
    if (kn_flow_bind(h->w, h->w->first_flow + (unsigned)(c - h->conns), c->fd) ||
        (connect(c->fd, &to->u.sa, to->len) && errno != EINPROGRESS) ||
        kn_loop_add(&h->loop, c->fd, KN_LOOP_ALL, (epoll_data_t){.ptr = c}))
        return kn_fail_errno(why, "connect");
    return 0;
}

void kn_h2_dial(struct kn_h2_conn *c)
{
    struct kn_error why;
    c->state = KN_H2_CONNECTING;
    c->h->pending++;
    c->from_ns = kn_now_ns();
    c->deadline_ns = c->from_ns + c->h->w->spec->timeout_ns;
    kn_h2_wake_at(c->h, c->deadline_ns);
    if (!open_socket(c, &why))
        return;
    bool ours = c->fd < 0;
    no_connection(c, &why);
    if (ours)
        give_up(c, &why);
}

void kn_h2_step(struct kn_h2_conn *c)
{
    if (c->state == KN_H2_CONNECTING)
        connected(c);
    else if (c->state == KN_H2_HANDSHAKE)
        shake_hands(c);
    else if (c->state != KN_H2_DOWN && receive(c) && flush(c))
        kn_h2_fill(c);
}

/* ---- time ---- */

static void check_streams(struct kn_h2_conn *c, uint64_t now_ns)
{
    for (unsigned i = 0; i < c->h->per_conn && c->busy; i++) {
        struct kn_h2_stream *s = &c->streams[i];
        if (!s->busy)
            continue;
        if (now_ns < s->deadline_ns) {
            kn_h2_wake_at(c->h, s->deadline_ns);
            continue;
        }
        if (c->session && !s->waiting) {
            nghttp2_session_set_stream_user_data(c->session, s->id, NULL);
            nghttp2_submit_rst_stream(c->session, NGHTTP2_FLAG_NONE, s->id, NGHTTP2_CANCEL);
        }
        kn_h2_op_failed(c, s, KN_ENDED_TIMEOUT);
    }
}

static void too_late(struct kn_h2_conn *c)
{
    struct kn_error why;
    const char *awaited = c->state == KN_H2_CONNECTING  ? "connect: no answer in time"
                          : c->state == KN_H2_HANDSHAKE ? "the server did not answer the TLS handshake in time"
                                                        : "the server sent no HTTP/2 SETTINGS in time";
    kn_fail(&why, KN_E_TIMEOUT, "%s", awaited);
    if (c->state == KN_H2_HANDSHAKE)
        handshake_failed(c, KN_TLS_STALLED, &why);
    else
        no_connection(c, &why);
}

/* Deadlines, and connections that may be tried again; sets wake_ns. */
void kn_h2_tick(struct kn_h2_client *h)
{
    uint64_t now_ns = kn_now_ns();
    h->wake_ns = UINT64_MAX;
    for (unsigned i = 0; i < h->n && !h->failed; i++) {
        struct kn_h2_conn *c = &h->conns[i];
        check_streams(c, now_ns);
        if (c->state == KN_H2_UP)
            kn_h2_fill(c);
        if (c->state == KN_H2_UP)
            continue;
        if (c->state == KN_H2_DOWN && now_ns >= c->deadline_ns && now_ns < h->w->end_ns && h->measured &&
            (!h->dry || c->busy))
            kn_h2_dial(c);
        else if (c->state != KN_H2_DOWN && now_ns >= c->deadline_ns)
            too_late(c);
        else
            kn_h2_wake_at(h, c->deadline_ns);
    }
}
