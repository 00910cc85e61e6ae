/* core/units - parses and formats durations, sizes, counts, rates and lists of sizes, independent of the locale.
 *
 * Negative numbers, unknown units and values out of range are errors. The message contains the text and a valid
 * example. */
#ifndef KN_CORE_UNITS_H
#define KN_CORE_UNITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

/* "10s" "200ms" "1m30s" "50us" "2h" "1.5s"; a bare number is in seconds. At most a year. */
int kn_duration_parse(const char *text, uint64_t *ns, struct kn_error *err);
/* "64" "4K" "1M" "2G" are powers of 1024, as in qperf and iperf3, and so is "KiB"; "kB" and "MB" are powers of 1000. */
int kn_size_parse(const char *text, uint64_t *bytes, struct kn_error *err);
int kn_count_parse(const char *text, uint64_t *count, struct kn_error *err); /* "100000" "20k" "1M": powers of 1000 */

/* "20k/s" is a rate of events, "100M" "1Gbit/s" "500kbps" of bits, "10MB/s" of bytes (powers of 1000). Events are
 * stored per 1000 s, so "0.5/s" is exact. One of the two members is 0; for "0", no limit, both are. */
struct kn_rate {
    uint64_t per_1000s;
    uint64_t bps;
};
int kn_rate_parse(const char *text, struct kn_rate *rate, struct kn_error *err);

/* "1:256K:*64" "1:64K:*2" "96:1460:+64" "64" "1,64,4K": stores at most `most` sizes and returns their number, or
 * -1. A range includes its end only if a step reaches it. */
int kn_size_list_parse(const char *text, uint64_t *sizes, size_t most, struct kn_error *err);

/* Three significant figures: "9.41 Gbit/s", "27.6 µs", "18.2 k/s", "64 KiB"; long times as "2m30s". Return `buf`;
 * 16 bytes are enough. `ascii` writes us for µs. Values that are not finite are written as "-". */
char *kn_format_duration(char *buf, size_t size, double ns, bool ascii);
char *kn_format_bits(char *buf, size_t size, double bps);
char *kn_format_size(char *buf, size_t size, uint64_t bytes);
char *kn_format_rate(char *buf, size_t size, double per_s);

/* The candidate most similar to `word` by edit distance, or that begins with `word`; NULL if there is none. For
 * "did you mean …?". */
const char *kn_nearest(const char *word, const char *const *candidates, size_t n);

#endif
