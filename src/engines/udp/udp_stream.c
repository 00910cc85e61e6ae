/* udp_stream: datagrams one way, counted by who receives them. The client marks which are measured; in reverse it
 * steers its server from warm-up to measuring to the end, and a server that is not steered sends nothing. */
#include <stdlib.h>

#include "engines/engines.h"
#include "engines/udp/ends.h"
#include "net/io.h"
#include "run/account.h"
#include "run/flow.h"
#include "run/flow_udp.h"

#define STEER_EVERY_NS (100 * KN_NS_PER_MS)
#define STEER_AGAIN_NS (10 * KN_NS_PER_MS) /* while the server has not followed yet */

/* ---- the client sends ---- */

struct sending {
    struct kn_worker *w;
    struct kn_udp_tx *tx;
    int *fds;
    uint64_t credit; /* of `count`: taken and not sent yet */
    bool measuring;
};

static void begin_measuring(struct sending *s)
{
    s->measuring = true;
    kn_worker_cpu_open(s->w);
    for (unsigned i = 0; i < s->w->n_flows; i++)
        kn_udp_tx_measure(&s->tx[i]);
}

/* How many of `n` datagrams may be sent under `count`. */
static unsigned allow(struct sending *s, unsigned n)
{
    if (!s->measuring || !s->w->spec->count)
        return n;
    if (s->credit < n)
        s->credit += kn_worker_take(s->w, n - s->credit);
    return (unsigned)kn_least(n, s->credit);
}

static void show_progress(const struct sending *s)
{
    uint64_t sent = 0;
    for (unsigned i = 0; s->measuring && i < s->w->n_flows; i++)
        sent += s->tx[i].sent;
    atomic_store_explicit(&s->w->live_ops, sent, memory_order_relaxed);
    atomic_store_explicit(&s->w->live_bytes, sent * s->w->spec->size, memory_order_relaxed);
}

/* Over all flows once. 1: something was due; 0: nothing; 2: `count` is reached; -1. */
static int send_round(struct sending *s, uint64_t now_ns, struct kn_error *err)
{
    int due = 0;
    for (unsigned i = 0; i < s->w->n_flows; i++) {
        unsigned n = kn_udp_tx_due(&s->tx[i], now_ns);
        if (!n)
            continue;
        unsigned allowed = allow(s, n);
        if (!allowed)
            return 2;
        int sent = kn_udp_tx_burst(&s->tx[i], allowed, err);
        if (sent < 0)
            return -1;
        if (s->measuring)
            s->credit -= kn_least(s->credit, (uint64_t)sent);
        due = 1;
    }
    return due;
}

static void sleep_until_due(const struct sending *s, uint64_t now_ns)
{
    uint64_t until_ns = now_ns + KN_UDP_STOP_POLL_NS;
    if (!s->measuring)
        until_ns = kn_least(until_ns, s->w->open_ns);
    until_ns = kn_least(until_ns, s->w->end_ns);
    for (unsigned i = 0; i < s->w->n_flows; i++)
        until_ns = kn_least(until_ns, kn_udp_tx_due_ns(&s->tx[i]));
    kn_sleep_until_ns(until_ns);
}

static int send_all(struct sending *s, struct kn_error *err)
{
    struct kn_worker *w = s->w;
    for (uint64_t now_ns = kn_now_ns(); !kn_worker_over(w, now_ns); now_ns = kn_now_ns()) {
        if (!s->measuring && now_ns >= w->open_ns)
            begin_measuring(s);
        int due = send_round(s, now_ns, err);
        if (due < 0)
            return -1;
        if (due == 2)
            break;
        show_progress(s);
        if (!due)
            sleep_until_due(s, now_ns);
    }
    kn_worker_cpu_close(w);
    return 0;
}

static int run_forward(struct kn_worker *w, int *fds, struct kn_error *err)
{
    struct sending s = {.w = w, .fds = fds, .tx = calloc(w->n_flows, sizeof *s.tx)};
    int failed = s.tx ? 0 : kn_fail(err, KN_E_MEMORY, "no memory for %u flows", w->n_flows);
    for (unsigned i = 0; i < w->n_flows && !failed; i++)
        failed = kn_udp_tx_init(&s.tx[i], fds[i], w->spec, err);
    failed = failed || kn_worker_ready(w, err);
    for (unsigned i = 0; i < w->n_flows && !failed; i++)
        kn_udp_tx_start(&s.tx[i], w->spec, w->first_flow + i, w->start_ns);
    failed = failed || send_all(&s, err);
    if (!failed && s.tx[0].segments > 1)
        kn_worker_chosen(w, "gso", "%u datagrams a call", s.tx[0].segments);
    for (unsigned i = 0; i < w->n_flows && !failed; i++)
        kn_udp_announce(w, fds[i], w->first_flow + i, s.tx[i].sent);
    for (unsigned i = 0; i < w->n_flows && !failed; i++) {
        kn_udp_tx_count(&s.tx[i], &w->figures);
        failed = kn_flow_close_udp(w, fds[i], w->first_flow + i, s.tx[i].sent, err);
        fds[i] = -1;
    }
    for (unsigned i = 0; s.tx && i < w->n_flows; i++)
        kn_udp_tx_fini(&s.tx[i]);
    free(s.tx);
    return failed ? -1 : 0;
}

