#include "core/stats.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int check_finite(const double *values, size_t n, struct kn_error *err)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(values[i]))
            return kn_fail(err, KN_E_ARGUMENT, "value %zu is not a number", i + 1);
    return 0;
}

/* ---- the median ---- */

static double binomial_half(size_t n, size_t k)
{
    int sign;
    double all = lgamma_r((double)n + 1, &sign), these = lgamma_r((double)k + 1, &sign);
    return exp(all - these - lgamma_r((double)(n - k) + 1, &sign) - (double)n * 0.69314718055994530942);
}

/* Sets the interval's distance from each end, as an index from 0, and the probability that it covers. */
static size_t inner_rank(size_t n, double confidence, double *covered)
{
    size_t rank = 0;
    double below = binomial_half(n, 0);
    *covered = 1 - 2 * below;
    while (2 * (rank + 2) <= n) {
        below += binomial_half(n, rank + 1);
        if (1 - 2 * below < confidence)
            break;
        *covered = 1 - 2 * below;
        rank++;
    }
    if (*covered < 0)
        *covered = 0;
    return rank;
}

/* The median of the values, and those `rank` from both ends. Frees them. */
static void take_interval(double *values, size_t n, size_t rank, struct kn_interval *out)
{
    qsort(values, n, sizeof *values, compare);
    out->median = values[(n - 1) / 2] / 2 + values[n / 2] / 2;
    out->low = values[rank];
    out->high = values[n - 1 - rank];
    free(values);
}

int kn_stats_median(const double *values, size_t n, double confidence, struct kn_interval *out, struct kn_error *err)
{
    if (n == 0)
        return kn_fail(err, KN_E_ARGUMENT, "a median requires at least one value");
    if (!(confidence > 0 && confidence < 1))
        return kn_fail(err, KN_E_ARGUMENT, "confidence must be between 0 and 1, got %g", confidence);
    if (check_finite(values, n, err))
        return -1;
    double *sorted = malloc(n * sizeof *sorted);
    if (!sorted)
        return kn_fail_memory(err);
    memcpy(sorted, values, n * sizeof *sorted);
    take_interval(sorted, n, inner_rank(n, confidence, &out->confidence), out);
    return 0;
}

/* ---- ranks ---- */

struct ranked {
    double value;
    bool of_a;
};

static int compare_ranked(const void *a, const void *b)
{
    return compare(&((const struct ranked *)a)->value, &((const struct ranked *)b)->value);
}

/* Stores twice the middle rank of every value in order (integers even with ties), twice the rank sum of a, and the sum
 * of t^3 - t over the ties. */
static void rank_all(const struct ranked *sorted, size_t n, uint64_t *doubled, uint64_t *sum_a, double *ties)
{
    *sum_a = 0;
    *ties = 0;
    for (size_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && sorted[end].value == sorted[i].value;)
            end++;
        double t = (double)(end - i);
        *ties += t * t * t - t;
        for (size_t k = i; k < end; k++) {
            doubled[k] = i + 1 + end;
            if (sorted[k].of_a)
                *sum_a += doubled[k];
        }
    }
}

/* Counts the ways to choose m of n weights with the sum s, in [m * room + s]. The largest count is 64 choose 32, for
 * which a double is precise enough. NULL if out of memory. */
static double *count_ways(const uint64_t *weights, size_t n, size_t m, size_t room)
{
    double *ways = calloc((m + 1) * room, sizeof *ways);
    if (!ways)
        return NULL;
    ways[0] = 1;
    for (size_t i = 0; i < n; i++)
        for (size_t k = i + 1 < m ? i + 1 : m; k > 0; k--)
            for (size_t s = weights[i]; s < room; s++)
                ways[k * room + s] += ways[(k - 1) * room + s - weights[i]];
    return ways;
}

/* Of all ways to give m of the n ranks to one side, the share whose doubled sum is at least as far from the middle as
 * `sum`. */
static int exact_p(const uint64_t *doubled, size_t n, size_t m, uint64_t sum, double *p, struct kn_error *err)
{
    size_t room = m * 2 * n + 1;
    uint64_t middle = m * (n + 1), away = sum > middle ? sum - middle : middle - sum;
    double *ways = count_ways(doubled, n, m, room), all = 0, uneven = 0;
    if (!ways)
        return kn_fail_memory(err);
    for (size_t s = 0; s < room; s++) {
        double w = ways[m * room + s];
        all += w;
        if ((s > middle ? s - middle : middle - s) >= away)
            uneven += w;
    }
    free(ways);
    *p = uneven / all;
    return 0;
}

static double normal_p(double n_a, double n_b, uint64_t sum_a, double ties)
{
    double n = n_a + n_b, u = (double)sum_a / 2 - n_a * (n_a + 1) / 2;
    double variance = n_a * n_b / 12 * (n + 1 - ties / (n * (n - 1)));
    double away = fabs(u - n_a * n_b / 2) - 0.5;
    if (variance <= 0 || away <= 0)
        return 1;
    return erfc(away / sqrt(2 * variance));
}

