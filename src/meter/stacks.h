/* meter/stacks - a profile: samples of the stacks, kernel and user, of all CPUs of the machine.
 *
 * It uses perf_event_open on every CPU, with the cycle counter if the machine has one, else the CPU clock. A thread
 * drains the rings and folds the stacks into a tree of bounded size; samples that were lost or cut are counted. It
 * covers all processes, each a root of the tree. Without permission it says what is missing. */
#ifndef KN_METER_STACKS_H
#define KN_METER_STACKS_H

#include <jansson.h>
#include <stdint.h>

#include "core/error.h"

#define KN_STACKS_HZ 99 /* not 100, to avoid lockstep with timers of 100 Hz */
#define KN_STACKS_HZ_MAX 10000

struct kn_stacks_options {
    unsigned hz;       /* samples a second on each CPU; 0: KN_STACKS_HZ */
    uint64_t after_ns; /* delay before it begins, for a warm-up */
    uint64_t for_ns;   /* duration; 0: until it is stopped */
};

struct kn_stacks;
/* Running when it returns. The messages of KN_E_PERMISSION and KN_E_UNSUPPORTED say what would allow it. */
struct kn_stacks *kn_stacks_start(const struct kn_stacks_options *options, struct kn_error *err);
/* Ends it and returns the result; may be called once:
 *   {"event":"cpu-clock","hz":99,"cpus":2,"duration_s":10.0,"busy_s":19.8,"samples":1980,"idle":12,
 *    "lost":0,"cut":0.01,"frames":["client","tcp_sendmsg",…],"kinds":"pk…","parents":[0,1,…],"names":[0,1,…],
 *    "counts":[0,12,…],"missing":["…"]}
 * `samples` counts all samples, `idle` those of an idle CPU, and `lost` those that the ring had no room for; `busy_s`
 * is the busy time of all CPUs. The tree is three lists: node i (from 1) is a child of node parents[i] (0 is the root),
 * has the frame names[i] (from 0; `kinds` has a letter for each: process, kernel, user) and was the innermost in
 * counts[i] samples. `cut` is the share of busy samples that were moved from small branches to the node above. NULL:
 * out of memory. */
json_t *kn_stacks_stop(struct kn_stacks *stacks);
void kn_stacks_free(struct kn_stacks *stacks); /* ends it too; takes NULL */

/* Whether a profile is permitted. */
int kn_stacks_probe(struct kn_error *err);

#endif
