/* A server over loopback for the engines' tests: takes connections, unpacks hellos, serves. And what runs a spec
 * against it. */
#ifndef TESTS_LOOPBACK_H
#define TESTS_LOOPBACK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/clock.h"
#include "run/desk.h"
#include "run/run.h"
#include "run/server.h"
#include "run/short.h"
#include "net/io.h"
#include "engines/engines.h"

#define TOKEN "a token for the tests of engines"
#define MOST 512

struct loopback {
    int fd;
    uint16_t port;
    struct kn_key key;
    struct kn_server server;
    atomic_bool stop;
    pthread_t acceptor;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int fds[MOST];
    unsigned active, served, failed;
    struct kn_error last;
};

struct served {
    struct loopback *l;
    int fd;
    unsigned slot;
    struct kn_hello hello;
    size_t extra_size;
    uint8_t extra[4096];
};

/* A flow that a desk served. */
static void desk_ended(void *context, const struct kn_error *err)
{
    struct loopback *l = context;
    pthread_mutex_lock(&l->lock);
    l->served++;
    if (err) {
        l->failed++;
        l->last = *err;
    }
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
}

static void flow_ended(struct served *s, int failed, const struct kn_error *err)
{
    struct loopback *l = s->l;
    pthread_mutex_lock(&l->lock);
    l->fds[s->slot] = -1;
    close(s->fd);
    l->active--;
    l->served++;
    if (failed) {
        l->failed++;
        l->last = *err;
    }
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
    free(s);
}

static void *serve_one(void *arg)
{
    struct served *s = arg;
    struct kn_error err = {0};
    int failed = kn_serve_tcp(&s->l->server, s->fd, &s->hello, s->extra, s->extra_size, &err);
    flow_ended(s, failed, &err);
    return NULL;
}

static bool take_hello(struct served *s)
{
    uint8_t wire[4096];
    struct kn_error err;
    size_t have = 0;
    while (have < kn_hello_size()) {
        ssize_t n = recv(s->fd, wire + have, sizeof wire - have, 0);
        if (n <= 0)
            return false;
        have += (size_t)n;
    }
    s->extra_size = have - kn_hello_size();
    memcpy(s->extra, wire + kn_hello_size(), s->extra_size);
    return kn_hello_unpack(wire, have, &s->l->key, &kn_engines, &s->hello, &err) == 0;
}

static void take(struct loopback *l, int fd)
{
    struct served *s = calloc(1, sizeof *s);
    s->l = l;
    s->fd = fd;
    if (!take_hello(s) || kn_serve_short(&l->server, fd, &s->hello, s->extra, s->extra_size)) {
        close(fd);
        free(s);
        return;
    }
    struct kn_error err;
    if (!s->extra_size && kn_desk_takes(l->server.desk, &s->hello) &&
        !kn_desk_add(l->server.desk, &l->server, fd, &s->hello, NULL, NULL, &err)) {
        free(s);
        return;
    }
    pthread_mutex_lock(&l->lock);
    for (s->slot = 0; s->slot < MOST && l->fds[s->slot] >= 0; s->slot++)
        ;
    l->fds[s->slot] = fd;
    l->active++;
    pthread_mutex_unlock(&l->lock);
    pthread_t thread;
    pthread_create(&thread, NULL, serve_one, s);
    pthread_detach(thread);
}

static void *accept_all(void *arg)
{
    struct loopback *l = arg;
    int fd;
    while ((fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC)) >= 0)
        take(l, fd);
    return NULL;
}

static inline void loopback_start(struct loopback *l)
{
    struct kn_error err;
    struct kn_addr at;
    memset(l, 0, sizeof *l);
    for (int i = 0; i < MOST; i++)
        l->fds[i] = -1;
    assert_int_equal(kn_addr_resolve("127.0.0.1", 0, 4, KN_NS_PER_S, &at, &err), 0);
    l->fd = kn_tcp_listen(&at, 512, &err);
    assert_true(l->fd >= 0);
    at.len = sizeof at.u;
    getsockname(l->fd, &at.u.sa, &at.len);
    l->port = kn_addr_port(&at);
    kn_wire_key(TOKEN, &l->key);
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->changed, NULL);
    l->server = (struct kn_server){.tests = &kn_engines,
                                   .me = {"server", "node"},
                                   .limits = {60 * KN_NS_PER_S, 0},
                                   .book = kn_short_book_new(),
                                   .desk = kn_desk_new(desk_ended, l),
                                   .stop = &l->stop};
    pthread_create(&l->acceptor, NULL, accept_all, l);
}

/* Each flow on a thread of its own, however many: so that loopback_cut reaches it. True: as it was. */
static inline void loopback_use_desk(struct loopback *l, bool use)
{
    static struct kn_desk *put_away;
    if (!use)
        put_away = l->server.desk;
    l->server.desk = use ? put_away : NULL;
}

