#include "agent/gate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/admit.h"
#include "agent/http_head.h"
#include "core/json.h"

#define TOKEN_MAX 4096
#define LINGER_NS KN_NS_PER_S

void kn_incoming_close(struct kn_incoming *in)
{
    if (in->fd >= 0)
        close(in->fd);
    in->fd = -1;
    free(in->wire);
    in->wire = NULL;
}

static bool gone(struct kn_incoming *in)
{
    kn_incoming_close(in);
    return false;
}

/* Without an answer: it would not be understood. */
static bool turn_away(struct kn_gate *gate, struct kn_incoming *in, enum kn_refused why)
{
    kn_refuse(&gate->shared->refused, why);
    return gone(in);
}

/* ---- refusing in words ---- */

static bool linger(struct kn_incoming *in)
{
    uint8_t rest[4096];
    ssize_t n = 1;
    for (int i = 0; i < 16 && n > 0; i++)
        n = recv(in->fd, rest, sizeof rest, MSG_DONTWAIT);
    return n > 0 || (n < 0 && errno == EAGAIN) || gone(in);
}

/* A socket that is closed over unread bytes sends a reset, which can overtake what was said last. */
static bool say_last(struct kn_incoming *in, const void *bytes, size_t size)
{
    if (send(in->fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 || shutdown(in->fd, SHUT_WR))
        return gone(in);
    in->state = KN_INCOMING_LINGER;
    in->deadline_ns = kn_now_ns() + LINGER_NS;
    return true;
}

bool kn_gate_refuse(struct kn_gate *gate, struct kn_incoming *in, const struct kn_error *why)
{
    struct kn_welcome w;
    uint8_t wire[512];
    kn_admit_refusal(gate->shared, why, &w);
    kn_welcome_pack(&w, wire);
    return say_last(in, wire, kn_welcome_size());
}

/* ---- hello ---- */

static bool passed_on(struct kn_incoming *in)
{
    in->fd = -1;
    return gone(in);
}

bool kn_gate_flow(struct kn_gate *gate, struct kn_incoming *in, const struct kn_hello *hello, const uint8_t *extra,
                  size_t extra_size)
{
    struct kn_error err;
    if (kn_admit_hello(gate->shared, hello, false, &err))
        return kn_gate_refuse(gate, in, &err);
    if (kn_serve_short(&gate->shared->server, in->fd, hello, extra, extra_size))
        return gone(in);
    if (kn_flows_start(gate->flows, in->fd, hello, NULL, extra, extra_size, &err))
        return kn_gate_refuse(gate, in, &err);
    return passed_on(in);
}

/* The rest of a hello. Bytes after it stay in the socket, for the thread that serves the flow. */
static bool step_hello(struct kn_gate *gate, struct kn_incoming *in)
{
    struct kn_hello hello;
    struct kn_error err;
    if (!in->wire && !(in->wire = malloc(kn_hello_size())))
        return gone(in);
    ssize_t n = recv(in->fd, in->wire + in->have, kn_hello_size() - in->have, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN))
        return turn_away(gate, in, KN_REFUSED_SILENT);
    in->have += n > 0 ? (size_t)n : 0; /* an acceptor may have read some before */
    if (memcmp(in->wire, KN_MAGIC, in->have < 4 ? in->have : 4))
        return turn_away(gate, in, KN_REFUSED_GARBAGE);
    int rc = kn_hello_unpack(in->wire, in->have, &gate->shared->key, gate->shared->server.tests, &hello, &err);
    if (rc < 0)
        return kn_gate_refuse(gate, in, &err);
    return rc > 0 || kn_gate_flow(gate, in, &hello, NULL, 0);
}

/* ---- control ---- */

/* In one answer, without a thread and without libmicrohttpd: clients without the token must not keep others away. */
static bool refuse_http(struct kn_incoming *in, const char *head, size_t size, const struct kn_error *why)
{
    unsigned status;
    char answer[1024];
    json_t *body = kn_api_error(why, &status);
    char *text = body ? kn_json_text(body, JSON_COMPACT) : NULL;
    json_decref(body);
    if (!text)
        return gone(in);
    bool more = kn_head_has_body(head, size);
    while (recv(in->fd, answer, sizeof answer, MSG_DONTWAIT) > 0) /* the head, which was only peeked at */
        ;
    int n = snprintf(answer, sizeof answer,
                     "HTTP/1.1 %u Unauthorized\r\nContent-Type: application/json\r\nKnbl-Protocol: %u\r\n"
                     "Connection: close\r\nContent-Length: %zu\r\n\r\n%s",
                     status, KN_PROTOCOL, strlen(text), text);
    free(text);
    return say_last(in, answer, (size_t)n) && (more || gone(in));
}

/* Control goes on only with its whole head here: a client that sends it byte by byte waits in the poller, not in a
 * thread. Nothing is consumed, because libmicrohttpd reads from the socket alone. */
static bool step_http(struct kn_gate *gate, struct kn_incoming *in)
{
    char head[KN_HEAD_MAX], token[TOKEN_MAX];
    struct kn_error err;
    ssize_t n = recv(in->fd, head, sizeof head, MSG_PEEK | MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return true;
    if (n <= 0)
        return turn_away(gate, in, KN_REFUSED_SILENT);
    enum kn_head look = kn_head_look(head, (size_t)n);
    if (look == KN_HEAD_GARBAGE)
        return turn_away(gate, in, KN_REFUSED_GARBAGE);
    if (look == KN_HEAD_PART)
        return true;
    bool has_token = kn_head_value(head, (size_t)n, "Knbl-Token", token, sizeof token);
    if (kn_api_check_token(gate->shared, has_token ? token : NULL, &err))
        return refuse_http(in, head, (size_t)n, &err);
    kn_control_take(gate->control, in->fd);
    return passed_on(in);
}

/* ---- the first bytes ---- */

static bool step_new(struct kn_gate *gate, struct kn_incoming *in)
{
    char first[4];
    ssize_t n = recv(in->fd, first, sizeof first, MSG_PEEK | MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return true;
    if (n <= 0)
        return turn_away(gate, in, KN_REFUSED_SILENT);
    in->state = first[0] == KN_MAGIC[0] ? KN_INCOMING_HELLO : KN_INCOMING_HTTP;
    return kn_gate_step(gate, in);
}

bool kn_gate_step(struct kn_gate *gate, struct kn_incoming *in)
{
    switch (in->state) {
    case KN_INCOMING_NEW: return step_new(gate, in);
    case KN_INCOMING_HELLO: return step_hello(gate, in);
    case KN_INCOMING_HTTP: return step_http(gate, in);
    case KN_INCOMING_LINGER: break;
    }
    return linger(in);
}
