/* Observations: begun, kept and ended through control; refused, limited, ended where nobody asks after them. */
#include "one.h"

static int set_up(void **state)
{
    (void)state;
    live_config(&l);
    l.config.max_runs = 4;
    live_start(&l);
    return 0;
}

static void begin(const struct live *at, const char *body, char path[64])
{
    int status;
    json_t *answer = ask(at, "POST", "/v1/observe", body, &status);
    assert_int_equal(status, 201);
    snprintf(path, 64, "/v1/observe/%s", json_string_value(json_object_get(answer, "id")));
    json_decref(answer);
}

static json_int_t active(const struct live *at)
{
    int status;
    json_t *answer = ask(at, "GET", "/v1/agent", NULL, &status);
    json_int_t n = json_integer_value(json_object_get(answer, "observations"));
    json_decref(answer);
    return n;
}

static void from_beginning_to_end(void **state)
{
    (void)state;
    char path[64];
    int status;
    begin(&l, "{\"monitor\":{\"interval_ns\":10000000}}", path);
    poll(NULL, 0, 60);
    json_decref(ask(&l, "GET", path, NULL, &status));
    assert_int_equal(status, 200);
    assert_int_equal(active(&l), 1);
    json_t *seen = ask(&l, "DELETE", path, NULL, &status), *monitor = json_object_get(seen, "monitor");
    assert_int_equal(status, 200);
    assert_true(json_array_size(json_object_get(monitor, "t")) >= 2);
    assert_non_null(json_object_get(json_object_get(monitor, "process"), "cpu"));
    json_decref(seen);
    json_t *gone = ask(&l, "DELETE", path, NULL, &status);
    assert_int_equal(status, 404);
    assert_string_equal(code_of(gone), "lost");
    json_decref(gone);
    assert_int_equal(active(&l), 0);
}

static void nonsense_is_refused(void **state)
{
    (void)state;
    static const char *const bodies[] = {
        "{}", "[]", "7", "{\"moniter\":{}}", "{\"monitor\":3}", "{\"monitor\":{\"interval_ns\":\"soon\"}}"};
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        int status;
        json_t *answer = ask(&l, "POST", "/v1/observe", bodies[i], &status);
        if (status != 400 || strcmp(code_of(answer), "argument"))
            fail_msg("%s: %d", bodies[i], status);
        json_decref(answer);
    }
    assert_int_equal(active(&l), 0);
}

static void several_at_once_and_one_too_many(void **state)
{
    (void)state;
    char path[4][64];
    int status;
    for (int i = 0; i < 4; i++)
        begin(&l, "{\"monitor\":{}}", path[i]);
    json_t *answer = ask(&l, "POST", "/v1/observe", "{\"monitor\":{}}", &status);
    assert_int_equal(status, 429);
    assert_string_equal(code_of(answer), "limit");
    json_decref(answer);
    for (int i = 3; i >= 0; i--) {
        answer = ask(&l, "DELETE", path[i], NULL, &status);
        assert_int_equal(status, 200);
        assert_non_null(json_object_get(answer, "monitor"));
        json_decref(answer);
    }
}

static void expect_over(const struct live *at, const char *path)
{
    int status;
    uint64_t until = soon();
    while (active(at) && kn_now_ns() < until)
        poll(NULL, 0, 20);
    json_decref(ask(at, "GET", path, NULL, &status));
    assert_int_equal(status, 404);
}

static void ends_where_nobody_asks_after_it(void **state)
{
    (void)state;
    struct live o;
    char path[64];
    live_config(&o);
    o.config.orphan_ns = 200 * KN_NS_PER_MS;
    live_start(&o);
    begin(&o, "{\"monitor\":{}}", path);
    expect_over(&o, path);
    live_end(&o);
}

static void nothing_is_left_behind(void **state)
{
    (void)state;
    int fds = count_entries("/proc/self/fd"), threads = count_entries("/proc/self/task");
    for (int round = 0; round < 3; round++) {
        struct live one;
        char path[64];
        live_config(&one);
        live_start(&one);
        for (int i = 0; i < 4; i++)
            begin(&one, "{\"monitor\":{}}", path);
        live_end(&one); /* while they watch */
    }
    expect_threads(threads);
    assert_int_equal(count_entries("/proc/self/fd"), fds);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(from_beginning_to_end),
        cmocka_unit_test(nonsense_is_refused),
        cmocka_unit_test(several_at_once_and_one_too_many),
        cmocka_unit_test(ends_where_nobody_asks_after_it),
        cmocka_unit_test(nothing_is_left_behind),
    };
    return cmocka_run_group_tests(tests, set_up, end_agent);
}
