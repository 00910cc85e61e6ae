/* The choice among arms, over turns that are made up: the clock and the bytes are the test's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/clock.h"
#include "run/tune.h"

#define MS KN_NS_PER_MS
#define ROUNDS 3
#define TURN (30 * MS)

/* Goes through all turns in steps of 1 ms. An arm moves its bytes a millisecond, times its share of the round. */
static int choose(unsigned arms, const uint64_t *per_ms, const double shares[][ROUNDS])
{
    struct kn_tuner t;
    uint64_t from = 1000 * MS, to = from + arms * ROUNDS * TURN, bytes = 0;
    int arm = 0, chosen = KN_TUNE_KEEP;
    kn_tuner_init(&t, arms, ROUNDS, from, to);
    assert_int_equal(kn_tuner_step(&t, from - MS, 0), KN_TUNE_KEEP); /* not yet */
    for (uint64_t now = from; now <= to && chosen == KN_TUNE_KEEP; now += MS) {
        unsigned round = (unsigned)((now - from) / TURN) / arms;
        int next = kn_tuner_step(&t, now, bytes);
        if (t.over)
            chosen = next;
        else if (next != KN_TUNE_KEEP)
            arm = next;
        double share = shares && round < ROUNDS ? shares[arm][round] : 1;
        bytes += (uint64_t)((double)per_ms[arm] * share);
    }
    assert_int_equal(kn_tuner_step(&t, to + MS, bytes), KN_TUNE_KEEP); /* it is frozen */
    return chosen;
}

static void the_fastest_is_taken(void **state)
{
    (void)state;
    assert_int_equal(choose(3, (const uint64_t[]){100000, 200000, 150000}, NULL), 1);
    assert_int_equal(choose(2, (const uint64_t[]){300000, 200000}, NULL), 0);
    assert_int_equal(choose(6, (const uint64_t[]){1000, 1000, 1000, 1000, 1000, 9000}, NULL), 5);
}

/* All turns of an arm count together: a burst that a buffer let go in one of them makes no winner. */
static void one_fast_turn_does_not_decide(void **state)
{
    static const double burst[2][ROUNDS] = {{1, 1, 1}, {0.3, 1.6, 0.3}};
    (void)state;
    assert_int_equal(choose(2, (const uint64_t[]){100000, 100000}, burst), 0);
}

static void one_arm_is_no_choice(void **state)
{
    struct kn_tuner t;
    (void)state;
    kn_tuner_init(&t, 1, ROUNDS, MS, 100 * MS);
    assert_true(t.over);
    kn_tuner_init(&t, 3, ROUNDS, MS, MS);
    assert_true(t.over);
    assert_int_equal(kn_tuner_step(&t, 2 * MS, 1), KN_TUNE_KEEP);
}

/* Whoever wakes up past the end has measured nothing: the first arm, which is the plain one. */
static void a_starved_thread_keeps_the_first(void **state)
{
    struct kn_tuner t;
    (void)state;
    kn_tuner_init(&t, 3, ROUNDS, MS, 100 * MS);
    assert_int_equal(kn_tuner_step(&t, 200 * MS, 12345), 0);
    assert_true(t.over);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_fastest_is_taken),
        cmocka_unit_test(one_fast_turn_does_not_decide),
        cmocka_unit_test(one_arm_is_no_choice),
        cmocka_unit_test(a_starved_thread_keeps_the_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
