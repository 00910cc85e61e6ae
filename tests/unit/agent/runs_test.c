/* Runs: from beginning to end through control, many at once, stopped, forgotten, limited. */
#include "one.h"
#include "engines/engines.h"

static int set_up(void **state)
{
    (void)state;
    live_config(&l);
    l.config.max_runs = 8;
    live_start(&l);
    return 0;
}

static void from_beginning_to_end(void **state)
{
    (void)state;
    char path[64];
    start_run(&l, "{\"test\":\"tcp_rr\",\"duration\":\"500ms\",\"wait\":\"block\"}", path);
    json_t *answer = end_of(&l, path);
    json_t *servers = json_object_get(json_object_get(answer, "result"), "servers");
    assert_int_equal(json_array_size(servers), 1);
    assert_string_equal(json_string_value(json_object_get(json_array_get(servers, 0), "name")), "pod-1");
    assert_string_equal(json_string_value(json_object_get(json_object_get(answer, "progress"), "phase")), "done");
    expect_ok(answer);
    expect_ok(end_of(&l, path)); /* it can be asked again */
    int status;
    expect_ok(ask(&l, "DELETE", path, NULL, &status));
    assert_int_equal(status, 200);
    json_decref(ask(&l, "GET", path, NULL, &status));
    assert_int_equal(status, 404);
}

static void every_test_there_is(void **state)
{
    (void)state;
    static const char *const more[] = {"", ",\"flows\":3", ",\"wait\":\"auto\"", ",\"keepalive\":false"};
    for (const struct kn_test *const *t = kn_engines.tests; *t; t++)
        for (size_t k = 0; k < sizeof more / sizeof *more; k++) {
            const char *test = (*t)->name;
            struct kn_spec taken;
            char spec[128];
            snprintf(spec, sizeof spec, "{\"test\":\"%s\"%s}", test, more[k]);
            json_t *object = json_loads(spec, 0, NULL);
            bool timed = (*t)->options & KN_HAS(DURATION);
            /* one that does not parse has an option that this test lacks, or lacks one that it requires */
            if (timed && kn_spec_parse(object, &kn_engines, &taken, &err) == 0)
                expect_run(&l, "127.0.0.1", test, more[k]);
            json_decref(object);
        }
}

static void many_at_once_and_one_too_many(void **state)
{
    (void)state;
    char path[8][64];
    int status;
    for (int i = 0; i < 8; i++)
        start_run(&l,
                  i % 2 ? "{\"test\":\"udp_rr\",\"duration\":\"20s\"}"
                        : "{\"test\":\"tcp_crr\",\"duration\":\"20s\",\"flows\":2}",
                  path[i]);
    json_t *answer = post(&l, "{\"test\":\"tcp_rr\"}", kn_agent_port(l.agent), "", &status);
    assert_int_equal(status, 429);
    assert_string_equal(code_of(answer), "limit");
    json_decref(answer);
    for (int i = 0; i < 8; i++) {
        answer = ask(&l, "DELETE", path[i], NULL, &status);
        assert_int_equal(status, 200);
        assert_string_not_equal(json_string_value(json_object_get(answer, "state")), "running");
        assert_non_null(json_object_get(answer, "result"));
        json_decref(answer);
    }
    expect_run(&l, "127.0.0.1", "tcp_rr", "");
}

/* An answer may get lost on the way: asked for again with the same id it is the same run. */
static void asked_twice_it_is_one_run(void **state)
{
    (void)state;
    int status;
    for (int i = 0; i < 3; i++) {
        json_t *answer = post(&l, "{\"test\":\"tcp_rr\",\"duration\":\"20s\"}", kn_agent_port(l.agent),
                              ",\"id\":\"00112233445566ff\"", &status);
        assert_int_equal(status, 201);
        assert_string_equal(json_string_value(json_object_get(answer, "id")), "00112233445566ff");
        json_decref(answer);
    }
    json_t *answer = ask(&l, "GET", "/v1/agent", NULL, &status);
    assert_int_equal(json_integer_value(json_object_get(answer, "runs")), 1);
    json_decref(answer);
    json_decref(ask(&l, "DELETE", "/v1/runs/00112233445566ff", NULL, &status));
    assert_int_equal(status, 200);
}

