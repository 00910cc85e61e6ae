/* run/run - a client's side of one measurement: it connects, warms up, measures, collects what the servers report in
 * band, and gives one result.
 *
 * It is made of worker threads (min(flows, allowed CPUs)), each with a tally of its own; a controller thread keeps the
 * time. Network outcomes (refused, reset, timed out) during a run are counters; only what makes the run useless is an
 * error. A run in which nothing arrived is KN_E_NO_DATA, never a figure of 0. Nothing prints, exits or knows Lua. */
#ifndef KN_RUN_RUN_H
#define KN_RUN_RUN_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"
#include "core/spec.h"
#include "net/wire.h"

struct kn_target {
    char host[256]; /* name or address; resolved by the run */
    uint16_t port;
    struct kn_key key; /* of the agents; not used if the target is not an agent */
    char source[46];   /* local address of the client's sockets; "": the kernel chooses */
    char ca[16384];    /* PEM of the trusted certificate authorities; "": the system's, or the first target's */
    /* of one of several targets: */
    char name[64]; /* in the result; "": its host and port */
    double share;  /* of the flows, the rate and the count, in proportion to the others'; 0: 1 */
};
#define KN_TARGETS_MAX 64

enum kn_phase {
    KN_PHASE_NEW,
    KN_PHASE_CONNECT,
    KN_PHASE_WARMUP,
    KN_PHASE_MEASURE,
    KN_PHASE_COLLECT,
    KN_PHASE_DONE,
    KN_PHASE_FAILED
};

struct kn_progress {
    enum kn_phase phase;
    uint64_t elapsed_ns, total_ns;
    uint64_t ops, bytes; /* since the window opened */
};

struct kn_run;
/* `spec` must have been checked: parsed, or received. */
struct kn_run *kn_run_new(const struct kn_spec *spec, const struct kn_target *target, struct kn_error *err);
/* The same with several targets, each with its part of the flows (run/part.h). */
struct kn_run *kn_run_new_to(const struct kn_spec *spec, const struct kn_target *targets, unsigned n,
                             struct kn_error *err);
int kn_run_start(struct kn_run *run, struct kn_error *err); /* starts the threads and returns */
void kn_run_stop(struct kn_run *run);                       /* ends it now, from any thread; keeps what was measured */
void kn_run_progress(struct kn_run *run, struct kn_progress *out);
bool kn_run_wait(struct kn_run *run, uint64_t timeout_ns); /* true: it has ended, whatever the outcome */
/* Once over: {"ok":true, "metrics":{…}, "params":{…}, "chosen":{…}, "flags":[…],
 * "servers":[{"name","node","address"}…], "latency_histogram":{…}} or {"ok":false, "error":{"code","message"}, and what
 * was measured until then}. New reference. */
json_t *kn_run_result(struct kn_run *run);
void kn_run_free(struct kn_run *run); /* stops and joins first */

#endif
