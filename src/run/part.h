/* run/part - what a run does with one of its targets.
 *
 * A run has a part for each target, with its share of the flows, the threads, the rate and the count. A part is like a
 * run of its own: its workers talk to one target, and the servers see a run with its flows alone. Common to all parts
 * are the window, its end and the result. So a target that is slow or gone takes nothing from the others, and an
 * operation costs the same with one target as with several. */
#ifndef KN_RUN_PART_H
#define KN_RUN_PART_H

#include "core/spec.h"
#include "net/addr.h"
#include "run/run.h"
#include "run/source.h"

struct kn_part {
    struct kn_target target;
    struct kn_spec spec; /* the run's, with this part's flows, count and rate */
    double share;        /* of all, 0 to 1 */
    struct kn_addr peer;
    struct kn_sources sources;
    uint64_t id;         /* of the run, to this target's servers */
    unsigned first_flow; /* its flow 0 is this one of the run */
    unsigned n_workers;
    _Atomic uint64_t left;  /* operations of `count` that are left */
    _Atomic uint64_t first; /* kn_worker_first: the value plus one; 0: not set */
    _Atomic uint64_t transactions;
    _Atomic unsigned closing; /* of a short test: transactions of all workers; how many have ended their loops */
    /* under the run's lock: */
    bool lost; /* … because of `why` */
    struct kn_error why;
    uint64_t rx_bytes, ops, window_ns; /* as its servers counted them */
};

/* Makes run->parts of n targets. */
int kn_parts_new(struct kn_run *run, const struct kn_target *targets, unsigned n, struct kn_error *err);
/* Sets n_workers: `threads` in all, but at least one for each target. */
void kn_parts_threads(struct kn_run *run, unsigned threads);
/* Resolves the targets, and chooses the local addresses. */
int kn_parts_find(struct kn_run *run, struct kn_error *err);
#endif
