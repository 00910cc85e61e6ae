/* tcp_rr and tcp_lat over loopback: what is counted, what is timed, and what happens when something goes away. */
#include "server.h"

static void test_defaults(void **state)
{
    (void)state;
    json_t *r = run_json(&server,
                         "{\"test\":\"tcp_rr\",\"duration\":\"100ms\",\"warmup\":\"20ms\",\"interval\":\"20ms\"}");
    assert_ok(r);
    assert_true(number_at(r, "metrics.rate_per_s") > 100);
    assert_true(number_at(r, "metrics.latency_ns.count") == number_at(r, "metrics.ops"));
    assert_true(number_at(r, "metrics.latency_ns.p50") <= number_at(r, "metrics.latency_ns.p99"));
    assert_true(number_at(r, "metrics.duration_s") > 0.09 && number_at(r, "metrics.duration_s") < 0.11);
    assert_true(number_at(r, "metrics.cpu.client_process") > 0);
    assert_true(number_at(r, "metrics.cpu.server_process") > 0);
    assert_true(number_at(r, "metrics.mss_effective") > 500);
    assert_true(json_array_size(at(r, "metrics.intervals")) == 5);
    assert_string_equal(text_at(r, "params.test"), "tcp_rr");
    assert_int_equal(json_array_size(at(r, "servers")), 1);
    json_decref(r);
}

/* Every combination that takes another way through the code. */
static void test_combinations(void **state)
{
    static const char *const options[] = {
        "\"wait\":\"auto\"",
        "\"wait\":\"spin\"",
        "\"flows\":8",
        "\"flows\":8,\"wait\":\"auto\"",
        "\"flows\":3,\"wait\":\"spin\",\"threads\":1",
        "\"burst\":16",
        "\"burst\":16,\"flows\":4",
        "\"size\":\"3000\",\"response\":\"70000\"",
        "\"size\":\"2M\",\"response\":\"2M\"",
        "\"size\":\"1M\",\"response\":\"1M\",\"burst\":4",
        "\"size\":\"1M\",\"response\":\"1M\",\"burst\":4,\"wait\":\"spin\"",
        "\"rate\":\"2000/s\"",
        "\"rate\":\"2000/s\",\"wait\":\"auto\"",
        "\"rate\":\"2000/s\",\"flows\":5",
        "\"rate\":\"2000/s\",\"burst\":4",
        "\"nodelay\":false",
        "\"sndbuf\":\"64K\",\"rcvbuf\":\"64K\"",
        "\"cc\":\"reno\"",
        "\"ip\":4",
        "\"delay\":\"1ms\"",
    };
    (void)state;
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        char spec[256];
        /* spinners share two CPUs with one another, and with whatever else runs here */
        snprintf(spec, sizeof spec, "{\"test\":\"tcp_rr\",\"duration\":\"%s\",\"warmup\":\"10ms\",%s}",
                 strstr(options[i], "spin") ? "300ms" : "60ms", options[i]);
        json_t *r = run_json(&server, spec);
        assert_ok(r);
        assert_true(number_at(r, "metrics.ops") > 0);
        assert_true(number_at(r, "metrics.errors") == 0);
        json_decref(r);
    }
}

static void test_lat_is_half(void **state)
{
    (void)state;
    json_t *r = run_json(&server, "{\"test\":\"tcp_lat\",\"duration\":\"100ms\",\"warmup\":\"10ms\",\"size\":\"4K\"}");
    assert_ok(r);
    /* One message at a time: the halves of all, twice, are no more than the whole time and what began before it; how
     * much less is where the thread waited for a CPU. */
    double busy = number_at(r, "metrics.latency_ns.mean") * 2 * number_at(r, "metrics.latency_ns.count");
    assert_true(busy < 0.11e9 + 2 * number_at(r, "metrics.latency_ns.max"));
    json_decref(r);
}

/* An answer that comes later than the timeout allows is one that timed out, not an operation; its latency stays in
 * sight. */
static void test_timeouts(void **state)
{
    static const char *const options[] = {"\"flows\":1", "\"flows\":4", "\"wait\":\"auto\"", "\"burst\":4",
                                          "\"rate\":\"20/s\""};
    (void)state;
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        char spec[256];
        snprintf(spec, sizeof spec,
                 "{\"test\":\"tcp_rr\",\"duration\":\"500ms\",\"warmup\":\"10ms\",\"delay\":\"120ms\","
                 "\"timeout\":\"100ms\",%s}",
                 options[i]);
        json_t *r = run_once(&server, spec);
        for (int left = 8; left && !strcmp(text_at(r, "error.code"), "timeout");
             left--) { /* a busy machine connects no faster */
            json_decref(r);
            r = run_once(&server, spec);
        }
        assert_false(json_is_true(at(r, "ok")));
        assert_string_equal(text_at(r, "error.code"), "no_data");
        assert_non_null(strstr(text_at(r, "error.message"), "had no answer in 100 ms (timeout): look"));
        assert_true(number_at(r, "metrics.timeouts") >= 1);
        assert_true(number_at(r, "metrics.latency_ns.count") == number_at(r, "metrics.timeouts"));
        assert_true(number_at(r, "metrics.latency_ns.min") > 100e6);
        assert_true(has_flag(r, "errors"));
        json_decref(r);
    }
}

