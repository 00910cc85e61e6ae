/* Connections of the http test that cannot be had, break, or are too late; what becomes of their operations. */
#include "engines/http/conn_inside.h"

#include <errno.h>

#define BACKOFF_NS KN_NS_PER_MS /* after a connect that failed; doubles */
#define BACKOFF_DOUBLINGS 6

static void op_failed(struct kn_http_client *h, struct kn_http_conn *c, enum kn_ended how)
{
    if (!c->busy)
        return;
    kn_worker_end(h->w, how, c->start_ns, kn_now_ns());
    kn_http_op_over(h, c);
}

void kn_http_give_up(struct kn_http_client *h, const struct kn_error *why)
{
    if (!h->failed)
        *h->err = *why;
    h->failed = true;
}

void kn_http_no_connection(struct kn_http_client *h, struct kn_http_conn *c, const struct kn_error *why)
{
    unsigned doublings = c->failures < BACKOFF_DOUBLINGS ? c->failures : BACKOFF_DOUBLINGS;
    op_failed(h, c, KN_ENDED_CONNECT);
    kn_http_close(c);
    c->failures++;
    kn_http_await(h, c, kn_now_ns() + (BACKOFF_NS << doublings));
    if (++h->refused >= h->n && !h->connected && kn_worker_lost(h->w, why))
        kn_http_give_up(h, why);
}

void kn_http_connect_failed(struct kn_http_client *h, struct kn_http_conn *c, int sys_errno)
{
    struct kn_error why;
    char text[KN_ADDR_TEXT_MAX];
    kn_addr_text(&h->w->peer, text, sizeof text);
    if (sys_errno == ETIMEDOUT)
        kn_fail(&why, KN_E_TIMEOUT, "connect to %s: no answer in time", text);
    else if (sys_errno)
        kn_fail_from(&why, sys_errno, "connect to %s", text);
    else
        kn_fail(&why, KN_E_PROTOCOL, "%s closed the connection instead of answering the hello", text);
    kn_http_no_connection(h, c, &why);
}

void kn_http_handshake_failed(struct kn_http_client *h, struct kn_http_conn *c, enum kn_tls_fault fault,
                              struct kn_error *why)
{
    char text[KN_ADDR_TEXT_MAX];
    uint64_t errors = h->w->figures.connect_errors;
    kn_error_context(why, "%s", kn_addr_text(&h->w->peer, text, sizeof text));
    kn_http_no_connection(h, c, why);
    h->w->figures.own[KN_HTTP_FAULTS + fault] += h->w->figures.connect_errors - errors;
}

void kn_http_lost(struct kn_http_client *h, struct kn_http_conn *c, int sys_errno)
{
    if (c->state == KN_HTTP_CONNECTING || c->state == KN_HTTP_WELCOME) {
        kn_http_connect_failed(h, c, sys_errno);
        return;
    }
    bool again = c->busy && c->used && !c->again && !kn_http_parse_begun(&c->parse);
    kn_http_close(c);
    kn_http_wake_at(h, 0); /* who called goes on with others: the next tick takes up this one */
    if (again) {
        c->again = true;
        kn_http_dial(h, c);
        return;
    }
    op_failed(h, c, KN_ENDED_ERROR);
}

void kn_http_check_refusal(struct kn_http_client *h, const uint8_t *bytes, size_t n)
{
    struct kn_welcome answer;
    struct kn_error why;
    bool may_be = !h->w->spec->external && n >= h->welcome_size && bytes[0] != 'H';
    if (may_be && kn_welcome_unpack(bytes, h->welcome_size, &answer, &why))
        kn_http_give_up(h, &why);
}

void kn_http_nonsense(struct kn_http_client *h, struct kn_http_conn *c, size_t n)
{
    kn_http_check_refusal(h, h->buf, n);
    kn_http_close(c);
    uint64_t errors = h->w->figures.errors;
    op_failed(h, c, KN_ENDED_ERROR);
    h->w->figures.bad_responses += h->w->figures.errors - errors;
}

void kn_http_reset(struct kn_http_conn *c)
{
    const struct linger now = {.l_onoff = 1};
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    kn_http_close(c);
}

void kn_http_timed_out(struct kn_http_client *h, struct kn_http_conn *c)
{
    if (c->state == KN_HTTP_CLOSING) { /* it kept its side open */
        kn_http_reset(c);
        return;
    }
    if (c->state == KN_HTTP_CONNECTING || c->state == KN_HTTP_WELCOME) {
        kn_http_connect_failed(h, c, ETIMEDOUT);
        return;
    }
    if (c->state == KN_HTTP_HANDSHAKE) {
        struct kn_error why;
        kn_fail(&why, KN_E_TIMEOUT, "the server did not answer the TLS handshake in time");
        kn_http_handshake_failed(h, c, KN_TLS_STALLED, &why);
        return;
    }
    op_failed(h, c, KN_ENDED_TIMEOUT);
    kn_http_close(c);
}
