/* The histogram against exact percentiles: every answer within 1 %, whatever was recorded. */
#include "check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/hist.h"

static const double percents[] = {0, 0.1, 1, 5, 10, 25, 50, 75, 90, 95, 99, 99.9, 99.99, 99.999, 100};

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* The smallest value that `percent` of the sorted values do not exceed, by whole numbers alone. */
static uint64_t exact_percentile(const uint64_t *sorted, uint64_t n, double percent)
{
    uint64_t thousandths = (uint64_t)llround(percent * 1000), rank = (thousandths * n + 99999) / 100000;
    return sorted[rank ? rank - 1 : 0];
}

static void check_against_exact(const uint64_t *values, size_t n)
{
    struct kn_hist *h = kn_hist_new();
    uint64_t *sorted = malloc(n * sizeof *sorted);
    long double sum = 0, squares = 0;
    memcpy(sorted, values, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, compare);
    for (size_t i = 0; i < n; i++) {
        kn_hist_record(h, values[i]);
        sum += (long double)values[i];
    }
    long double mean = sum / (long double)n;
    for (size_t i = 0; i < n; i++)
        squares += ((long double)values[i] - mean) * ((long double)values[i] - mean);
    assert_int_equal(kn_hist_count(h), n);
    assert_int_equal(kn_hist_min(h), sorted[0]);
    assert_int_equal(kn_hist_max(h), sorted[n - 1]);
    assert_true(fabs(kn_hist_mean(h) - (double)mean) <= (double)mean * 1e-12);
    double stddev = n > 1 ? (double)sqrtl(squares / (long double)(n - 1)) : 0;
    assert_true(fabs(kn_hist_stddev(h) - stddev) <= stddev * 1e-6 + (double)mean * 1e-9);
    for (size_t i = 0; i < sizeof percents / sizeof *percents; i++) {
        uint64_t want = exact_percentile(sorted, n, percents[i]), got = kn_hist_percentile(h, percents[i]);
        double error = fabs((double)got - (double)want);
        if (want < 1ull << 44 && error > (double)want / 128)
            fail_msg("p%g of %zu values: %llu instead of %llu", percents[i], n, (unsigned long long)got,
                     (unsigned long long)want);
        assert_in_range(got, sorted[0], sorted[n - 1]);
    }
    free(sorted);
    kn_hist_free(h);
}

enum shape { UNIFORM, LOG_UNIFORM, EXPONENTIAL, PARETO, BIMODAL, CONSTANT, EDGES, STEPS, SMALL, SHAPES };

static uint64_t draw(struct random *r, enum shape shape, size_t i)
{
    switch (shape) {
    case UNIFORM: return random_next(r) % 1000000;
    case LOG_UNIFORM: return random_next(r) >> (20 + random_next(r) % 44);
    case EXPONENTIAL: return (uint64_t)(-log(random_unit(r)) * 30000);
    case PARETO: return (uint64_t)fmin(1e12, 5000 / pow(random_unit(r), 1.2));
    case BIMODAL: return random_next(r) % 100 ? 9000 + random_next(r) % 50 : 200000000 + random_next(r) % 1000;
    case CONSTANT: return 123456789;
    case EDGES: return (1ull << random_next(r) % 44) + random_next(r) % 3 - 1;
    case STEPS: return i;
    default: return random_next(r) % 300;
    }
}

static void percentiles_of_every_shape(void **state)
{
    static const size_t lengths[] = {1, 2, 3, 10, 99, 100, 1000, 1001, 100000};
    struct random r = {42};
    uint64_t *values = malloc(100000 * sizeof *values);
    (void)state;
    for (enum shape shape = 0; shape < SHAPES; shape++)
        for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
            for (size_t i = 0; i < lengths[k]; i++)
                values[i] = draw(&r, shape, i);
            check_against_exact(values, lengths[k]);
        }
    free(values);
}

