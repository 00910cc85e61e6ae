/* The http test with http2: what a session of nghttp2 tells of requests and of its connection, and what becomes of an
 * operation. */
#include <string.h>

#include "engines/http/h2.h"

#define FRAME_HEAD 9 /* bytes before each frame's payload */

/* ---- operations ---- */

static void op_over(struct kn_h2_conn *c, struct kn_h2_stream *s)
{
    c->waiting -= s->waiting;
    s->busy = s->waiting = s->again = false;
    c->busy--;
    c->h->busy--;
}

void kn_h2_op_failed(struct kn_h2_conn *c, struct kn_h2_stream *s, enum kn_ended how)
{
    kn_worker_end(c->h->w, how, s->start_ns, kn_now_ns());
    op_over(c, s);
}

void kn_h2_ops_failed(struct kn_h2_conn *c, enum kn_ended how)
{
    for (unsigned i = 0; i < c->h->per_conn && c->busy; i++)
        if (c->streams[i].busy && (!c->streams[i].waiting || how == KN_ENDED_CONNECT))
            kn_h2_op_failed(c, &c->streams[i], how);
}

static void op_done(struct kn_h2_conn *c, struct kn_h2_stream *s)
{
    struct kn_worker *w = c->h->w;
    struct kn_figures *f = &w->figures;
    uint64_t ops = f->ops;
    unsigned class = s->status / 100u;
    w->tx_size = s->sent;
    w->rx_size = s->body;
    kn_worker_end(w, KN_ENDED_OK, s->start_ns, c->h->now_ns);
    if (f->ops != ops) {
        c->ops++;
        f->status[class < 6 ? class : 0]++;
        f->header_bytes += s->head;
        f->length_mismatch += kn_worker_first(w, s->body) != s->body;
        kn_hist_record(f->first_byte, (s->first_ns ? s->first_ns : c->h->now_ns) - s->start_ns);
    }
    c->h->done++;
    op_over(c, s);
}

/* ---- what nghttp2 tells ---- */

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_n,
                     const uint8_t *value, size_t value_n, uint8_t flags, void *user)
{
    struct kn_h2_stream *s = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    (void)flags, (void)user;
    if (s && name_n == 7 && value_n == 3 && !memcmp(name, ":status", 7))
        s->status = (uint16_t)((value[0] - '0') * 100 + (value[1] - '0') * 10 + (value[2] - '0'));
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data, size_t n, void *user)
{
    struct kn_h2_stream *s = nghttp2_session_get_stream_user_data(session, id);
    struct kn_h2_conn *c = user;
    (void)flags, (void)data;
    c->idle_frames = 0;
    if (s)
        s->body += n;
    return 0;
}

static void take_settings(struct kn_h2_conn *c)
{
    uint32_t most = nghttp2_session_get_remote_settings(c->session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
    c->limit = most < c->h->per_conn ? most : c->h->per_conn;
    if (c->limit < c->h->per_conn)
        kn_worker_chosen(c->h->w, "streams", "%u", c->limit);
    if (c->state != KN_H2_SETTLING)
        return;
    c->state = KN_H2_UP;
    c->h->pending--;
    c->failures = 0;
    if (!c->h->connected++)
        kn_worker_found(c->h->w);
}

/* Whether a frame brings the answer to a request further. */
static bool is_progress(const nghttp2_frame *frame, const struct kn_h2_stream *s)
{
    if (frame->hd.type == NGHTTP2_DATA)
        return frame->hd.length || (frame->hd.flags & NGHTTP2_FLAG_END_STREAM);
    return frame->hd.type == NGHTTP2_HEADERS && s && s->status >= 200;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct kn_h2_conn *c = user;
    struct kn_h2_stream *s = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (s)
        s->head += (uint32_t)(FRAME_HEAD + (frame->hd.type == NGHTTP2_DATA ? 0 : frame->hd.length));
    if (s && !s->first_ns)
        s->first_ns = c->h->now_ns;
    c->idle_frames = is_progress(frame, s) ? 0 : c->idle_frames + 1;
    if (frame->hd.type == NGHTTP2_SETTINGS && !(frame->hd.flags & NGHTTP2_FLAG_ACK))
        take_settings(c);
    if (frame->hd.type == NGHTTP2_GOAWAY && !c->leaving) {
        c->leaving = true;
        c->h->w->figures.own[KN_HTTP_GOAWAYS]++;
    }
    return c->idle_frames > KN_H2_IDLE_FRAMES ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

static int on_sent(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    (void)user;
    if (frame->hd.type != NGHTTP2_HEADERS)
        return 0;
    struct kn_h2_stream *s = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (s)
        s->sent = (uint32_t)(FRAME_HEAD + frame->hd.length);
    return 0;
}

static int on_close(nghttp2_session *session, int32_t id, uint32_t code, void *user)
{
    struct kn_h2_conn *c = user;
    struct kn_h2_stream *s = nghttp2_session_get_stream_user_data(session, id);
    if (!s || !s->busy)
        return 0;
    if (code == NGHTTP2_REFUSED_STREAM && !s->again) {
        c->h->w->figures.own[KN_HTTP_REFUSED]++;
        s->waiting = true;
        c->waiting++;
    } else if (code == NGHTTP2_NO_ERROR && s->status >= 200) {
        op_done(c, s);
    } else {
        kn_h2_op_failed(c, s, KN_ENDED_ERROR);
    }
    return 0;
}

int kn_h2_init(struct kn_h2_client *h, struct kn_error *err)
{
    nghttp2_session_callbacks *b = NULL;
    if (nghttp2_session_callbacks_new(&b) || nghttp2_option_new(&h->option)) {
        nghttp2_session_callbacks_del(b);
        return kn_fail_memory(err);
    }
    nghttp2_session_callbacks_set_on_header_callback(b, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(b, on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(b, on_frame);
    nghttp2_session_callbacks_set_on_frame_send_callback(b, on_sent);
    nghttp2_session_callbacks_set_on_stream_close_callback(b, on_close);
    nghttp2_option_set_peer_max_concurrent_streams(h->option, h->per_conn);
    nghttp2_option_set_no_closed_streams(h->option, 1);
    h->callbacks = b;
    return 0;
}

void kn_h2_fini(struct kn_h2_client *h)
{
    nghttp2_session_callbacks_del(h->callbacks);
    nghttp2_option_del(h->option);
}
