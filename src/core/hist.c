#include "core/hist.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "core/json.h"

#define STEP_BITS 7
#define STEPS (1u << STEP_BITS)
#define TOP_BITS 44                               /* larger values are counted in the last bucket */
#define OVER ((TOP_BITS - STEP_BITS + 1) * STEPS) /* index of that bucket */
#define BUCKETS (OVER + 1)

struct kn_hist {
    uint64_t count, min, max;
    unsigned __int128 sum, sum_sq; /* sum_sq saturates after about 2^40 values of one hour */
    uint64_t buckets[BUCKETS];
};

static unsigned index_of(uint64_t value)
{
    if (value < 2 * STEPS)
        return (unsigned)value;
    if (value >> TOP_BITS)
        return OVER;
    unsigned shift = 63u - STEP_BITS - (unsigned)__builtin_clzll(value);
    return shift * STEPS + (unsigned)(value >> shift);
}

void kn_hist_bucket(unsigned index, uint64_t *low, uint64_t *width)
{
    if (index < 2 * STEPS) {
        *low = index;
        *width = 1;
    } else if (index < OVER) {
        unsigned shift = index / STEPS - 1;
        *low = (uint64_t)(index % STEPS + STEPS) << shift;
        *width = 1ull << shift;
    } else {
        *low = 1ull << TOP_BITS;
        *width = UINT64_MAX - *low;
    }
}

struct kn_hist *kn_hist_new(void)
{
    struct kn_hist *h = calloc(1, sizeof *h);
    if (h)
        h->min = UINT64_MAX;
    return h;
}

void kn_hist_free(struct kn_hist *h)
{
    free(h);
}

static unsigned __int128 add_saturating(unsigned __int128 a, unsigned __int128 b)
{
    unsigned __int128 sum = a + b;
    return sum < a ? ~(unsigned __int128)0 : sum;
}

void kn_hist_record(struct kn_hist *h, uint64_t value)
{
    kn_hist_record_n(h, value, 1);
}

void kn_hist_record_n(struct kn_hist *h, uint64_t value, uint64_t times)
{
    if (times == 0)
        return;
    unsigned __int128 square = (unsigned __int128)value * value;
    if (times > 1)
        square = square > ~(unsigned __int128)0 / times ? ~(unsigned __int128)0 : square * times;
    h->buckets[index_of(value)] += times;
    h->count += times;
    h->sum += (unsigned __int128)value * times;
    h->sum_sq = add_saturating(h->sum_sq, square);
    if (value < h->min)
        h->min = value;
    if (value > h->max)
        h->max = value;
}

void kn_hist_merge(struct kn_hist *into, const struct kn_hist *from)
{
    if (from->count == 0)
        return;
    for (unsigned i = 0; i < BUCKETS; i++)
        into->buckets[i] += from->buckets[i];
    into->count += from->count;
    into->sum += from->sum;
    into->sum_sq = add_saturating(into->sum_sq, from->sum_sq);
    if (from->min < into->min)
        into->min = from->min;
    if (from->max > into->max)
        into->max = from->max;
}

uint64_t kn_hist_count(const struct kn_hist *h)
{
    return h->count;
}

uint64_t kn_hist_min(const struct kn_hist *h)
{
    return h->count ? h->min : 0;
}

uint64_t kn_hist_max(const struct kn_hist *h)
{
    return h->max;
}

double kn_hist_mean(const struct kn_hist *h)
{
    return h->count ? (double)((long double)h->sum / (long double)h->count) : 0;
}

/* The sample's standard deviation (n - 1). The sums are exact; only the result is rounded to a long double. */
double kn_hist_stddev(const struct kn_hist *h)
{
    if (h->count < 2)
        return 0;
    long double n = (long double)h->count, mean = (long double)h->sum / n;
    long double variance = ((long double)h->sum_sq - mean * (long double)h->sum) / (n - 1);
    return variance > 0 ? sqrt((double)variance) : 0;
}

/* ceil(percent of n), at least 1. Tolerates rounding errors: 99.9 % of 1000 is 999.0000000000001 as a double. */
static uint64_t rank_of(double percent, uint64_t n)
{
    double exact = percent / 100 * (double)n;
    double rank = ceil(exact - exact * 1e-12);
    if (!(rank >= 1))
        return 1;
    return rank >= (double)n ? n : (uint64_t)rank;
}

static uint64_t middle_of(const struct kn_hist *h, unsigned index)
{
    uint64_t low, width;
    if (index == OVER)
        return h->max;
    kn_hist_bucket(index, &low, &width);
    uint64_t middle = low + width / 2;
    if (width == 1)
        middle = low;
    return middle < h->min ? h->min : middle > h->max ? h->max : middle;
}

uint64_t kn_hist_percentile(const struct kn_hist *h, double percent)
{
    if (h->count == 0)
        return 0;
    uint64_t rank = rank_of(percent, h->count), seen = 0;
    if (percent <= 0 || rank == 1)
        return h->min;
    if (rank == h->count)
        return h->max;
    for (unsigned i = index_of(h->min); i < BUCKETS; i++) {
        seen += h->buckets[i];
        if (seen >= rank)
            return middle_of(h, i);
    }
    return h->max;
}