static void rank_is_not_off_by_a_rounding_error(void **state)
{
    struct kn_hist *h = kn_hist_new();
    (void)state;
    for (uint64_t i = 1; i <= 100; i++)
        kn_hist_record(h, i);
    for (int p = 1; p <= 100; p++)
        assert_int_equal(kn_hist_percentile(h, p), p);
    kn_hist_free(h);
    h = kn_hist_new();
    kn_hist_record_n(h, 10, 999);
    kn_hist_record(h, 200);
    assert_int_equal(kn_hist_percentile(h, 99.9), 10);
    assert_int_equal(kn_hist_percentile(h, 99.91), 200);
    kn_hist_free(h);
}

static void empty_is_zero(void **state)
{
    struct kn_hist *h = kn_hist_new(), *other = kn_hist_new();
    (void)state;
    kn_hist_merge(h, other);
    assert_int_equal(kn_hist_count(h), 0);
    assert_int_equal(kn_hist_min(h), 0);
    assert_int_equal(kn_hist_max(h), 0);
    assert_true(kn_hist_mean(h) == 0 && kn_hist_stddev(h) == 0);
    assert_int_equal(kn_hist_percentile(h, 50), 0);
    kn_hist_record(h, 9);
    assert_int_equal(kn_hist_min(h), 9);
    kn_hist_free(h);
    kn_hist_free(other);
    kn_hist_free(NULL);
}

static void values_too_large_keep_their_maximum(void **state)
{
    struct kn_hist *h = kn_hist_new();
    (void)state;
    kn_hist_record(h, (1ull << 44) - 1);
    kn_hist_record_n(h, 1ull << 50, 2);
    kn_hist_record_n(h, UINT64_MAX, 3);
    assert_int_equal(kn_hist_count(h), 6);
    assert_true(kn_hist_max(h) == UINT64_MAX);
    assert_true(kn_hist_percentile(h, 60) == UINT64_MAX);
    assert_true(isfinite(kn_hist_stddev(h)));
    kn_hist_record_n(h, UINT64_MAX, 1ull << 40);
    assert_true(isfinite(kn_hist_stddev(h)) && isfinite(kn_hist_mean(h)));
    kn_hist_free(h);
}

static void buckets_tile_the_line(void **state)
{
    uint64_t end = 0, low, width;
    (void)state;
    for (unsigned i = 0; i < 38 * 128; i++) {
        kn_hist_bucket(i, &low, &width);
        assert_int_equal(low, end);
        assert_true(width == 1 || width * 128 <= low);
        end = low + width;
    }
    assert_true(end == 1ull << 44);
}

static void assert_same(const struct kn_hist *a, const struct kn_hist *b)
{
    json_t *x = kn_hist_to_json(a), *y = kn_hist_to_json(b);
    assert_true(json_equal(x, y));
    json_decref(x);
    json_decref(y);
}

static void merging_is_recording_together(void **state)
{
    struct random r = {7};
    struct kn_hist *all = kn_hist_new(), *sum = kn_hist_new(), *parts[5];
    (void)state;
    for (int i = 0; i < 5; i++)
        parts[i] = kn_hist_new();
    for (size_t i = 0; i < 20000; i++) {
        uint64_t v = draw(&r, (enum shape)(i % SHAPES), i), times = 1 + random_next(&r) % 3;
        kn_hist_record_n(all, v, times);
        kn_hist_record_n(parts[random_next(&r) % 5], v, times);
    }
    for (int i = 0; i < 5; i++)
        kn_hist_merge(sum, parts[i]);
    assert_same(all, sum);
    for (int i = 0; i < 5; i++)
        kn_hist_free(parts[i]);
    kn_hist_free(all);
    kn_hist_free(sum);
}

