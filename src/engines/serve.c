/* The server's side of a flow: welcome, the test's own part, the report. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engines/crr.h"
#include "engines/flow.h"
#include "engines/http_serve.h"

#define GO_TIMEOUT_NS (60 * KN_NS_PER_S)   /* from the welcome to the go byte: other flows are still being opened */
#define DELAY_STEP_NS (50 * KN_NS_PER_MS)
#define TRAILER_TIMEOUT_NS (10 * KN_NS_PER_S)

/* ---- the window ---- */

void kn_served_start(struct kn_served *s, uint64_t now_ns)
{
    s->start_ns = now_ns;
    s->open_ns = now_ns + s->spec->warmup_ns;
    s->end_ns = s->spec->duration_ns ? s->open_ns + s->spec->duration_ns : UINT64_MAX;
}

void kn_served_open(struct kn_served *s)
{
    if (s->opened)
        return;
    s->opened = true;
    s->figures.has |= KN_HAS_CPU;
    kn_cpu_read(&s->at_open);
    s->cpu_open_ns = kn_thread_cpu_ns();
}

void kn_served_close(struct kn_served *s, uint64_t now_ns)
{
    if (!s->opened || s->closed)
        return;
    s->closed = true;
    s->figures.cpu_ns += kn_thread_cpu_ns() - s->cpu_open_ns;
    kn_cpu_read(&s->at_close);
    uint64_t end_ns = now_ns < s->end_ns ? now_ns : s->end_ns;
    s->figures.window_ns = end_ns > s->open_ns ? end_ns - s->open_ns : 0;
}

void kn_serve_delay(const struct kn_server *server, const struct kn_spec *spec)
{
    uint64_t until_ns = spec->delay_ns ? kn_now_ns() + spec->delay_ns : 0, now_ns;
    while (until_ns && (now_ns = kn_now_ns()) < until_ns && !atomic_load_explicit(server->stop, memory_order_relaxed))
        kn_sleep_until_ns(until_ns - now_ns > DELAY_STEP_NS ? now_ns + DELAY_STEP_NS : until_ns);
}

/* ---- what goes back in band ---- */

static void say(char *to, size_t size, const char *text)
{
    snprintf(to, size, "%s", text);
}

void kn_serve_welcome_fill(const struct kn_server *server, int fd, struct kn_welcome *w)
{
    memset(w, 0, sizeof *w);
    w->protocol = KN_PROTOCOL;
    w->mss = (uint16_t)kn_tcp_mss(fd);
    say(w->name, sizeof w->name, server->me.name);
    say(w->node, sizeof w->node, server->me.node);
}

static int send_welcome(const struct kn_server *server, int fd, const struct kn_error *refusal, struct kn_error *err)
{
    struct kn_welcome w;
    uint8_t wire[kn_welcome_size()];
    kn_serve_welcome_fill(server, fd, &w);
    if (refusal) {
        w.code = (uint8_t)refusal->code;
        snprintf(w.message, sizeof w.message, "%.*s", (int)sizeof w.message - 1, refusal->message);
    }
    kn_welcome_pack(&w, wire);
    return kn_write_full(fd, wire, sizeof wire, kn_now_ns() + TRAILER_TIMEOUT_NS, err);
}

int kn_serve_welcome(const struct kn_server *server, int fd, struct kn_error *err)
{
    return send_welcome(server, fd, NULL, err);
}

/* Where this flow was really served: behind a Service's address it is not the one that the client named. */
static void own_address(int fd, char *text, size_t size)
{
    struct kn_addr a = {.len = sizeof a.u};
    text[0] = '\0';
    if (!getsockname(fd, &a.u.sa, &a.len))
        kn_addr_text(&a, text, size);
}

json_t *kn_served_report(const struct kn_served *s, int fd)
{
    char address[KN_ADDR_TEXT_MAX];
    own_address(fd, address, sizeof address);
    json_t *report = json_pack("{s:s, s:s, s:s, s:o}", "name", s->server->me.name, "node", s->server->me.node, "address", address,
                               "figures", kn_figures_to_json(&s->figures));
    if (report && s->closed)
        json_object_set_new(report, "cpu", kn_cpu_between(&s->at_open, &s->at_close));
    if (report && s->chosen)
        json_object_set(report, "chosen", s->chosen);
    return report;
}

int kn_serve_report(int fd, const json_t *report, struct kn_error *err)
{
    size_t size;
    uint8_t *wire = kn_trailer_pack(report, &size, err);
    if (!wire)
        return -1;
    int failed = kn_write_full(fd, wire, size, kn_now_ns() + TRAILER_TIMEOUT_NS, err);
    free(wire);
    return failed;
}