/* ---- JSON ---- */

static json_t *u128_to_json(unsigned __int128 v)
{
    char text[40], *s = text + sizeof text;
    *--s = 0;
    do {
        *--s = (char)('0' + (int)(v % 10));
        v /= 10;
    } while (v);
    return json_string(s);
}

static int u128_from_json(const json_t *json, unsigned __int128 *out)
{
    const char *s = json_string_value(json);
    unsigned __int128 v = 0, most = ~(unsigned __int128)0;
    if (!s || *s == 0)
        return -1;
    for (; *s; s++) {
        if (*s < '0' || *s > '9')
            return -1;
        unsigned digit = (unsigned)(*s - '0');
        if (v > (most - digit) / 10)
            return -1;
        v = v * 10 + digit;
    }
    *out = v;
    return 0;
}

json_t *kn_hist_to_json(const struct kn_hist *h)
{
    json_t *buckets = json_array();
    unsigned long losses = kn_json_losses();
    for (unsigned i = 0; i < BUCKETS; i++)
        if (h->buckets[i])
            kn_json_append(buckets, json_pack("[i,o]", (int)i, kn_json_u64(h->buckets[i])));
    json_t *json = json_pack("{s:o,s:o,s:o,s:o,s:o,s:o}", "count", kn_json_u64(h->count), "min",
                             kn_json_u64(kn_hist_min(h)), "max", kn_json_u64(h->max), "sum", u128_to_json(h->sum),
                             "sum_sq", u128_to_json(h->sum_sq), "buckets", buckets);
    return kn_json_whole(json, losses);
}

/* Buckets must be in ascending order, with counts above 0 that add up to `count`. */
static int read_buckets(struct kn_hist *h, const json_t *buckets)
{
    uint64_t total = 0;
    json_int_t last = -1;
    size_t i;
    json_t *pair;
    json_array_foreach(buckets, i, pair)
    {
        const json_t *at = json_array_get(pair, 0);
        uint64_t index, n;
        if (json_array_size(pair) != 2 || kn_json_u64_get(at, &index) || kn_json_u64_get(json_array_get(pair, 1), &n))
            return -1;
        if (index >= BUCKETS || (json_int_t)index <= last || n == 0)
            return -1;
        if (__builtin_add_overflow(total, n, &total))
            return -1;
        h->buckets[index] = n;
        last = (json_int_t)index;
    }
    return total == h->count ? 0 : -1;
}

/* The exact figures must agree with the buckets, because they limit the percentiles. */
static bool is_plausible(const struct kn_hist *h)
{
    unsigned first = 0, last = BUCKETS - 1;
    if (h->count == 0)
        return h->max == 0 && h->sum == 0 && h->sum_sq == 0;
    while (h->buckets[first] == 0)
        first++;
    while (h->buckets[last] == 0)
        last--;
    return h->min <= h->max && index_of(h->min) == first && index_of(h->max) == last &&
           h->sum >= (unsigned __int128)h->min * h->count && h->sum <= (unsigned __int128)h->max * h->count;
}

struct kn_hist *kn_hist_from_json(const json_t *json, struct kn_error *err)
{
    struct kn_hist *h = kn_hist_new();
    const json_t *buckets = json_object_get(json, "buckets");
    if (!h)
        return kn_null(kn_fail_memory(err));
    h->count = h->min = h->max = 0;
    bool good = json_is_array(buckets) && kn_json_u64_member(json, "count", &h->count, err) == 0 &&
                kn_json_u64_member(json, "min", &h->min, err) == 0 &&
                kn_json_u64_member(json, "max", &h->max, err) == 0 &&
                u128_from_json(json_object_get(json, "sum"), &h->sum) == 0 &&
                u128_from_json(json_object_get(json, "sum_sq"), &h->sum_sq) == 0 && read_buckets(h, buckets) == 0 &&
                is_plausible(h);
    if (!good) {
        kn_fail(err, KN_E_PROTOCOL, "not a histogram");
        kn_hist_free(h);
        return NULL;
    }
    if (h->count == 0)
        h->min = UINT64_MAX;
    return h;
}

json_t *kn_hist_merge_json(const json_t *list, struct kn_error *err)
{
    struct kn_hist *sum = json_is_array(list) ? kn_hist_new() : NULL;
    size_t n = json_array_size(list);
    if (!sum)
        return kn_null(kn_fail(err, json_is_array(list) ? KN_E_MEMORY : KN_E_ARGUMENT,
                               json_is_array(list) ? "out of memory" : "expected a list of histograms"));
    size_t i = 0;
    for (; i < n; i++) {
        struct kn_hist *one = kn_hist_from_json(json_array_get(list, i), err);
        if (!one)
            break;
        kn_hist_merge(sum, one);
        kn_hist_free(one);
    }
    json_t *merged = i == n ? kn_hist_to_json(sum) : NULL;
    if (i == n && !merged)
        kn_fail_memory(err);
    kn_hist_free(sum);
    return merged;
}
