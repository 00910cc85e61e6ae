/* probe: attempts at fixed times, each with an outcome of its own: how long was a path gone, and since when.
 *
 * Each attempt stands for the moment when it was due. One that has no answer by its timeout is a failure of that
 * moment. One that the prober itself could not make in time is blind, and says nothing about the path. */
#include "engines/probe/probe.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/json.h"
#include "engines/engines.h"
#include "run/flow.h"
#include "run/result.h"
#include "run/short.h"

#define PER_1000S 1000ull
#define RATE_LEAST (100 * PER_1000S)
#define RATE_MOST (20000 * PER_1000S)
#define BUSY 0.8    /* of a CPU: the prober is at its limit … */
#define MOSTLY 0.5  /* of the attempts blind: whatever kept it from them */
#define MISSED 0.01 /* … where so many attempts could not be made in time */
#define FD_RESERVE 64
#define BLIND_SHARE 0.001

/* ---- the client ---- */

static void tally_free(void *own)
{
    struct kn_probe_tally *t = own;
    kn_timeline_fini(&t->timeline);
    free(t);
}

/* What each attempt says first: the hello, and in HTTP the request behind it. */
static int make_request(struct kn_probe *p, struct kn_error *err)
{
    const struct kn_spec *spec = p->spec;
    const char *host = *spec->text[KN_PROBE_HOST] ? spec->text[KN_PROBE_HOST] : p->w->target->host;
    size_t room = kn_hello_size() + KN_PROBE_REQUEST_MAX, size = spec->external ? 0 : kn_hello_size();
    p->request = malloc(room);
    if (!p->request)
        return kn_fail(err, KN_E_MEMORY, "no memory for a request");
    if (!spec->external)
        kn_flow_hello(p->w, p->w->first_flow, KN_HELLO_FLOW, p->request);
    if (p->kind == KN_PROBE_HTTP)
        size += (size_t)snprintf((char *)p->request + size, KN_PROBE_REQUEST_MAX,
                                 strchr(host, ':') && host[0] != '[' && !*spec->text[KN_PROBE_HOST]
                                     ? "GET %s HTTP/1.1\r\nHost: [%s]\r\nUser-Agent: knbl\r\nConnection: close\r\n\r\n"
                                     : "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: knbl\r\nConnection: close\r\n\r\n",
                                 spec->text[KN_PROBE_PATH], host);
    p->request_size = size;
    return 0;
}

static uint64_t outstanding(const struct kn_spec *spec)
{
    return spec->rate_per_1000s / 1000 * (spec->timeout_ns / KN_NS_PER_MS) / 1000;
}

static int make_ring(struct kn_probe *p, struct kn_error *err)
{
    uint64_t need = outstanding(p->spec) + p->spec->rate_per_1000s / 10000 + 64, size = 64;
    while (size < need)
        size *= 2;
    p->ring = calloc(size, sizeof *p->ring);
    p->mask = size - 1;
    return p->ring ? 0 : kn_fail(err, KN_E_MEMORY, "no memory for %llu attempts", (unsigned long long)size);
}

static int descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur > INT_MAX)
        return INT_MAX;
    int most = (int)limit.rlim_cur;
    return most - (most / 4 < FD_RESERVE ? most / 4 : FD_RESERVE);
}

static int prepare(struct kn_probe *p, struct kn_error *err)
{
    struct kn_worker *w = p->w;
    w->own = p->tally = calloc(1, sizeof *p->tally);
    w->own_free = tally_free;
    if (!p->tally)
        return kn_fail(err, KN_E_MEMORY, "no memory for a timeline");
    if (make_request(p, err) || make_ring(p, err))
        return -1;
    p->fd_most = descriptors();
    p->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (p->epoll < 0)
        return kn_fail_errno(err, "epoll_create1");
    w->tx_size = p->kind == KN_PROBE_SESSION ? KN_PROBE_MESSAGE : p->request_size;
    w->rx_size = p->kind == KN_PROBE_SESSION ? KN_PROBE_MESSAGE : p->spec->external ? 0 : kn_welcome_size();
    w->figures.has |= KN_HAS_LATENCY;
    return 0;
}

static void flag(const struct kn_probe *p)
{
    const struct kn_timeline *t = &p->tally->timeline;
    double blind = (double)t->of[KN_PROBE_BLIND], n = (double)t->n;
    double busy = (double)p->w->figures.cpu_ns, window = (double)p->w->figures.window_ns;
    if (p->starved || blind > MOSTLY * n || (blind > MISSED * n && busy > BUSY * window))
        kn_worker_flag(p->w, "probe_too_fast");
    else if (blind > BLIND_SHARE * n)
        kn_worker_flag(p->w, "prober_blind");
}

/* What the backends have counted is no condition of the figures: they may be gone by now. */
static void collect(struct kn_probe *p)
{
    if (p->kind == KN_PROBE_SESSION)
        kn_session_close(p);
    else if (!p->spec->external && p->tally->timeline.of[KN_PROBE_OK])
        kn_short_gather(p->w, p->tally->timeline.of[KN_PROBE_OK]);
}

static int measure(struct kn_probe *p, struct kn_error *err)
{
    if (prepare(p, err) || kn_worker_ready(p->w, err))
        return -1;
    kn_pace_init(&p->pace, p->spec->rate_per_1000s, p->w->open_ns, 0, 1);
    kn_worker_cpu_open(p->w);
    int failed = kn_probe_loop(p, err);
    kn_worker_cpu_close(p->w);
    if (failed)
        return -1;
    flag(p);
    collect(p);
    return 0;
}

