/* engines/http/h2 - the connections of the http test with http2: one session of nghttp2 each, over TLS or in clear
 * text, with `streams` requests at a time.
 *
 * Sockets never block; h2_client.c waits for them and calls kn_h2_step, kn_h2_fill and kn_h2_tick. An operation is one
 * request and its response. Requests that the server did not take (GOAWAY, REFUSED_STREAM) are sent again once, and are
 * no failure; everything else that goes wrong is counted. A peer that sends frame after frame without answering
 * anything is cut off. */
#ifndef KN_ENGINES_HTTP_H2_H
#define KN_ENGINES_HTTP_H2_H

#include <nghttp2/nghttp2.h>

#include "core/pace.h"
#include "engines/http/conn.h"

#define KN_H2_OUT (16u << 10)
#define KN_H2_FIELDS 4
#define KN_H2_IDLE_FRAMES 1000u /* at most: PING, SETTINGS, interim responses … without anything in between */

enum kn_h2_state { KN_H2_DOWN, KN_H2_CONNECTING, KN_H2_HANDSHAKE, KN_H2_SETTLING, KN_H2_UP };

struct kn_h2_stream {
    int32_t id;
    bool busy;    /* carries an operation that is not counted yet */
    bool waiting; /* the server did not take it: it is sent again */
    bool again;   /* it was sent again */
    uint16_t status;
    uint32_t sent, head; /* bytes of the request, and of the response besides its body */
    uint64_t start_ns, first_ns, deadline_ns, body;
};

struct kn_h2_client;
struct kn_h2_conn {
    struct kn_h2_client *h;
    int fd;
    uint8_t state;
    bool leaving; /* the server sent GOAWAY */
    bool more;    /* was not read to its end */
    struct kn_tls *tls;
    nghttp2_session *session;
    struct kn_h2_stream *streams;
    unsigned busy, waiting, limit; /* operations; of these to be sent again; streams that the server allows */
    unsigned idle_frames;          /* since the last that brought anything */
    uint32_t failures;             /* in a row, to connect */
    uint64_t ops, deadline_ns, from_ns;
    const uint8_t *chunk; /* of nghttp2, valid until its next */
    size_t chunk_n, out_at, out_n;
    uint8_t *out;
};

struct kn_h2_client {
    struct kn_worker *w;
    struct kn_h2_conn *conns;
    struct kn_h2_stream *streams; /* of all connections */
    unsigned n, per_conn, next, pending, more;
    struct kn_loop loop;
    struct kn_tls_context *tls;
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *option;
    nghttp2_nv fields[KN_H2_FIELDS];
    char host[300];
    bool dry, measured, open_loop, failed;
    uint64_t now_ns, wake_ns, busy, done, connected, refused, invalid;
    struct kn_pace pace;
    struct kn_error *err;
    uint8_t *buf; /* KN_HTTP_BUF */
};

/* What all sessions of a worker share; in h2_session.c. */
int kn_h2_init(struct kn_h2_client *h, struct kn_error *err);
void kn_h2_fini(struct kn_h2_client *h);

void kn_h2_dial(struct kn_h2_conn *c);
void kn_h2_step(struct kn_h2_conn *c); /* does what can be done without waiting */
void kn_h2_fill(struct kn_h2_conn *c); /* begins what is due, as far as streams are free */
void kn_h2_tick(struct kn_h2_client *h);
void kn_h2_close(struct kn_h2_conn *c);

/* In h2_session.c. */
void kn_h2_op_failed(struct kn_h2_conn *c, struct kn_h2_stream *s, enum kn_ended how);
/* All that were begun: the connection is gone. Those that no server took go on with the next. */
void kn_h2_ops_failed(struct kn_h2_conn *c, enum kn_ended how);

static inline void kn_h2_wake_at(struct kn_h2_client *h, uint64_t when_ns)
{
    if (when_ns < h->wake_ns)
        h->wake_ns = when_ns;
}

/* In h2_client.c. */
int kn_h2_client(struct kn_worker *w, const char *host, struct kn_error *err);

#endif
