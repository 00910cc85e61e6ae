/* HTTP, the client's side: many connections on a few threads, and how a thread waits for them.
 *
 * There are two ways. epoll wakes the thread for each response. A sweep reads the sockets themselves, in the order in
 * which their requests went out, and sleeps in between. Then the server's send() wakes no thread, so it is cheaper, and
 * a server that is the bottleneck serves more. If the path is the bottleneck, the sleep costs time. So with many
 * connections both are tried at the beginning, in turn, and the faster one is used; the result says which. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "core/stats.h"
#include "engines/engines.h"
#include "engines/http/conn.h"
#include "engines/http/h2.h"
#include "engines/http/serve.h"
#include "run/flow.h"
#include "run/short.h"

#define TICK_NS KN_NS_PER_MS             /* between two looks at all connections, at least */
#define NAP_LEAST_NS (20 * KN_NS_PER_US) /* from one sweep to the next */
#define NAP_MOST_NS (300 * KN_NS_PER_US)
#define NAP_FIRST_NS (100 * KN_NS_PER_US)
#define SWEEP_SHARE 3                /* one in so many is ready when a nap ends; the server has the others */
#define SWEEP_MISSES 8               /* in a row: those behind were asked later and are not ready either */
#define SWEEP_FLOWS 16               /* fewer: epoll */
#define SWEEP_GAIN 1.01              /* what it must win, for it sees responses later */
#define TRIAL_NS (80 * KN_NS_PER_MS) /* where there is no warm-up, or hardly any */
#define ROUNDS 8                     /* of a trial: each way once, in either order by turns */
#define SLICES (1 + 2 * ROUNDS)      /* the first is left out: connections settle */

enum way { EPOLL, SWEEP };

struct loop {
    struct kn_http_client h;
    enum way way;
    bool chosen;
    uint64_t tick_after_ns; /* not before */
    unsigned at;            /* sweep: where to go on */
    bool all;               /* sweep: the last one found nothing, so look at all */
    uint64_t swept_ns, nap_ns;
    unsigned slice; /* of the trial */
    uint64_t slice_ns, slice_done;
    double rates[2][ROUNDS];
    unsigned tried[2];
};

/* ---- epoll ---- */

static uint64_t next_event_ns(const struct loop *l)
{
    const struct kn_http_client *h = &l->h;
    uint64_t until_ns = h->wake_ns > l->tick_after_ns ? h->wake_ns : l->tick_after_ns;
    if (h->w->end_ns < until_ns)
        until_ns = h->w->end_ns;
    if (h->open_loop && h->n_idle && !h->dry && kn_pace_due_ns(&h->pace) < until_ns)
        until_ns = kn_pace_due_ns(&h->pace);
    return until_ns;
}

static void epoll_round(struct loop *l, uint64_t now_ns)
{
    struct kn_loop *loop = &l->h.loop;
    unsigned n = kn_loop_wait(loop, now_ns, next_event_ns(l));
    for (unsigned i = 0; i < n; i++) {
        struct kn_http_conn *c = loop->events[i].data.ptr;
        kn_http_step(&l->h, c);
        if (loop->events[i].events & EPOLLRDHUP) /* the end came with the bytes: no other edge will tell */
            kn_http_step(&l->h, c);
    }
}

/* ---- the sweep ---- */

static unsigned sweep(struct loop *l)
{
    struct kn_http_client *h = &l->h;
    unsigned hits = 0, misses = 0, most = l->all ? h->n : SWEEP_MISSES, at = l->at;
    for (unsigned i = 0; i < h->n && misses < most; i++) {
        struct kn_http_conn *c = &h->conns[at];
        at = at + 1 == h->n ? 0 : at + 1;
        if (!c->busy && c->state != KN_HTTP_CLOSING)
            continue;
        if (kn_http_step(h, c)) {
            hits++;
            misses = 0;
            l->at = at;
        } else {
            misses++;
        }
    }
    l->all = !hits;
    return hits;
}

/* While it is tried, the nap finds its length, by a tenth at a time. */
static void adapt(struct loop *l, unsigned hits)
{
    l->nap_ns = hits * SWEEP_SHARE < l->h.n ? l->nap_ns + l->nap_ns / 10 : l->nap_ns - l->nap_ns / 10;
    if (l->nap_ns < NAP_LEAST_NS)
        l->nap_ns = NAP_LEAST_NS;
    if (l->nap_ns > NAP_MOST_NS)
        l->nap_ns = NAP_MOST_NS;
}

