/* What clocks say of one another. A clock that really jumps would be the machine's own, and everyone's on it: the
 * readings here are made up, but for one pair. */
#include "check.h"

#include "core/clock.h"

#define S KN_NS_PER_S
#define MS KN_NS_PER_MS

static const struct kn_clocks from = {
    .now_ns = 100 * S, .wall_ns = 1700000000 * S, .boot_ns = 150 * S, .spread_ns = 100};

/* A second later by CLOCK_MONOTONIC. */
static struct kn_clocks later(int64_t wall_ns, int64_t boot_ns, uint64_t spread_ns)
{
    return (struct kn_clocks){.now_ns = from.now_ns + S,
                              .wall_ns = from.wall_ns + S + (uint64_t)wall_ns,
                              .boot_ns = from.boot_ns + S + (uint64_t)boot_ns,
                              .spread_ns = spread_ns};
}

static void a_jump_is_seen(void **state)
{
    (void)state;
    static const int64_t jumps[] = {3600 * (int64_t)S, (int64_t)S, 11 * (int64_t)MS, -11 * (int64_t)MS,
                                    -86400 * (int64_t)S};
    for (size_t i = 0; i < sizeof jumps / sizeof *jumps; i++) {
        struct kn_clocks to = later(jumps[i], 0, 100);
        assert_true(kn_clocks_jump_ns(&from, &to) == jumps[i]);
        assert_int_equal(kn_clocks_asleep_ns(&from, &to), 0);
    }
}

static void what_is_no_jump(void **state)
{
    (void)state;
    struct kn_clocks same = later(0, 0, 100), little = later(9 * MS, 9 * MS, 100),
                     torn = later(40 * MS, 40 * MS, 50 * MS);
    assert_true(kn_clocks_jump_ns(&from, &same) == 0 && kn_clocks_asleep_ns(&from, &same) == 0);
    assert_true(kn_clocks_jump_ns(&from, &little) == 0 && kn_clocks_asleep_ns(&from, &little) == 0);
    /* somebody else ran between the readings of the three */
    assert_true(kn_clocks_jump_ns(&from, &torn) == 0 && kn_clocks_asleep_ns(&from, &torn) == 0);
}

static void sleep_is_no_jump(void **state)
{
    (void)state;
    struct kn_clocks slept = later(60 * S, 60 * S, 100), both = later(61 * S, 60 * S, 100);
    assert_int_equal(kn_clocks_asleep_ns(&from, &slept), 60 * S);
    assert_true(kn_clocks_jump_ns(&from, &slept) == 0);
    assert_true(kn_clocks_jump_ns(&from, &both) == (int64_t)S);
}

static void this_machine_s_own(void **state)
{
    (void)state;
    struct kn_clocks a, b;
    kn_clocks_read(&a);
    kn_sleep_until_ns(kn_now_ns() + 5 * MS);
    kn_clocks_read(&b);
    assert_true(b.now_ns >= a.now_ns + 5 * MS);
    assert_true(a.boot_ns >= a.now_ns && a.wall_ns > 1500000000 * S);
    assert_int_equal(kn_clocks_asleep_ns(&a, &b), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_jump_is_seen),
        cmocka_unit_test(what_is_no_jump),
        cmocka_unit_test(sleep_is_no_jump),
        cmocka_unit_test(this_machine_s_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
