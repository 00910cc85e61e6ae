/* Order statistics and ranks against what can be counted by hand, by brute force and by simulation. Pacing against a
 * fake clock. */
#include "check.h"

#include <math.h>
#include <stdlib.h>

#include "core/clock.h"
#include "core/pace.h"
#include "core/stats.h"

static void near(double got, double want, double within)
{
    if (!(fabs(got - want) <= within))
        fail_msg("%.9g instead of %.9g", got, want);
}

static void medians(void **state)
{
    static const double values[] = {9, 1, 8, 2, 7, 3, 6, 4, 5, 10};
    static const struct {
        size_t n;
        double confidence, low, high, covered;
    } list[] = {
        /* by the binomial table: 1 - 2 * P(Bin(n, 1/2) < k) */
        {1, 0.95, 9, 9, 0},
        {2, 0.95, 1, 9, 0.5},
        {5, 0.95, 1, 9, 0.9375},
        {6, 0.95, 1, 9, 0.96875},
        {9, 0.95, 2, 8, 0.9609375},
        {10, 0.95, 2, 9, 0.978515625},
        {10, 0.99, 1, 10, 0.998046875},
        {10, 0.5, 4, 7, 0.65625},
    };
    struct kn_interval i;
    struct kn_error err = {.message = ""};
    (void)state;
    for (size_t k = 0; k < sizeof list / sizeof *list; k++) {
        assert_int_equal(kn_stats_median(values, list[k].n, list[k].confidence, &i, &err), 0);
        near(i.low, list[k].low, 0);
        near(i.high, list[k].high, 0);
        near(i.confidence, list[k].covered, 1e-12);
    }
    near(i.median, 5.5, 0);
    kn_stats_median(values, 9, 0.95, &i, &err);
    near(i.median, 5, 0);
    near(values[0], 9, 0); /* the caller's own are left in order */
    static const double huge[] = {1.7e308, 1.7e308};
    kn_stats_median(huge, 2, 0.5, &i, &err);
    near(i.median, 1.7e308, 0);
}

static void medians_that_cannot_be(void **state)
{
    static const double odd[] = {1, NAN, 3}, endless[] = {1, INFINITY};
    struct kn_interval i;
    struct kn_error err = {.message = ""};
    (void)state;
    assert_int_equal(kn_stats_median(odd, 0, 0.95, &i, &err), -1);
    check_refusal(&err, KN_E_ARGUMENT, "at least one value");
    assert_int_equal(kn_stats_median(odd, 3, 0.95, &i, &err), -1);
    check_refusal(&err, KN_E_ARGUMENT, "value 2");
    assert_int_equal(kn_stats_median(endless, 2, 0.95, &i, &err), -1);
    assert_int_equal(kn_stats_median(odd, 1, 1, &i, &err), -1);
    assert_int_equal(kn_stats_median(odd, 1, 0, &i, &err), -1);
    assert_int_equal(kn_stats_median(odd, 1, NAN, &i, &err), -1);
    check_refusal(&err, KN_E_ARGUMENT, "confidence");
}

/* How often the interval holds the true median of a skewed distribution: as often as it says. */
static void the_interval_covers_as_often_as_it_says(void **state)
{
    struct random r = {2024};
    struct kn_interval i;
    struct kn_error err;
    double values[40];
    (void)state;
    for (size_t n = 7; n <= 40; n += 11) {
        int rounds = 4000, held = 0;
        for (int k = 0; k < rounds; k++) {
            for (size_t j = 0; j < n; j++)
                values[j] = -log(random_unit(&r)); /* its median is ln 2 */
            kn_stats_median(values, n, 0.95, &i, &err);
            held += i.low <= 0.6931471805599453 && i.high >= 0.6931471805599453;
        }
        assert_true(i.confidence >= 0.95);
        near((double)held / rounds, i.confidence, 4 * sqrt(0.05 / rounds));
    }
}

static double rank_test(const double *a, size_t n_a, const double *b, size_t n_b)
{
    struct kn_error err = {.message = ""};
    double p, mirrored = 0;
    if (kn_stats_rank_test(a, n_a, b, n_b, &p, &err) || kn_stats_rank_test(b, n_b, a, n_a, &mirrored, &err))
        fail_msg("%s", err.message);
    near(p, mirrored, 1e-12);
    assert_true(p >= 0 && p <= 1);
    return p;
}

