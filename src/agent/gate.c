/* What is a connection? Its first bytes say it: an HTTP method is control, "KNBL" a hello, all else is turned away. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/inside.h"

#define HEAD_MAX 8192                /* of an HTTP request: control sends far less */
#define LINGER_NS (1 * KN_NS_PER_S)

static const char *const refused_names[KN_REFUSED_COUNT] = {
    [KN_REFUSED_GARBAGE] = "garbage",   [KN_REFUSED_SILENT] = "silent",   [KN_REFUSED_CROWD] = "crowd",
    [KN_REFUSED_KEY] = "key",           [KN_REFUSED_VERSION] = "version", [KN_REFUSED_HELLO] = "hello",
    [KN_REFUSED_LIMIT] = "limit",       [KN_REFUSED_UDP] = "udp",         [KN_REFUSED_COOKIE] = "cookie",
    [KN_REFUSED_TOKEN] = "token",       [KN_REFUSED_REQUEST] = "request", [KN_REFUSED_RUNS] = "runs",
};

const char *kn_refused_name(enum kn_refused why)
{
    return refused_names[why];
}

enum kn_refused kn_refused_by(enum kn_code code)
{
    switch (code) {
    case KN_E_AUTH: return KN_REFUSED_KEY;
    case KN_E_VERSION: return KN_REFUSED_VERSION;
    case KN_E_LIMIT: return KN_REFUSED_LIMIT;
    default: return KN_REFUSED_HELLO;
    }
}

void kn_gate_close(struct kn_pending *p)
{
    if (p->fd >= 0)
        close(p->fd);
    p->fd = -1;
    free(p->wire);
    p->wire = NULL;
}

/* Without a word: it would not understand one. */
static bool turn_away(struct kn_agent *agent, struct kn_pending *p, enum kn_refused why)
{
    kn_count_refused(agent, why);
    kn_gate_close(p);
    return false;
}

/* ---- refusing in words ---- */

void kn_gate_refusal(const struct kn_agent *agent, const struct kn_error *why, struct kn_welcome *w)
{
    memset(w, 0, sizeof *w);
    w->protocol = KN_PROTOCOL;
    w->code = (uint8_t)why->code;
    memcpy(w->name, agent->server.me.name, sizeof w->name);
    memcpy(w->node, agent->server.me.node, sizeof w->node);
    snprintf(w->message, sizeof w->message, "%.*s", (int)sizeof w->message - 1, why->message);
}

/* A socket closed over unread bytes sends a reset, which can overtake the refusal: so it lingers, and is read empty. */
bool kn_gate_refuse(struct kn_agent *agent, struct kn_pending *p, const struct kn_error *why)
{
    struct kn_welcome w;
    uint8_t wire[512];
    kn_count_refused(agent, kn_refused_by(why->code));
    kn_gate_refusal(agent, why, &w);
    kn_welcome_pack(&w, wire);
    if (send(p->fd, wire, kn_welcome_size(), MSG_NOSIGNAL | MSG_DONTWAIT) < 0 || shutdown(p->fd, SHUT_WR)) {
        kn_gate_close(p);
        return false;
    }
    p->state = KN_GATE_LINGER;
    p->deadline_ns = kn_now_ns() + LINGER_NS;
    return true;
}

static bool linger(struct kn_pending *p)
{
    uint8_t rest[4096];
    ssize_t n = 1;
    for (int i = 0; i < 16 && n > 0; i++)
        n = recv(p->fd, rest, sizeof rest, MSG_DONTWAIT);
    if (n > 0 || (n < 0 && errno == EAGAIN))
        return true;
    kn_gate_close(p);
    return false;
}

/* ---- hello ---- */

int kn_gate_check(const struct kn_agent *agent, const struct kn_hello *hello, bool udp, struct kn_error *err)
{
    const struct kn_spec *spec = &hello->spec;
    bool datagrams = spec->test == KN_UDP_STREAM || spec->test == KN_UDP_RR;
    if (hello->kind == KN_HELLO_STATS && !udp)
        return 0;
    if (datagrams != udp || spec->test == KN_PING || hello->kind != KN_HELLO_FLOW)
        return kn_fail(err, KN_E_ARGUMENT, "%s is not served over %s", kn_test_name((enum kn_test)spec->test),
                       udp ? "UDP" : "TCP");
    if (spec->duration_ns > agent->config.max_duration_ns ||
        spec->warmup_ns > agent->config.max_duration_ns - spec->duration_ns)
        return kn_fail(err, KN_E_LIMIT, "a run of %.6g s is longer than this agent allows (%.6g s)",
                       ((double)spec->duration_ns + (double)spec->warmup_ns) / 1e9,
                       (double)agent->config.max_duration_ns / 1e9);
    return 0;
}

