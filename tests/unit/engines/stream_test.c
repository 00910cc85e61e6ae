/* tcp_stream, tcp_sendfile and tcp_bw over loopback. */
#include "server.h"

#include <dirent.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>

static void test_defaults(void **state)
{
    (void)state;
    static const char spec[] = "{\"test\":\"tcp_stream\",\"duration\":\"1s\",\"interval\":\"250ms\"}";
    json_t *r = run_within(&server, spec, "metrics.duration_s", 0.99, 1.01);
    for (int left = 8; left && !(text_at(r, "chosen.write") && text_at(r, "chosen.rcvlowat"));
         left--) { /* a busy machine leaves no turns */
        json_decref(r);
        r = run_within(&server, spec, "metrics.duration_s", 0.99, 1.01);
    }
    assert_string_equal(text_at(r, "chosen.calibration"), "100 ms of the warm-up");
    assert_true(number_at(r, "metrics.throughput_bps") > 1e8);
    assert_int_equal(json_array_size(at(r, "metrics.intervals")), 4);
    assert_true(number_at(r, "metrics.cpu_s_per_gb.send") > 0);
    assert_true(number_at(r, "metrics.cpu_s_per_gb.recv") > 0);
    assert_true(number_at(r, "metrics.mss_effective") > 500);
    assert_non_null(strstr(text_at(r, "chosen.write"), " of the same 16 KiB"));
    assert_non_null(text_at(r, "chosen.rcvlowat"));
    json_decref(r);
}

/* The calibration is a tenth of the duration, whatever the warm-up. Where that is too short the calls are those that
 * are best most often. */
