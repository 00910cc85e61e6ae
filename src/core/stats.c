#include "core/stats.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define EXACT_MAX 60

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* ---- the median ---------------------------------------------------------------------------------------------------- */

/* The chance that fewer than `k` of n values lie below the median, which is that of fewer than k heads in n tosses. */
static double tail(size_t n, size_t k)
{
    double sum = 0;
    for (size_t i = 0; i < k; i++)
        sum += exp(lgamma((double)n + 1) - lgamma((double)i + 1) - lgamma((double)(n - i) + 1) - (double)n * log(2));
    return sum;
}

/* The largest k for which the k-th value from either end still leaves less than 1 - confidence outside. */
static size_t rank_of(size_t n, double confidence)
{
    size_t k = 0;
    while (2 * (k + 1) <= n && 2 * tail(n, k + 1) <= 1 - confidence)
        k++;
    return k;
}

int kn_median_interval(const double *values, size_t n, double confidence, double *median, double *low, double *high)
{
    double *sorted = n ? malloc(n * sizeof *sorted) : NULL;
    if (!sorted)
        return -1;
    memcpy(sorted, values, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, compare);
    size_t k = rank_of(n, confidence);
    *median = (sorted[(n - 1) / 2] + sorted[n / 2]) / 2;
    *low = sorted[k ? k - 1 : 0];
    *high = sorted[k ? n - k : n - 1];
    free(sorted);
    return k ? 0 : 1;
}

/* ---- the rank test ------------------------------------------------------------------------------------------------- */

struct ranked { double value; bool of_a; unsigned rank2; /* twice the rank: ties share the mean of theirs */ };

static int compare_ranked(const void *a, const void *b) { return compare(&((const struct ranked *)a)->value, &((const struct ranked *)b)->value); }

/* Gives everyone a rank; returns the sum of t^3 - t over the ties of t values. */
static double give_ranks(struct ranked *r, size_t n)
{
    double ties = 0;
    for (size_t i = 0, j; i < n; i = j) {
        for (j = i + 1; j < n && !(r[j].value > r[i].value); j++)
            ;
        for (size_t k = i; k < j; k++)
            r[k].rank2 = (unsigned)(i + 1 + j);
        double t = (double)(j - i);
        ties += t * t * t - t;
    }
    return ties;
}

/* Counts, over all ways to choose na of the n ranks, those whose sum is at least as far from its mean as `sum2` is. */
static double exact(const struct ranked *r, size_t n, size_t na, unsigned sum2)
{
    size_t top = n * (n + 1), width = top + 1; /* no sum of doubled ranks exceeds it */
    double *ways = calloc((na + 1) * width, sizeof *ways), all = 0, far = 0;
    if (!ways)
        return 1;
    ways[0] = 1;
    for (size_t i = 0; i < n; i++)
        for (size_t k = na < i + 1 ? na : i + 1; k > 0; k--)
            for (size_t s = r[i].rank2; s <= top; s++)
                ways[k * width + s] += ways[(k - 1) * width + s - r[i].rank2];
    double mean2 = (double)na * (double)(n + 1), distance = fabs((double)sum2 - mean2);
    for (size_t s = 0; s <= top; s++) {
        all += ways[na * width + s];
        if (fabs((double)s - mean2) >= distance)
            far += ways[na * width + s];
    }
    free(ways);
    return far / all;
}

static double approximate(size_t na, size_t nb, double ties, unsigned long long sum2)
{
    double a = (double)na, b = (double)nb, n = a + b;
    double variance = a * b / 12 * (n + 1 - ties / (n * (n - 1)));
    double distance = fabs((double)sum2 / 2 - a * (n + 1) / 2) - 0.5;
    return variance > 0 && distance > 0 ? erfc(distance / sqrt(2 * variance)) : 1;
}

double kn_rank_test(const double *a, size_t na, const double *b, size_t nb)
{
    size_t n = na + nb;
    struct ranked *r = na && nb ? malloc(n * sizeof *r) : NULL;
    if (!r)
        return 1;
    for (size_t i = 0; i < n; i++)
        r[i] = (struct ranked){ .value = i < na ? a[i] : b[i - na], .of_a = i < na };
    qsort(r, n, sizeof *r, compare_ranked);
    double ties = give_ranks(r, n);
    unsigned long long sum2 = 0;
    for (size_t i = 0; i < n; i++)
        sum2 += r[i].of_a ? r[i].rank2 : 0;
    double p = n <= EXACT_MAX ? exact(r, n, na, (unsigned)sum2) : approximate(na, nb, ties, sum2);
    free(r);
    return p < 1 ? p : 1;
}
