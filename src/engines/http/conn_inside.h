/* Inside of the connections of the http test: how they fail (conn_fail.c), and what that and conn.c share. */
#ifndef KN_ENGINES_HTTP_CONN_INSIDE_H
#define KN_ENGINES_HTTP_CONN_INSIDE_H

#include "engines/http/conn.h"

static inline void kn_http_wake_at(struct kn_http_client *h, uint64_t when_ns)
{
    if (when_ns < h->wake_ns)
        h->wake_ns = when_ns;
}

static inline void kn_http_await(struct kn_http_client *h, struct kn_http_conn *c, uint64_t deadline_ns)
{
    c->deadline_ns = deadline_ns;
    kn_http_wake_at(h, deadline_ns);
}

static inline void kn_http_op_over(struct kn_http_client *h, struct kn_http_conn *c)
{
    c->busy = c->again = false;
    h->busy--;
    kn_http_parse_next(&c->parse);
}

void kn_http_give_up(struct kn_http_client *h, const struct kn_error *why);
/* A connection failed. If all were tried and none ever succeeded, there is nothing to measure: `why` is the run's
 * error. */
void kn_http_no_connection(struct kn_http_client *h, struct kn_http_conn *c, const struct kn_error *why);
void kn_http_connect_failed(struct kn_http_client *h, struct kn_http_conn *c, int sys_errno);
void kn_http_handshake_failed(struct kn_http_client *h, struct kn_http_conn *c, enum kn_tls_fault fault,
                              struct kn_error *why);
/* The connection broke, or the server closed it. A server may close one that it has served, and the request that
 * crosses its FIN may be sent again on another (RFC 9112, 9.3.1); that is no failure. */
void kn_http_lost(struct kn_http_client *h, struct kn_http_conn *c, int sys_errno);
/* An agent that refuses says so in a welcome, also where none is expected. */
void kn_http_check_refusal(struct kn_http_client *h, const uint8_t *bytes, size_t n);
void kn_http_nonsense(struct kn_http_client *h, struct kn_http_conn *c, size_t n);
/* Where the server would not close first: leaves no TIME_WAIT behind. */
void kn_http_reset(struct kn_http_conn *c);

#endif