static void waiting_ends_with_the_time_given(void **state)
{
    (void)state;
    char path[64], url[128];
    int status;
    start_run(&l, "{\"test\":\"tcp_rr\",\"duration\":\"20s\"}", path);
    uint64_t from = kn_now_ns();
    snprintf(url, sizeof url, "%s?wait=100", path);
    json_t *answer = ask(&l, "GET", url, NULL, &status);
    assert_true(kn_now_ns() - from >= 100 * KN_NS_PER_MS);
    assert_string_equal(json_string_value(json_object_get(answer, "state")), "running");
    assert_null(json_object_get(answer, "result"));
    assert_true(json_number_value(json_object_get(json_object_get(answer, "progress"), "total_s")) >= 20);
    json_decref(answer);
    json_decref(ask(&l, "DELETE", path, NULL, &status));
    assert_true(kn_now_ns() - from < 15 * KN_NS_PER_S);
}

static void a_wrong_token_fails_by_name(void **state)
{
    (void)state;
    static const char *const tests[] = {"tcp_rr", "tcp_crr", "udp_rr"};
    for (int i = 0; i < 3; i++) {
        char spec[128], path[64];
        int status;
        snprintf(spec, sizeof spec, "{\"test\":\"%s\",\"duration\":\"50ms\"}", tests[i]);
        json_t *answer = post(&l, spec, kn_agent_port(l.agent), ",\"token\":\"a token that is another's\"", &status);
        assert_int_equal(status, 201);
        snprintf(path, sizeof path, "/v1/runs/%s", json_string_value(json_object_get(answer, "id")));
        json_decref(answer);
        answer = end_of(&l, path);
        assert_string_equal(json_string_value(json_object_get(answer, "state")), "failed");
        json_t *error = json_object_get(json_object_get(answer, "result"), "error");
        if (strcmp(json_string_value(json_object_get(error, "code")), "auth"))
            fail_msg("%s: %s", tests[i], json_string_value(json_object_get(error, "message")));
        json_decref(answer);
    }
    expect_refused(&l, "key", 3);
}

static void a_run_longer_than_the_server_allows(void **state)
{
    (void)state;
    struct live strict;
    char path[64];
    int status;
    live_config(&strict);
    strict.config.max_duration_ns = KN_NS_PER_S;
    live_start(&strict);
    static const char *const specs[] = {"{\"test\":\"tcp_rr\",\"duration\":\"2s\"}",
                                        "{\"test\":\"udp_rr\",\"duration\":\"2s\"}"};
    for (int i = 0; i < 2; i++) {
        json_t *answer = post(&l, specs[i], kn_agent_port(strict.agent), "", &status);
        snprintf(path, sizeof path, "/v1/runs/%s", json_string_value(json_object_get(answer, "id")));
        json_decref(answer);
        answer = end_of(&l, path);
        json_t *error = json_object_get(json_object_get(answer, "result"), "error");
        assert_string_equal(json_string_value(json_object_get(error, "code")), "limit");
        assert_non_null(strstr(json_string_value(json_object_get(error, "message")), "1 s"));
        json_decref(answer);
    }
    expect_refused(&strict, "limit", 2);
    live_end(&strict);
}

/* Nobody asks: stopped, and in the end forgotten. */
static void an_orphan_is_stopped(void **state)
{
    (void)state;
    struct live o;
    char path[64];
    int status;
    live_config(&o);
    o.config.orphan_ns = 200 * KN_NS_PER_MS;
    live_start(&o);
    start_run(&o, "{\"test\":\"tcp_rr\",\"duration\":\"60s\"}", path);
    uint64_t until = soon();
    json_int_t active = 1;
    while (active && kn_now_ns() < until) { /* asking after the agent is not asking after the run */
        poll(NULL, 0, 20);
        json_t *answer = ask(&o, "GET", "/v1/agent", NULL, &status);
        active = json_integer_value(json_object_get(answer, "runs"));
        json_decref(answer);
    }
    assert_int_equal(active, 0);
    do {
        poll(NULL, 0, 450); /* longer than it is kept */
        json_decref(ask(&o, "GET", path, NULL, &status));
    } while (status != 404 && kn_now_ns() < until);
    assert_int_equal(status, 404);
    live_end(&o);
}

static json_t *expect_limit(json_t *answer)
{
    json_t *result = json_object_get(answer, "result"), *error = json_object_get(result, "error");
    assert_string_equal(json_string_value(json_object_get(answer, "state")), "failed");
    if (strcmp(json_string_value(json_object_get(error, "code")), "limit"))
        fail_msg("%s", json_string_value(json_object_get(error, "message")));
    assert_true(json_object_size(json_object_get(result, "metrics")) > 0); /* what was measured is kept */
    return error;
}