/* Cuts every flow that a thread of its own serves. */
static void loopback_cut(struct loopback *l)
{
    pthread_mutex_lock(&l->lock);
    for (int i = 0; i < MOST; i++)
        if (l->fds[i] >= 0)
            shutdown(l->fds[i], SHUT_RDWR);
    pthread_mutex_unlock(&l->lock);
}

static inline void loopback_stop(struct loopback *l)
{
    atomic_store(&l->stop, true);
    shutdown(l->fd, SHUT_RDWR);
    pthread_join(l->acceptor, NULL);
    loopback_cut(l);
    pthread_mutex_lock(&l->lock);
    while (l->active)
        pthread_cond_wait(&l->changed, &l->lock);
    pthread_mutex_unlock(&l->lock);
    close(l->fd);
    kn_desk_stop(l->server.desk);
    kn_short_book_free(l->server.book);
    kn_desk_free(l->server.desk);
    pthread_mutex_destroy(&l->lock);
    pthread_cond_destroy(&l->changed);
}

static void target_of(const struct loopback *l, struct kn_target *t)
{
    memset(t, 0, sizeof *t);
    snprintf(t->host, sizeof t->host, "127.0.0.1");
    t->port = l->port;
    t->key = l->key;
}

static struct kn_run *start_json(const struct kn_target *target, const char *spec_json)
{
    struct kn_error err;
    struct kn_spec spec;
    json_t *json = json_loads(spec_json, 0, NULL);
    assert_non_null(json);
    if (kn_spec_parse(json, &kn_engines, &spec, &err))
        fail_msg("%s: %s", spec_json, err.message);
    json_decref(json);
    struct kn_run *run = kn_run_new(&spec, target, &err);
    if (!run)
        fail_msg("%s: %s", spec_json, err.message);
    assert_int_equal(kn_run_start(run, &err), 0);
    return run;
}

static json_t *finish_run(struct kn_run *run)
{
    if (!kn_run_wait(run, 30 * KN_NS_PER_S))
        fail_msg("the run does not end");
    json_t *result = kn_run_result(run);
    assert_non_null(result);
    kn_run_free(run);
    return result;
}

static json_t *run_once(const struct loopback *l, const char *spec_json)
{
    struct kn_target target;
    target_of(l, &target);
    return finish_run(start_json(&target, spec_json));
}

/* On a busy machine a short window can pass before anything arrives, which is an error as it should be: asked again. */
static inline json_t *run_json(const struct loopback *l, const char *spec_json)
{
    json_t *result = run_once(l, spec_json);
    for (int i = 0; i < 8; i++) {
        const char *code = json_string_value(json_object_get(json_object_get(result, "error"), "code"));
        if (!code || strcmp(code, "no_data"))
            break;
        json_decref(result);
        result = run_once(l, spec_json);
    }
    return result;
}

/* "metrics.latency_ns.count"; fails where it is absent. */
static json_t *at(json_t *result, const char *path)
{
    char word[64];
    json_t *value = result;
    for (const char *p = path; *p && value;) {
        size_t n = strcspn(p, ".");
        snprintf(word, sizeof word, "%.*s", (int)n, p);
        value = json_object_get(value, word);
        p += n + (p[n] == '.');
    }
    if (!value) {
        char *text = json_dumps(result, JSON_INDENT(1));
        fail_msg("no %s in %s", path, text);
    }
    return value;
}

static double number_at(json_t *result, const char *path)
{
    json_t *value = at(result, path);
    assert_true(json_is_number(value));
    return json_number_value(value);
}

static inline const char *text_at(json_t *result, const char *path)
{
    return json_string_value(at(result, path));
}

static void assert_ok(json_t *result)
{
    if (!json_is_true(json_object_get(result, "ok"))) {
        char *text = json_dumps(result, JSON_INDENT(1));
        fail_msg("%s", text);
    }
}

/* A figure that a busy machine can spoil is asked for again, a few times; then it must lie within its bounds. */
static inline json_t *run_within(const struct loopback *l, const char *spec_json, const char *path, double low,
                                 double high)
{
    for (int left = 8;; left--) {
        json_t *r = run_json(l, spec_json);
        assert_ok(r);
        double value = number_at(r, path);
        if (value >= low && value <= high)
            return r;
        if (left == 0)
            fail_msg("%s: %s is %g, not within %g to %g", spec_json, path, value, low, high);
        json_decref(r);
    }
}

static inline bool has_flag(json_t *result, const char *name)
{
    size_t i;
    json_t *value;
    json_array_foreach(json_object_get(result, "flags"), i,
                       value) if (!strcmp(json_string_value(value), name)) return true;
    return false;
}

#endif
