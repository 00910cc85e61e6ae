/* Dealing out by shares: exact where that is possible, else off by less than one; nobody gets nothing. */
#include "check.h"

#include <math.h>

#include "core/share.h"

#define MOST 64

static void expect(uint64_t total, const double *shares, unsigned n, const uint64_t *expected)
{
    uint64_t out[MOST];
    kn_share_out(total, shares, n, out);
    for (unsigned i = 0; i < n; i++)
        if (out[i] != expected[i])
            fail_msg("%llu by %u shares: number %u is %llu, not %llu", (unsigned long long)total, n, i,
                     (unsigned long long)out[i], (unsigned long long)expected[i]);
}

static void test_known(void **state)
{
    (void)state;
    expect(100, (double[]){70, 20, 10}, 3, (uint64_t[]){70, 20, 10});
    expect(10, (double[]){1, 1, 1}, 3, (uint64_t[]){4, 3, 3});
    expect(10, (double[]){0.95, 0.05}, 2, (uint64_t[]){9, 1});
    expect(3, (double[]){98, 1, 1}, 3, (uint64_t[]){1, 1, 1});
    expect(100, (double[]){1e6, 1, 1}, 3, (uint64_t[]){98, 1, 1});
    expect(7, (double[]){5}, 1, (uint64_t[]){7});
    expect(1000000000000000001ull, (double[]){1, 1}, 2, (uint64_t[]){500000000000000001ull, 500000000000000000ull});
}

/* No number is further than one from its share, but for those that have the least. */
static void check_one(uint64_t total, const double *shares, unsigned n)
{
    uint64_t out[MOST], dealt = 0, few = 0;
    double sum = 0;
    kn_share_out(total, shares, n, out);
    for (unsigned i = 0; i < n; i++) {
        sum += shares[i];
        dealt += out[i];
        assert_true(out[i] >= 1);
    }
    assert_int_equal(dealt, total);
    for (unsigned i = 0; i < n; i++)
        few += out[i] == 1;
    for (unsigned i = 0; i < n; i++)
        if (out[i] > 1 && few == 0)
            assert_true(fabs((double)out[i] - (double)total * shares[i] / sum) < 1 + 1e-6);
        else if (out[i] > 1) /* what the least take is taken from all others in proportion */
            assert_true((double)out[i] < (double)total * shares[i] / sum + 1 + 1e-6);
}

static void test_any(void **state)
{
    struct random r = {.state = 7};
    double shares[MOST];
    (void)state;
    for (int round = 0; round < 20000; round++) {
        unsigned n = 1 + (unsigned)(random_unit(&r) * (MOST - 1));
        uint64_t total = n + (uint64_t)(random_unit(&r) * (round % 2 ? 200 : 1e9));
        for (unsigned i = 0; i < n; i++)
            shares[i] = exp(8 * random_unit(&r));
        check_one(total, shares, n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known),
        cmocka_unit_test(test_any),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
