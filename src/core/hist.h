/* core/hist - a histogram of 64-bit values (nanoseconds, as a rule) with an error of less than 1 %.
 *
 * Log-linear: each power of two has 128 linear buckets, so a bucket is at most 0.79 % wide and its middle is at most
 * 0.4 % away from any value in it. Values below 256 are exact, and so are minimum, maximum, sum and sum of squares.
 * Recording takes a few instructions and never allocates. Values above 2^44 ns (4.9 hours) are counted in the last
 * bucket. Not thread-safe: each thread has its own histogram, and they are merged when the threads are joined. */
#ifndef KN_CORE_HIST_H
#define KN_CORE_HIST_H

#include <jansson.h>
#include <stdint.h>

#include "core/error.h"

struct kn_hist;

struct kn_hist *kn_hist_new(void); /* NULL if out of memory */
void kn_hist_free(struct kn_hist *h);
void kn_hist_record(struct kn_hist *h, uint64_t value);
void kn_hist_record_n(struct kn_hist *h, uint64_t value, uint64_t times);
void kn_hist_merge(struct kn_hist *into, const struct kn_hist *from);

uint64_t kn_hist_count(const struct kn_hist *h);
uint64_t kn_hist_min(const struct kn_hist *h); /* this and the functions below return 0 if it is empty */
uint64_t kn_hist_max(const struct kn_hist *h);
double kn_hist_mean(const struct kn_hist *h);
double kn_hist_stddev(const struct kn_hist *h);
/* The value that `percent` (0 to 100) of the recorded values do not exceed; within [min, max]. */
uint64_t kn_hist_percentile(const struct kn_hist *h, double percent);

/* {"count":…, "min":…, "max":…, "sum":"…", "sum_sq":…, "buckets":[[index, count], …]}: the form on the wire and in the
 * ledger. */
json_t *kn_hist_to_json(const struct kn_hist *h);
struct kn_hist *kn_hist_from_json(const json_t *json, struct kn_error *err);
/* The lower bound and the width of a bucket. */
void kn_hist_bucket(unsigned index, uint64_t *low, uint64_t *width);

/* Merges a list of histograms, [{…}, …], into one, {…}. */
json_t *kn_hist_merge_json(const json_t *list, struct kn_error *err);

#endif
