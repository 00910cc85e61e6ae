/* core/stats - what a handful of repeats says: order statistics and ranks, without assuming any distribution.
 *
 * All functions are pure; those that sort work on a copy. A value that is not finite is refused: it is no sample. */
#ifndef KN_CORE_STATS_H
#define KN_CORE_STATS_H

#include <stddef.h>

#include "core/error.h"

struct kn_interval {
    double median, low, high;
    double confidence; /* what [low, high] really covers: at least what was asked, less where values are too few */
};

/* The median, and the innermost symmetric pair of order statistics that covers the true median with `confidence`
 * (within 0 to 1): the binomial argument, exact for any continuous distribution. Where the whole sample is too small
 * for that it is the interval, and `confidence` says less. */
int kn_stats_median(const double *values, size_t n, double confidence, struct kn_interval *out, struct kn_error *err);

/* Mann-Whitney U, two-sided: the probability of ranks as uneven as these if both came from one distribution. Exact,
 * with ties too (over all ways to part the ranks), while both together are at most KN_STATS_EXACT; beyond it the normal
 * approximation with the corrections for ties and continuity. 1 where one side is empty or all values are equal. */
#define KN_STATS_EXACT 64
int kn_stats_rank_test(const double *a, size_t n_a, const double *b, size_t n_b, double *p, struct kn_error *err);

/* How far b lies above a: the median of all differences b - a (Hodges and Lehmann), and the interval around it that goes
 * with the rank test: it leaves out 0 where that test would show a difference. Like the median's, it is all there is
 * where the values are too few for `confidence`. */
#define KN_STATS_PAIRS 4000000
int kn_stats_shift(const double *a, size_t n_a, const double *b, size_t n_b, double confidence, struct kn_interval *out,
                   struct kn_error *err);

#endif
