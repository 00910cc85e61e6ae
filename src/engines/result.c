/* From figures and reports to the result's JSON. What was not measured is left out; nothing is ever NaN. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "core/step.h"
#include "core/units.h"
#include "engines/flow.h"
#include "engines/run.h"

#define FEW_SAMPLES 100
/* A sender that looks for the limit of a path loses a few segments there, on a sound one too; so large a share is no part
 * of that. */
#define RESENT 0.001
#define BUSY 0.95             /* of the CPUs that the generator's threads could have had */
#define RATE_REACHED 0.98
#define OTHERS 0.1            /* of a machine's CPUs, used by what has no part in the measurement … */
#define OTHERS_NS (50 * KN_NS_PER_MS) /* … and more than the steps in which the kernel counts could make up */
#define SYN_RESENT_NS (KN_NS_PER_S - 10 * KN_NS_PER_MS) /* a first packet without an answer is sent again after a second */
#define TIMESTAMP_OPTION 12   /* bytes that TCP's timestamps take from the MSS (RFC 7323, padded) */

/* ---- small JSON helpers: a value that means nothing is not written ---- */

static void put_real(json_t *to, const char *key, double value)
{
    if (isfinite(value))
        json_object_set_new(to, key, json_real(value));
}

static void put_int(json_t *to, const char *key, uint64_t value)
{
    json_object_set_new(to, key, json_integer((json_int_t)value));
}

static void put_ratio(json_t *to, const char *key, double a, double b)
{
    if (b > 0)
        put_real(to, key, a / b);
}

static double seconds(uint64_t ns)
{
    return (double)ns / (double)KN_NS_PER_S;
}

static void put_hist(json_t *to, const char *key, const struct kn_hist *h)
{
    static const struct { const char *name; double percent; } points[] = {
        {"p50", 50}, {"p90", 90}, {"p95", 95}, {"p99", 99}, {"p999", 99.9}, {"p9999", 99.99}};
    if (!h || !kn_hist_count(h))
        return;
    json_t *o = json_object();
    put_int(o, "count", kn_hist_count(h));
    put_int(o, "min", kn_hist_min(h));
    put_real(o, "mean", kn_hist_mean(h));
    put_real(o, "stddev", kn_hist_stddev(h));
    for (size_t i = 0; i < sizeof points / sizeof *points; i++)
        put_int(o, points[i].name, kn_hist_percentile(h, points[i].percent));
    put_int(o, "max", kn_hist_max(h));
    json_object_set_new(to, key, o);
}

/* ---- what is reckoned from both sides ---- */

struct view {
    const struct kn_run *run;
    const struct kn_spec *spec;
    struct kn_figures client, server;
    const struct kn_figures *sender, *receiver; /* of the bulk; NULL where a test has none */
    struct kn_figures both;         /* of a test in both directions: what both ends received; else empty */
    uint64_t rx_bytes, ops, window_ns;
};

static bool is_bulk(uint64_t test)
{
    return test == KN_TCP_STREAM || test == KN_TCP_SENDFILE || test == KN_TCP_BW || test == KN_UDP_STREAM;
}

static bool is_tcp(uint64_t test)
{
    return test != KN_UDP_STREAM && test != KN_UDP_RR && test != KN_PING;
}

static int view_init(struct view *v, const struct kn_run *run, struct kn_error *err)
{
    *v = (struct view){.run = run, .spec = &run->spec};
    if (kn_figures_init(&v->client, run->spec.interval_ns, err) || kn_figures_init(&v->server, run->spec.interval_ns, err))
        return -1;
    for (unsigned i = 0; i < run->n_slots; i++)
        if (kn_figures_merge(&v->client, &run->slots[i]->w.figures, err))
            return -1;
    for (unsigned i = 0; i < run->n_servers; i++)
        if (kn_figures_merge(&v->server, &run->servers[i].figures, err))
            return -1;
    if (run->spec.bidir && (kn_figures_init(&v->both, run->spec.interval_ns, err) || kn_figures_merge(&v->both, &v->client, err) ||
                            kn_figures_merge(&v->both, &v->server, err)))
        return -1;
    if (is_bulk(run->spec.test)) {
        v->sender = run->spec.reverse ? &v->server : &v->client;
        v->receiver = run->spec.reverse ? &v->client : &v->server;
        v->rx_bytes = run->spec.bidir ? v->both.rx_bytes : v->receiver->rx_bytes;
        v->ops = run->spec.bidir ? v->both.ops : v->receiver->ops;
        v->window_ns = v->receiver->window_ns;
        /* what queues hold at the end arrives after it; what is lost at the end must not make the window shorter */
        if (run->spec.test == KN_UDP_STREAM && v->sender->window_ns > v->window_ns)
            v->window_ns = v->sender->window_ns;
    } else {
        v->rx_bytes = v->client.rx_bytes;
        v->ops = v->client.ops;
        v->window_ns = v->client.window_ns;
    }
    return 0;
}