/* A count without end may take as long as the longest run, and says why it ended. */
static void a_run_that_only_counts_is_limited_too(void **state)
{
    (void)state;
    struct live s;
    char path[64];
    live_config(&s);
    s.config.max_duration_ns = 300 * KN_NS_PER_MS;
    live_start(&s);
    start_run(&s, "{\"test\":\"tcp_rr\",\"count\":1000000000,\"timeout\":\"100ms\",\"warmup\":0}", path);
    json_t *answer = end_of(&s, path);
    const char *message = json_string_value(json_object_get(expect_limit(answer), "message"));
    assert_string_equal(message, "stopped by the agent: the run took longer than 0.3 s");
    json_decref(answer);
    live_end(&s);
}

static void a_run_has_only_so_many_bytes(void **state)
{
    (void)state;
    struct live s;
    char path[64];
    live_config(&s);
    s.config.max_bytes = 1000000;
    live_start(&s);
    json_t *answer = post(&s, "{\"test\":\"tcp_stream\",\"duration\":\"30s\",\"warmup\":0}", kn_agent_port(l.agent), "",
                          &(int){0});
    snprintf(path, sizeof path, "/v1/runs/%s", json_string_value(json_object_get(answer, "id")));
    json_decref(answer);
    answer = end_of(&s, path);
    const char *message = json_string_value(json_object_get(expect_limit(answer), "message"));
    assert_string_equal(message, "stopped by the agent: the run moved more than 1000000 bytes");
    json_decref(answer);
    live_end(&s);
}

/* A client that goes on after the end of its run, and one that never has an end. */
static void a_flow_is_served_for_its_time_only(void **state)
{
    (void)state;
    static const char *const specs[] = {
        "{\"test\":\"tcp_rr\",\"duration\":\"200ms\",\"warmup\":0,\"timeout\":\"100ms\"}",
        "{\"test\":\"tcp_rr\",\"count\":1000000000,\"warmup\":0,\"timeout\":\"100ms\"}"};
    struct live s;
    live_config(&s);
    s.config.max_duration_ns = 300 * KN_NS_PER_MS;
    live_start(&s);
    for (int i = 0; i < 2; i++) {
        uint8_t wire[4096], byte = 'S';
        struct kn_welcome w;
        struct kn_hello h = hello_of(specs[i], 70 + (uint64_t)i);
        kn_hello_pack(&h, &s.key, wire);
        int fd = say(&s, wire, kn_hello_size());
        assert_int_equal(read_welcome(fd, &w), 0);
        assert_int_equal(kn_write_full(fd, &byte, 1, soon(), &err), 0); /* go */
        uint64_t from_ns = kn_now_ns(), until_ns = from_ns + 20 * KN_NS_PER_S;
        ssize_t n = 1;
        while (n > 0 && kn_now_ns() < until_ns) {
            struct pollfd p = {.fd = fd, .events = POLLIN};
            n = send(fd, &byte, 1, MSG_NOSIGNAL) == 1 && poll(&p, 1, 1000) > 0 ? recv(fd, wire, sizeof wire, 0) : 0;
        }
        close(fd);
        assert_in_range(kn_now_ns() - from_ns, 200 * KN_NS_PER_MS, 19 * KN_NS_PER_S);
    }
    live_end(&s);
}

static void nothing_is_left_behind(void **state)
{
    (void)state;
    int fds = count_entries("/proc/self/fd"), threads = count_entries("/proc/self/task");
    for (int round = 0; round < 3; round++) {
        struct live one;
        char path[4][64];
        live_config(&one);
        live_start(&one);
        for (int i = 0; i < 4; i++)
            start_run(&one,
                      i % 2 ? "{\"test\":\"udp_rr\",\"duration\":\"30s\"}"
                            : "{\"test\":\"tcp_crr\",\"duration\":\"30s\"}",
                      path[i]);
        live_end(&one); /* in the middle of everything */
    }
    expect_threads(threads);
    assert_int_equal(count_entries("/proc/self/fd"), fds);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(from_beginning_to_end),
        cmocka_unit_test(every_test_there_is),
        cmocka_unit_test(many_at_once_and_one_too_many),
        cmocka_unit_test(asked_twice_it_is_one_run),
        cmocka_unit_test(waiting_ends_with_the_time_given),
        cmocka_unit_test(a_wrong_token_fails_by_name),
        cmocka_unit_test(a_run_longer_than_the_server_allows),
        cmocka_unit_test(an_orphan_is_stopped),
        cmocka_unit_test(a_run_that_only_counts_is_limited_too),
        cmocka_unit_test(a_run_has_only_so_many_bytes),
        cmocka_unit_test(a_flow_is_served_for_its_time_only),
        cmocka_unit_test(nothing_is_left_behind),
    };
    return cmocka_run_group_tests(tests, set_up, end_agent);
}
