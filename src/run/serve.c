/* The server's side of a flow over TCP: welcome, test, account. */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/cpus.h"
#include "core/json.h"
#include "net/io.h"
#include "net/replay.h"
#include "run/served.h"
#include "run/short.h"

#define GO_TIMEOUT_NS (60 * KN_NS_PER_S) /* from the welcome to the go byte: other flows are still being opened */
#define KEEPALIVES_A_SECOND 100
#define DELAY_STEP_NS (50 * KN_NS_PER_MS)
#define TRAILER_TIMEOUT_NS (10 * KN_NS_PER_S)

/* ---- the window ---- */

static void started(const struct kn_served *s, uint64_t now_ns)
{
    uint64_t not_yet = 0;
    if (s->server->clock)
        atomic_compare_exchange_strong(&s->server->clock->started_ns, &not_yet, now_ns);
}

void kn_served_ended(const struct kn_served *s)
{
    if (s->server->clock)
        atomic_store(&s->server->clock->ended_ns, kn_now_ns());
}

void kn_served_start(struct kn_served *s, uint64_t now_ns)
{
    started(s, now_ns);
    s->start_ns = now_ns;
    s->open_ns = now_ns + s->spec->warmup_ns;
    s->end_ns = s->spec->duration_ns ? s->open_ns + s->spec->duration_ns : UINT64_MAX;
}

void kn_served_open(struct kn_served *s)
{
    if (s->opened)
        return;
    s->opened = true;
    started(s, kn_now_ns());
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

int kn_served_pin(const struct kn_spec *spec, struct kn_error *err)
{
    return *spec->server_cpus ? kn_cpus_pin("server_cpus", spec->server_cpus, err) : 0;
}

int kn_served_limit(struct kn_error *err)
{
    return kn_fail(err, KN_E_LIMIT, "more bytes than this agent allows for a flow (--max-bytes)");
}

void kn_serve_delay(const struct kn_server *server, const struct kn_spec *spec)
{
    uint64_t until_ns = spec->delay_ns ? kn_now_ns() + spec->delay_ns : 0, now_ns;
    while (until_ns && (now_ns = kn_now_ns()) < until_ns && !atomic_load_explicit(server->stop, memory_order_relaxed))
        kn_sleep_until_ns(until_ns - now_ns > DELAY_STEP_NS ? now_ns + DELAY_STEP_NS : until_ns);
}

/* ---- the account, sent back in band ---- */

static void say(char *to, size_t size, const char *text)
{
    snprintf(to, size, "%s", text);
}

void kn_welcome_fill(const struct kn_server *server, int fd, struct kn_welcome *w)
{
    memset(w, 0, sizeof *w);
    w->protocol = KN_PROTOCOL;
    w->mss = (uint16_t)kn_tcp_mss(fd);
    say(w->name, sizeof w->name, server->me.name);
    say(w->node, sizeof w->node, server->me.node);
}

int kn_welcome_send(const struct kn_server *server, int fd, const struct kn_error *refusal, struct kn_error *err)
{
    struct kn_welcome w;
    uint8_t wire[kn_welcome_size()];
    kn_welcome_fill(server, fd, &w);
    if (refusal) {
        w.code = (uint8_t)refusal->code;
        snprintf(w.message, sizeof w.message, "%.*s", (int)sizeof w.message - 1, refusal->message);
    }
    kn_welcome_pack(&w, wire);
    return kn_write_full(fd, wire, sizeof wire, kn_now_ns() + TRAILER_TIMEOUT_NS, err);
}

/* The address that really served this flow; behind a Service it is not the one that the client used. */
static void own_address(int fd, char *text, size_t size)
{
    struct kn_addr a = {.len = sizeof a.u};
    text[0] = '\0';
    if (!getsockname(fd, &a.u.sa, &a.len))
        kn_addr_text(&a, text, size);
}

json_t *kn_served_account(const struct kn_served *s, int fd)
{
    char address[KN_ADDR_TEXT_MAX];
    unsigned long losses = kn_json_losses();
    own_address(fd, address, sizeof address);
    json_t *account = json_pack("{s:s, s:s, s:s, s:o}", "name", s->server->me.name, "node", s->server->me.node,
                                "address", address, "figures", kn_figures_to_json(&s->figures));
    if (account && s->closed)
        kn_json_set(account, "cpu", kn_cpu_between(&s->at_open, &s->at_close));
    if (account && (s->chosen || *s->spec->server_cpus))
        kn_json_set(account, "chosen", s->chosen ? kn_json_copy(s->chosen) : json_object());
    if (account && *s->spec->server_cpus)
        kn_json_set(json_object_get(account, "chosen"), "server_cpus", json_string(s->spec->server_cpus));
    return kn_json_whole(account, losses);
}

int kn_account_send(int fd, const json_t *account, struct kn_error *err)
{
    size_t size;
    uint8_t *wire = kn_trailer_pack(account, &size, err);
    if (!wire)
        return -1;
    int failed = kn_write_full(fd, wire, size, kn_now_ns() + TRAILER_TIMEOUT_NS, err);
    free(wire);
    return failed;
}

/* ---- TCP ---- */

/* A client that lost power sends no FIN. Keepalives of the kernel detect that. Connections that do nothing must cost
 * nothing, however many, so a run has at most KEEPALIVES_A_SECOND. */
void kn_served_watch(int fd, const struct kn_hello *hello)
{
    const uint32_t flows = hello->flows < KN_AGENT_FLOWS_MAX ? hello->flows : KN_AGENT_FLOWS_MAX;
    const int on = 1, idle_s = 10 + (int)(flows / KEEPALIVES_A_SECOND), every_s = 5, tries = 3;
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every_s, sizeof every_s);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &tries, sizeof tries);
}