static void ranks_known(void **state)
{
    static const double low[] = {1, 2, 3, 4, 5}, high[] = {6, 7, 8, 9, 10}, same[] = {4, 4, 4}, mixed[] = {1, 3, 5, 7},
                        other[] = {2, 4, 6};
    (void)state;
    near(rank_test(low, 5, high, 5), 2.0 / 252, 1e-12);
    near(rank_test(low, 3, high, 3), 2.0 / 20, 1e-12);
    near(rank_test(low, 1, high, 1), 1, 1e-12);
    near(rank_test(low, 4, high, 1), 2.0 / 5, 1e-12);
    near(rank_test(mixed, 4, other, 3), 1, 1e-12);
    near(rank_test(same, 3, same, 3), 1, 0);
    near(rank_test(low, 0, high, 5), 1, 0);
    near(rank_test(low, 5, low, 5), 1, 1e-12);
    /* the published tables: for n = 8, 8 at 0.05 two-sided the critical U is 13 */
    static const double a[] = {1, 2, 3, 4, 5, 10, 11, 13}, b[] = {6, 7, 8, 9, 12, 14, 15, 16};
    near(rank_test(a, 8, b, 8), 0.0498834498834, 1e-9);
    static const double c[] = {1, 2, 3, 4, 5, 10, 12, 13}, d[] = {6, 7, 8, 9, 11, 14, 15, 16};
    near(rank_test(c, 8, d, 8), 0.0649572649573, 1e-9);
}

/* Every way to part the values, one by one, by U's own definition. */
static double brute_force(const double *all, size_t n, size_t n_a)
{
    double middle = (double)(n_a * (n - n_a)) / 2, observed = 0;
    unsigned long total = 0, uneven = 0;
    for (int pass = 0; pass < 2; pass++)
        for (unsigned set = 0; set < 1u << n; set++) {
            if ((size_t)__builtin_popcount(set) != n_a || (pass == 0 && set != (1u << n_a) - 1))
                continue;
            double u = 0;
            for (size_t i = 0; i < n; i++)
                for (size_t j = 0; j < n; j++)
                    if (set >> i & 1 && !(set >> j & 1))
                        u += all[i] > all[j] ? 1 : all[i] == all[j] ? 0.5 : 0;
            if (pass == 0)
                observed = fabs(u - middle);
            total += (unsigned long)pass;
            uneven += pass && fabs(u - middle) >= observed - 1e-9;
        }
    return (double)uneven / (double)total;
}

static void ranks_by_brute_force(void **state)
{
    struct random r = {77};
    double all[11];
    (void)state;
    for (int round = 0; round < 60; round++) {
        size_t n = 2 + random_next(&r) % 10, n_a = 1 + random_next(&r) % (n - 1);
        for (size_t i = 0; i < n; i++)
            all[i] = (double)(random_next(&r) % (round % 2 ? 4 : 1000000)); /* with ties and without */
        near(rank_test(all, n_a, all + n_a, n - n_a), brute_force(all, n, n_a), 1e-9);
    }
}

/* Where counting ends and the normal distribution begins, both say about the same. */
static void ranks_of_many(void **state)
{
    struct random r = {5};
    double a[33], b[33], few, many;
    (void)state;
    for (int round = 0; round < 50; round++) {
        for (size_t i = 0; i < 33; i++) {
            a[i] = (double)(random_next(&r) % (round % 2 ? 20 : 100000));
            b[i] = (double)(random_next(&r) % (round % 2 ? 20 : 100000)) + round % 5;
        }
        few = rank_test(a, 32, b, 32);
        a[32] = b[32] = 1e9; /* a tie of two at the very top hardly changes the ranks */
        many = rank_test(a, 33, b, 33);
        near(few, many, 0.03);
    }
    double *big = malloc(20000 * sizeof *big);
    for (size_t i = 0; i < 20000; i++)
        big[i] = random_unit(&r) + (i < 10000 ? 0 : 0.05);
    assert_true(rank_test(big, 10000, big + 10000, 10000) < 1e-10);
    for (size_t i = 0; i < 20000; i++)
        big[i] = 7;
    near(rank_test(big, 10000, big + 10000, 10000), 1, 0);
    free(big);
}

/* Two samples of one distribution are told apart as seldom as the p says. */
static void false_alarms(void **state)
{
    struct random r = {31337};
    double a[10], b[10];
    int rounds = 2000, alarms = 0;
    (void)state;
    for (int k = 0; k < rounds; k++) {
        for (size_t i = 0; i < 10; i++) {
            a[i] = -log(random_unit(&r));
            b[i] = -log(random_unit(&r));
        }
        alarms += rank_test(a, 10, b, 10) <= 0.05;
    }
    assert_true(alarms <= rounds * 5 / 100 + 4 * (int)sqrt(rounds * 0.05));
    assert_true(alarms >= rounds * 2 / 100);
}

