/* meter/stacks - where a machine's CPUs spend their time: samples of what each was doing, with the stacks of kernel and
 * user, for a while.
 *
 * perf_event_open on every CPU: the cycle counter where the machine has one, else the CPU's clock. A thread of its own
 * empties the rings, names what it finds and folds it into a tree; its memory is bounded, and what did not fit or got
 * lost is counted. It sees the machine, not a process: each process is a root of the tree. Where it is not permitted it
 * says what is missing. */
#ifndef KN_METER_STACKS_H
#define KN_METER_STACKS_H

#include <jansson.h>
#include <stdint.h>

#include "core/error.h"

#define KN_STACKS_HZ 99             /* not 100: out of step with what happens a hundred times a second */
#define KN_STACKS_HZ_MAX 10000

struct kn_stacks_options {
    unsigned hz;                    /* samples a second on each CPU; 0: KN_STACKS_HZ */
    uint64_t after_ns;              /* so much later it begins: a warm-up is not what was measured */
    uint64_t for_ns;                /* and lasts so long; 0: until it is stopped */
};

struct kn_stacks;
/* Ready and running when it returns. KN_E_PERMISSION and KN_E_UNSUPPORTED say what would allow it. */
struct kn_stacks *kn_stacks_start(const struct kn_stacks_options *options, struct kn_error *err);
/* Ends it and gives what was found; once:
 *   {"event":"cpu-clock","hz":99,"cpus":2,"duration_s":10.0,"busy_s":19.8,"samples":1980,"idle":12,
 *    "lost":0,"cut":0.01,"frames":["client","tcp_sendmsg",…],"kinds":"pk…","parents":[0,1,…],"names":[0,1,…],
 *    "counts":[0,12,…],"missing":["…"]}
 * `samples` are all that were taken, `idle` those of them that found a CPU idle; `lost` could not be kept up with;
 * `busy_s` is the time of all CPUs that the busy ones stand for. The
 * tree is three lists: node i (from 1) hangs below node parents[i] (0 is the root), shows the frame names[i] (from 0;
 * `kinds` has a letter for each: process, kernel, user) and was itself on top in counts[i] samples. `cut` is the share
 * of the busy samples that small branches were shortened of; what is shortened counts for the node above. NULL: out of
 * memory. */
json_t *kn_stacks_stop(struct kn_stacks *stacks);
void kn_stacks_free(struct kn_stacks *stacks);      /* ends it too; takes NULL */

/* Whether it would be permitted. */
int kn_stacks_probe(struct kn_error *err);

#endif
