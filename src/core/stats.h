/* core/stats - statistics of a few repeats, based on order and ranks. They assume no distribution.
 *
 * All functions are pure; those that sort work on a copy. Values that are not finite are an error. */
#ifndef KN_CORE_STATS_H
#define KN_CORE_STATS_H

#include <stddef.h>

#include "core/error.h"

struct kn_interval {
    double median, low, high;
    double confidence; /* the probability that [low, high] covers the true value */
};

/* The median, with the narrowest symmetric pair of order statistics that covers the true median with `confidence` (0 to
 * 1). The probability comes from the binomial distribution and is exact for any continuous distribution. If there are
 * too few values, the interval is the whole sample and out->confidence is lower. */
int kn_stats_median(const double *values, size_t n, double confidence, struct kn_interval *out, struct kn_error *err);

/* Two-sided Mann-Whitney U test: *p is the probability of ranks at least this uneven if both samples have the same
 * distribution. Up to KN_STATS_EXACT values in total it is exact, with ties too. For more values it uses the normal
 * approximation, corrected for ties and continuity. *p is 1 if one sample is empty or all values are equal. */
#define KN_STATS_EXACT 64
int kn_stats_rank_test(const double *a, size_t n_a, const double *b, size_t n_b, double *p, struct kn_error *err);

/* By how much b exceeds a: the median of all differences b - a (Hodges and Lehmann). The interval belongs to the rank
 * test: it excludes 0 if that test shows a difference. If there are too few values for `confidence`, it spans all
 * differences. */
#define KN_STATS_PAIRS 4000000
int kn_stats_shift(const double *a, size_t n_a, const double *b, size_t n_b, double confidence, struct kn_interval *out,
                   struct kn_error *err);

#endif