static void ranks_refuse_what_is_no_number(void **state)
{
    static const double good[] = {1, 2}, bad[] = {1, NAN};
    struct kn_error err = {.message = ""};
    double p;
    (void)state;
    assert_int_equal(kn_stats_rank_test(good, 2, bad, 2, &p, &err), -1);
    check_refusal(&err, KN_E_ARGUMENT, "value 2 is not a number");
    assert_int_equal(kn_stats_rank_test(bad, 2, good, 2, &p, &err), -1);
}

static void shifts_known(void **state)
{
    static const double a[] = {1, 2, 3, 4, 5}, b[] = {11, 12, 13, 14, 15}, bad[] = {NAN};
    struct kn_interval i;
    struct kn_error err = {.message = ""};
    (void)state;
    assert_int_equal(kn_stats_shift(a, 5, b, 5, 0.95, &i, &err), 0);
    near(i.median, 10, 1e-12);
    /* the tables' critical U for 5 and 5 is 2: the third smallest of the 25 differences and the third largest */
    near(i.low, 7, 1e-12);
    near(i.high, 13, 1e-12);
    near(i.confidence, 1 - 2 * 4.0 / 252, 1e-12);
    assert_int_equal(kn_stats_shift(a, 3, b, 3, 0.95, &i, &err), 0);
    near(i.confidence, 0.9, 1e-12);
    near(i.low, 8, 0);
    near(i.high, 12, 0);
    assert_int_equal(kn_stats_shift(a, 1, b, 1, 0.95, &i, &err), 0);
    near(i.confidence, 0, 0);
    assert_int_equal(kn_stats_shift(a, 0, b, 1, 0.95, &i, &err), -1);
    assert_int_equal(kn_stats_shift(a, 1, b, 1, 1, &i, &err), -1);
    assert_int_equal(kn_stats_shift(a, 1, bad, 1, 0.95, &i, &err), -1);
    check_refusal(&err, KN_E_ARGUMENT, "not a number");
}

/* The interval leaves 0 out exactly where the test shows a difference, and covers the true shift as often as it says;
 * counted exactly, and beyond that by the normal approximation. */
static void shifts_go_with_the_ranks(void **state)
{
    static const struct {
        size_t n_a, n_b;
    } sizes[] = {{4, 4}, {5, 9}, {12, 12}, {33, 40}};
    struct random r = {1945};
    struct kn_interval i;
    struct kn_error err;
    double a[40], b[40];
    (void)state;
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        int rounds = 1500, covered = 0, apart = 0;
        for (int k = 0; k < rounds; k++) {
            double shift = k % 3;
            for (size_t j = 0; j < sizes[s].n_a; j++)
                a[j] = -log(random_unit(&r));
            for (size_t j = 0; j < sizes[s].n_b; j++)
                b[j] = -log(random_unit(&r)) + shift;
            assert_int_equal(kn_stats_shift(a, sizes[s].n_a, b, sizes[s].n_b, 0.95, &i, &err), 0);
            covered += i.low <= shift && shift <= i.high;
            apart += (i.low > 0 || i.high < 0) !=
                     (rank_test(a, sizes[s].n_a, b, sizes[s].n_b) <= 1 - i.confidence + 1e-9);
        }
        near((double)covered / rounds, i.confidence, 4 * sqrt(0.05 / rounds));
        assert_true(sizes[s].n_a + sizes[s].n_b <= KN_STATS_EXACT ? apart == 0 : apart < rounds / 100);
    }
}

/* ---- pacing ---- */

static void due_times_do_not_drift(void **state)
{
    struct kn_pace p;
    (void)state;
    kn_pace_init(&p, 3000, 1000, 0, 1); /* 3 a second: an interval that is no whole number */
    for (uint64_t k = 0; k < 30; k++) {
        assert_int_equal(kn_pace_due_ns(&p), 1000 + k * KN_NS_PER_S / 3);
        kn_pace_take(&p, 1);
    }
    kn_pace_init(&p, 777777777, 5, 0, 1);
    uint64_t day = 777777777ull * 86400 / 1000;
    assert_int_equal(kn_pace_due_of(&p, 777777777), 5 + 1000 * KN_NS_PER_S);
    near((double)kn_pace_due_of(&p, day), 86400e9, 1300000);
    kn_pace_take(&p, 777777777);
    assert_int_equal(kn_pace_due_ns(&p), 5 + 1000 * KN_NS_PER_S);
}

