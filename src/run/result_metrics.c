/* Metrics: counts and times, with the names of the contract. */
#include <math.h>
#include <stdlib.h>

#include "core/json.h"
#include "core/step.h"
#include "run/result.h"

void kn_put_real(json_t *to, const char *key, double value)
{
    if (isfinite(value))
        kn_json_set(to, key, json_real(value));
}

void kn_put_int(json_t *to, const char *key, uint64_t value)
{
    kn_json_set(to, key, json_integer((json_int_t)value));
}

void kn_put_ratio(json_t *to, const char *key, double a, double b)
{
    if (b > 0)
        kn_put_real(to, key, a / b);
}

static void put_hist(json_t *to, const char *key, const struct kn_hist *h)
{
    static const struct {
        const char *name;
        double percent;
    } points[] = {{"p50", 50}, {"p90", 90}, {"p95", 95}, {"p99", 99}, {"p999", 99.9}, {"p9999", 99.99}};
    if (!h || !kn_hist_count(h))
        return;
    json_t *o = json_object();
    kn_put_int(o, "count", kn_hist_count(h));
    kn_put_int(o, "min", kn_hist_min(h));
    kn_put_real(o, "mean", kn_hist_mean(h));
    kn_put_real(o, "stddev", kn_hist_stddev(h));
    for (size_t i = 0; i < sizeof points / sizeof *points; i++)
        kn_put_int(o, points[i].name, kn_hist_percentile(h, points[i].percent));
    kn_put_int(o, "max", kn_hist_max(h));
    kn_json_set(to, key, o);
}

static void put_speed(json_t *m, const struct kn_view *v)
{
    double window_s = kn_seconds(v->window_ns);
    if (v->sender || v->spec->test->throughput)
        kn_put_ratio(m, "throughput_bps", 8.0 * (double)v->rx_bytes, window_s);
    if (v->sender && v->spec->bidir) {
        kn_put_ratio(m, "send_bps", 8.0 * (double)v->server.rx_bytes, kn_seconds(v->server.window_ns));
        kn_put_ratio(m, "receive_bps", 8.0 * (double)v->client.rx_bytes, kn_seconds(v->client.window_ns));
    }
    if (v->ops)
        kn_put_ratio(m, "rate_per_s", (double)v->ops, window_s);
    if (v->window_ns)
        kn_put_real(m, "duration_s", window_s);
    kn_put_int(m, "bytes", v->rx_bytes);
    if (v->ops)
        kn_put_int(m, "ops", v->ops);
}

static void put_loss(json_t *m, const struct kn_view *v)
{
    const struct kn_figures *rx = v->receiver ? v->receiver : &v->client, *tx = v->sender ? v->sender : &v->client;
    if (rx->has & KN_HAS_LOSS) {
        kn_put_int(m, "sent", tx->tx_packets);
        kn_put_int(m, "received", rx->rx_packets);
        kn_put_int(m, "lost", rx->lost);
        if (rx->has & KN_HAS_ORDER)
            kn_put_int(m, "reordered", rx->reordered);
        if ((rx->has & KN_HAS_ORDER) || !v->receiver)
            kn_put_int(m, "duplicated", rx->duplicated);
        if (!v->receiver)
            kn_put_int(m, "late", rx->late);
        kn_put_ratio(m, "loss_ratio", (double)rx->lost, (double)(rx->rx_packets + rx->lost));
        kn_put_int(m, "send_drops", tx->send_drops);
        if (v->receiver)
            kn_put_int(m, "receiver_drops", rx->recv_drops);
    }
    if (v->client.has & KN_HAS_DROPS)
        kn_put_int(m, "client_drops", v->client.recv_drops);
    if (rx->has & KN_HAS_JITTER)
        kn_put_real(m, "jitter_ns", rx->jitter_ns);
}

static void put_failures(json_t *m, const struct kn_view *v)
{
    kn_put_int(m, "errors", v->client.errors + v->server.errors);
    if (v->spec->timeout_ns || v->client.timeouts)
        kn_put_int(m, "timeouts", v->client.timeouts);
    if (v->client.has & KN_HAS_CONNECT)
        kn_put_int(m, "connects", v->client.connects);
    if ((v->client.has & KN_HAS_CONNECT) || v->client.connect_errors)
        kn_put_int(m, "connect_errors", v->client.connect_errors);
}