static void view_fini(struct view *v)
{
    kn_figures_fini(&v->client);
    kn_figures_fini(&v->server);
    kn_figures_fini(&v->both);
}

/* ---- metrics ---- */

static void put_speed(json_t *m, const struct view *v)
{
    double window_s = seconds(v->window_ns);
    if (v->sender || v->spec->test == KN_HTTP)
        put_ratio(m, "throughput_bps", 8.0 * (double)v->rx_bytes, window_s);
    if (v->sender && v->spec->bidir) {
        put_ratio(m, "send_bps", 8.0 * (double)v->server.rx_bytes, seconds(v->server.window_ns));
        put_ratio(m, "receive_bps", 8.0 * (double)v->client.rx_bytes, seconds(v->client.window_ns));
    }
    if (v->ops)
        put_ratio(m, "rate_per_s", (double)v->ops, window_s);
    if (v->window_ns)
        put_real(m, "duration_s", window_s);
    put_int(m, "bytes", v->rx_bytes);
    if (v->ops)
        put_int(m, "ops", v->ops);
}

static void put_loss(json_t *m, const struct view *v)
{
    const struct kn_figures *rx = v->receiver ? v->receiver : &v->client, *tx = v->sender ? v->sender : &v->client;
    if (rx->has & KN_HAS_LOSS) {
        put_int(m, "sent", tx->tx_packets);
        put_int(m, "received", rx->rx_packets);
        put_int(m, "lost", rx->lost);
        if (rx->has & KN_HAS_ORDER)
            put_int(m, "reordered", rx->reordered);
        if ((rx->has & KN_HAS_ORDER) || !v->receiver)
            put_int(m, "duplicated", rx->duplicated);
        if (!v->receiver)
            put_int(m, "late", rx->late);
        put_ratio(m, "loss_ratio", (double)rx->lost, (double)(rx->rx_packets + rx->lost));
        put_int(m, "send_drops", tx->send_drops);
        if (v->receiver)
            put_int(m, "receiver_drops", rx->recv_drops);
    }
    if (rx->has & KN_HAS_JITTER)
        put_real(m, "jitter_ns", rx->jitter_ns);
}

static void put_failures(json_t *m, const struct view *v)
{
    put_int(m, "errors", v->client.errors + v->server.errors);
    if (v->spec->timeout_ns || v->client.timeouts)
        put_int(m, "timeouts", v->client.timeouts);
    if (v->client.has & KN_HAS_CONNECT) {
        put_int(m, "connects", v->client.connects);
        put_int(m, "connect_errors", v->client.connect_errors);
    }
}

static uint64_t resent(const struct view *v) { return v->client.retransmits + v->server.retransmits; }
static uint64_t segments(const struct view *v) { return v->client.segments + v->server.segments; }

static uint64_t mss_of(const struct view *v)
{
    uint64_t a = v->client.mss, b = v->server.mss;
    return a && b ? (a < b ? a : b) : a + b;
}

static void put_tcp(json_t *m, const struct view *v)
{
    const struct kn_figures *tx = v->sender && v->sender->tcp_n ? v->sender : &v->client;
    if (!is_tcp(v->spec->test) || !(v->client.tcp_n + v->server.tcp_n))
        return;
    put_int(m, "retransmits", resent(v));
    put_ratio(m, "resent_ratio", (double)resent(v), (double)segments(v));
    if (mss_of(v))
        put_int(m, "mss_effective", mss_of(v));
    put_ratio(m, "rtt_ns", (double)tx->rtt_ns, tx->tcp_n);
    put_ratio(m, "cwnd", (double)tx->cwnd, tx->tcp_n);
}