static void json_keeps_everything(void **state)
{
    struct random r = {99};
    struct kn_error err;
    (void)state;
    for (int round = 0; round < 20; round++) {
        struct kn_hist *h = kn_hist_new();
        for (int i = 0; i < round * 50; i++)
            kn_hist_record_n(h, random_next(&r) >> random_next(&r) % 64, 1 + random_next(&r) % 1000);
        json_t *json = kn_hist_to_json(h);
        char *text = json_dumps(json, 0);
        json_t *again = json_loads(text, 0, NULL);
        struct kn_hist *back = kn_hist_from_json(again, &err);
        assert_non_null(back);
        assert_same(h, back);
        kn_hist_record(back, 5); /* usable, not only equal */
        assert_true(kn_hist_min(back) <= 5);
        kn_hist_free(back);
        kn_hist_free(h);
        json_decref(json);
        json_decref(again);
        free(text);
    }
}

static void json_that_lies_is_refused(void **state)
{
    static const char *const lies[] = {
        "[]",
        "{}",
        "{\"count\":1}",
        "null",
        "{\"count\":1,\"min\":5,\"max\":5,\"sum\":\"5\",\"sum_sq\":\"25\",\"buckets\":[]}",
        "{\"count\":2,\"min\":5,\"max\":5,\"sum\":\"5\",\"sum_sq\":\"25\",\"buckets\":[[5,1]]}",
        "{\"count\":1,\"min\":5,\"max\":6,\"sum\":\"5\",\"sum_sq\":\"25\",\"buckets\":[[5,1]]}",
        "{\"count\":1,\"min\":4,\"max\":5,\"sum\":\"5\",\"sum_sq\":\"25\",\"buckets\":[[5,1]]}",
        "{\"count\":1,\"min\":5,\"max\":5,\"sum\":\"6\",\"sum_sq\":\"25\",\"buckets\":[[5,1]]}",
        "{\"count\":1,\"min\":5,\"max\":5,\"sum\":5,\"sum_sq\":\"25\",\"buckets\":[[5,1]]}",
        "{\"count\":2,\"min\":5,\"max\":5,\"sum\":\"10\",\"sum_sq\":\"50\",\"buckets\":[[5,1],[5,1]]}",
        "{\"count\":2,\"min\":4,\"max\":5,\"sum\":\"9\",\"sum_sq\":\"41\",\"buckets\":[[5,1],[4,1]]}",
        "{\"count\":1,\"min\":5,\"max\":5,\"sum\":\"5\",\"sum_sq\":\"25\",\"buckets\":[[4865,1]]}",
        "{\"count\":1,\"min\":5,\"max\":5,\"sum\":\"5\",\"sum_sq\":\"25\",\"buckets\":[[-1,1]]}",
        "{\"count\":1,\"min\":5,\"max\":5,\"sum\":\"5\",\"sum_sq\":\"25\",\"buckets\":[[5]]}",
        "{\"count\":-1,\"min\":5,\"max\":5,\"sum\":\"5\",\"sum_sq\":\"25\",\"buckets\":[[5,-1]]}",
        "{\"count\":\"1\",\"min\":5,\"max\":5,\"sum\":\"999999999999999999999999999999999999999999\","
        "\"sum_sq\":\"25\",\"buckets\":[[5,1]]}",
        "{\"count\":1,\"min\":5,\"max\":5,\"sum\":\"5\",\"sum_sq\":\"25\","
        "\"buckets\":[[4,\"18446744073709551615\"],[5,2]]}",
        "{\"count\":0,\"min\":0,\"max\":9,\"sum\":\"0\",\"sum_sq\":\"0\",\"buckets\":[]}",
    };
    (void)state;
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        struct kn_error err = {.message = ""};
        json_t *json = json_loads(lies[i], JSON_DECODE_ANY, NULL);
        assert_non_null(json);
        assert_null(kn_hist_from_json(json, &err));
        assert_int_equal(err.code, KN_E_PROTOCOL);
        assert_true(*err.message);
        json_decref(json);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(percentiles_of_every_shape),
        cmocka_unit_test(rank_is_not_off_by_a_rounding_error),
        cmocka_unit_test(empty_is_zero),
        cmocka_unit_test(values_too_large_keep_their_maximum),
        cmocka_unit_test(buckets_tile_the_line),
        cmocka_unit_test(merging_is_recording_together),
        cmocka_unit_test(json_keeps_everything),
        cmocka_unit_test(json_that_lies_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