/* ---- the client receives ---- */

struct receiving {
    struct kn_worker *w;
    struct kn_udp_rx *rx;
    int *fds;
    enum kn_udp_phase phase;
    uint64_t steer_ns; /* when next */
};

static void steer(struct receiving *r, uint64_t now_ns)
{
    uint8_t wire[KN_UDP_ORDER_SIZE];
    bool followed = true;
    for (unsigned i = 0; i < r->w->n_flows; i++) {
        size_t n = kn_udp_order(r->w, r->w->first_flow + i, KN_UDP_STEER, 0, (uint32_t)r->phase, wire);
        kn_send(r->fds[i], wire, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        followed = followed && (r->phase != KN_UDP_MEASURE || r->rx[i].received);
    }
    r->steer_ns = now_ns + (followed && r->phase != KN_UDP_WARMUP ? STEER_EVERY_NS : STEER_AGAIN_NS);
}

static void enter(struct receiving *r, enum kn_udp_phase phase, uint64_t now_ns)
{
    r->phase = phase;
    if (phase == KN_UDP_MEASURE)
        kn_worker_cpu_open(r->w);
    steer(r, now_ns);
}

static void show_received(const struct receiving *r)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < r->w->n_flows; i++)
        n += r->rx[i].accounted;
    atomic_store_explicit(&r->w->live_ops, n, memory_order_relaxed);
    atomic_store_explicit(&r->w->live_bytes, n * r->w->spec->size, memory_order_relaxed);
}

static bool receive_round(struct receiving *r)
{
    bool got = false, block = kn_udp_rx_blocks(r->rx, r->w->n_flows);
    for (unsigned i = 0; i < r->w->n_flows; i++) {
        enum kn_rx_next next = kn_udp_rx_drain(&r->rx[i], block);
        if (next == KN_RX_CONTROL && kn_udp_kind(r->rx[i].control, r->rx[i].control_size) == KN_UDP_NONE)
            kn_udp_rx_take(&r->rx[i], r->rx[i].control, r->rx[i].control_size);
        got = got || next == KN_RX_SOME || next == KN_RX_CONTROL;
        if (next == KN_RX_CLOSED)
            kn_udp_nap(KN_NS_PER_MS); /* the run was cut; its end is near */
    }
    return got;
}

static bool all_came(const struct receiving *r)
{
    uint64_t count = r->w->spec->count, flows = r->w->spec->flows;
    for (unsigned i = 0; count && i < r->w->n_flows; i++)
        if (kn_udp_rx_unique(&r->rx[i]) < count / flows + (r->w->first_flow + i < count % flows))
            return false;
    return count != 0;
}

static void receive_all(struct receiving *r)
{
    struct kn_worker *w = r->w;
    enter(r, KN_UDP_WARMUP, kn_now_ns());
    for (uint64_t now_ns = kn_now_ns(); !kn_worker_over(w, now_ns) && !all_came(r); now_ns = kn_now_ns()) {
        if (r->phase == KN_UDP_WARMUP && now_ns >= w->open_ns)
            enter(r, KN_UDP_MEASURE, now_ns);
        else if (now_ns >= r->steer_ns)
            steer(r, now_ns);
        bool got = receive_round(r);
        now_ns = kn_now_ns();
        for (unsigned i = 0; got && i < w->n_flows; i++)
            kn_udp_rx_account(&r->rx[i], &w->figures, now_ns, w->open_ns);
        show_received(r);
        kn_udp_rx_rest(r->rx, w->n_flows, got);
    }
    enter(r, KN_UDP_END, kn_now_ns());
    kn_worker_cpu_close(w);
}

static void take_late(void *rx, const uint8_t *datagrams, size_t size)
{
    kn_udp_rx_take(rx, datagrams, size);
}