/* What ab calls failed, and its two times per request: of one of the connections, and across all of them. */
static void put_like_ab(json_t *m, const struct view *v)
{
    const struct kn_figures *f = &v->client;
    json_t *failed = json_object(), *each = json_object();
    put_int(failed, "connect", f->connect_errors);
    put_int(failed, "receive", f->errors - f->bad_responses);
    put_int(failed, "length", f->length_mismatch);
    put_int(failed, "exceptions", f->bad_responses + f->timeouts);
    json_object_set_new(m, "failed", failed);
    put_int(m, "non_2xx", v->ops - f->status[2]);
    put_ratio(each, "mean", (double)v->window_ns * (double)v->spec->flows, (double)v->ops);
    put_ratio(each, "across_all", (double)v->window_ns, (double)v->ops);
    if (v->ops)
        json_object_set(m, "time_per_request_ns", each);
    json_decref(each);
}

static void put_http(json_t *m, const struct view *v)
{
    static const char *const names[6] = {"other", "1xx", "2xx", "3xx", "4xx", "5xx"};
    if (!(v->client.has & KN_HAS_HTTP))
        return;
    json_t *status = json_object();
    for (int i = 0; i < 6; i++)
        if (v->client.status[i])
            put_int(status, names[i], v->client.status[i]);
    json_object_set_new(m, "status", status);
    put_like_ab(m, v);
    put_int(m, "length_mismatches", v->client.length_mismatch);
    put_int(m, "bad_responses", v->client.bad_responses);
    put_int(m, "header_bytes", v->client.header_bytes);
    put_ratio(m, "transfer_bps", 8.0 * (double)(v->client.rx_bytes + v->client.header_bytes), seconds(v->window_ns));
}

static void add_from(json_t *to, const char *key, const json_t *cpu, const char *name)
{
    const json_t *value = json_object_get(cpu, name);
    if (!json_is_number(value))
        return;
    double sum = json_number_value(value) + json_number_value(json_object_get(to, key));
    put_real(to, key, sum);
}

/* Nodes of a lab are one machine. */
static bool one_machine(const struct kn_server_report *a, const struct kn_server_report *b)
{
    const json_t *machine = json_object_get(a->cpu, "machine");
    return !strcmp(a->node, b->node) || (machine && json_equal(machine, json_object_get(b->cpu, "machine")));
}

/* Of servers on one machine only the first counts for it: they all read the same. */
static bool first_of_node(const struct kn_run *run, unsigned i)
{
    for (unsigned j = 0; j < i; j++)
        if (one_machine(&run->servers[j], &run->servers[i]) && json_is_number(json_object_get(run->servers[j].cpu, "node")))
            return false;
    return true;
}

/* What other programs had of the CPUs of the machine that `cpu` was read on, in cores: their user time (the kernel's work, theirs or ours, cannot be
 * told apart) and what its hypervisor took. Absent where an end did not say what it used: that would be counted as others'. */
static bool others_on(const struct view *v, const json_t *mine, const json_t *cpu, double *cores)
{
    const struct kn_run *run = v->run;
    const json_t *machine = json_object_get(cpu, "machine"), *user = json_object_get(cpu, "node_user");
    if (!machine || !json_is_number(user) || !run->n_servers)
        return false;
    *cores = json_number_value(user) + json_number_value(json_object_get(cpu, "steal"));
    for (unsigned i = 0; i <= run->n_servers; i++) {
        const json_t *end = i ? run->servers[i - 1].cpu : mine;
        if (!json_is_number(json_object_get(end, "process_user")))
            return false;
        if (json_equal(json_object_get(end, "machine"), machine))
            *cores -= json_number_value(json_object_get(end, "process_user"));
    }
    *cores = fmax(*cores, 0);
    return true;
}

static void put_others(json_t *to, const struct view *v, const json_t *mine, const json_t *cpu, const char *name)
{
    double cores;
    if (others_on(v, mine, cpu, &cores))
        put_real(to, name, json_number_value(json_object_get(to, name)) + cores);
}

