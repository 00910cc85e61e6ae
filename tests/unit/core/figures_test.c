/* Figures: the series against its definition, merging, and a JSON form that loses nothing. */
#include "check.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/clock.h"
#include "core/figures.h"

static struct kn_figures fresh(uint64_t interval_ns)
{
    struct kn_figures f;
    struct kn_error err;
    assert_int_equal(kn_figures_init(&f, interval_ns, &err), 0);
    return f;
}

static uint64_t sum_of(const uint64_t *v, uint32_t n)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += v[i];
    return sum;
}

static void the_series_by_its_definition(void **state)
{
    struct random r = {1};
    struct kn_figures f = fresh(1000);
    uint64_t expect[100] = {0};
    (void)state;
    for (int i = 0; i < 10000; i++) { /* back and forth, as flows of one worker are */
        uint64_t at = random_next(&r) % 100000, bytes = random_next(&r) % 100;
        expect[at / 1000] += bytes;
        kn_figures_add(&f, at, bytes, 1);
    }
    assert_int_equal(f.series.n, 100);
    assert_int_equal(f.series.step_ns, 1000);
    assert_memory_equal(f.series.bytes, expect, sizeof expect);
    assert_int_equal(sum_of(f.series.ops, f.series.n), 10000);
    kn_figures_fini(&f);
}

static void gaps_are_zeros(void **state)
{
    struct kn_figures f = fresh(10);
    (void)state;
    kn_figures_add(&f, 55, 7, 1);
    assert_int_equal(f.series.n, 6);
    assert_int_equal(sum_of(f.series.ops, 5), 0);
    assert_int_equal(f.series.bytes[5], 7);
    kn_figures_fini(&f);
}

static void a_long_series_doubles_its_step(void **state)
{
    struct kn_figures f = fresh(1000);
    (void)state;
    for (uint64_t i = 0; i < 4 * KN_SERIES_MAX + 1; i++)
        kn_figures_add(&f, i * 1000, 3, 1);
    assert_int_equal(f.series.step_ns, 8000);
    assert_int_equal(f.series.n, KN_SERIES_MAX / 2 + 1);
    for (uint32_t i = 0; i < KN_SERIES_MAX / 2; i++)
        assert_int_equal(f.series.ops[i], 8);
    assert_int_equal(f.series.ops[KN_SERIES_MAX / 2], 1);
    kn_figures_add(&f, UINT64_MAX / 4, 1, 1);
    assert_true(f.series.n <= KN_SERIES_MAX);
    assert_int_equal(sum_of(f.series.ops, f.series.n), 4 * KN_SERIES_MAX + 2);
    kn_figures_add(&f, 0, 1, 1);
    assert_true(f.series.ops[0] > 1);
    kn_figures_fini(&f);
}

static void without_a_step_there_is_no_series(void **state)
{
    struct kn_figures f = fresh(0), g = fresh(1000), *both[] = {&f, &g};
    struct kn_error err;
    (void)state;
    kn_figures_add(&f, 5, 5, 5);
    assert_int_equal(f.series.n, 0);
    kn_figures_add(&g, 2500, 5, 1);
    assert_int_equal(kn_figures_merge(&f, &g, &err), 0);
    assert_int_equal(f.series.step_ns, 1000);
    assert_int_equal(f.series.bytes[2], 5);
    for (int i = 0; i < 2; i++)
        kn_figures_fini(both[i]);
    kn_figures_fini(&f); /* twice does no harm */
}

static void fill(struct kn_figures *f, struct random *r)
{
    f->has = KN_HAS_LATENCY | KN_HAS_HTTP | KN_HAS_JITTER;
    f->window_ns = random_next(r) >> 20;
    f->ops = random_next(r) >> 4;
    f->rx_bytes = random_next(r) >> 2;
    f->lost = random_next(r) % 100;
    f->retransmits = 3;
    f->rtt_ns = 100;
    f->tcp_n = 1;
    f->mss = 1000 + random_next(r) % 460;
    f->jitter_ns = (double)(random_next(r) % 1000) + 0.125;
    f->jitter_n = 1;
    f->status[2] = random_next(r) % 1000;
    f->status[5] = 1;
    for (int i = 0; i < 500; i++) {
        kn_hist_record(f->latency, random_next(r) % 1000000);
        kn_figures_add(f, random_next(r) % 1000000, random_next(r) >> 30, 1);
    }
    f->connect = kn_hist_new();
    kn_hist_record(f->connect, 77);
}

