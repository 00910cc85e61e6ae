/* An agent of this process on a free port of the loopback, and what tests say to it: HTTP by hand, hellos, bytes. */
#ifndef TESTS_LIVE_H
#define TESTS_LIVE_H

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>

#include "../core/check.h"
#include "agent/agent.h"
#include "core/clock.h"
#include "net/io.h"
#include "engines/engines.h"

#define TOKEN "a token for the tests of the agent"
#define PATIENCE_NS (30 * KN_NS_PER_S) /* sanitizers on a busy machine; nothing waits for so long where it works */

struct live {
    struct kn_agent *agent;
    struct kn_agent_config config;
    struct kn_key key;
    struct kn_addr at;
};

static struct kn_error err;

static inline uint64_t soon(void)
{
    return kn_now_ns() + PATIENCE_NS;
}

static inline void live_config(struct live *l)
{
    memset(l, 0, sizeof *l);
    kn_agent_defaults(&l->config);
    assert_int_equal(kn_addr_resolve("127.0.0.1", 0, 0, 0, &l->config.listen, &err), 0);
    l->config.token = TOKEN;
    snprintf(l->config.me.name, sizeof l->config.me.name, "pod-1");
    snprintf(l->config.me.node, sizeof l->config.me.node, "node-a");
    kn_wire_key(TOKEN, &l->key);
}

static inline void live_start(struct live *l)
{
    l->agent = kn_agent_new(&l->config, &err);
    if (!l->agent)
        fail_msg("%s", err.message);
    assert_int_equal(kn_addr_resolve("127.0.0.1", kn_agent_port(l->agent), 0, 0, &l->at, &err), 0);
}

static inline void live_end(struct live *l)
{
    kn_agent_free(l->agent);
    l->agent = NULL;
}

/* At its end libmicrohttpd learns by a volatile flag that nobody else is left, which the thread sanitizer does not take
 * for order. */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
    return "race:libmicrohttpd.so\n";
}

/* ---- descriptors and threads of this process ---- */

static inline int count_entries(const char *path)
{
    DIR *d = opendir(path);
    int n = 0;
    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return n;
}

/* Threads vanish from /proc a moment after they were joined. */
static inline void expect_threads(int most)
{
    uint64_t until = soon();
    while (count_entries("/proc/self/task") > most && kn_now_ns() < until)
        poll(NULL, 0, 1);
    assert_in_range(count_entries("/proc/self/task"), 1, most);
}

/* ---- connections ---- */

static inline int say(const struct live *l, const void *bytes, size_t size)
{
    int fd = kn_tcp_connect(&l->at, NULL, soon(), &err);
    if (fd < 0)
        fail_msg("%s", err.message);
    if (size)
        assert_int_equal(kn_write_full(fd, bytes, size, soon(), &err), 0);
    return fd;
}

/* Reads until the other side closes (also by reset) or `size` bytes came; returns how many. -1: it stays open. */
static inline ssize_t read_to_end(int fd, void *buf, size_t size)
{
    size_t done = 0;
    uint64_t until = soon();
    while (done < size && kn_now_ns() < until) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        poll(&p, 1, 100);
        ssize_t n = recv(fd, (char *)buf + done, size - done, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN))
            return (ssize_t)done;
        done += n > 0 ? (size_t)n : 0;
    }
    return done == size ? (ssize_t)done : -1;
}

static inline struct kn_spec spec_of(const char *text)
{
    struct kn_spec spec;
    json_t *object = json_loads(text, 0, NULL);
    if (kn_spec_parse(object, &kn_engines, &spec, &err))
        fail_msg("%s", err.message);
    json_decref(object);
    return spec;
}

static inline struct kn_hello hello_of(const char *spec, uint64_t run_id)
{
    static atomic_uint_fast64_t hellos; /* each is a new one */
    uint64_t number = atomic_fetch_add(&hellos, 1);
    struct kn_hello h = {.kind = KN_HELLO_FLOW,
                         .run_id = run_id,
                         .flow = 0,
                         .flows = 1,
                         .issued_ns = kn_wall_ns(),
                         .spec = spec_of(spec)};
    memcpy(h.nonce, &number, sizeof number);
    return h;
}

/* 0: welcome. Else the code of the refusal, in err. */
static inline int read_welcome(int fd, struct kn_welcome *w)
{
    uint8_t wire[512];
    if (kn_read_full(fd, wire, kn_welcome_size(), soon(), &err) == 0 &&
        kn_welcome_unpack(wire, kn_welcome_size(), w, &err) == 0)
        return 0;
    return (int)err.code;
}

/* ---- HTTP ---- */