static void put_cpu(json_t *m, const struct view *v, const json_t *mine)
{
    json_t *cpu = json_object();
    if (v->client.has & KN_HAS_CPU)
        put_ratio(cpu, "client_process", (double)v->client.cpu_ns, (double)v->client.window_ns);
    if (v->server.has & KN_HAS_CPU)
        put_ratio(cpu, "server_process", (double)v->server.cpu_ns, (double)v->server.window_ns);
    add_from(cpu, "client_cgroup", mine, "cgroup");
    add_from(cpu, "client_node", mine, "node");
    add_from(cpu, "client_softirq", mine, "softirq");
    put_others(cpu, v, mine, mine, "client_others");
    for (unsigned i = 0; i < v->run->n_servers; i++) {
        const json_t *theirs = v->run->servers[i].cpu;
        add_from(cpu, "server_cgroup", theirs, "cgroup");
        if (first_of_node(v->run, i)) {
            add_from(cpu, "server_node", theirs, "node");
            add_from(cpu, "server_softirq", theirs, "softirq");
            put_others(cpu, v, mine, theirs, "server_others");
        }
    }
    if (json_object_size(cpu))
        json_object_set(m, "cpu", cpu);
    json_decref(cpu);
    if (v->ops && (v->client.has & KN_HAS_CPU))
        put_ratio(m, "cpu_ns_per_op", (double)(v->client.cpu_ns + v->server.cpu_ns), (double)v->ops);
}

/* Bytes of each process, kernel memory of its sockets not included, and of each cgroup, with it. */
static void put_memory(json_t *m, const struct view *v, const json_t *mine)
{
    json_t *memory = json_object();
    add_from(memory, "client_process", mine, "process_memory");
    add_from(memory, "client_cgroup", mine, "cgroup_memory");
    for (unsigned i = 0; i < v->run->n_servers; i++) {
        add_from(memory, "server_process", v->run->servers[i].cpu, "process_memory");
        add_from(memory, "server_cgroup", v->run->servers[i].cpu, "cgroup_memory");
    }
    if (json_object_size(memory))
        json_object_set(m, "memory", memory);
    json_decref(memory);
}

/* Not of both directions: each end does both. */
static void put_cpu_per_gb(json_t *m, const struct view *v)
{
    double gb = (double)v->rx_bytes / 1e9;
    if (!v->sender || !v->rx_bytes || v->spec->bidir)
        return;
    json_t *cost = json_object();
    if (v->sender->has & KN_HAS_CPU)
        put_ratio(cost, "send", seconds(v->sender->cpu_ns), gb);
    if (v->receiver->has & KN_HAS_CPU)
        put_ratio(cost, "recv", seconds(v->receiver->cpu_ns), gb);
    if (json_object_size(cost))
        json_object_set(m, "cpu_s_per_gb", cost);
    json_decref(cost);
}

/* The whole intervals as a series: did its level change? */
static void put_step(json_t *m, const json_t *intervals, double step_s, double window_s)
{
    struct kn_step step;
    size_t n = 0, most = json_array_size(intervals);
    double *values = calloc(most ? most : 1, sizeof *values);
    const char *key = json_object_get(json_array_get(intervals, 0), "ops_per_s") ? "ops_per_s" : "bps";
    for (; values && n < most && (double)(n + 1) * step_s <= window_s * 1.000001; n++)
        values[n] = json_number_value(json_object_get(json_array_get(intervals, n), key));
    if (values && kn_step_find(values, n, &step))
        json_object_set_new(m, "step", json_pack("{s:f, s:f, s:f}", "t", (double)step.at * step_s, "before", step.before,
                                                 "after", step.after));
    free(values);
}

/* Up to the end of the window, whether anything moved there or not. The last interval is as long as what is left of it; a sliver
 * says nothing. */
static void put_intervals(json_t *m, const struct view *v)
{
    const struct kn_series *s = v->spec->bidir ? &v->both.series : v->receiver ? &v->receiver->series : &v->client.series;
    json_t *list = json_array();
    for (uint32_t i = 0; i < KN_SERIES_MAX && s->step_ns && i * s->step_ns < v->window_ns; i++) {
        uint64_t from_ns = i * s->step_ns, left_ns = v->window_ns - from_ns, width_ns = left_ns < s->step_ns ? left_ns : s->step_ns;
        if (i && width_ns < s->step_ns / 20)
            break;
        json_t *one = json_object();
        put_real(one, "t", seconds(from_ns));
        if (v->rx_bytes)
            put_real(one, "bps", 8.0 * (double)(i < s->n ? s->bytes[i] : 0) / seconds(width_ns));
        if (v->ops && !v->sender)
            put_real(one, "ops_per_s", (double)(i < s->n ? s->ops[i] : 0) / seconds(width_ns));
        json_array_append_new(list, one);
    }
    if (json_array_size(list))
        json_object_set(m, "intervals", list);
    put_step(m, list, seconds(s->step_ns), seconds(v->window_ns));
    json_decref(list);
}

