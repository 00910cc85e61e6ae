/* The probe's timeline: run lengths, outages, and how small it is. */
#include "../core/check.h"

#include <stdlib.h>
#include <string.h>

#include "engines/probe/timeline.h"

static void add(struct kn_timeline *t, const char *letters)
{
    struct kn_error err;
    for (; *letters; letters++)
        for (int i = 0; i < KN_PROBE_OUTCOMES; i++)
            if (kn_outcome_letter((enum kn_outcome)i) == *letters)
                assert_int_equal(kn_timeline_add(t, (enum kn_outcome)i, &err), 0);
}

static json_t *figures(const char *letters, double step_s)
{
    struct kn_error err;
    struct kn_timeline t = {0};
    json_t *m = json_object();
    add(&t, letters);
    assert_int_equal(kn_timeline_end(&t, &err), 0);
    kn_timeline_put(&t, step_s, m);
    kn_timeline_fini(&t);
    return m;
}

static const char *runs(const json_t *m)
{
    return json_string_value(json_object_get(json_object_get(m, "timeline"), "runs"));
}

static double number(const json_t *m, const char *key)
{
    return json_number_value(json_object_get(m, key));
}

static void failures_in_a_row_are_an_outage(void **state)
{
    (void)state;
    json_t *m = figures("ootttrooxo", 0.5), *list = json_object_get(m, "outages"), *first = json_array_get(list, 0);
    assert_string_equal(runs(m), "2o3t1r2o1x1o");
    assert_int_equal(json_array_size(list), 2);
    assert_true(number(first, "from") == 1.0 && number(first, "to") == 3.0);
    assert_true(number(first, "attempts") == 4 && number(first, "timeout") == 3 && number(first, "refused") == 1);
    assert_true(number(m, "outage_longest") == 2.0 && number(m, "outage_total") == 2.5);
    assert_true(number(m, "outage_count") == 2 && number(m, "resets") == 1 && number(m, "refused") == 1);
    assert_true(number(m, "blind") == 0 && number(m, "attempts") == 10);
    json_decref(m);
}

static void blind_time_is_no_outage_and_ends_one(void **state)
{
    (void)state;
    json_t *m = figures("obbottbbtto", 1);
    assert_true(number(m, "blind") == 4);
    assert_true(number(m, "outage_total") == 4 && number(m, "outage_longest") == 2 && number(m, "outage_count") == 2);
    json_decref(m);
}

static void an_outage_may_last_to_the_end(void **state)
{
    (void)state;
    json_t *m = figures("ehhh", 1);
    assert_true(number(m, "outage_total") == 4);
    assert_true(number(json_array_get(json_object_get(m, "outages"), 0), "status") == 3);
    json_decref(m);
}

static void an_hour_is_a_few_bytes(void **state)
{
    (void)state;
    struct kn_error err;
    struct kn_timeline t = {0};
    for (int i = 0; i < 3600 * 1000; i++)
        assert_int_equal(kn_timeline_add(&t, i % 60000 == 7 ? KN_PROBE_TIMEOUT : KN_PROBE_OK, &err), 0);
    assert_int_equal(kn_timeline_end(&t, &err), 0);
    assert_true(t.length < 1000);
    kn_timeline_fini(&t);
}

/* Figures stay exact where the text is full, and the list of outages too. */
static void what_changes_all_the_time_is_cut(void **state)
{
    (void)state;
    struct kn_error err;
    struct kn_timeline t = {0};
    const uint64_t n = 3000000;
    for (uint64_t i = 0; i < n; i++)
        assert_int_equal(kn_timeline_add(&t, i % 2 ? KN_PROBE_TIMEOUT : KN_PROBE_OK, &err), 0);
    assert_int_equal(kn_timeline_end(&t, &err), 0);
    assert_true(t.cut && t.length <= KN_TIMELINE_MAX && t.listed == KN_OUTAGES_MAX);
    assert_true(t.outage_count == n / 2 && t.outage_n == n / 2 && t.outage_longest == 1 && t.n == n);
    kn_timeline_fini(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(failures_in_a_row_are_an_outage),  cmocka_unit_test(blind_time_is_no_outage_and_ends_one),
        cmocka_unit_test(an_outage_may_last_to_the_end),    cmocka_unit_test(an_hour_is_a_few_bytes),
        cmocka_unit_test(what_changes_all_the_time_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