bool kn_gate_flow(struct kn_agent *agent, struct kn_pending *p, const struct kn_hello *hello, const uint8_t *extra,
                  size_t extra_size)
{
    struct kn_error err;
    if (kn_gate_check(agent, hello, false, &err))
        return kn_gate_refuse(agent, p, &err);
    if (kn_serve_short(&agent->server, p->fd, hello, extra, extra_size)) {
        kn_gate_close(p);
        return false;
    }
    if (kn_flows_start(agent->flows, p->fd, hello, NULL, extra, extra_size, &err))
        return kn_gate_refuse(agent, p, &err);
    p->fd = -1;
    kn_gate_close(p);
    return false;
}

/* The rest of a hello. Bytes after it stay in the socket, for who serves the flow. */
static bool step_hello(struct kn_agent *agent, struct kn_pending *p)
{
    struct kn_hello hello;
    struct kn_error err;
    if (!p->wire && !(p->wire = malloc(kn_hello_size()))) {
        kn_gate_close(p);
        return false;
    }
    ssize_t n = recv(p->fd, p->wire + p->have, kn_hello_size() - p->have, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN))
        return turn_away(agent, p, KN_REFUSED_SILENT);
    p->have += n > 0 ? (size_t)n : 0; /* an acceptor may have read some before */
    if (memcmp(p->wire, KN_MAGIC, p->have < 4 ? p->have : 4))
        return turn_away(agent, p, KN_REFUSED_GARBAGE);
    int rc = kn_hello_unpack(p->wire, p->have, &agent->key, &hello, &err);
    if (rc < 0)
        return kn_gate_refuse(agent, p, &err);
    return rc > 0 || kn_gate_flow(agent, p, &hello, NULL, 0);
}

/* ---- the first bytes ---- */

static bool may_be_method(const char *bytes, size_t n)
{
    static const char *const methods[] = { "GET ", "POST", "DELE", "HEAD", "PUT ", "OPTI", "PATC" };
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (!memcmp(bytes, methods[i], n < 4 ? n : 4))
            return true;
    return false;
}

/* Control goes on only with its whole head here: who sends it byte by byte waits in the keeper, not in a thread.
 * Nothing is consumed, because libmicrohttpd reads from the socket alone. */
static bool step_http(struct kn_agent *agent, struct kn_pending *p)
{
    char head[HEAD_MAX];
    ssize_t n = recv(p->fd, head, sizeof head, MSG_PEEK | MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return true;
    if (n <= 0)
        return turn_away(agent, p, KN_REFUSED_SILENT);
    if (!may_be_method(head, (size_t)n) || memchr(head, '\0', (size_t)n))
        return turn_away(agent, p, KN_REFUSED_GARBAGE);
    if (!memmem(head, (size_t)n, "\r\n\r\n", 4))
        return (size_t)n < sizeof head || turn_away(agent, p, KN_REFUSED_GARBAGE);
    kn_control_take(agent, p->fd);
    p->fd = -1;
    kn_gate_close(p);
    return false;
}

static bool step_new(struct kn_agent *agent, struct kn_pending *p)
{
    char first[4];
    ssize_t n = recv(p->fd, first, sizeof first, MSG_PEEK | MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return true;
    if (n <= 0)
        return turn_away(agent, p, KN_REFUSED_SILENT);
    p->state = first[0] == KN_MAGIC[0] ? KN_GATE_HELLO : KN_GATE_HTTP;
    return kn_gate_step(agent, p);
}

bool kn_gate_step(struct kn_agent *agent, struct kn_pending *p)
{
    switch (p->state) {
    case KN_GATE_NEW: return step_new(agent, p);
    case KN_GATE_HELLO: return step_hello(agent, p);
    case KN_GATE_HTTP: return step_http(agent, p);
    case KN_GATE_LINGER: break;
    }
    return linger(p);
}
