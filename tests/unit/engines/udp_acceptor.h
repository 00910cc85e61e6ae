/* A small agent for tests of UDP flows: one port, cookies, a thread and a connected socket for each flow. A hook may
 * look at what comes to the port. No part of it is for use outside tests. */
#ifndef KN_TESTS_UDP_ACCEPTOR_H
#define KN_TESTS_UDP_ACCEPTOR_H

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/json.h"
#include "net/addr.h"
#include "run/run.h"
#include "run/server.h"
#include "engines/engines.h"

#define ACCEPTOR_FLOWS 256
#define ACCEPTOR_TOKEN "a token for tests"

struct acceptor {
    int fd;
    struct kn_addr at;
    struct kn_key key;
    struct kn_server server;
    atomic_bool stop;
    pthread_t thread;
    pthread_mutex_t lock; /* of the flows */
    struct accepted {
        struct acceptor *a;
        int fd;
        struct kn_hello hello;
        struct kn_addr peer;
        pthread_t thread;
        int rc;
        struct kn_error err;
    } * flows[ACCEPTOR_FLOWS];
    unsigned n;
};

static void *acceptor_serve(void *arg)
{
    struct accepted *f = arg;
    f->rc = kn_serve_udp(&f->a->server, f->fd, &f->hello, &f->a->key, &f->err);
    close(f->fd);
    return NULL;
}

/* A hello that was sent again; a later run may well come from the same port. */
static bool acceptor_has(const struct acceptor *a, const struct kn_hello *hello, const struct kn_addr *peer)
{
    for (unsigned i = 0; i < a->n; i++)
        if (a->flows[i]->hello.run_id == hello->run_id && kn_addr_equal(&a->flows[i]->peer, peer))
            return true;
    return false;
}

