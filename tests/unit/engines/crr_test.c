/* tcp_crr over loopback: every connection is short, and the server's counts make up the client's. */
#include "server.h"

static void test_combinations(void **state)
{
    static const char *const options[] = {"\"flows\":1",
                                          "\"flows\":2",
                                          "\"flows\":7",
                                          "\"fin\":true",
                                          "\"size\":\"4K\",\"response\":\"8K\"",
                                          "\"size\":\"100K\",\"response\":\"200K\"",
                                          "\"delay\":\"1ms\"",
                                          "\"rate\":\"500/s\"",
                                          "\"mss\":500",
                                          "\"fin\":true,\"flows\":3"};
    (void)state;
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        char spec[256];
        snprintf(spec, sizeof spec, "{\"test\":\"tcp_crr\",\"duration\":\"150ms\",\"warmup\":\"20ms\",%s}", options[i]);
        json_t *r = run_json(&server, spec);
        assert_ok(r);
        assert_true(number_at(r, "metrics.ops") > 0);
        assert_true(number_at(r, "metrics.errors") == 0);
        assert_true(number_at(r, "metrics.connect_errors") == 0);
        assert_true(number_at(r, "metrics.connect_ns.p50") <= number_at(r, "metrics.latency_ns.p50"));
        assert_int_equal(json_array_size(at(r, "servers")), 1);
        assert_false(has_flag(r, "backend_missing"));
        json_decref(r);
    }
}

/* Also of transactions that have a thread each: threads end, and others come by the same name. */
static void test_server_cpu_is_reported(void **state)
{
    static const char *const options[] = {"\"response\":1", "\"response\":\"100K\"",
                                          "\"response\":\"100K\",\"flows\":4"};
    (void)state;
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        char spec[256];
        snprintf(spec, sizeof spec, "{\"test\":\"tcp_crr\",\"duration\":\"300ms\",\"warmup\":\"20ms\",%s}", options[i]);
        json_t *r = run_json(&server, spec);
        double server_ns = number_at(r, "metrics.cpu.server_process") * number_at(r, "metrics.duration_s") * 1e9;
        assert_ok(r);
        assert_true(number_at(r, "metrics.cpu.client_process") > 0);
        assert_true(server_ns / number_at(r, "metrics.ops") > 1000);
        assert_true(number_at(r, "metrics.cpu.server_process") < 64);
        json_decref(r);
    }
}

static void test_count_is_exact(void **state)
{
    static const char *const specs[] = {"{\"test\":\"tcp_crr\",\"count\":503,\"warmup\":0}",
                                        "{\"test\":\"tcp_crr\",\"count\":503,\"warmup\":\"20ms\",\"flows\":5}"};
    (void)state;
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
        json_t *r = run_json(&server, specs[i]);
        assert_ok(r);
        assert_true(number_at(r, "metrics.ops") == 503);
        assert_true(number_at(r, "metrics.latency_ns.count") == 503);
        json_decref(r);
    }
}

static void test_rate_is_held(void **state)
{
    static const char *const options[] = {"\"flows\":1", "\"flows\":2", "\"flows\":9"};
    (void)state;
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        char spec[256];
        snprintf(spec, sizeof spec,
                 "{\"test\":\"tcp_crr\",\"duration\":\"200ms\",\"warmup\":\"20ms\",\"rate\":\"500/s\",%s}", options[i]);
        json_decref(run_within(&server, spec, "metrics.ops", 90, 102)); /* 100 are due */
    }
}

/* A server that takes connections and says nothing: each transaction ends at its timeout and is counted with that time.
 */
static void test_timeouts(void **state)
{
    static const char *const options[] = {"\"flows\":1", "\"flows\":4,\"threads\":1"};
    (void)state;
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        char spec[256];
        snprintf(
            spec, sizeof spec,
            "{\"test\":\"tcp_crr\",\"duration\":\"500ms\",\"warmup\":0,\"delay\":\"600ms\",\"timeout\":\"100ms\",%s}",
            options[i]);
        json_t *r = run_once(&server, spec);
        assert_true(number_at(r, "metrics.timeouts") >= 1);
        assert_true(number_at(r, "metrics.latency_ns.min") >= 100e6);
        json_decref(r);
    }
}

static void test_stop_in_the_middle(void **state)
{
    struct kn_target target;
    struct kn_progress p;
    (void)state;
    target_of(&server, &target);
    struct kn_run *run = start_json(&target, "{\"test\":\"tcp_crr\",\"duration\":\"50s\",\"warmup\":0,\"flows\":3}");
    uint64_t until_ns = kn_now_ns() + 10 * KN_NS_PER_S;
    do {
        kn_run_wait(run, KN_NS_PER_MS);
        kn_run_progress(run, &p);
    } while (p.ops < 100 && kn_now_ns() < until_ns);
    kn_run_stop(run);
    json_t *r = finish_run(run);
    assert_ok(r);
    assert_true(number_at(r, "metrics.ops") >= 100);
    json_decref(r);
}

static void test_refused(void **state)
{
    struct kn_target target;
    (void)state;
    target_of(&server, &target);
    target.port = 1;
    json_t *r = finish_run(start_json(&target, "{\"test\":\"tcp_crr\",\"duration\":\"1s\"}"));
    assert_string_equal(text_at(r, "error.code"), "refused");
    assert_int_equal(json_object_size(at(r, "metrics")), 0); /* not measured, so not 0 */
    json_decref(r);
}

/* A server that goes away in the middle: every transaction fails from then on, and the run says so within a few
 * seconds. */
static void test_server_vanishes(void **state)
{
    static struct loopback mortal;
    struct kn_target target;
    struct kn_progress p;
    (void)state;
    loopback_start(&mortal);
    target_of(&mortal, &target);
    struct kn_run *run = start_json(&target, "{\"test\":\"tcp_crr\",\"duration\":\"50s\",\"warmup\":0}");
    uint64_t until_ns = kn_now_ns() + 10 * KN_NS_PER_S;
    do {
        kn_run_wait(run, KN_NS_PER_MS);
        kn_run_progress(run, &p);
    } while (p.ops < 50 && kn_now_ns() < until_ns);
    loopback_stop(&mortal);
    json_t *r = finish_run(run);
    assert_false(json_is_true(at(r, "ok")));
    assert_true(number_at(r, "metrics.connect_errors") > 0);
    assert_true(number_at(r, "metrics.ops") >= 50);
    json_decref(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_combinations),   cmocka_unit_test(test_server_cpu_is_reported),
        cmocka_unit_test(test_count_is_exact), cmocka_unit_test(test_rate_is_held),
        cmocka_unit_test(test_timeouts),       cmocka_unit_test(test_stop_in_the_middle),
        cmocka_unit_test(test_refused),        cmocka_unit_test(test_server_vanishes),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
