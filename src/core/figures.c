#include "core/figures.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"

/* The counters that a merge adds up and that have the same names in JSON. */
static const struct counter {
    const char *name;
    size_t offset;
} counters[] = {
#define COUNTER(name)                            \
    {                                            \
#name, offsetof(struct kn_figures, name) \
    }
    COUNTER(ops),      COUNTER(tx_bytes),        COUNTER(rx_bytes),     COUNTER(tx_packets),    COUNTER(rx_packets),
    COUNTER(lost),     COUNTER(reordered),       COUNTER(duplicated),   COUNTER(send_drops),    COUNTER(recv_drops),
    COUNTER(late),     COUNTER(errors),          COUNTER(timeouts),     COUNTER(connects),      COUNTER(connect_errors),
    COUNTER(segments), COUNTER(needless),        COUNTER(retransmits),  COUNTER(rtt_ns),        COUNTER(cwnd),
    COUNTER(cpu_ns),   COUNTER(length_mismatch), COUNTER(header_bytes), COUNTER(bad_responses),
#undef COUNTER
};
#define COUNTERS (sizeof counters / sizeof *counters)

static uint64_t *counter_of(struct kn_figures *f, size_t i)
{
    return (uint64_t *)(void *)((char *)f + counters[i].offset);
}

static uint64_t counter_value(const struct kn_figures *f, size_t i)
{
    uint64_t v;
    memcpy(&v, (const char *)f + counters[i].offset, sizeof v);
    return v;
}

static int series_init(struct kn_series *s, uint64_t step_ns, struct kn_error *err)
{
    *s = (struct kn_series){.step_ns = step_ns};
    if (step_ns == 0)
        return 0;
    s->bytes = calloc(KN_SERIES_MAX, sizeof *s->bytes);
    s->ops = calloc(KN_SERIES_MAX, sizeof *s->ops);
    if (s->bytes && s->ops)
        return 0;
    free(s->bytes);
    free(s->ops);
    *s = (struct kn_series){0};
    return kn_fail_memory(err);
}

int kn_figures_series(struct kn_figures *f, uint64_t step_ns, struct kn_error *err)
{
    return series_init(&f->series, step_ns, err);
}

int kn_figures_init(struct kn_figures *f, uint64_t interval_ns, struct kn_error *err)
{
    memset(f, 0, sizeof *f);
    f->latency = kn_hist_new();
    if (f->latency && series_init(&f->series, interval_ns, err) == 0)
        return 0;
    kn_figures_fini(f);
    return kn_fail_memory(err);
}

void kn_figures_fini(struct kn_figures *f)
{
    kn_hist_free(f->latency);
    kn_hist_free(f->connect);
    kn_hist_free(f->first_byte);
    kn_hist_free(f->handshake);
    free(f->series.bytes);
    free(f->series.ops);
    memset(f, 0, sizeof *f);
}

/* ---- the series ---- */

static void fold(struct kn_series *s)
{
    uint32_t half = (s->n + 1) / 2;
    for (uint32_t i = 0; i < s->n; i++) {
        uint64_t bytes = s->bytes[i], ops = s->ops[i];
        s->bytes[i] = s->ops[i] = 0;
        s->bytes[i / 2] += bytes;
        s->ops[i / 2] += ops;
    }
    s->n = half;
    s->step_ns *= 2;
    s->at = 0;
    s->at_ns = 0;
}

static void series_seek(struct kn_series *s, uint64_t since_ns)
{
    while (since_ns / s->step_ns >= KN_SERIES_MAX)
        fold(s);
    s->at = (uint32_t)(since_ns / s->step_ns);
    s->at_ns = s->at * s->step_ns;
    if (s->at >= s->n)
        s->n = s->at + 1;
}

void kn_figures_add(struct kn_figures *f, uint64_t since_ns, uint64_t bytes, uint64_t ops)
{
    struct kn_series *s = &f->series;
    if (s->step_ns == 0)
        return;
    if (since_ns - s->at_ns >= s->step_ns || s->n == 0)
        series_seek(s, since_ns);
    s->bytes[s->at] += bytes;
    s->ops[s->at] += ops;
}

/* The merged series has the longer step of the two. A point is added where it begins. */
static int series_merge(struct kn_series *into, const struct kn_series *from, struct kn_error *err)
{
    if (from->step_ns == 0 || from->n == 0)
        return 0;
    if (into->step_ns == 0 && series_init(into, from->step_ns, err))
        return -1;
    while (into->step_ns < from->step_ns && into->step_ns <= UINT64_MAX / 2)
        fold(into);
    for (uint32_t i = 0; i < from->n; i++) {
        series_seek(into, i * from->step_ns);
        into->bytes[into->at] += from->bytes[i];
        into->ops[into->at] += from->ops[i];
    }
    return 0;
}