static inline json_t *read_answer(int fd, int *status)
{
    static char text[1 << 20];
    ssize_t n = read_to_end(fd, text, sizeof text - 1);
    assert_true(n > 0);
    text[n] = '\0';
    assert_int_equal(sscanf(text, "HTTP/1.1 %d", status), 1);
    char *body = strstr(text, "\r\n\r\n");
    assert_non_null(body);
    return json_loads(body + 4, 0, NULL);
}

static inline json_t *ask_on(int fd, const char *method, const char *path, const char *headers, const char *body,
                             int *status)
{
    static char text[400000];
    int n = snprintf(text, sizeof text,
                     "%s %s HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n%sContent-Length: %zu\r\n\r\n%s", method,
                     path, headers, body ? strlen(body) : 0, body ? body : "");
    kn_write_full(fd, text, (size_t)n, soon(), &err);
    json_t *answer = read_answer(fd, status);
    close(fd);
    return answer;
}

static inline json_t *ask(const struct live *l, const char *method, const char *path, const char *body, int *status)
{
    return ask_on(say(l, NULL, 0), method, path, "Knbl-Token: " TOKEN "\r\n", body, status);
}

static inline const char *code_of(const json_t *answer)
{
    const char *code = json_string_value(json_object_get(json_object_get(answer, "error"), "code"));
    return code ? code : "";
}

static inline json_int_t refused(const struct live *l, const char *kind)
{
    int status;
    json_t *answer = ask(l, "GET", "/v1/agent", NULL, &status);
    assert_int_equal(status, 200);
    json_t *value = json_object_get(json_object_get(answer, "refused"), kind);
    assert_non_null(value);
    json_int_t n = json_integer_value(value);
    json_decref(answer);
    return n;
}

static inline void expect_refused(const struct live *l, const char *kind, json_int_t least)
{
    uint64_t until = soon();
    while (refused(l, kind) < least && kn_now_ns() < until)
        poll(NULL, 0, 2);
    assert_true(refused(l, kind) >= least);
}

/* ---- runs ---- */

static inline json_t *post_to(const struct live *l, const char *spec, const char *host, uint16_t port, const char *more,
                              int *status)
{
    char body[2000];
    snprintf(body, sizeof body, "{\"spec\":%s,\"to\":{\"host\":\"%s\",\"port\":%u}%s}", spec, host, port, more);
    return ask(l, "POST", "/v1/runs", body, status);
}

static inline json_t *post(const struct live *l, const char *spec, uint16_t port, const char *more, int *status)
{
    return post_to(l, spec, "127.0.0.1", port, more, status);
}

/* The path of a new run. */
static inline void start_run_to(const struct live *l, const char *spec, const char *host, char path[64])
{
    int status;
    json_t *answer = post_to(l, spec, host, kn_agent_port(l->agent), "", &status);
    if (status != 201)
        fail_msg("%d %s", status, json_string_value(json_object_get(json_object_get(answer, "error"), "message")));
    snprintf(path, 64, "/v1/runs/%s", json_string_value(json_object_get(answer, "id")));
    json_decref(answer);
}

static inline void start_run(const struct live *l, const char *spec, char path[64])
{
    start_run_to(l, spec, "127.0.0.1", path);
}

/* Waits until it is over; the whole answer. */
static inline json_t *end_of(const struct live *l, const char *path)
{
    char url[128];
    snprintf(url, sizeof url, "%s?wait=20000", path);
    for (uint64_t until = soon(); kn_now_ns() < until;) {
        int status;
        json_t *answer = ask(l, "GET", url, NULL, &status);
        assert_int_equal(status, 200);
        if (strcmp(json_string_value(json_object_get(answer, "state")), "running"))
            return answer;
        json_decref(answer);
    }
    fail_msg("%s does not end", path);
    return NULL;
}

static inline void expect_ok(json_t *answer)
{
    json_t *result = json_object_get(answer, "result");
    if (!json_is_true(json_object_get(result, "ok")))
        fail_msg("%s", json_dumps(answer, JSON_INDENT(1)));
    assert_string_equal(json_string_value(json_object_get(answer, "state")), "done");
    json_decref(answer);
}

/* Such a run goes well. A machine that is busy with other things may let nothing through in a short time: it gets more.
 */
static inline void expect_run(const struct live *l, const char *host, const char *test, const char *more)
{
    static const int durations_ms[] = {30, 300, 3000};
    for (int i = 0; i < 3; i++) {
        char spec[200], path[64];
        snprintf(spec, sizeof spec, "{\"test\":\"%s\",\"duration\":\"%dms\"%s}", test, durations_ms[i], more);
        start_run_to(l, spec, host, path);
        json_t *answer = end_of(l, path), *error = json_object_get(json_object_get(answer, "result"), "error");
        const char *code = json_string_value(json_object_get(error, "code"));
        if (i == 2 || !code || strcmp(code, "no_data")) {
            expect_ok(answer);
            return;
        }
        json_decref(answer);
    }
}

#endif