static json_t *metrics_of(const struct view *v, const json_t *my_cpu)
{
    json_t *m = json_object();
    put_speed(m, v);
    if (v->client.has & KN_HAS_LATENCY)
        put_hist(m, "latency_ns", v->client.latency);
    put_hist(m, "connect_ns", v->client.connect);
    put_hist(m, "first_byte_ns", v->client.first_byte);
    put_loss(m, v);
    put_failures(m, v);
    put_tcp(m, v);
    put_http(m, v);
    put_cpu(m, v, my_cpu);
    put_memory(m, v, my_cpu);
    put_cpu_per_gb(m, v);
    put_intervals(m, v);
    return m;
}

/* ---- flags ---- */

static void flag(json_t *flags, bool doubtful, const char *name)
{
    size_t i;
    json_t *have;
    json_array_foreach(flags, i, have)
        if (!strcmp(json_string_value(have), name))
            return;
    if (doubtful)
        json_array_append_new(flags, json_string(name));
}

static bool cpu_bound(const struct kn_figures *f, double cpus)
{
    return (f->has & KN_HAS_CPU) && f->window_ns && (double)f->cpu_ns / (double)f->window_ns >= BUSY * cpus;
}

static bool shared_cpus(const struct view *v, const json_t *mine)
{
    double cores;
    for (unsigned i = 0; i <= v->run->n_servers; i++) {
        const json_t *cpu = i ? v->run->servers[i - 1].cpu : mine;
        if (others_on(v, mine, cpu, &cores) && cores >= OTHERS * json_number_value(json_object_get(cpu, "node_cpus")) &&
            cores * (double)v->window_ns >= (double)OTHERS_NS)
            return true;
    }
    return false;
}

static double rate_share(const struct view *v, const json_t *metrics)
{
    if (v->spec->rate_per_1000s)
        return json_number_value(json_object_get(metrics, "rate_per_s")) * 1000 / (double)v->spec->rate_per_1000s;
    if (v->spec->rate_bps)
        return json_number_value(json_object_get(metrics, "throughput_bps")) / (double)v->spec->rate_bps;
    return 1;
}

static bool mss_differs(const struct view *v)
{
    uint64_t mss = mss_of(v), asked = v->spec->mss;
    return asked && mss && mss != asked && mss + TIMESTAMP_OPTION != asked;
}

/* Whether anything was measured at all. Where a flow could not be opened nothing was, and no figure is 0 of it. */
static bool begun(const struct kn_run *run)
{
    return run->cpu_open.at_ns != 0;
}

static json_t *flags_of(const struct view *v, const json_t *metrics, const json_t *my_cpu)
{
    const struct kn_run *run = v->run;
    json_t *flags = json_copy(run->flags);
    double threads = fmin(run->n_slots, kn_cpus_allowed()), quota = kn_cpu_quota();
    if (quota > 0)
        threads = fmin(threads, quota);
    bool throttled = json_number_value(json_object_get(my_cpu, "throttled_s")) > 0;
    for (unsigned i = 0; i < run->n_servers; i++)
        throttled = throttled || json_number_value(json_object_get(run->servers[i].cpu, "throttled_s")) > 0;
    flag(flags, atomic_load(&run->asked_to_stop), "stopped");
    if (!begun(run))
        return flags;
    flag(flags, v->spec->wait == KN_WAIT_BLOCK && cpu_bound(&v->client, threads), "generator_cpu_bound");
    flag(flags, v->spec->wait == KN_WAIT_BLOCK && cpu_bound(&v->server, (double)v->spec->flows), "server_cpu_bound");
    flag(flags, throttled, "throttled");
    flag(flags, shared_cpus(v, my_cpu), "other_work");
    flag(flags, mss_differs(v), "mss_differs");
    flag(flags, json_object_get(metrics, "step") != NULL, "step");
    flag(flags, (v->client.has & KN_HAS_LATENCY) && kn_hist_count(v->client.latency) < FEW_SAMPLES, "too_few_samples");
    flag(flags, (double)resent(v) >= RESENT * (double)(segments(v) + 1), "retransmits");
    flag(flags, v->client.connect && kn_hist_count(v->client.connect) && kn_hist_max(v->client.connect) >= SYN_RESENT_NS,
         "syn_resent");
    flag(flags, (v->sender ? v->sender : &v->client)->send_drops > 0, "send_drops");
    flag(flags, v->receiver && v->receiver->recv_drops > 0, "receiver_drops");
    /* a datagram that no answer came to is a loss */
    uint64_t late = is_tcp(v->spec->test) ? v->client.timeouts : 0;
    flag(flags, v->client.errors + v->server.errors + late > 0, "errors");
    flag(flags, run->n_servers > 1, "several_backends");
    flag(flags, kn_spec_open_loop(v->spec) && rate_share(v, metrics) < RATE_REACHED, "rate_not_reached");
    return flags;
}