/* What is still in the buffer comes before the report does. */
static int finish_flow(struct receiving *r, unsigned i, struct kn_error *err)
{
    struct kn_worker *w = r->w;
    struct kn_figures theirs;
    const struct kn_udp_other late = {.take = take_late, .arg = &r->rx[i]};
    json_t *report = kn_udp_fetch(w, r->fds[i], w->first_flow + i, 0, &late, err);
    int failed = report ? kn_run_account(w, report, err) : -1;
    if (!failed && !(failed = kn_figures_from_json(json_object_get(report, "figures"), &theirs, err))) {
        kn_udp_rx_account(&r->rx[i], &w->figures, kn_least(kn_now_ns(), w->end_ns), w->open_ns);
        kn_udp_rx_count(&r->rx[i], theirs.tx_packets, &w->figures);
        kn_figures_fini(&theirs);
    }
    json_decref(report);
    if (failed)
        kn_error_context(err, "flow %u", w->first_flow + i);
    kn_flow_abandon(w, r->fds[i], w->first_flow + i);
    r->fds[i] = -1;
    return failed;
}

static int run_reverse(struct kn_worker *w, int *fds, struct kn_error *err)
{
    struct receiving r = {.w = w, .fds = fds, .rx = calloc(w->n_flows, sizeof *r.rx)};
    int failed = r.rx ? 0 : kn_fail(err, KN_E_MEMORY, "no memory for %u flows", w->n_flows);
    for (unsigned i = 0; i < w->n_flows && !failed; i++)
        failed = kn_udp_rx_init(&r.rx[i], fds[i], w->spec, err);
    failed = failed || kn_worker_ready(w, err);
    if (!failed)
        receive_all(&r);
    for (unsigned i = 0; i < w->n_flows && !failed; i++)
        failed = finish_flow(&r, i, err);
    for (unsigned i = 0; r.rx && i < w->n_flows; i++)
        kn_udp_rx_fini(&r.rx[i]);
    free(r.rx);
    return failed ? -1 : 0;
}

static int run_client(struct kn_worker *w, struct kn_error *err)
{
    int failed = 0, *fds = malloc(w->n_flows * sizeof *fds);
    if (!fds)
        return kn_fail(err, KN_E_MEMORY, "no memory for %u flows", w->n_flows);
    for (unsigned i = 0; i < w->n_flows; i++)
        fds[i] = -1;
    for (unsigned i = 0; i < w->n_flows && !failed; i++) {
        fds[i] = kn_flow_open_udp(w, w->first_flow + i, err);
        failed = fds[i] < 0 || kn_udp_timeouts(fds[i], KN_UDP_STOP_POLL_NS, err);
    }
    kn_udp_sharpen_timers();
    if (!failed && w->spec->tune == KN_TUNE_AUTO)
        kn_worker_chosen(w, "receive", "all that is there, then naps of up to %u µs",
                         (unsigned)(KN_UDP_NAP_MOST_NS / KN_NS_PER_US));
    if (!failed && kn_udp_samples_jitter(w->spec))
        kn_worker_chosen(w, "jitter", "looked at for %u ms of every %u", (unsigned)(KN_UDP_STAMPED_NS / KN_NS_PER_MS),
                         (unsigned)(KN_UDP_STAMPS_EVERY_NS / KN_NS_PER_MS));
    if (!failed)
        failed = w->spec->reverse ? run_reverse(w, fds, err) : run_forward(w, fds, err);
    for (unsigned i = 0; i < w->n_flows; i++)
        kn_flow_abandon(w, fds[i], w->first_flow + i);
    free(fds);
    return failed ? -1 : 0;
}

/* ---- the test ---- */

static const char *const columns[] = {"throughput", "share",      "loss",       "jitter",
                                      "reordered",  "cpu_client", "cpu_server", NULL};
static const char *const compared[] = {"throughput", "loss", "cpu_send_per_gb", "cpu_recv_per_gb", NULL};
static const struct kn_spec_option own[] = {
    [KN_UDP_GSO] = KN_FLAG("gso", KN_AT(own[KN_UDP_GSO]),
                           "segmentation offload when sending, coalescing when receiving (labelled in the result)"),
    {.name = NULL},
};
static const struct kn_preset presets[] = {
    {offsetof(struct kn_spec, size), 1400},
    {offsetof(struct kn_spec, tune), KN_TUNE_AUTO},
    {0, 0},
};
static const struct kn_limit limits[] = {{offsetof(struct kn_spec, size), 1, KN_UDP_MAX}, {0, 0, 0}};

const struct kn_test kn_udp_stream = {
    .name = "udp_stream",
    .help = "datagrams one way: throughput, loss, order and jitter at the receiver (iperf3 -u, netperf UDP_STREAM)",
    .transport = KN_UDP,
    .shape = KN_BULK,
    .rate = KN_RATE_BOTH,
    .headline = "throughput",
    .columns = columns,
    .compared = compared,
    .options = KN_TEST_OPTIONS | KN_HAS(SIZE) | KN_HAS(RATE) | KN_HAS(REVERSE) | KN_HAS(WAIT),
    .own = own,
    .presets = presets,
    .limits = limits,
    .client = run_client,
    .serve = kn_udp_stream_serve,
};