/* ---- flows ---- */

void kn_figures_flow(struct kn_figures *f, uint64_t moved)
{
    if (!f->flow_n || moved < f->flow_min)
        f->flow_min = moved;
    if (moved > f->flow_max)
        f->flow_max = moved;
    f->flow_n++;
    f->flow_sum += (double)moved;
    f->flow_squares += (double)moved * (double)moved;
}

static void merge_flows(struct kn_figures *into, const struct kn_figures *from)
{
    if (!from->flow_n)
        return;
    if (!into->flow_n || from->flow_min < into->flow_min)
        into->flow_min = from->flow_min;
    if (from->flow_max > into->flow_max)
        into->flow_max = from->flow_max;
    into->flow_n += from->flow_n;
    into->flow_sum += from->flow_sum;
    into->flow_squares += from->flow_squares;
}

/* ---- merging ---- */

static int merge_hist(struct kn_hist **into, const struct kn_hist *from, struct kn_error *err)
{
    if (!from)
        return 0;
    if (!*into && !(*into = kn_hist_new()))
        return kn_fail_memory(err);
    kn_hist_merge(*into, from);
    return 0;
}

int kn_figures_merge(struct kn_figures *into, const struct kn_figures *from, struct kn_error *err)
{
    uint32_t jitters = into->jitter_n + from->jitter_n;
    for (size_t i = 0; i < COUNTERS; i++)
        *counter_of(into, i) += counter_value(from, i);
    for (int i = 0; i < 6; i++)
        into->status[i] += from->status[i];
    for (int i = 0; i < KN_FIGURES_OWN; i++)
        into->own[i] += from->own[i];
    into->has |= from->has;
    if (from->window_ns > into->window_ns)
        into->window_ns = from->window_ns;
    if (jitters)
        into->jitter_ns = (into->jitter_ns * into->jitter_n + from->jitter_ns * from->jitter_n) / jitters;
    into->jitter_n = jitters;
    into->tcp_n += from->tcp_n;
    merge_flows(into, from);
    if (from->mss && (!into->mss || from->mss < into->mss))
        into->mss = from->mss;
    if (merge_hist(&into->latency, from->latency, err) || merge_hist(&into->connect, from->connect, err) ||
        merge_hist(&into->first_byte, from->first_byte, err) || merge_hist(&into->handshake, from->handshake, err))
        return -1;
    return series_merge(&into->series, &from->series, err);
}

/* ---- JSON ---- */

static json_t *numbers_to_json(const uint64_t *values, size_t n)
{
    json_t *array = json_array();
    for (size_t i = 0; i < n; i++)
        kn_json_append(array, kn_json_u64(values[i]));
    return array;
}

static void put_nonzero(json_t *json, const char *name, uint64_t value)
{
    if (value)
        kn_json_set(json, name, kn_json_u64(value));
}

static void put_hist(json_t *json, const char *name, const struct kn_hist *h)
{
    if (h && kn_hist_count(h))
        kn_json_set(json, name, kn_hist_to_json(h));
}

static void put_series(json_t *json, const struct kn_series *s)
{
    if (s->step_ns == 0)
        return;
    kn_json_set(json, "series",
                json_pack("{s:o,s:o,s:o}", "step_ns", kn_json_u64(s->step_ns), "bytes", numbers_to_json(s->bytes, s->n),
                          "ops", numbers_to_json(s->ops, s->n)));
}

static bool has_own(const struct kn_figures *f)
{
    uint64_t any = 0;
    for (int i = 0; i < KN_FIGURES_OWN; i++)
        any |= f->own[i];
    return any != 0;
}

json_t *kn_figures_to_json(const struct kn_figures *f)
{
    json_t *json = json_object();
    unsigned long losses = kn_json_losses();
    put_nonzero(json, "has", f->has);
    put_nonzero(json, "window_ns", f->window_ns);
    for (size_t i = 0; i < COUNTERS; i++)
        put_nonzero(json, counters[i].name, counter_value(f, i));
    put_nonzero(json, "jitter_n", f->jitter_n);
    if (f->jitter_n && isfinite(f->jitter_ns))
        kn_json_set(json, "jitter_ns", json_real(f->jitter_ns));
    put_nonzero(json, "tcp_n", f->tcp_n);
    put_nonzero(json, "mss", f->mss);
    if (f->has & KN_HAS_HTTP)
        kn_json_set(json, "status", numbers_to_json(f->status, 6));
    if (has_own(f))
        kn_json_set(json, "own", numbers_to_json(f->own, KN_FIGURES_OWN));
    put_hist(json, "latency", f->latency);
    put_hist(json, "connect", f->connect);
    put_hist(json, "first_byte", f->first_byte);
    put_hist(json, "handshake", f->handshake);
    put_series(json, &f->series);
    return kn_json_whole(json, losses);
}

