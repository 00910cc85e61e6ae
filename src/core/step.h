/* core/step - detects a change of level in a series with Pettitt's change-point test. The test finds the point where
 * the ranks before and after differ most, and the probability of such a difference if the order of the values is
 * random.
 *
 * A step is reported if that probability is below KN_STEP_ALPHA and the levels (medians) differ by at least a fifth and
 * by at least three times the scatter around them. The first condition keeps false alarms under 1 % for any
 * distribution of noise; the others do so for noise that drifts. */
#ifndef KN_CORE_STEP_H
#define KN_CORE_STEP_H

#include <stdbool.h>
#include <stddef.h>

#define KN_STEP_LEAST 16 /* fewer values cannot reach KN_STEP_ALPHA */
#define KN_STEP_ALPHA 0.01
#define KN_STEP_SHARE 0.2
#define KN_STEP_SCATTER 3.0

struct kn_step {
    size_t at;            /* index of the first value of the new level */
    double before, after; /* medians */
    double p;
};
/* The values must be finite. Also returns false if out of memory. */
bool kn_step_find(const double *values, size_t n, struct kn_step *step);

#endif