static void test_count_is_exact(void **state)
{
    static const char *const options[] = {"\"flows\":1",
                                          "\"flows\":7",
                                          "\"burst\":8",
                                          "\"flows\":5,\"warmup\":\"20ms\"",
                                          "\"flows\":3,\"burst\":4,\"warmup\":\"20ms\"",
                                          "\"wait\":\"spin\",\"flows\":4",
                                          "\"rate\":\"20k/s\",\"flows\":3"};
    (void)state;
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        char spec[256];
        snprintf(spec, sizeof spec, "{\"test\":\"tcp_rr\",\"count\":1003%s,%s}",
                 strstr(options[i], "warmup") ? "" : ",\"warmup\":0", options[i]);
        json_t *r = run_json(&server, spec);
        assert_ok(r);
        assert_true(number_at(r, "metrics.ops") == 1003);
        assert_true(number_at(r, "metrics.latency_ns.count") == 1003);
        json_decref(r);
    }
}

static void test_delay_is_seen(void **state)
{
    (void)state;
    json_t *r = run_within(&server, "{\"test\":\"tcp_rr\",\"duration\":\"200ms\",\"warmup\":0,\"delay\":\"2ms\"}",
                           "metrics.latency_ns.p50", 2e6, 4e6);
    assert_true(number_at(r, "metrics.latency_ns.min") >= 2e6);
    assert_true(has_flag(r, "too_few_samples"));
    json_decref(r);
}

/* Closed loop shows each wait once; open loop shows that what was due meanwhile waited too. */
static void test_open_loop_counts_from_due(void **state)
{
    (void)state;
    json_t *r = run_json(&server,
                         "{\"test\":\"tcp_rr\",\"count\":60,\"warmup\":0,\"delay\":\"5ms\",\"rate\":\"400/s\"}");
    assert_ok(r);
    assert_true(has_flag(r, "rate_not_reached"));
    assert_true(number_at(r, "metrics.latency_ns.p90") > 50e6);
    json_decref(r);
}

static void test_rate_is_held(void **state)
{
    (void)state;
    json_decref(run_within(
        &server, "{\"test\":\"tcp_rr\",\"duration\":\"200ms\",\"warmup\":\"20ms\",\"rate\":\"1000/s\",\"flows\":2}",
        "metrics.ops", 190, 202));
}

/* A count is over with its last answer, or in open loop when another request would be due; nothing is waited for then.
 */
static void test_count_ends_in_time(void **state)
{
    (void)state;
    json_decref(run_within(
        &server, "{\"test\":\"tcp_rr\",\"count\":20,\"warmup\":0,\"rate\":\"200/s\",\"flows\":4,\"threads\":1}",
        "metrics.duration_s", 0.090, 0.120));
}

/* The time after the last request is part of the window: what is measured is the rate that was asked for, no more. */
static void test_few_a_second(void **state)
{
    static const char *const tests[] = {"tcp_rr", "tcp_crr", "http"};
    (void)state;
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        char spec[128];
        snprintf(spec, sizeof spec, "{\"test\":\"%s\",\"duration\":\"300ms\",\"warmup\":\"20ms\",\"rate\":\"5/s\"}",
                 tests[i]);
        json_decref(run_within(&server, spec, "metrics.duration_s", 0.299, 0.301));
    }
}

static void test_stop_in_the_middle(void **state)
{
    struct kn_target target;
    struct kn_progress p;
    (void)state;
    target_of(&server, &target);
    struct kn_run *run = start_json(&target,
                                    "{\"test\":\"tcp_rr\",\"duration\":\"50s\",\"warmup\":\"1ms\",\"flows\":3}");
    uint64_t until_ns = kn_now_ns() + 10 * KN_NS_PER_S;
    do {
        kn_run_wait(run, KN_NS_PER_MS);
        kn_run_progress(run, &p);
    } while ((p.ops < 100 || p.phase < KN_PHASE_MEASURE) && kn_now_ns() < until_ns);
    assert_int_equal(p.phase, KN_PHASE_MEASURE);
    uint64_t before_ns = kn_now_ns();
    kn_run_stop(run);
    json_t *r = finish_run(run);
    assert_true(kn_now_ns() - before_ns < 2 * KN_NS_PER_S);
    assert_ok(r);
    assert_true(has_flag(r, "stopped"));
    assert_true(number_at(r, "metrics.ops") >= 100);
    assert_true(number_at(r, "metrics.duration_s") < 30);
    json_decref(r);
}