/* ---- the result ---- */

static json_t *servers_of(const struct kn_run *run)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < run->n_servers; i++) {
        const struct kn_server_report *r = &run->servers[i];
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:i, s:I}", "name", r->name, "node", r->node, "address", r->address,
                                              "flows", (int)r->flows, "ops", (json_int_t)r->figures.ops));
    }
    return list;
}

static json_t *error_of(enum kn_code code, const char *message)
{
    return json_pack("{s:s, s:s}", "code", kn_code_name(code), "message", message);
}

static json_t *no_data(const struct view *v)
{
    char message[256], timeout[32];
    uint64_t failed = v->client.errors + v->client.connect_errors;
    if (v->spec->test == KN_TCP_CRR) /* whose timeouts are errors too */
        failed -= failed < v->client.timeouts ? failed : v->client.timeouts;
    if (atomic_load(&v->run->asked_to_stop))
        return error_of(KN_E_NO_DATA, "stopped before anything was measured");
    if (!v->client.timeouts && !failed)
        return error_of(KN_E_NO_DATA, "the run went through and nothing arrived: look at what lies between (firewall, policy, MTU), and "
                                      "whether the time was long enough for one operation");
    kn_format_duration(timeout, sizeof timeout, (double)v->spec->timeout_ns, true);
    snprintf(message, sizeof message, "no operation succeeded: %" PRIu64 " had no answer in %s (timeout), %" PRIu64 " failed: look at what lies "
             "between (firewall, policy, MTU), and whether the timeout is long enough", v->client.timeouts, timeout, failed);
    return error_of(KN_E_NO_DATA, message);
}

static void put_verdict(json_t *result, const struct view *v)
{
    const struct kn_run *run = v->run;
    json_t *error = NULL;
    if (run->failed)
        error = error_of(run->err.code, run->err.message);
    else if (!v->rx_bytes && !v->ops)
        error = no_data(v);
    json_object_set_new(result, "ok", json_boolean(!error));
    if (error)
        json_object_set_new(result, "error", error);
}

static json_t *cpus_of(unsigned seen)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < 32; i++)
        if (seen & 1u << i)
            json_array_append_new(list, json_integer(i));
    return list;
}

json_t *kn_run_result(struct kn_run *run)
{
    struct kn_error err;
    struct view v;
    if (!kn_run_wait(run, 0))
        return json_pack("{s:b, s:o}", "ok", 0, "error", error_of(KN_E_IN_USE, "the run is not over"));
    json_t *result = json_object();
    if (view_init(&v, run, &err)) {
        json_object_set_new(result, "ok", json_false());
        json_object_set_new(result, "error", error_of(err.code, err.message));
    } else {
        json_t *my_cpu = run->cpu_close.at_ns > run->cpu_open.at_ns && run->cpu_open.at_ns
            ? kn_cpu_between(&run->cpu_open, &run->cpu_close) : json_object();
        json_t *metrics = begun(run) ? metrics_of(&v, my_cpu) : json_object();
        put_verdict(result, &v);
        json_object_set_new(result, "flags", flags_of(&v, metrics, my_cpu));
        json_object_set_new(result, "metrics", metrics);
        if ((v.client.has & KN_HAS_LATENCY) && kn_hist_count(v.client.latency))
            json_object_set_new(result, "latency_histogram", kn_hist_to_json(v.client.latency));
        json_decref(my_cpu);
        if (begun(run))
            json_object_set_new(result, "opened_ns", kn_json_u64(run->cpu_open.at_ns));
    }
    json_object_set_new(result, "params", kn_spec_to_json(&run->spec));
    json_object_set(result, "chosen", run->chosen);
    json_object_set_new(result, "servers", servers_of(run));
    json_object_set_new(result, "cpus", cpus_of(run->cpus_seen));
    view_fini(&v);
    return result;
}
