/* run/result - what the parts of a run's result share. result.c builds the result from metrics (result_metrics.c, for
 * CPUs result_cpu.c) and flags (result_flags.c). What was not measured is left out; no value is ever NaN. */
#ifndef KN_RUN_RESULT_H
#define KN_RUN_RESULT_H

#include "core/json.h"
#include "run/inside.h"

/* Figures computed from both sides. */
struct kn_view {
    const struct kn_run *run;
    const struct kn_spec *spec;
    struct kn_figures client, server;
    const struct kn_figures *sender, *receiver; /* of a bulk transfer; NULL in other tests */
    struct kn_figures both;                     /* test in both directions: what both ends received; else empty */
    uint64_t rx_bytes, ops, window_ns;
};

/* Here and below, `cpu` is what kn_cpu_between returned for the client's end. */
json_t *kn_result_metrics(const struct kn_view *v, const json_t *cpu);
/* Why nothing was measured, if operations failed. */
void kn_result_why(char *text, size_t size, const struct kn_view *v, const json_t *metrics);
json_t *kn_result_flags(const struct kn_view *v, const json_t *metrics, const json_t *cpu);

/* "targets" of a run with several, by name. */
void kn_result_put_targets(json_t *metrics, const struct kn_view *v);
void kn_result_put_cpu(json_t *metrics, const struct kn_view *v, const json_t *cpu);

/* Whether anything was measured. If a flow could not be opened, nothing was, and figures are absent instead of 0. */
static inline bool kn_view_begun(const struct kn_view *v)
{
    return v->run->cpu_open.at_ns != 0;
}
static inline bool kn_view_is_tcp(const struct kn_view *v)
{
    return kn_spec_transport(v->spec) == KN_TCP;
}
static inline uint64_t kn_view_resent(const struct kn_view *v)
{
    return v->client.retransmits + v->server.retransmits;
}
static inline uint64_t kn_view_needless(const struct kn_view *v)
{
    return v->client.needless + v->server.needless;
}
static inline uint64_t kn_view_segments(const struct kn_view *v)
{
    return v->client.segments + v->server.segments;
}
static inline uint64_t kn_view_mss(const struct kn_view *v) /* the smaller of both ends; 0: unknown */
{
    uint64_t a = v->client.mss, b = v->server.mss;
    return a && b ? (a < b ? a : b) : a + b;
}

/* Values without a meaning are not written. */
void kn_put_real(json_t *to, const char *key, double value);
void kn_put_int(json_t *to, const char *key, uint64_t value);
void kn_put_ratio(json_t *to, const char *key, double a, double b);
static inline double kn_seconds(uint64_t ns)
{
    return (double)ns / (double)KN_NS_PER_S;
}

#endif