static int get_u32(const json_t *json, const char *name, uint32_t *out, struct kn_error *err)
{
    uint64_t v = 0;
    if (kn_json_u64_member(json, name, &v, err))
        return -1;
    if (v > UINT32_MAX)
        return kn_fail(err, KN_E_PROTOCOL, "%s is out of range", name);
    *out = (uint32_t)v;
    return 0;
}

static int get_array(const json_t *json, const char *name, uint64_t *values, size_t n, struct kn_error *err)
{
    const json_t *array = json_object_get(json, name);
    if (!json_is_array(array) || json_array_size(array) != n)
        return kn_fail(err, KN_E_PROTOCOL, "%s is not a list of %zu numbers", name, n);
    for (size_t i = 0; i < n; i++)
        if (kn_json_u64_get(json_array_get(array, i), &values[i]))
            return kn_fail(err, KN_E_PROTOCOL, "%s contains a value that is not a whole number", name);
    return 0;
}

static int get_hist(const json_t *json, const char *name, struct kn_hist **h, struct kn_error *err)
{
    const json_t *value = json_object_get(json, name);
    if (!value)
        return 0;
    kn_hist_free(*h);
    *h = kn_hist_from_json(value, err);
    return *h ? 0 : kn_error_context(err, "%s", name);
}

static int get_series(const json_t *json, struct kn_series *s, struct kn_error *err)
{
    const json_t *value = json_object_get(json, "series");
    uint64_t step_ns = 0;
    if (!value)
        return 0;
    size_t n = json_array_size(json_object_get(value, "ops"));
    if (kn_json_u64_member(value, "step_ns", &step_ns, err))
        return -1;
    /* the input is untrusted: n steps must not overflow */
    if (step_ns == 0 || step_ns > UINT64_MAX / (4 * KN_SERIES_MAX))
        return kn_fail(err, KN_E_PROTOCOL, "series.step_ns is out of range");
    if (n > KN_SERIES_MAX)
        return kn_fail(err, KN_E_PROTOCOL, "the series is longer than %d points", KN_SERIES_MAX);
    if (series_init(s, step_ns, err) || get_array(value, "bytes", s->bytes, n, err) ||
        get_array(value, "ops", s->ops, n, err))
        return -1;
    s->n = (uint32_t)n;
    return 0;
}

static int get_jitter(const json_t *json, struct kn_figures *f, struct kn_error *err)
{
    const json_t *jitter = json_object_get(json, "jitter_ns");
    if (get_u32(json, "jitter_n", &f->jitter_n, err))
        return -1;
    if (jitter && (!json_is_number(jitter) || !(json_number_value(jitter) >= 0)))
        return kn_fail(err, KN_E_PROTOCOL, "jitter_ns is not a number");
    f->jitter_ns = jitter ? json_number_value(jitter) : 0;
    return 0;
}

static int read_all(const json_t *json, struct kn_figures *f, struct kn_error *err)
{
    if (!json_is_object(json))
        return kn_fail(err, KN_E_PROTOCOL, "figures must be an object");
    for (size_t i = 0; i < COUNTERS; i++)
        if (kn_json_u64_member(json, counters[i].name, counter_of(f, i), err))
            return -1;
    if (get_u32(json, "has", &f->has, err) || get_u32(json, "tcp_n", &f->tcp_n, err) || get_jitter(json, f, err) ||
        kn_json_u64_member(json, "window_ns", &f->window_ns, err) || kn_json_u64_member(json, "mss", &f->mss, err))
        return -1;
    if (json_object_get(json, "status") && get_array(json, "status", f->status, 6, err))
        return -1;
    if (json_object_get(json, "own") && get_array(json, "own", f->own, KN_FIGURES_OWN, err))
        return -1;
    if (get_hist(json, "latency", &f->latency, err) || get_hist(json, "connect", &f->connect, err) ||
        get_hist(json, "first_byte", &f->first_byte, err) || get_hist(json, "handshake", &f->handshake, err))
        return -1;
    return get_series(json, &f->series, err);
}

int kn_figures_from_json(const json_t *json, struct kn_figures *f, struct kn_error *err)
{
    if (kn_figures_init(f, 0, err))
        return -1;
    if (read_all(json, f, err) == 0)
        return 0;
    kn_figures_fini(f);
    return -1;
}