static void test_stop_after_the_end(void **state)
{
    struct kn_target target;
    (void)state;
    target_of(&server, &target);
    struct kn_run *run = start_json(&target, "{\"test\":\"tcp_rr\",\"count\":10,\"warmup\":0}");
    assert_true(kn_run_wait(run, 10 * KN_NS_PER_S));
    kn_run_stop(run);
    json_t *r = finish_run(run);
    assert_ok(r);
    assert_false(has_flag(r, "stopped"));
    json_decref(r);
}

static void await_ops(struct kn_run *run, uint64_t ops)
{
    struct kn_progress p;
    uint64_t until_ns = kn_now_ns() + 10 * KN_NS_PER_S;
    do {
        kn_run_wait(run, KN_NS_PER_MS);
        kn_run_progress(run, &p);
    } while (p.ops < ops && kn_now_ns() < until_ns);
}

/* A reset in the middle is one error; the flow is opened again and goes on. */
static void test_a_cut_flow_is_opened_again(void **state)
{
    struct kn_target target;
    struct kn_progress before;
    (void)state;
    target_of(&server, &target);
    struct kn_run *run = start_json(&target, "{\"test\":\"tcp_rr\",\"duration\":\"2s\",\"warmup\":0}");
    await_ops(run, 50);
    loopback_cut(&server);
    kn_run_progress(run, &before);
    await_ops(run, before.ops + 50);
    kn_run_stop(run);
    json_t *r = finish_run(run);
    assert_ok(r);
    assert_true(number_at(r, "metrics.errors") == 1);
    assert_true(number_at(r, "metrics.timeouts") == 0);
    assert_true(number_at(r, "metrics.ops") >= (double)before.ops + 50);
    json_decref(r);
}

/* A server that stays away is lost: after five seconds, not at the end. */
static void test_server_vanishes(void **state)
{
    static struct loopback gone;
    struct kn_target target;
    (void)state;
    loopback_start(&gone);
    target_of(&gone, &target);
    struct kn_run *run = start_json(&target,
                                    "{\"test\":\"tcp_rr\",\"duration\":\"60s\",\"warmup\":0,\"timeout\":\"1s\"}");
    await_ops(run, 50);
    loopback_stop(&gone);
    assert_true(kn_run_wait(run, 60 * KN_NS_PER_S));
    json_t *r = finish_run(run);
    assert_false(json_is_true(at(r, "ok")));
    assert_string_equal(text_at(r, "error.code"), "lost");
    assert_true(number_at(r, "metrics.ops") >= 50);
    assert_true(number_at(r, "metrics.connect_errors") >= 1);
    json_decref(r);
}

static void test_refused(void **state)
{
    struct kn_target target;
    (void)state;
    target_of(&server, &target);
    target.port = 1;
    json_t *r = finish_run(start_json(&target, "{\"test\":\"tcp_rr\",\"duration\":\"1s\",\"flows\":4}"));
    assert_string_equal(text_at(r, "error.code"), "refused");
    assert_int_equal(json_object_size(at(r, "metrics")), 0); /* not measured, so not 0 */
    json_decref(r);
}

static void test_wrong_key(void **state)
{
    struct kn_target target;
    (void)state;
    target_of(&server, &target);
    kn_wire_key("another token, not the server's", &target.key);
    json_t *r = finish_run(start_json(&target, "{\"test\":\"tcp_rr\",\"duration\":\"1s\"}"));
    assert_false(json_is_true(at(r, "ok")));
    json_decref(r);
}

static void test_longer_than_allowed(void **state)
{
    (void)state;
    json_t *r = run_json(&server, "{\"test\":\"tcp_rr\",\"duration\":\"61s\"}");
    assert_string_equal(text_at(r, "error.code"), "limit");
    json_decref(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_combinations),
        cmocka_unit_test(test_lat_is_half),
        cmocka_unit_test(test_timeouts),
        cmocka_unit_test(test_count_is_exact),
        cmocka_unit_test(test_delay_is_seen),
        cmocka_unit_test(test_open_loop_counts_from_due),
        cmocka_unit_test(test_rate_is_held),
        cmocka_unit_test(test_few_a_second),
        cmocka_unit_test(test_count_ends_in_time),
        cmocka_unit_test(test_stop_in_the_middle),
        cmocka_unit_test(test_stop_after_the_end),
        cmocka_unit_test(test_a_cut_flow_is_opened_again),
        cmocka_unit_test(test_server_vanishes),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_wrong_key),
        cmocka_unit_test(test_longer_than_allowed),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