static void test_a_short_run_is_not_calibrated(void **state)
{
    static const struct {
        const char *spec, *write;
        bool sleeps; /* the receiver, until more has come */
    } cases[] = {
        {"{\"test\":\"tcp_stream\",\"duration\":\"60ms\",\"warmup\":\"150ms\"}", "524288 of the same 16 KiB", true},
        {"{\"test\":\"tcp_sendfile\",\"duration\":\"60ms\"}", "524288", true},
        {"{\"test\":\"tcp_bw\",\"size\":\"64\",\"duration\":\"60ms\"}", "64 with MSG_MORE", true},
        {"{\"test\":\"tcp_bw\",\"size\":\"4K\",\"duration\":\"60ms\"}", "4096", false},
        {"{\"test\":\"tcp_stream\",\"duration\":\"60ms\",\"warmup\":0}", "524288 of the same 16 KiB", false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *r = run_within(&server, cases[i].spec, "metrics.duration_s", 0.059, 0.061);
        assert_string_equal(text_at(r, "chosen.calibration"), "none: the run is too short");
        assert_string_equal(text_at(r, "chosen.write"), cases[i].write);
        assert_true(!json_object_get(at(r, "chosen"), "rcvlowat") == !cases[i].sleeps);
        json_decref(r);
    }
}

/* sendfile has no MSG_MORE to choose, and a size that is asked for is no choice. */
/* Several flows, each by a thread or by a loop, share what may be queued; one flow queues what it likes. */
static void test_what_several_flows_queue(void **state)
{
    static const struct {
        const char *spec, *unsent;
    } cases[] = {
        {"{\"test\":\"tcp_stream\",\"duration\":\"60ms\",\"warmup\":0,\"flows\":2}", "at most 131072"},
        {"{\"test\":\"tcp_stream\",\"duration\":\"60ms\",\"warmup\":0,\"flows\":4,\"threads\":2}", "at most 65536"},
        {"{\"test\":\"tcp_stream\",\"duration\":\"60ms\",\"warmup\":0,\"flows\":20,\"threads\":1}", "at most 32768"},
        {"{\"test\":\"tcp_stream\",\"duration\":\"60ms\",\"warmup\":0}", NULL},
        {"{\"test\":\"tcp_stream\",\"duration\":\"60ms\",\"warmup\":0,\"flows\":2,\"sndbuf\":65536}", NULL},
        {"{\"test\":\"tcp_stream\",\"duration\":\"60ms\",\"warmup\":0,\"flows\":2,\"tune\":\"plain\"}", NULL},
        {"{\"test\":\"tcp_sendfile\",\"duration\":\"60ms\",\"warmup\":0,\"flows\":2}", NULL},
        {"{\"test\":\"tcp_bw\",\"duration\":\"60ms\",\"warmup\":0,\"flows\":2}", NULL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *r = run_within(&server, cases[i].spec, "metrics.throughput_bps", 1e5, 1e15);
        const json_t *unsent = json_object_get(at(r, "chosen"), "unsent");
        if (cases[i].unsent)
            assert_string_equal(json_string_value(unsent), cases[i].unsent);
        else
            assert_null(unsent);
        json_decref(r);
    }
}

static void test_nothing_to_choose(void **state)
{
    static const char *const specs[] = {
        "{\"test\":\"tcp_sendfile\",\"size\":\"4K\",\"duration\":\"60ms\",\"warmup\":\"300ms\"}",
        "{\"test\":\"tcp_stream\",\"size\":\"1M\",\"duration\":\"60ms\",\"warmup\":\"300ms\"}",
    };
    (void)state;
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
        json_t *r = run_within(&server, specs[i], "metrics.throughput_bps", 1e5, 1e15);
        assert_null(json_object_get(json_object_get(r, "chosen"), "write"));
        json_decref(r);
    }
}

static void test_combinations(void **state)
{
    static const char *const options[] = {
        "\"test\":\"tcp_stream\",\"tune\":\"plain\"",
        "\"test\":\"tcp_stream\",\"reverse\":true",
        "\"test\":\"tcp_stream\",\"bidir\":true",
        "\"test\":\"tcp_stream\",\"flows\":2",
        "\"test\":\"tcp_stream\",\"flows\":9",
        "\"test\":\"tcp_stream\",\"flows\":9,\"reverse\":true",
        "\"test\":\"tcp_stream\",\"flows\":5,\"bidir\":true",
        "\"test\":\"tcp_stream\",\"flows\":5,\"rate\":\"200M\"",
        "\"test\":\"tcp_stream\",\"flows\":5,\"rate\":\"200M\",\"reverse\":true",
        "\"test\":\"tcp_stream\",\"zerocopy\":true",
        "\"test\":\"tcp_stream\",\"size\":\"1\"",
        "\"test\":\"tcp_stream\",\"size\":\"16M\"",
        "\"test\":\"tcp_stream\",\"nodelay\":true",
        "\"test\":\"tcp_stream\",\"sndbuf\":\"32K\",\"rcvbuf\":\"32K\"",
        "\"test\":\"tcp_stream\",\"cc\":\"reno\"",
        "\"test\":\"tcp_sendfile\"",
        "\"test\":\"tcp_sendfile\",\"flows\":5",
        "\"test\":\"tcp_sendfile\",\"reverse\":true",
        "\"test\":\"tcp_sendfile\",\"size\":\"1000\"",
        "\"test\":\"tcp_bw\",\"size\":\"1\"",
        "\"test\":\"tcp_bw\",\"size\":\"4K\"",
        "\"test\":\"tcp_bw\",\"size\":\"256K\"",
        "\"test\":\"tcp_bw\",\"size\":\"64\",\"flows\":5",
    };
    (void)state;
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        char spec[256];
        snprintf(spec, sizeof spec, "{\"duration\":\"60ms\",\"warmup\":\"30ms\",%s}", options[i]);
        json_t *r = run_within(&server, spec, "metrics.throughput_bps", 1e5, 1e15);
        assert_true(number_at(r, "metrics.errors") == 0);
        json_decref(r);
    }
}

/* Bytes are those that the receiver has got, and a count is exact to the byte. */
static void test_count_is_exact(void **state)
{
    static const struct {
        const char *spec;
        double ops, bytes;
    } cases[] = {
        {"{\"test\":\"tcp_stream\",\"count\":77,\"size\":\"100000\"}", 77, 7700000},
        {"{\"test\":\"tcp_bw\",\"count\":5003,\"size\":\"7\"}", 5003, 35021},
        {"{\"test\":\"tcp_bw\",\"count\":3,\"size\":\"10M\"}", 3, 31457280},
        {"{\"test\":\"tcp_sendfile\",\"count\":50,\"size\":\"64K\"}", 50, 3276800},
        {"{\"test\":\"tcp_stream\",\"count\":1001,\"size\":\"3000\",\"flows\":6}", 1001, 3003000},
        {"{\"test\":\"tcp_stream\",\"count\":77,\"size\":\"100000\",\"reverse\":true}", 77, 7700000},
        {"{\"test\":\"tcp_stream\",\"count\":501,\"size\":\"3000\",\"reverse\":true,\"flows\":6}", 501, 1503000},
        {"{\"test\":\"tcp_sendfile\",\"count\":3,\"size\":\"10M\",\"reverse\":true}", 3, 31457280},
        {"{\"test\":\"tcp_stream\",\"count\":7,\"size\":\"100000\",\"rate\":\"100M\"}", 7, 700000},
        {"{\"test\":\"tcp_stream\",\"count\":7,\"size\":\"100000\",\"rate\":\"100M\",\"reverse\":true}", 7, 700000},
        {"{\"test\":\"tcp_sendfile\",\"count\":13,\"size\":\"100000\",\"rate\":\"100M\",\"flows\":6}", 13, 1300000},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *r = run_json(&server, cases[i].spec);
        assert_ok(r);
        assert_true(number_at(r, "metrics.bytes") == cases[i].bytes);
        assert_true(number_at(r, "metrics.ops") == cases[i].ops);
        json_decref(r);
    }
}

