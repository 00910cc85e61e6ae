/* engines/result - what the parts of a run's result share: result.c puts it together of metrics (result_metrics.c, with those of the CPUs in
 * result_cpu.c) and flags (result_flags.c). What was not measured is left out; nothing is ever NaN. */
#ifndef KN_ENGINES_RESULT_H
#define KN_ENGINES_RESULT_H

#include "core/json.h"
#include "engines/run.h"

/* What is reckoned from both sides. */
struct kn_view {
    const struct kn_run *run;
    const struct kn_spec *spec;
    struct kn_figures client, server;
    const struct kn_figures *sender, *receiver; /* of the bulk; NULL where a test has none */
    struct kn_figures both;         /* of a test in both directions: what both ends received; else empty */
    uint64_t rx_bytes, ops, window_ns;
};

/* `cpu` is here and below what kn_cpu_between tells of the client's end. */
json_t *kn_result_metrics(const struct kn_view *v, const json_t *cpu);
json_t *kn_result_flags(const struct kn_view *v, const json_t *metrics, const json_t *cpu);

void kn_result_put_cpu(json_t *metrics, const struct kn_view *v, const json_t *cpu);
/* Whether other programs had a notable share of a machine that an end is on. */
bool kn_result_cpus_shared(const struct kn_view *v, const json_t *cpu);

/* Whether anything was measured at all. Where a flow could not be opened nothing was, and no figure is 0 of it. */
static inline bool kn_view_begun(const struct kn_view *v) { return v->run->cpu_open.at_ns != 0; }
static inline bool kn_view_is_tcp(const struct kn_view *v)
{
    return v->spec->test != KN_UDP_STREAM && v->spec->test != KN_UDP_RR && v->spec->test != KN_PING;
}
static inline uint64_t kn_view_resent(const struct kn_view *v) { return v->client.retransmits + v->server.retransmits; }
static inline uint64_t kn_view_segments(const struct kn_view *v) { return v->client.segments + v->server.segments; }
static inline uint64_t kn_view_mss(const struct kn_view *v) /* the less of both ends; 0: unknown */
{
    uint64_t a = v->client.mss, b = v->server.mss;
    return a && b ? (a < b ? a : b) : a + b;
}

/* A value that means nothing is not written. */
void kn_put_real(json_t *to, const char *key, double value);
void kn_put_int(json_t *to, const char *key, uint64_t value);
void kn_put_ratio(json_t *to, const char *key, double a, double b);
static inline double kn_seconds(uint64_t ns) { return (double)ns / (double)KN_NS_PER_S; }

#endif