static void merging_adds(void **state)
{
    struct random r = {4};
    struct kn_figures a = fresh(1000), b = fresh(2000), sum = fresh(1000);
    struct kn_error err;
    (void)state;
    fill(&a, &r);
    fill(&b, &r);
    assert_int_equal(kn_figures_merge(&sum, &a, &err), 0);
    assert_int_equal(kn_figures_merge(&sum, &b, &err), 0);
    assert_true(sum.ops == a.ops + b.ops && sum.rx_bytes == a.rx_bytes + b.rx_bytes && sum.lost == a.lost + b.lost);
    assert_true(sum.window_ns == (a.window_ns > b.window_ns ? a.window_ns : b.window_ns));
    assert_true(sum.mss == (a.mss < b.mss ? a.mss : b.mss));
    assert_true(sum.jitter_ns == (a.jitter_ns + b.jitter_ns) / 2 && sum.jitter_n == 2);
    assert_int_equal(sum.tcp_n, 2);
    assert_int_equal(sum.rtt_ns, 200);
    assert_true(sum.status[2] == a.status[2] + b.status[2]);
    assert_int_equal(kn_hist_count(sum.latency), 1000);
    assert_int_equal(kn_hist_count(sum.connect), 2);
    assert_null(sum.first_byte);
    assert_int_equal(sum.series.step_ns, 2000);
    assert_int_equal(sum_of(sum.series.ops, sum.series.n), 1000);
    assert_true(sum_of(sum.series.bytes, sum.series.n) ==
                sum_of(a.series.bytes, a.series.n) + sum_of(b.series.bytes, b.series.n));
    /* the other way round: a finer series into a coarser one, and an empty one into both */
    struct kn_figures none = fresh(7);
    assert_int_equal(kn_figures_merge(&b, &a, &err), 0);
    assert_int_equal(kn_figures_merge(&b, &none, &err), 0);
    assert_int_equal(b.series.step_ns, 2000);
    assert_int_equal(sum_of(b.series.ops, b.series.n), 1000);
    assert_true(b.mss == sum.mss);
    struct kn_figures *all[] = {&a, &b, &sum, &none};
    for (int i = 0; i < 4; i++)
        kn_figures_fini(all[i]);
}

static void json_keeps_everything(void **state)
{
    struct random r = {9};
    struct kn_figures f = fresh(1000), g;
    struct kn_error err = {.message = ""};
    (void)state;
    fill(&f, &r);
    f.rx_bytes = UINT64_MAX; /* as text, whole */
    json_t *one = kn_figures_to_json(&f);
    char *text = json_dumps(one, JSON_COMPACT);
    json_t *read = json_loads(text, 0, NULL);
    if (kn_figures_from_json(read, &g, &err))
        fail_msg("%s", err.message);
    assert_true(g.rx_bytes == UINT64_MAX && g.jitter_ns == f.jitter_ns && g.has == f.has && g.status[5] == 1);
    json_t *two = kn_figures_to_json(&g);
    assert_true(json_equal(one, two));
    kn_figures_add(&g, 500, 1, 1);
    assert_true(g.series.ops[0] == f.series.ops[0] + 1);
    json_decref(one);
    json_decref(two);
    json_decref(read);
    free(text);
    kn_figures_fini(&f);
    kn_figures_fini(&g);
}

static void what_was_not_measured_is_absent(void **state)
{
    struct kn_figures f = fresh(0);
    (void)state;
    json_t *json = kn_figures_to_json(&f);
    assert_int_equal(json_object_size(json), 0);
    f.has = KN_HAS_JITTER;
    f.jitter_n = 1;
    f.jitter_ns = 0.0 / (double)f.ops; /* NaN never leaves */
    json_decref(json);
    json = kn_figures_to_json(&f);
    assert_null(json_object_get(json, "jitter_ns"));
    json_decref(json);
    kn_figures_fini(&f);
}

static void json_that_lies_is_refused(void **state)
{
    static const struct {
        const char *text, *says;
    } lies[] = {
        {"[]", "object"},
        {"{\"ops\":-1}", "ops"},
        {"{\"ops\":1.5}", "ops"},
        {"{\"has\":4294967296}", "has"},
        {"{\"jitter_ns\":\"x\"}", "jitter_ns"},
        {"{\"jitter_ns\":-1}", "jitter_ns"},
        {"{\"status\":[1]}", "status"},
        {"{\"status\":[1,2,3,4,5,\"x\"]}", "status"},
        {"{\"latency\":{}}", "latency"},
        {"{\"connect\":7}", "connect"},
        {"{\"series\":{}}", "step_ns"},
        {"{\"series\":{\"step_ns\":\"18446744073709551615\",\"bytes\":[1],\"ops\":[1]}}", "step_ns"},
        {"{\"series\":{\"step_ns\":5,\"bytes\":[1],\"ops\":[1,2]}}", "bytes"},
        {"{\"series\":{\"step_ns\":5,\"bytes\":[1,2],\"ops\":[1,null]}}", "ops"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        struct kn_figures f;
        struct kn_error err = {.message = ""};
        json_t *json = json_loads(lies[i].text, 0, NULL);
        assert_int_equal(kn_figures_from_json(json, &f, &err), -1);
        check_refusal(&err, KN_E_PROTOCOL, lies[i].says);
        json_decref(json);
    }
    struct kn_figures f;
    struct kn_error err = {.message = ""};
    json_t *points = json_array(), *json;
    for (int i = 0; i <= KN_SERIES_MAX; i++)
        json_array_append_new(points, json_integer(1));
    json = json_pack("{s:{s:i,s:O,s:O}}", "series", "step_ns", 5, "bytes", points, "ops", points);
    assert_int_equal(kn_figures_from_json(json, &f, &err), -1);
    check_refusal(&err, KN_E_PROTOCOL, "longer than");
    json_decref(points);
    json_decref(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_series_by_its_definition),
        cmocka_unit_test(gaps_are_zeros),
        cmocka_unit_test(a_long_series_doubles_its_step),
        cmocka_unit_test(without_a_step_there_is_no_series),
        cmocka_unit_test(merging_adds),
        cmocka_unit_test(json_keeps_everything),
        cmocka_unit_test(what_was_not_measured_is_absent),
        cmocka_unit_test(json_that_lies_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