/* ---- TCP ---- */

/* A client that lost its power sends no FIN: the kernel finds out, at no cost to the operations. */
static void watch_peer(int fd)
{
    const int on = 1, idle_s = 10, every_s = 5, tries = 3;
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every_s, sizeof every_s);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &tries, sizeof tries);
}

int kn_serve_limits(const struct kn_server *server, const struct kn_spec *spec, struct kn_error *err)
{
    uint64_t most_ns = server->limits.max_duration_ns;
    if (most_ns && spec->duration_ns + spec->warmup_ns > most_ns)
        return kn_fail(err, KN_E_LIMIT, "a run of %llu s is longer than this agent allows (%llu s)",
                       (unsigned long long)((spec->duration_ns + spec->warmup_ns) / KN_NS_PER_S),
                       (unsigned long long)(most_ns / KN_NS_PER_S));
    return 0;
}

/* 1: go; 0: the client went away before it began. */
static int await_go(int fd, struct kn_error *err)
{
    uint8_t go = 0;
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int n = poll(&p, 1, (int)(GO_TIMEOUT_NS / KN_NS_PER_MS));
    if (n == 0)
        return kn_fail(err, KN_E_TIMEOUT, "a client opened a flow and never began");
    ssize_t got = recv(fd, &go, 1, MSG_DONTWAIT);
    if (got <= 0)
        return 0;
    return go == KN_GO ? 1 : kn_fail(err, KN_E_PROTOCOL, "a flow began with byte 0x%02x instead of go", go);
}

static int refuse(const struct kn_server *server, int fd, struct kn_error *why)
{
    struct kn_error ignored;
    uint8_t rest[4096];
    if (!send_welcome(server, fd, why, &ignored)) {
        shutdown(fd, SHUT_WR);
        struct pollfd p = {.fd = fd, .events = POLLIN}; /* closing over unread bytes would reset what was just said */
        for (int i = 0; i < 16 && poll(&p, 1, 200) > 0 && recv(fd, rest, sizeof rest, MSG_DONTWAIT) > 0; i++)
            ;
    }
    return -1;
}

static int run_flow(struct kn_served *s, const struct kn_test_ops *ops, int fd, struct kn_error *err)
{
    if (send_welcome(s->server, fd, NULL, err))
        return -1;
    int go = await_go(fd, err);
    if (go <= 0)
        return go;
    kn_served_start(s, kn_now_ns());
    if (ops->serve(s, fd, err))
        return -1;
    kn_served_close(s, kn_now_ns());
    kn_tcp_info_add(fd, &s->figures);
    json_t *report = kn_served_report(s, fd);
    if (!report)
        return kn_fail(err, KN_E_MEMORY, "no memory for a report");
    int failed = kn_serve_report(fd, report, err);
    json_decref(report);
    return failed;
}

int kn_serve_tcp(struct kn_server *server, int fd, const struct kn_hello *hello, const uint8_t *extra, size_t extra_size, struct kn_error *err)
{
    if (hello->kind == KN_HELLO_STATS)
        return kn_crr_serve_stats(server, fd, hello, err);
    const struct kn_test_ops *ops = kn_test_ops((enum kn_test)hello->spec.test);
    if (kn_serve_limits(server, &hello->spec, err))
        return refuse(server, fd, err);
    if (kn_crr_is_short(&hello->spec)) {
        int failed = hello->spec.test == KN_HTTP ? kn_http_serve_once(server, fd, hello, extra, extra_size, err)
                                                 : kn_crr_serve(server, fd, hello, extra_size, err);
        kn_crr_alone(server, hello);
        return failed;
    }
    if (extra_size) {
        kn_fail(err, KN_E_PROTOCOL, "%zu bytes came before the welcome", extra_size);
        return refuse(server, fd, err);
    }
    if (!ops || !ops->serve) {
        kn_fail(err, KN_E_UNSUPPORTED, "this agent does not serve %s", kn_test_name((enum kn_test)hello->spec.test));
        return refuse(server, fd, err);
    }
    watch_peer(fd);
    if (kn_tcp_options(fd, &hello->spec, err))
        return refuse(server, fd, err);
    struct kn_served s = {.server = server, .hello = hello, .spec = &hello->spec};
    if (kn_figures_init(&s.figures, hello->spec.interval_ns, err))
        return refuse(server, fd, err);
    int failed = run_flow(&s, ops, fd, err);
    kn_figures_fini(&s.figures);
    json_decref(s.chosen);
    return failed;
}