/* Where half of them had answered already, the server is faster than we are, and there is no time to nap. */
static void sweep_round(struct loop *l)
{
    unsigned hits = sweep(l);
    if (!l->chosen)
        adapt(l, hits);
    if (hits * 2 < l->h.n)
        kn_sleep_until_ns(l->swept_ns + l->nap_ns);
    l->swept_ns = kn_now_ns();
}

/* ---- which way ---- */

static int go(struct loop *l, enum way way)
{
    l->way = way;
    if (way == EPOLL)
        return kn_http_register_all(&l->h);
    kn_http_unregister_all(&l->h);
    l->swept_ns = kn_now_ns();
    return 0;
}

static int settle(struct loop *l, enum way way)
{
    l->chosen = true;
    if (way == SWEEP)
        kn_worker_chosen(l->h.w, "waiting", "sweep every %llu us", (unsigned long long)(l->nap_ns / KN_NS_PER_US));
    else
        kn_worker_chosen(l->h.w, "waiting", "epoll");
    return way == l->way ? 0 : go(l, way);
}

/* 0 is left out; then epoll, sweep, sweep, epoll, and so on. */
static enum way way_of(unsigned slice)
{
    unsigned i = slice - 1;
    return slice && (i + i / 2) % 2 ? SWEEP : EPOLL;
}

/* A slice in which the machine was busy with something else says nothing: the median does not see it. */
static enum way faster(const struct loop *l)
{
    struct kn_interval epoll, swept;
    struct kn_error err;
    if (kn_stats_median(l->rates[EPOLL], l->tried[EPOLL], 0.5, &epoll, &err) ||
        kn_stats_median(l->rates[SWEEP], l->tried[SWEEP], 0.5, &swept, &err))
        return EPOLL;
    return swept.median > SWEEP_GAIN * epoll.median ? SWEEP : EPOLL;
}

/* All workers change at the same time, so that none is judged by what another does. */
static int try_ways(struct loop *l, uint64_t now_ns)
{
    const struct kn_worker *w = l->h.w;
    uint64_t trial_ns = w->spec->warmup_ns > TRIAL_NS ? w->spec->warmup_ns : TRIAL_NS;
    unsigned slice = (unsigned)((now_ns - w->start_ns) * SLICES / trial_ns);
    if (slice == l->slice)
        return 0;
    if (l->slice)
        l->rates[l->way][l->tried[l->way]++] = (double)(l->h.done - l->slice_done) / (double)(now_ns - l->slice_ns);
    l->slice = slice;
    l->slice_ns = now_ns;
    l->slice_done = l->h.done;
    if (slice >= SLICES)
        return settle(l, faster(l));
    return way_of(slice) == l->way ? 0 : go(l, way_of(slice));
}

static bool can_sweep(const struct kn_http_client *h)
{
    const struct kn_spec *spec = h->w->spec;
    return spec->tune == KN_TUNE_AUTO && spec->wait == KN_WAIT_BLOCK && kn_http_keepalive(spec) && !h->open_loop &&
           h->n >= SWEEP_FLOWS;
}

/* ---- the loop ---- */

static void tick(struct loop *l, uint64_t now_ns)
{
    if (now_ns < l->h.wake_ns || now_ns < l->tick_after_ns)
        return;
    kn_http_tick(&l->h, now_ns);
    l->tick_after_ns = now_ns + TICK_NS + l->h.n * KN_NS_PER_US;
}

static int measure(struct loop *l)
{
    struct kn_http_client *h = &l->h;
    int failed = go(l, EPOLL);
    h->measured = true;
    h->wake_ns = 0;
    kn_worker_pace(h->w, &h->pace);
    if (!failed && !can_sweep(h))
        failed = settle(l, EPOLL);
    while (!failed) {
        uint64_t now_ns = kn_now_ns();
        if (kn_worker_over(h->w, now_ns) || h->failed)
            break;
        tick(l, now_ns);
        if (h->open_loop)
            kn_http_issue(h, now_ns);
        if (h->dry && !h->busy)
            break;
        if (!l->chosen)
            failed = try_ways(l, now_ns);
        if (l->way == SWEEP)
            sweep_round(l);
        else
            epoll_round(l, now_ns);
    }
    return failed || h->failed ? -1 : 0;
}

/* ---- before and after ---- */

/* The Host header: the target as it was named. */
static void name_host(const struct kn_worker *w, char *host, size_t size)
{
    if (*kn_http_host(w->spec))
        snprintf(host, size, "%s", kn_http_host(w->spec));
    else if (strchr(w->target->host, ':'))
        snprintf(host, size, "[%s]:%u", w->target->host, w->target->port);
    else if (w->target->port == (kn_http_tls(w->spec) ? 443 : 80))
        snprintf(host, size, "%s", w->target->host);
    else
        snprintf(host, size, "%s:%u", w->target->host, w->target->port);
}