int kn_server_allows(const struct kn_server_limits *limits, const struct kn_spec *spec, struct kn_error *err)
{
    uint64_t most_ns = limits->max_duration_ns;
    if (most_ns && (spec->duration_ns > most_ns || spec->warmup_ns > most_ns - spec->duration_ns))
        return kn_fail(err, KN_E_LIMIT, "warmup and duration must be at most %.6g s on this agent, got %.6g s",
                       (double)most_ns / 1e9, ((double)spec->duration_ns + (double)spec->warmup_ns) / 1e9);
    return 0;
}

int kn_server_takes(const struct kn_server *server, const struct kn_hello *hello, struct kn_error *err)
{
    if (kn_server_allows(&server->limits, &hello->spec, err))
        return -1;
    if (!server->replay)
        return 0;
    if (kn_server_is_short(hello))
        return kn_hello_is_fresh(hello, kn_wall_ns(), server->limits.max_duration_ns, err);
    return kn_replay_take(server->replay, hello, kn_wall_ns(), err);
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
    if (!kn_welcome_send(server, fd, why, &ignored)) {
        shutdown(fd, SHUT_WR);
        struct pollfd p = {
            .fd = fd, .events = POLLIN}; /* closing with unread bytes would reset the connection and lose the answer */
        for (int i = 0; i < 16 && poll(&p, 1, 200) > 0 && recv(fd, rest, sizeof rest, MSG_DONTWAIT) > 0; i++)
            ;
    }
    return -1;
}

static int run_flow(struct kn_served *s, int fd, struct kn_error *err)
{
    if (kn_welcome_send(s->server, fd, NULL, err))
        return -1;
    int go = await_go(fd, err);
    if (go <= 0)
        return go;
    kn_served_start(s, kn_now_ns());
    if (s->spec->test->serve(s, fd, err))
        return -1;
    kn_served_ended(s);
    kn_served_close(s, kn_now_ns());
    kn_tcp_info_add(fd, &s->figures);
    json_t *account = kn_served_account(s, fd);
    if (!account)
        return kn_fail(err, KN_E_MEMORY, "no memory for an account");
    int failed = kn_account_send(fd, account, err);
    json_decref(account);
    return failed;
}

int kn_serve_tcp(struct kn_server *server, int fd, const struct kn_hello *hello, const uint8_t *extra,
                 size_t extra_size, struct kn_error *err)
{
    const struct kn_test *test = hello->spec.test;
    if (kn_server_takes(server, hello, err))
        return refuse(server, fd, err);
    if (kn_server_is_short(hello))
        return kn_short_serve(server, fd, hello, extra, extra_size, err);
    if (extra_size) {
        kn_fail(err, KN_E_PROTOCOL, "%zu bytes came before the welcome", extra_size);
        return refuse(server, fd, err);
    }
    if (!test->serve) {
        kn_fail(err, KN_E_UNSUPPORTED, "this agent does not serve %s", test->name);
        return refuse(server, fd, err);
    }
    kn_served_watch(fd, hello);
    if (kn_served_pin(&hello->spec, err) || kn_tcp_options(fd, &hello->spec, err))
        return refuse(server, fd, err);
    struct kn_served s = {.server = server, .hello = hello, .spec = &hello->spec};
    if (kn_figures_init(&s.figures, hello->spec.interval_ns, err))
        return refuse(server, fd, err);
    int failed = run_flow(&s, fd, err);
    kn_figures_fini(&s.figures);
    json_decref(s.chosen);
    return failed;
}