static int client(struct kn_worker *w, struct kn_error *err)
{
    struct kn_probe p = {.w = w, .spec = w->spec, .kind = kn_probe_kind(w->spec), .epoll = -1, .session.fd = -1};
    prctl(PR_SET_TIMERSLACK, 1ul, 0ul, 0ul, 0ul); /* wakes up when it is due */
    int failed = measure(&p, err);
    for (uint64_t i = p.head; i < p.next; i++)
        kn_attempt_close(kn_probe_attempt(&p, i), true);
    if (p.session.fd >= 0)
        close(p.session.fd);
    if (p.epoll >= 0)
        close(p.epoll);
    free(p.ring);
    free(p.request);
    return failed;
}

/* ---- figures ---- */

static void metrics(const struct kn_view *v, json_t *m)
{
    const struct kn_probe_tally *t = v->run->slots[0]->w.own;
    if (!t || !t->timeline.n)
        return;
    kn_timeline_put(&t->timeline, 1000.0 / (double)v->spec->rate_per_1000s, m);
    if (kn_probe_kind(v->spec) == KN_PROBE_SESSION)
        kn_put_int(m, "reconnects", t->reconnects);
}

/* ---- the test ---- */

static bool is_short(const struct kn_spec *spec)
{
    return kn_probe_kind(spec) != KN_PROBE_SESSION;
}

static enum kn_transport transport_of(const struct kn_spec *spec)
{
    return kn_probe_kind(spec) == KN_PROBE_UDP ? KN_UDP : KN_TCP;
}

static int check(const struct kn_spec *spec, struct kn_error *err)
{
    static const char *const alone[] = {[KN_PROBE_SESSION] = "session", [KN_PROBE_UDP] = "udp"};
    enum kn_probe_kind kind = kn_probe_kind(spec);
    double rate = (double)spec->rate_per_1000s / 1000;
    if (spec->rate_per_1000s < RATE_LEAST || spec->rate_per_1000s > RATE_MOST)
        return kn_fail(err, KN_E_ARGUMENT, "rate must be from 100/s to 20k/s, got %g/s", rate);
    if (outstanding(spec) > KN_PROBE_OUTSTANDING)
        return kn_fail(err, KN_E_ARGUMENT,
                       "rate times timeout must be at most %u attempts that wait for an answer, got %llu",
                       KN_PROBE_OUTSTANDING, (unsigned long long)outstanding(spec));
    if (spec->external && (kind == KN_PROBE_SESSION || kind == KN_PROBE_UDP))
        return kn_fail(err, KN_E_ARGUMENT, "kind %s needs an agent; another server takes connect or http", alone[kind]);
    if (*spec->text[KN_PROBE_PATH] != '/')
        return kn_fail(err, KN_E_ARGUMENT, "path must begin with \"/\"");
    return 0;
}

static const char *const columns[] = {"outage_total", "outage_longest", "ready_first", "ready_last",
                                      "ready_change", "blind",          "p50",         "p99",
                                      "max",          "timeouts",       "errors",      NULL};
static const char *const compared[] = {"outage_total", "outage_longest", "p99", NULL};
static const char *const kinds[] = {[KN_PROBE_CONNECT] = "connect",
                                    [KN_PROBE_SESSION] = "session",
                                    [KN_PROBE_UDP] = "udp",
                                    [KN_PROBE_HTTP] = "http",
                                    NULL};
static const struct kn_spec_option own[] = {
    [KN_PROBE_KIND] = KN_CHOICE("kind", KN_AT(own[KN_PROBE_KIND]), kinds,
                                "what an attempt is: connect (a TCP connection of its own), session (a request on a "
                                "connection that is kept), udp (a datagram) or http (a GET request)"),
    {"path", KN_KIND_TEXT, KN_AT(text[KN_PROBE_PATH]), 0, KN_TEXT_MAX - 1, true, false, NULL, "path to request"},
    {"host", KN_KIND_TEXT, KN_AT(text[KN_PROBE_HOST]), 0, KN_TEXT_MAX - 1, true, false, NULL,
     "Host header; default: the target's name"},
    {.name = NULL},
};
static const struct kn_preset presets[] = {
    {offsetof(struct kn_spec, rate_per_1000s), 1000 * PER_1000S},
    {offsetof(struct kn_spec, timeout_ns), 500 * KN_NS_PER_MS}, /* before a lost SYN is sent again, after a second */
    {0, 0},
};

const struct kn_test kn_probe = {
    .name = "probe",
    .help = "attempts at fixed times: outages, and when they began and ended",
    .transport = KN_TCP,
    .shape = KN_PROBE,
    .rate = KN_RATE_EVENTS,
    .warmup = KN_WARMUP_NONE,
    .headline = "outage_longest",
    .columns = columns,
    .compared = compared,
    .options = KN_HAS(DURATION) | KN_HAS(INTERVAL) | KN_HAS(RATE) | KN_HAS(IP) | KN_HAS(TIMEOUT) | KN_HAS(EXTERNAL),
    .own = own,
    .presets = presets,
    .text_preset = "/",
    .check = check,
    .transport_of = transport_of,
    .client = client,
    .serve = kn_probe_serve,
    .is_short = is_short,
    .serve_short = kn_probe_serve_short,
    .serve_once = kn_probe_serve_once,
    .metrics = metrics,
};