/* Half-closes all before it waits for one: their servers end at the same time. */
static int collect(struct kn_http_client *h, struct kn_error *err)
{
    struct kn_worker *w = h->w;
    int failed = 0;
    for (unsigned i = 0; i < h->n; i++)
        if (h->conns[i].fd >= 0 && h->conns[i].state >= KN_HTTP_READY && !w->spec->external)
            shutdown(h->conns[i].fd, SHUT_WR);
    for (unsigned i = 0; i < h->n; i++) {
        struct kn_http_conn *c = &h->conns[i];
        if (c->fd < 0 || (c->state != KN_HTTP_READY && c->state != KN_HTTP_ASKED) || (h->greets && !c->began))
            continue; /* one that had nothing to do was not begun: there is no report */
        int fd = c->fd;
        c->fd = -1;
        failed |= kn_flow_close(w, fd, w->first_flow + i, NULL, 0, err);
    }
    return failed;
}

/* Where an agent is asked over a connection a request, its part is as short as tcp_crr's, and so are the report's
 * ways. */
static bool is_short(const struct kn_spec *spec)
{
    return !spec->external && !kn_http_keepalive(spec);
}

static int run(struct loop *l, struct kn_error *err)
{
    char host[300];
    struct kn_worker *w = l->h.w;
    name_host(w, host, sizeof host);
    if (kn_http_client_init(&l->h, w, host, err) || (is_short(w->spec) && kn_short_knock(w, err)) ||
        (kn_http_keepalive(w->spec) && kn_http_open_all(&l->h)) || kn_worker_ready(w, err))
        return -1;
    int failed = measure(l);
    kn_worker_cpu_close(w);
    for (unsigned i = 0; i < l->h.n; i++)
        kn_figures_flow(&w->figures, l->h.conns[i].ops);
    if (is_short(w->spec))
        return kn_short_settle(w, l->h.done, failed, err);
    return failed ? -1 : collect(&l->h, err);
}

static int client_1(struct kn_worker *w, struct kn_error *err)
{
    struct loop *l = calloc(1, sizeof *l);
    if (!l)
        return kn_fail(err, KN_E_MEMORY, "no memory for a worker");
    prctl(PR_SET_TIMERSLACK, 1ul); /* naps are as long as they are meant to be */
    l->h.w = w;
    l->nap_ns = NAP_FIRST_NS;
    int failed = run(l, err);
    kn_http_client_fini(&l->h);
    free(l);
    return failed;
}

static int client(struct kn_worker *w, struct kn_error *err)
{
    char host[300];
    if (!w->spec->own[KN_HTTP_VERSION_2])
        return client_1(w, err);
    name_host(w, host, sizeof host);
    return kn_h2_client(w, host, err);
}

/* ---- the test ---- */

static void complete(struct kn_spec *spec)
{
    if (spec->external) /* what an agent would answer with */
        spec->own[KN_HTTP_BODY] = 0;
}

/* Also where the option is the default: a plain URL has nothing to verify or to resume. */
static int check_tls(const struct kn_spec *spec, struct kn_error *err)
{
    if (kn_http_tls(spec) && !spec->external)
        return kn_fail(err, KN_E_ARGUMENT,
                       "tls needs an https URL or a server of your own: the agent's server has no TLS");
    if (!kn_http_tls(spec) && !spec->own[KN_HTTP_VERIFY])
        return kn_fail(err, KN_E_ARGUMENT, "verify = false needs tls, or an https URL");
    return 0;
}

static int check_http2(const struct kn_spec *spec, struct kn_error *err)
{
    bool http2 = spec->own[KN_HTTP_VERSION_2];
    if (http2 && !spec->external)
        return kn_fail(err, KN_E_ARGUMENT,
                       "http2 needs a URL or a server of your own: the agent's server speaks HTTP/1.1");
    if (http2 && !kn_http_keepalive(spec))
        return kn_fail(err, KN_E_ARGUMENT, "http2 needs keepalive: its connections carry many requests");
    if (!http2 && spec->own[KN_HTTP_STREAMS] > 1)
        return kn_fail(err, KN_E_ARGUMENT, "streams needs http2, got %llu without it",
                       (unsigned long long)spec->own[KN_HTTP_STREAMS]);
    return 0;
}