static void slow_rates(void **state)
{
    struct kn_pace p;
    (void)state;
    kn_pace_init(&p, 500, 0, 0, 1);
    kn_pace_take(&p, 3);
    assert_int_equal(kn_pace_due_ns(&p), 6 * KN_NS_PER_S);
    kn_pace_init(&p, 1, 0, 0, 1);
    kn_pace_take(&p, 1ull << 60);
    assert_true(kn_pace_due_ns(&p) == UINT64_MAX);
    assert_int_equal(kn_pace_backlog(&p, UINT64_MAX - 1), 0);
}

/* A fake clock with stalls: what fell due in one is still there, each with its own time, and the total is right. */
static void a_stall_is_made_up_for(void **state)
{
    struct random r = {8};
    struct kn_pace p;
    uint64_t now = 500, done = 0, late = 0;
    (void)state;
    kn_pace_init(&p, 20000000, now, 0, 1); /* 20k/s: one in 50 µs */
    while (now < 500 + 10 * KN_NS_PER_S) {
        now += random_next(&r) % 1000 ? random_next(&r) % 20000 : 30 * KN_NS_PER_MS;
        uint64_t n = kn_pace_backlog(&p, now);
        for (uint64_t i = 0; i < n; i++) {
            uint64_t due = kn_pace_due_ns(&p);
            assert_true(due <= now && due == 500 + done * 50000);
            late += now - due > KN_NS_PER_MS;
            kn_pace_take(&p, 1);
            done++;
        }
        assert_true(kn_pace_due_ns(&p) > now && kn_pace_backlog(&p, now) == 0);
    }
    assert_int_equal(done, (now - 500) / 50000 + 1);
    assert_true(late > 1000);
}

static void shares_are_one_rate(void **state)
{
    struct kn_pace whole, parts[7];
    (void)state;
    kn_pace_init_bits(&whole, 999999937, 1400, 42, 0, 1);
    for (unsigned i = 0; i < 7; i++)
        kn_pace_init_bits(&parts[i], 999999937, 1400, 42, i, 7);
    for (uint64_t k = 0; k < 7000; k++) {
        assert_int_equal(kn_pace_due_ns(&whole), kn_pace_due_ns(&parts[k % 7]));
        kn_pace_take(&whole, 1);
        kn_pace_take(&parts[k % 7], 1);
    }
    uint64_t now = 42 + 5 * KN_NS_PER_S, all = 0;
    for (unsigned i = 0; i < 7; i++)
        all += kn_pace_backlog(&parts[i], now);
    assert_int_equal(all, kn_pace_backlog(&whole, now));
    near((double)(all + 7000) * 1400 * 8, 999999937.0 * 5, 2 * 1400 * 8);
}

static void backlog_agrees_with_due_times(void **state)
{
    struct random r = {13};
    struct kn_pace p;
    (void)state;
    for (int round = 0; round < 20000; round++) {
        unsigned shares = 1 + (unsigned)(random_next(&r) % 8);
        uint64_t start = random_next(&r) >> 8;
        if (round % 2)
            kn_pace_init(&p, 1 + random_next(&r) % 1000000000000, start, (unsigned)(random_next(&r) % shares), shares);
        else
            kn_pace_init_bits(&p, 1 + random_next(&r) % 10000000000000, 1 + random_next(&r) % (1 << 30), start,
                              (unsigned)(random_next(&r) % shares), shares);
        kn_pace_take(&p, random_next(&r) % 1000);
        uint64_t now = kn_pace_due_ns(&p) + (random_next(&r) % 3 ? random_next(&r) % 100000000 : 0),
                 n = kn_pace_backlog(&p, now);
        assert_true(n > 0);
        assert_true(kn_pace_due_of(&p, p.next + n - 1) <= now && kn_pace_due_of(&p, p.next + n) > now);
        assert_int_equal(kn_pace_backlog(&p, kn_pace_due_ns(&p) - 1), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(medians),
        cmocka_unit_test(medians_that_cannot_be),
        cmocka_unit_test(the_interval_covers_as_often_as_it_says),
        cmocka_unit_test(ranks_known),
        cmocka_unit_test(ranks_by_brute_force),
        cmocka_unit_test(ranks_of_many),
        cmocka_unit_test(false_alarms),
        cmocka_unit_test(ranks_refuse_what_is_no_number),
        cmocka_unit_test(shifts_known),
        cmocka_unit_test(shifts_go_with_the_ranks),
        cmocka_unit_test(due_times_do_not_drift),
        cmocka_unit_test(slow_rates),
        cmocka_unit_test(a_stall_is_made_up_for),
        cmocka_unit_test(shares_are_one_rate),
        cmocka_unit_test(backlog_agrees_with_due_times),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