static void acceptor_start(struct acceptor *a, const struct kn_hello *hello, const struct kn_addr *peer)
{
    int on = 1;
    if (a->n == ACCEPTOR_FLOWS || acceptor_has(a, hello, peer))
        return;
    struct accepted *f = calloc(1, sizeof *f);
    f->a = a;
    f->hello = *hello;
    f->peer = *peer;
    f->fd = socket(peer->u.sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    setsockopt(f->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(f->fd, &a->at.u.sa, a->at.len) || connect(f->fd, &peer->u.sa, peer->len) ||
        pthread_create(&f->thread, NULL, acceptor_serve, f)) {
        close(f->fd);
        free(f);
        return;
    }
    a->flows[a->n++] = f;
}

static void acceptor_take(struct acceptor *a, const uint8_t *in, size_t n, const struct kn_addr *peer)
{
    struct kn_hello hello;
    struct kn_error err;
    uint8_t cookie[KN_COOKIE_SIZE], out[256];
    if (kn_hello_unpack(in, n, &a->key, &kn_engines, &hello, &err))
        return;
    if (kn_cookie_check(&a->key, &peer->u, peer->len, kn_now_ns(), hello.cookie)) {
        kn_cookie_make(&a->key, &peer->u, peer->len, kn_now_ns(), cookie);
        sendto(a->fd, out, kn_udp_retry_pack(cookie, out), 0, &peer->u.sa, peer->len);
        return;
    }
    pthread_mutex_lock(&a->lock);
    acceptor_start(a, &hello, peer);
    pthread_mutex_unlock(&a->lock);
}

static void *acceptor_run(void *arg)
{
    struct acceptor *a = arg;
    uint8_t in[2048];
    while (!atomic_load(&a->stop)) {
        struct pollfd p = {.fd = a->fd, .events = POLLIN};
        struct kn_addr peer = {.len = sizeof peer.u};
        if (poll(&p, 1, 20) <= 0)
            continue;
        ssize_t n = recvfrom(a->fd, in, sizeof in, MSG_DONTWAIT, &peer.u.sa, &peer.len);
        if (n > 0)
            acceptor_take(a, in, (size_t)n, &peer);
    }
    return NULL;
}

/* At "127.0.0.1", "::1" or an address of a namespace; port 0 picks one. */
static inline int acceptor_open(struct acceptor *a, const char *host, uint16_t port)
{
    struct kn_error err;
    int on = 1;
    memset(a, 0, sizeof *a);
    kn_wire_key(ACCEPTOR_TOKEN, &a->key);
    a->server = (struct kn_server){.tests = &kn_engines, .me = {.name = "server", .node = "here"}, .stop = &a->stop};
    if (kn_addr_resolve(host, port, 0, KN_NS_PER_S, &a->at, &err))
        return -1;
    a->fd = socket(a->at.u.sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    setsockopt(a->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(a->fd, &a->at.u.sa, a->at.len) || getsockname(a->fd, &a->at.u.sa, &a->at.len))
        return -1;
    pthread_mutex_init(&a->lock, NULL);
    return pthread_create(&a->thread, NULL, acceptor_run, a);
}

static inline void acceptor_close(struct acceptor *a)
{
    atomic_store(&a->stop, true);
    pthread_join(a->thread, NULL);
    close(a->fd);
    for (unsigned i = 0; i < a->n; i++) {
        pthread_join(a->flows[i]->thread, NULL);
        free(a->flows[i]);
    }
}

/* Waits until every flow was served to its end by itself; false where one is not within the time. */
static inline bool acceptor_idle(struct acceptor *a, uint64_t within_ns)
{
    uint64_t until_ns = kn_now_ns() + within_ns;
    bool idle = true;
    pthread_mutex_lock(&a->lock);
    for (unsigned i = 0; i < a->n; i++) {
        while (pthread_tryjoin_np(a->flows[i]->thread, NULL) && (idle = kn_now_ns() < until_ns))
            kn_sleep_until_ns(kn_now_ns() + KN_NS_PER_MS);
        if (!idle)
            break;
        free(a->flows[i]);
        a->flows[i--] = a->flows[--a->n];
    }
    pthread_mutex_unlock(&a->lock);
    return idle;
}

/* Runs what `text` asks for against `host`:`port`, and gives the result. */
static inline json_t *udp_measure_at(const char *text, const char *host, uint16_t port, const char *token)
{
    struct kn_error err = {0};
    struct kn_spec spec;
    struct kn_target target = {.port = port};
    json_t *object = json_loads(text, 0, NULL), *result = NULL;
    strncpy(target.host, host, sizeof target.host - 1);
    kn_wire_key(token, &target.key);
    if (!object || kn_spec_parse(object, &kn_engines, &spec, &err)) {
        json_decref(object);
        return json_pack("{s:b, s:{s:s, s:s}}", "ok", 0, "error", "code", kn_code_name(err.code), "message",
                         err.message);
    }
    json_decref(object);
    struct kn_run *run = kn_run_new(&spec, &target, &err);
    if (run && !kn_run_start(run, &err)) {
        if (!kn_run_wait(run, 60 * KN_NS_PER_S))
            kn_run_stop(run);
        result = kn_run_result(run);
    } else {
        result = json_pack("{s:b, s:{s:s, s:s}}", "ok", 0, "error", "code", kn_code_name(err.code), "message",
                           err.message);
    }
    kn_run_free(run);
    return result;
}

static inline json_t *udp_measure(struct acceptor *a, const char *text)
{
    char host[KN_ADDR_TEXT_MAX];
    return udp_measure_at(text, kn_addr_host(&a->at, host, sizeof host), kn_addr_port(&a->at), ACCEPTOR_TOKEN);
}

static inline double metric(const json_t *result, const char *name)
{
    const json_t *value = json_object_get(json_object_get(result, "metrics"), name);
    return json_is_number(value) ? json_number_value(value) : -1;
}

/* ---- what the tests of UDP share ---- */

/* The one of a test program. */
static struct acceptor server;

static inline int open_server(void **state)
{
    (void)state;
    return acceptor_open(&server, "127.0.0.1", 0);
}

static inline int close_server(void **state)
{
    (void)state;
    acceptor_close(&server);
    return 0;
}

static inline void assert_ok(const json_t *r)
{
    if (!json_is_true(json_object_get(r, "ok")))
        fail_msg("%s", json_string_value(json_object_get(json_object_get(r, "error"), "message")));
}

static inline const char *code_of(const json_t *r)
{
    const char *code = json_string_value(json_object_get(json_object_get(r, "error"), "code"));
    return code ? code : "none";
}

static inline const char *message_of(const json_t *r)
{
    const char *message = json_string_value(json_object_get(json_object_get(r, "error"), "message"));
    return message ? message : "";
}

/* What a busy machine keeps a sender from is allowed where the result says so. */
static inline bool rate_missed(const json_t *r)
{
    size_t i;
    json_t *flag;
    json_array_foreach(json_object_get(r, "flags"), i,
                       flag) if (!strcmp(json_string_value(flag), "rate_not_reached")) return true;
    return false;
}

static inline bool has_metric(const json_t *r, const char *name)
{
    return json_object_get(json_object_get(r, "metrics"), name) != NULL;
}

#endif