/* What the client sends is counted; the server sends as much as it can until then. */
static void test_count_of_both_directions(void **state)
{
    static const char *const options[] = {"", ",\"flows\":6", ",\"rate\":\"100M\""};
    (void)state;
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        char spec[256];
        snprintf(spec, sizeof spec, "{\"test\":\"tcp_stream\",\"bidir\":true,\"count\":10,\"size\":\"100000\"%s}",
                 options[i]);
        json_t *r = run_json(&server, spec);
        assert_ok(r);
        assert_true(number_at(r, "metrics.bytes") >= 1000000);
        json_decref(r);
    }
}

static void test_rate_is_held(void **state)
{
    static const char *const specs[] = {
        "{\"test\":\"tcp_stream\",\"duration\":\"300ms\",\"warmup\":\"50ms\",\"rate\":\"100M\"}",
        "{\"test\":\"tcp_stream\",\"duration\":\"300ms\",\"warmup\":\"50ms\",\"rate\":\"100M\",\"reverse\":true}",
        "{\"test\":\"tcp_stream\",\"duration\":\"300ms\",\"warmup\":\"50ms\",\"rate\":\"100M\",\"flows\":4}",
    };
    (void)state;
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++)
        json_decref(run_within(&server, specs[i], "metrics.throughput_bps", 0.93e8, 1.05e8));
}

static void test_mss(void **state)
{
    (void)state;
    json_t *r = run_json(&server, "{\"test\":\"tcp_stream\",\"duration\":\"60ms\",\"warmup\":0,\"mss\":1000}");
    assert_ok(r);
    assert_true(number_at(r, "metrics.mss_effective") >= 980 && number_at(r, "metrics.mss_effective") <= 1000);
    assert_false(has_flag(r, "mss_differs"));
    json_decref(r);
}

static bool within(double value, double low, double high)
{
    return value > low && value < high;
}

/* Each direction has a window of its own, which ends late where its thread does not run: some tries. */
static void test_both_directions_are_told_apart(void **state)
{
    json_t *r = NULL;
    double sum = 0, all = 0, curve = 0;
    (void)state;
    for (int i = 0; i < 6 && !(within(sum, 0.98 * all, 1.02 * all) && within(curve, 0.95 * all, 1.05 * all)); i++) {
        json_decref(r);
        r = run_json(&server, "{\"test\":\"tcp_stream\",\"duration\":\"1s\",\"warmup\":\"50ms\",\"interval\":\"500ms\","
                              "\"bidir\":true}");
        assert_ok(r);
        sum = number_at(r, "metrics.send_bps") + number_at(r, "metrics.receive_bps");
        all = number_at(r, "metrics.throughput_bps");
        curve = 0;
        json_t *intervals = at(r, "metrics.intervals");
        for (size_t k = 0; k < json_array_size(intervals); k++)
            curve += number_at(json_array_get(intervals, k), "bps") / 2;
    }
    assert_true(within(sum, 0.98 * all, 1.02 * all));
    assert_true(within(curve, 0.95 * all, 1.05 * all));             /* of both directions, as the sum */
    assert_null(json_object_get(at(r, "metrics"), "cpu_s_per_gb")); /* both ends do both */
    json_decref(r);
}

static void await_bytes(struct kn_run *run)
{
    struct kn_progress p;
    uint64_t until_ns = kn_now_ns() + 10 * KN_NS_PER_S;
    do {
        kn_run_wait(run, KN_NS_PER_MS);
        kn_run_progress(run, &p);
    } while (p.bytes < 1000000 && kn_now_ns() < until_ns);
    assert_true(p.bytes >= 1000000);
}

