/* core/units - text to numbers and back: durations, sizes, rates, size lists.
 *
 * Everything that a person types as a quantity passes through here. It refuses what is negative, absurd, without a
 * meaning or longer than it says, and the message names the text and an example that would do. Locale-free. */
#ifndef KN_CORE_UNITS_H
#define KN_CORE_UNITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

/* "10s" "200ms" "1m30s" "50us" "2h" "1.5s"; a bare number is seconds. At most a year. */
int kn_duration_parse(const char *text, uint64_t *ns, struct kn_error *err);
/* "64" "4K" "1M" "2G" (powers of 1024, as qperf and iperf3 have them); "KiB" says it aloud, "kB" and "MB" are powers of
 * 1000. */
int kn_size_parse(const char *text, uint64_t *bytes, struct kn_error *err);
int kn_count_parse(const char *text, uint64_t *count, struct kn_error *err); /* "100000" "20k" "1M": powers of 1000 */

/* "20k/s" is events, "100M" "1Gbit/s" "500kbps" bits, "10MB/s" bytes (powers of 1000). Events are kept per 1000 s, so
 * that "0.5/s" is exact. One of the two numbers is 0; both for "0", which is no limit. */
struct kn_rate { uint64_t per_1000s; uint64_t bps; };
int kn_rate_parse(const char *text, struct kn_rate *rate, struct kn_error *err);

/* "1:256K:*64" "1:64K:*2" "96:1460:+64" "64" "1,64,4K": at most `most` sizes into `sizes`; returns their number or -1.
 * A range ends with its last step that is not above its end. */
int kn_size_list_parse(const char *text, uint64_t *sizes, size_t most, struct kn_error *err);

/* Three significant figures: "9.41 Gbit/s", "27.6 µs", "18.2 k/s", "64 KiB"; long times as "2m30s". Return `buf`, 16
 * bytes are enough. `ascii` writes us for µs. What is not finite comes out as "-". */
char *kn_format_duration(char *buf, size_t size, double ns, bool ascii);
char *kn_format_bits(char *buf, size_t size, double bps);
char *kn_format_size(char *buf, size_t size, uint64_t bytes);
char *kn_format_rate(char *buf, size_t size, double per_s);

/* The candidate nearest to `word` by edit distance (or that it is the beginning of), NULL where none is near: for "did
 * you mean …?". */
const char *kn_nearest(const char *word, const char *const *candidates, size_t n);

#endif
