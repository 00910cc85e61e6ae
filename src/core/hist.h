/* core/hist - a histogram of 64-bit values (nanoseconds, as a rule) with under 1 % error, mergeable.
 *
 * Log-linear: 128 linear steps in every power of two, so that a bucket is at most 1/128 wide (0.79 %) and its middle
 * at most 0.4 % away from any value in it; values below 256 are exact. Minimum, maximum, sum and sum of squares are
 * kept exactly beside it. Recording is a few instructions and never allocates. It refuses nothing: values above
 * 2^44 ns (4.9 hours) are counted in the last bucket and keep their exact maximum. Not thread-safe: one a thread,
 * merged at the join. */
#ifndef KN_CORE_HIST_H
#define KN_CORE_HIST_H

#include <jansson.h>
#include <stdint.h>

#include "core/error.h"

struct kn_hist;

struct kn_hist *kn_hist_new(void); /* NULL: out of memory */
void kn_hist_free(struct kn_hist *h);
void kn_hist_record(struct kn_hist *h, uint64_t value);
void kn_hist_record_n(struct kn_hist *h, uint64_t value, uint64_t times);
void kn_hist_merge(struct kn_hist *into, const struct kn_hist *from);

uint64_t kn_hist_count(const struct kn_hist *h);
uint64_t kn_hist_min(const struct kn_hist *h); /* 0 where it is empty; so for all below */
uint64_t kn_hist_max(const struct kn_hist *h);
double kn_hist_mean(const struct kn_hist *h);
double kn_hist_stddev(const struct kn_hist *h);
/* The value below or at which `percent` (0 to 100) of the recorded values lie; within [min, max]. */
uint64_t kn_hist_percentile(const struct kn_hist *h, double percent);

/* {"count":…, "min":…, "max":…, "sum":"…", "sum_sq":…, "buckets":[[index, count], …]}: what travels and what the ledger
 * keeps. */
json_t *kn_hist_to_json(const struct kn_hist *h);
struct kn_hist *kn_hist_from_json(const json_t *json, struct kn_error *err);
/* The lower bound and the width of a bucket, for whoever draws it. */
void kn_hist_bucket(unsigned index, uint64_t *low, uint64_t *width);

#endif