static void test_stop_in_the_middle(void **state)
{
    static const char *const options[] = {
        "\"flows\":1",      "\"flows\":5", "\"reverse\":true", "\"bidir\":true", "\"flows\":5,\"reverse\":true",
        "\"rate\":\"100M\""};
    struct kn_target target;
    (void)state;
    target_of(&server, &target);
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        char spec[256];
        snprintf(spec, sizeof spec, "{\"test\":\"tcp_stream\",\"duration\":\"50s\",\"warmup\":0,%s}", options[i]);
        struct kn_run *run = start_json(&target, spec);
        await_bytes(run);
        uint64_t before_ns = kn_now_ns();
        kn_run_stop(run);
        json_t *r = finish_run(run);
        assert_true(kn_now_ns() - before_ns < 3 * KN_NS_PER_S);
        assert_ok(r);
        assert_true(has_flag(r, "stopped"));
        assert_true(number_at(r, "metrics.bytes") > 0);
        assert_true(number_at(r, "metrics.duration_s") < 20);
        json_decref(r);
    }
}

/* ---- a client that gets no CPU time ---- */

static void stand_still(int signal)
{
    const struct timespec half_a_second = {.tv_nsec = 500000000};
    (void)signal;
    nanosleep(&half_a_second, NULL);
}

/* The threads of this process; returns how many. */
static unsigned threads(pid_t *out, unsigned most)
{
    unsigned n = 0;
    DIR *all = opendir("/proc/self/task");
    for (struct dirent *e; all && n < most && (e = readdir(all));)
        if (*e->d_name != '.')
            out[n++] = (pid_t)atoi(e->d_name);
    closedir(all);
    return n;
}

static bool is_in(const pid_t *list, unsigned n, pid_t one)
{
    for (unsigned i = 0; i < n; i++)
        if (list[i] == one)
            return true;
    return false;
}

/* Shortly before the end all threads of the run but the first, which keeps the time. */
static void starve(struct kn_run *run, const pid_t *before, unsigned n_before)
{
    pid_t now[64], first = 0;
    struct kn_progress p;
    do {
        kn_run_wait(run, KN_NS_PER_MS);
        kn_run_progress(run, &p);
    } while (p.elapsed_ns < 180 * KN_NS_PER_MS && p.phase <= KN_PHASE_MEASURE);
    unsigned n = threads(now, 64);
    for (unsigned i = 0; i < n; i++)
        if (!is_in(before, n_before, now[i]) && (!first || now[i] < first))
            first = now[i];
    for (unsigned i = 0; i < n; i++)
        if (!is_in(before, n_before, now[i]) && now[i] != first)
            syscall(SYS_tgkill, getpid(), now[i], SIGUSR1);
}

static void test_a_client_that_stands_still_at_the_end(void **state)
{
    struct kn_target target;
    (void)state;
    target_of(&server, &target);
    signal(SIGUSR1, stand_still);
    for (int i = 0; i < 4; i++) {
        pid_t before[64];
        unsigned n = threads(before, 64);
        struct kn_run *run = start_json(
            &target, "{\"test\":\"tcp_bw\",\"size\":64,\"duration\":\"200ms\",\"warmup\":0,\"flows\":4}");
        starve(run, before, n);
        json_t *r = finish_run(run);
        assert_ok(r);
        assert_true(number_at(r, "metrics.errors") == 0);
        json_decref(r);
    }
    signal(SIGUSR1, SIG_DFL);
}

static void test_server_vanishes(void **state)
{
    static const char *const options[] = {"\"flows\":1", "\"flows\":5", "\"reverse\":true", "\"bidir\":true"};
    struct kn_target target;
    (void)state;
    loopback_use_desk(&server, false);
    target_of(&server, &target);
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        char spec[256];
        snprintf(spec, sizeof spec, "{\"test\":\"tcp_stream\",\"duration\":\"50s\",\"warmup\":0,%s}", options[i]);
        struct kn_run *run = start_json(&target, spec);
        await_bytes(run);
        loopback_cut(&server);
        json_t *r = finish_run(run);
        assert_false(json_is_true(at(r, "ok")));
        assert_string_equal(text_at(r, "error.code"), "lost");
        json_decref(r);
    }
    loopback_use_desk(&server, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_a_short_run_is_not_calibrated),
        cmocka_unit_test(test_what_several_flows_queue),
        cmocka_unit_test(test_nothing_to_choose),
        cmocka_unit_test(test_combinations),
        cmocka_unit_test(test_count_is_exact),
        cmocka_unit_test(test_count_of_both_directions),
        cmocka_unit_test(test_rate_is_held),
        cmocka_unit_test(test_mss),
        cmocka_unit_test(test_both_directions_are_told_apart),
        cmocka_unit_test(test_stop_in_the_middle),
        cmocka_unit_test(test_a_client_that_stands_still_at_the_end),
        cmocka_unit_test(test_server_vanishes),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
