/* core/step - did a series change its level in the middle? A change-point test of Pettitt's kind: where the ranks before
 * and after a point differ most, and how likely so large a difference is if there is no order in the values at all.
 *
 * A step is reported where chance explains it in less than KN_STEP_ALPHA of the cases, and where it matters: the levels
 * (medians) differ by a fifth and by three times what the values scatter around them. The bound on p alone keeps false
 * alarms under 1 % whatever the noise is distributed like; the other two keep them there for noise that drifts. */
#ifndef KN_CORE_STEP_H
#define KN_CORE_STEP_H

#include <stdbool.h>
#include <stddef.h>

#define KN_STEP_LEAST 16     /* fewer values show nothing at that level */
#define KN_STEP_ALPHA 0.01
#define KN_STEP_SHARE 0.2
#define KN_STEP_SCATTER 3.0

struct kn_step {
    size_t at;               /* the first value of the new level */
    double before, after;    /* medians */
    double p;
};
/* Takes finite values. False too where there is no memory. */
bool kn_step_find(const double *values, size_t n, struct kn_step *step);

#endif