static int check(const struct kn_spec *spec, struct kn_error *err)
{
    if (check_tls(spec, err) || check_http2(spec, err))
        return -1;
    if (*spec->server_cpus && !kn_http_keepalive(spec))
        return kn_fail(err, KN_E_ARGUMENT,
                       "server_cpus needs keepalive: a connection for a single request has no thread of its own");
    return *kn_http_path(spec) == '/' ? 0 : kn_fail(err, KN_E_ARGUMENT, "path must begin with \"/\"");
}

static const char *const columns[] = {KN_RATE_COLUMNS, NULL}, *const compared[] = {KN_RATE_COMPARED, NULL};
static const struct kn_spec_option own[] = {
    [KN_HTTP_KEEPALIVE] = KN_FLAG("keepalive", KN_AT(own[KN_HTTP_KEEPALIVE]), "several requests on a connection"),
    [KN_HTTP_BODY] = KN_AGENTS("body", KN_KIND_SIZE, KN_AT(own[KN_HTTP_BODY]), 0, KN_SIZE_MAX,
                               "bytes of the agent's response"),
    [KN_HTTP_TLS] = KN_FLAG("tls", KN_AT(own[KN_HTTP_TLS]), "use HTTPS; set by a URL that begins with https://"),
    [KN_HTTP_VERIFY] = KN_FLAG("verify", KN_AT(own[KN_HTTP_VERIFY]), "verify the server's certificate and its name"),
    [KN_HTTP_RESUME] = KN_FLAG("resume", KN_AT(own[KN_HTTP_RESUME]), "new connections resume an earlier TLS session"),
    [KN_HTTP_VERSION_2] = KN_FLAG("http2", KN_AT(own[KN_HTTP_VERSION_2]),
                                  "use HTTP/2: by ALPN with TLS, otherwise in clear text with prior knowledge"),
    [KN_HTTP_STREAMS] = KN_NUMBER("streams", KN_KIND_COUNT, KN_AT(own[KN_HTTP_STREAMS]), 1, 1000,
                                  "HTTP/2: concurrent requests on each connection"),
    [KN_HTTP_RESET] = KN_FLAG("reset", KN_AT(own[KN_HTTP_RESET]),
                              "the client resets each connection that the server has closed, so that no TIME_WAIT "
                              "stays there (labelled in the result)"),
    {"path", KN_KIND_TEXT, KN_AT(text[KN_HTTP_PATH]), 0, KN_TEXT_MAX - 1, true, false, NULL, "path to request"},
    {"host", KN_KIND_TEXT, KN_AT(text[KN_HTTP_HOST]), 0, KN_TEXT_MAX - 1, true, false, NULL,
     "Host header, and the server's name in TLS; default: the target's name"},
    {.name = NULL},
};
static const struct kn_preset presets[] = {
    {offsetof(struct kn_spec, flows), 100},
    {offsetof(struct kn_spec, nodelay), 1},
    {offsetof(struct kn_spec, tune), KN_TUNE_AUTO},
    {offsetof(struct kn_spec, own[KN_HTTP_KEEPALIVE]), 1},
    {offsetof(struct kn_spec, own[KN_HTTP_BODY]), 45},
    {offsetof(struct kn_spec, own[KN_HTTP_VERIFY]), 1},
    {offsetof(struct kn_spec, own[KN_HTTP_RESUME]), 1},
    {offsetof(struct kn_spec, own[KN_HTTP_STREAMS]), 1},
    {0, 0},
};
static const struct kn_alias aliases[] = {{"requests", "count"}, {"connections", "flows"}, {NULL, NULL}};

const struct kn_test kn_http = {
    .name = "http",
    .help = "GET requests to any HTTP or HTTPS server, or to the agent's own (ab, wrk, h2load)",
    .transport = KN_TCP,
    .shape = KN_SHORT,
    .rate = KN_RATE_EVENTS,
    .warmup = KN_WARMUP_TIMED,
    .headline = "rate",
    .columns = columns,
    .compared = compared,
    .throughput = true,
    .options = KN_TEST_OPTIONS | KN_TCP_OPTIONS | KN_HAS(RATE) | KN_HAS(WAIT) | KN_HAS(DELAY) | KN_HAS(EXTERNAL),
    .own = own,
    .presets = presets,
    .aliases = aliases,
    .text_preset = "/",
    .complete = complete,
    .check = check,
    .client = client,
    .serve = kn_http_serve,
    .desk = &kn_http_desk,
    .is_short = is_short,
    .serve_short = kn_http_serve_short,
    .serve_once = kn_http_serve_once,
    .metrics = kn_http_metrics,
};