static int test_ranked(struct ranked *all, uint64_t *doubled, size_t n_a, size_t n_b, double *p, struct kn_error *err)
{
    size_t n = n_a + n_b;
    uint64_t sum_a, total = n * (n + 1);
    double ties;
    qsort(all, n, sizeof *all, compare_ranked);
    rank_all(all, n, doubled, &sum_a, &ties);
    if (n <= KN_STATS_EXACT)
        return exact_p(doubled, n, n_a < n_b ? n_a : n_b, n_a < n_b ? sum_a : total - sum_a, p, err);
    *p = normal_p((double)n_a, (double)n_b, sum_a, ties);
    return 0;
}

int kn_stats_rank_test(const double *a, size_t n_a, const double *b, size_t n_b, double *p, struct kn_error *err)
{
    *p = 1;
    if (check_finite(a, n_a, err) || check_finite(b, n_b, err))
        return -1;
    if (n_a == 0 || n_b == 0)
        return 0;
    struct ranked *all = calloc(n_a + n_b, sizeof *all);
    uint64_t *doubled = calloc(n_a + n_b, sizeof *doubled);
    int result = all && doubled ? 0 : kn_fail_memory(err);
    if (result == 0) {
        for (size_t i = 0; i < n_a; i++)
            all[i] = (struct ranked){a[i], true};
        for (size_t i = 0; i < n_b; i++)
            all[n_a + i] = (struct ranked){b[i], false};
        result = test_ranked(all, doubled, n_a, n_b, p, err);
    }
    free(all);
    free(doubled);
    return result;
}

/* ---- the shift between two samples ---- */

/* How many of the n_a * n_b differences can be cut off at each end so that the rest still covers with `confidence`,
 * from the distribution of U for two samples of the same distribution. */
static int inner_difference(size_t n_a, size_t n_b, double confidence, size_t *rank, double *covered,
                            struct kn_error *err)
{
    size_t n = n_a + n_b, least = n_a * (n_a - 1) / 2, room = n_a * n + 1;
    uint64_t positions[KN_STATS_EXACT];
    double *ways, all = 0, below = 0;
    for (size_t i = 0; i < n; i++)
        positions[i] = i;
    if (!(ways = count_ways(positions, n, n_a, room)))
        return kn_fail_memory(err);
    for (size_t s = 0; s < room; s++)
        all += ways[n_a * room + s];
    *rank = 0;
    *covered = 1 - 2 / all;
    for (size_t u = 0; 2 * u < n_a * n_b; u++) {
        below += ways[n_a * room + least + u] / all;
        if (1 - 2 * below < confidence)
            break;
        *rank = u;
        *covered = 1 - 2 * below;
    }
    free(ways);
    if (*covered < 0)
        *covered = 0;
    return 0;
}

/* The same with the normal approximation. Inverts the error function by bisection. */
static void inner_of_many(double n_a, double n_b, double confidence, size_t *rank, double *covered)
{
    double low = 0, high = 40, cut;
    for (int i = 0; i < 80; i++) {
        double z = (low + high) / 2;
        if (erf(z / sqrt(2)) < confidence)
            low = z;
        else
            high = z;
    }
    cut = n_a * n_b / 2 - high * sqrt(n_a * n_b * (n_a + n_b + 1) / 12) - 0.5;
    *rank = cut > 0 ? (size_t)cut : 0;
    *covered = confidence;
}

int kn_stats_shift(const double *a, size_t n_a, const double *b, size_t n_b, double confidence, struct kn_interval *out,
                   struct kn_error *err)
{
    size_t rank, n = n_a * n_b;
    if (n == 0)
        return kn_fail(err, KN_E_ARGUMENT, "both sides require at least one value");
    if (!(confidence > 0 && confidence < 1))
        return kn_fail(err, KN_E_ARGUMENT, "confidence must be between 0 and 1, got %g", confidence);
    if (n / n_a != n_b || n > KN_STATS_PAIRS)
        return kn_fail(err, KN_E_ARGUMENT, "too many values to compare pairwise: %zu and %zu", n_a, n_b);
    if (check_finite(a, n_a, err) || check_finite(b, n_b, err))
        return -1;
    if (n_a + n_b > KN_STATS_EXACT)
        inner_of_many((double)n_a, (double)n_b, confidence, &rank, &out->confidence);
    else if (inner_difference(n_a, n_b, confidence, &rank, &out->confidence, err))
        return -1;
    double *differences = malloc(n * sizeof *differences);
    if (!differences)
        return kn_fail_memory(err);
    for (size_t i = 0; i < n_a; i++)
        for (size_t j = 0; j < n_b; j++)
            differences[i * n_b + j] = b[j] - a[i];
    take_interval(differences, n, rank, out);
    return 0;
}
