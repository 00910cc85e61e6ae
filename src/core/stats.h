/* core/stats - what a few repeated figures show: medians with their interval, and whether two lists differ.
 *
 * Nothing is assumed of how the figures are spread: the interval comes from the order of the values, the test from their ranks. */
#ifndef KN_CORE_STATS_H
#define KN_CORE_STATS_H

#include <stddef.h>

/* The median, and the narrowest pair of values around it that covers the true median with `confidence` (0.95). Returns 0; 1 where so few
 * values cannot show that much (under 6 for 0.95): low and high are then the least and the greatest; -1 for no values or no memory. */
int kn_median_interval(const double *values, size_t n, double confidence, double *median, double *low, double *high);

/* Mann-Whitney U, two-sided: the chance to see lists at least this far apart where there is no difference. Exact, ties included, up to
 * 60 values in all; the normal approximation with its corrections above. 1 where a list is empty. */
double kn_rank_test(const double *a, size_t na, const double *b, size_t nb);

#endif