static void put_tcp(json_t *m, const struct kn_view *v)
{
    const struct kn_figures *tx = v->sender && v->sender->tcp_n ? v->sender : &v->client;
    if (!kn_view_is_tcp(v) || !(v->client.tcp_n + v->server.tcp_n))
        return;
    kn_put_int(m, "retransmits", kn_view_resent(v));
    kn_put_int(m, "needless_retransmits", kn_view_needless(v));
    kn_put_ratio(m, "resent_ratio", (double)kn_view_resent(v), (double)kn_view_segments(v));
    if (kn_view_mss(v))
        kn_put_int(m, "mss_effective", kn_view_mss(v));
    kn_put_ratio(m, "rtt_ns", (double)tx->rtt_ns, tx->tcp_n);
    kn_put_ratio(m, "cwnd", (double)tx->cwnd, tx->tcp_n);
}

/* How evenly the flows were served: Jain's index is 1 if all moved the same amount, 1/n if one moved everything. */
static void put_fairness(json_t *m, const struct kn_view *v)
{
    const struct kn_figures *f = &v->client;
    if (f->flow_n < 2)
        return;
    json_t *fairness = json_object();
    kn_put_int(fairness, "flow_min", f->flow_min);
    kn_put_int(fairness, "flow_max", f->flow_max);
    kn_put_ratio(fairness, "jain", f->flow_sum * f->flow_sum, (double)f->flow_n * f->flow_squares);
    kn_json_set(m, "fairness", fairness);
}

/* Which backends answered, if the workers know. */
static void put_backends(json_t *m, const struct kn_view *v)
{
    struct kn_backends *all = NULL;
    for (unsigned i = 0; i < v->run->n_slots; i++)
        kn_backends_merge(&all, v->run->slots[i]->w.backends);
    json_t *json = kn_backends_to_json(all);
    if (json)
        kn_json_set(m, "backends", json);
    kn_backends_free(all);
}

/* The complete intervals as a series, to find out whether its level changed. */
static void put_step(json_t *m, const json_t *intervals, double step_s, double window_s)
{
    struct kn_step step;
    size_t n = 0, most = json_array_size(intervals);
    double *values = calloc(most ? most : 1, sizeof *values);
    const char *key = json_object_get(json_array_get(intervals, 0), "ops_per_s") ? "ops_per_s" : "bps";
    for (; values && n < most && (double)(n + 1) * step_s <= window_s * 1.000001; n++)
        values[n] = json_number_value(json_object_get(json_array_get(intervals, n), key));
    if (values && kn_step_find(values, n, &step))
        kn_json_set(
            m, "step",
            json_pack("{s:f, s:f, s:f}", "t", (double)step.at * step_s, "before", step.before, "after", step.after));
    free(values);
}

/* Intervals up to the end of the window, also those in which nothing moved. The last one is shorter; a very short one
 * is left out. */
static void put_intervals(json_t *m, const struct kn_view *v)
{
    const struct kn_series *s = v->spec->bidir ? &v->both.series
                                : v->receiver  ? &v->receiver->series
                                               : &v->client.series;
    json_t *list = json_array();
    for (uint32_t i = 0; i < KN_SERIES_MAX && s->step_ns && i * s->step_ns < v->window_ns; i++) {
        uint64_t from_ns = i * s->step_ns, left_ns = v->window_ns - from_ns,
                 width_ns = left_ns < s->step_ns ? left_ns : s->step_ns;
        if (i && width_ns < s->step_ns / 20)
            break;
        json_t *one = json_object();
        kn_put_real(one, "t", kn_seconds(from_ns));
        if (v->rx_bytes)
            kn_put_real(one, "bps", 8.0 * (double)(i < s->n ? s->bytes[i] : 0) / kn_seconds(width_ns));
        if (v->ops && !v->sender)
            kn_put_real(one, "ops_per_s", (double)(i < s->n ? s->ops[i] : 0) / kn_seconds(width_ns));
        kn_json_append(list, one);
    }
    if (json_array_size(list))
        kn_json_set(m, "intervals", json_incref(list));
    put_step(m, list, kn_seconds(s->step_ns), kn_seconds(v->window_ns));
    json_decref(list);
}

json_t *kn_result_metrics(const struct kn_view *v, const json_t *cpu)
{
    json_t *m = json_object();
    put_speed(m, v);
    if (v->client.has & KN_HAS_LATENCY)
        put_hist(m, "latency_ns", v->client.latency);
    put_hist(m, "connect_ns", v->client.connect);
    put_hist(m, "handshake_ns", v->client.handshake);
    put_hist(m, "first_byte_ns", v->client.first_byte);
    put_loss(m, v);
    put_failures(m, v);
    put_tcp(m, v);
    put_fairness(m, v);
    if (v->spec->test->metrics)
        v->spec->test->metrics(v, m);
    put_backends(m, v);
    kn_result_put_targets(m, v);
    kn_result_put_cpu(m, v, cpu);
    put_intervals(m, v);
    return m;
}
