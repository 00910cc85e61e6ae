/* The change-point test: steps that are there are found, noise of any kind is left alone at the rate that is promised.
 */
#include "check.h"

#include <math.h>

#include "core/step.h"

#define ROUNDS 4000

static double normal(struct random *r)
{
    return sqrt(-2 * log(1 - random_unit(r))) * cos(6.283185307179586 * random_unit(r));
}

/* ---- noise around 1 ---- */

enum noise { NORMAL, UNIFORM, SKEWED, HEAVY, SPIKES, FEW_VALUES, DRIFTING, NOISES };

static double heavy(struct random *r)
{
    double z = normal(r), chi = 0;
    for (int i = 0; i < 2; i++) {
        double g = normal(r);
        chi += g * g;
    }
    return z / sqrt(chi / 2); /* Student's t of two degrees: no variance at all */
}

static void fill(enum noise kind, struct random *r, double *values, size_t n)
{
    double last = 0;
    for (size_t i = 0; i < n; i++) {
        last = 0.5 * last + sqrt(0.75) * normal(r); /* each remembers half of the one before */
        values[i] = kind == NORMAL       ? 1 + 0.1 * normal(r)
                    : kind == UNIFORM    ? random_unit(r)
                    : kind == SKEWED     ? exp(normal(r))
                    : kind == HEAVY      ? 1 + 0.1 * heavy(r)
                    : kind == SPIKES     ? (random_unit(r) < 0.1 ? 0.1 : 1) + 0.01 * normal(r)
                    : kind == FEW_VALUES ? floor(3 * random_unit(r))
                                         : 1 + 0.1 * last;
    }
}

static void false_alarms_are_rarer_than_promised(void **state)
{
    static const size_t sizes[] = {16, 20, 60, 240};
    (void)state;
    struct random r = {4711};
    double values[240];
    for (int kind = 0; kind < NOISES; kind++)
        for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
            int alarms = 0, rounds = sizes[k] > 100 ? ROUNDS / 4 : ROUNDS;
            struct kn_step step;
            for (int i = 0; i < rounds; i++) {
                fill((enum noise)kind, &r, values, sizes[k]);
                alarms += kn_step_find(values, sizes[k], &step);
            }
            if (alarms > rounds * KN_STEP_ALPHA)
                fail_msg("noise %d, %zu values: %d of %d", kind, sizes[k], alarms, rounds);
        }
}

static void a_step_is_found_where_it_is(void **state)
{
    (void)state;
    struct random r = {42};
    double values[100];
    int found = 0, near = 0;
    for (int round = 0; round < 1000; round++) {
        size_t n = round % 2 ? 20 : 100, at = n * 2 / 5 + random_next(&r) % (n / 5);
        double to = round % 3 ? 0.5 : 2;
        struct kn_step step;
        fill(NORMAL, &r, values, n);
        for (size_t i = at; i < n; i++)
            values[i] *= to;
        if (!kn_step_find(values, n, &step))
            continue;
        found++;
        near += step.at + 1 >= at && step.at <= at + 1;
        assert_true(fabs(step.before - 1) < 0.2 && fabs(step.after - to) < 0.4);
    }
    assert_true(found > 950);
    assert_true(near > 900);
}

static void what_is_no_step(void **state)
{
    (void)state;
    struct kn_step step;
    double values[64] = {0};
    for (size_t n = 0; n < 64; n++) {
        for (size_t i = 0; i < n; i++)
            values[i] = 7;
        assert_false(kn_step_find(values, n, &step)); /* nothing changes */
        for (size_t i = 0; i < n; i++)
            values[i] = i < n / 2 ? 1 : 1.1;
        assert_false(kn_step_find(values, n, &step)); /* too little */
        for (size_t i = 0; i < n; i++)
            values[i] = i == 0 ? 0 : 1;
        assert_false(kn_step_find(values, n, &step)); /* a slow start */
        for (size_t i = 0; i < n; i++)
            values[i] = i < n / 2 ? 1 : 2;
        assert_int_equal(kn_step_find(values, n, &step), n >= KN_STEP_LEAST);
    }
    for (size_t i = 0; i < 64; i++)
        values[i] = i < 32 ? 1 : 0; /* nothing comes any more */
    assert_true(kn_step_find(values, 64, &step));
    assert_int_equal(step.at, 32);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(false_alarms_are_rarer_than_promised),
        cmocka_unit_test(a_step_is_found_where_it_is),
        cmocka_unit_test(what_is_no_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
