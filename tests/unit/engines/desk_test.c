/* Runs with more flows than the agent has CPUs: served by event loops, each flow in the counts, whatever others do. */
#include <sched.h>

#include "server.h"

#include "meter/meter.h"

#define FLOWS 24

static void await_active(unsigned n)
{
    uint64_t until_ns = kn_now_ns() + 20 * KN_NS_PER_S;
    while (kn_desk_active(server.server.desk) != n && kn_now_ns() < until_ns)
        kn_sleep_until_ns(kn_now_ns() + KN_NS_PER_MS);
    assert_int_equal(kn_desk_active(server.server.desk), n);
}

/* ---- what is counted ---- */

static void every_test_is_served(void **state)
{
    (void)state;
    static const char *const tests[] = {"\"test\":\"tcp_rr\"",
                                        "\"test\":\"tcp_rr\",\"burst\":3,\"size\":\"100K\",\"response\":\"300K\"",
                                        "\"test\":\"tcp_rr\",\"delay\":\"1ms\",\"burst\":2",
                                        "\"test\":\"tcp_rr\",\"wait\":\"auto\",\"rate\":\"2k/s\"",
                                        "\"test\":\"tcp_rr\",\"wait\":\"spin\"",
                                        "\"test\":\"tcp_lat\",\"size\":\"4K\"",
                                        "\"test\":\"http\"",
                                        "\"test\":\"http\",\"body\":\"300K\"",
                                        "\"test\":\"http\",\"delay\":\"1ms\"",
                                        "\"test\":\"tcp_stream\"",
                                        "\"test\":\"tcp_stream\",\"reverse\":true",
                                        "\"test\":\"tcp_stream\",\"bidir\":true",
                                        "\"test\":\"tcp_stream\",\"reverse\":true,\"rate\":\"100Mbit/s\"",
                                        "\"test\":\"tcp_sendfile\"",
                                        "\"test\":\"tcp_bw\",\"size\":\"4K\""};
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        char spec[256];
        snprintf(spec, sizeof spec, "{%s,\"duration\":\"300ms\",\"warmup\":\"50ms\",\"flows\":%d}", tests[i], FLOWS);
        json_t *r = run_json(&server, spec);
        assert_ok(r);
        if (!strstr(text_at(r, "chosen.server"), "event loops"))
            fail_msg("%s: %s", spec, text_at(r, "chosen.server"));
        assert_true(number_at(r, "metrics.errors") == 0);
        json_decref(r);
        await_active(0);
    }
}

/* A count has each of its operations on both sides, once. */
static void counts_are_exact(void **state)
{
    (void)state;
    static const char *const tests[] = {"tcp_rr", "tcp_lat", "http"};
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        char spec[256];
        snprintf(spec, sizeof spec, "{\"test\":\"%s\",\"count\":3000,\"warmup\":0,\"flows\":%d}", tests[i], FLOWS);
        json_t *r = run_json(&server, spec);
        assert_ok(r);
        assert_true(number_at(r, "metrics.ops") == 3000);
        assert_true(number_at(r, "metrics.latency_ns.count") == 3000);
        json_decref(r);
    }
}

/* At 2000 requests a second a server that waits 2 ms takes at least 2 ms for each, however many flows a thread has. */
static void a_delay_holds_up_nobody_else(void **state)
{
    (void)state;
    json_t *r = run_json(&server, "{\"test\":\"tcp_rr\",\"duration\":\"500ms\",\"warmup\":\"50ms\",\"flows\":24,"
                                  "\"delay\":\"20ms\"}");
    assert_ok(r);
    assert_true(number_at(r, "metrics.latency_ns.min") >= 20e6);
    /* one after the other they would be 24 or 12 times as long */
    assert_true(number_at(r, "metrics.latency_ns.p50") < 200e6);
    json_decref(r);
}

static void few_flows_have_threads(void **state)
{
    (void)state;
    json_t *r = run_json(&server, "{\"test\":\"tcp_rr\",\"duration\":\"100ms\",\"flows\":1}");
    assert_ok(r);
    assert_null(json_object_get(at(r, "chosen"), "server"));
    json_decref(r);
}

/* Of a few flows and of many; what is not there is refused before anything is measured. */
static void threads_are_pinned(void **state)
{
    (void)state;
    static const int flows[] = {1, FLOWS};
    cpu_set_t mine;
    size_t cpu = 0;
    assert_int_equal(sched_getaffinity(0, sizeof mine, &mine), 0);
    while (!CPU_ISSET(cpu, &mine))
        cpu++;
    for (size_t i = 0; i < 2; i++) {
        char spec[256], name[24];
        snprintf(name, sizeof name, "%zu", cpu);
        snprintf(spec, sizeof spec,
                 "{\"test\":\"tcp_rr\",\"duration\":\"200ms\",\"flows\":%d,\"cpus\":\"%s\",\"server_cpus\":\"%s\"}",
                 flows[i], name, name);
        json_t *r = run_json(&server, spec);
        assert_ok(r);
        assert_string_equal(text_at(r, "chosen.cpus"), name);
        assert_string_equal(text_at(r, "chosen.server_cpus"), name);
        json_decref(r);
        snprintf(spec, sizeof spec,
                 "{\"test\":\"tcp_rr\",\"duration\":\"200ms\",\"flows\":%d,\"server_cpus\":\"1000\"}", flows[i]);
        r = run_once(&server, spec);
        assert_string_equal(text_at(r, "error.code"), "argument");
        assert_non_null(strstr(text_at(r, "error.message"), "none of the CPUs 1000"));
        json_decref(r);
    }
}

/* The flow with the fewest and the one with the most are said, and how even all are. */
static void fairness_is_a_figure(void **state)
{
    (void)state;
    json_t *r = run_json(&server, "{\"test\":\"tcp_rr\",\"count\":2400,\"warmup\":0,\"flows\":24,\"rate\":\"20k/s\"}");
    assert_ok(r);
    double least = number_at(r, "metrics.fairness.flow_min"), most = number_at(r, "metrics.fairness.flow_max");
    assert_true(least > 0 && least <= 100 && most >= 100);
    assert_true(number_at(r, "metrics.fairness.jain") > 0.5 && number_at(r, "metrics.fairness.jain") <= 1);
    json_decref(r);
}

/* ---- slow and hostile flows ---- */

static struct kn_hello hello_of(const char *text, unsigned flow)
{
    struct kn_error err;
    struct kn_hello h = {.kind = KN_HELLO_FLOW, .run_id = 77, .flow = flow, .flows = 100000, .issued_ns = kn_wall_ns()};
    json_t *json = json_loads(text, 0, NULL);
    if (kn_spec_parse(json, &kn_engines, &h.spec, &err))
        fail_msg("%s", err.message);
    json_decref(json);
    memcpy(h.nonce, &flow, sizeof flow);
    return h;
}

/* Opens a flow by hand, up to the welcome, with so small a window that what is not read soon stops the server. */
static int open_flow_at(const struct loopback *l, const char *spec, unsigned flow)
{
    struct kn_error err;
    struct kn_hello h = hello_of(spec, flow);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(l->port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    uint8_t wire[4096];
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), room = 4096;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    kn_hello_pack(&h, &l->key, wire);
    assert_int_equal(kn_write_full(fd, wire, kn_hello_size(), kn_now_ns() + 20 * KN_NS_PER_S, &err), 0);
    assert_int_equal(kn_read_full(fd, wire, kn_welcome_size(), kn_now_ns() + 20 * KN_NS_PER_S, &err), 0);
    return fd;
}

static int open_flow(const char *spec, unsigned flow)
{
    return open_flow_at(&server, spec, flow);
}

static void go(int fd)
{
    const uint8_t byte = KN_GO;
    assert_int_equal(send(fd, &byte, 1, MSG_NOSIGNAL), 1);
}

#define BYSTANDERS "{\"test\":\"tcp_rr\",\"duration\":\"400ms\",\"warmup\":\"50ms\",\"flows\":24,\"rate\":\"2k/s\"}"

static double p99_of_bystanders(void)
{
    json_t *r = run_json(&server, BYSTANDERS);
    assert_ok(r);
    assert_true(number_at(r, "metrics.errors") == 0);
    double p99 = number_at(r, "metrics.latency_ns.p99");
    json_decref(r);
    return p99;
}

/* The others are as quick as without it, or nearly: a busy machine is asked a few times. */
static void expect_unharmed(const char *who)
{
    double with = 0, without = 0;
    for (int left = 8; left; left--) {
        with = p99_of_bystanders();
        without = p99_of_bystanders();
        if (with < 2e6 + 3 * without)
            return;
    }
    fail_msg("p99 is %.1f ms beside %s, %.1f ms else", with / 1e6, who, without / 1e6);
}

static void one_that_never_reads(void **state)
{
    (void)state;
    const char *spec = "{\"test\":\"tcp_stream\",\"reverse\":true,\"duration\":\"50s\"}";
    int fds[4];
    for (unsigned i = 0; i < 4; i++)
        go(fds[i] = open_flow(spec, i));
    /* and one that asks without end, and reads no answer */
    int asks = open_flow("{\"test\":\"tcp_rr\",\"response\":\"1M\",\"duration\":\"50s\"}", 4);
    go(asks);
    for (int i = 0; i < 1000; i++)
        if (send(asks, "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
            break;
    expect_unharmed("clients that read nothing");
    for (unsigned i = 0; i < 4; i++)
        close(fds[i]);
    close(asks);
    await_active(0);
}

static void one_that_sends_a_byte_at_a_time(void **state)
{
    (void)state;
    int slow = open_flow("{\"test\":\"http\",\"duration\":\"50s\"}", 0),
        large = open_flow("{\"test\":\"tcp_rr\",\"size\":\"1M\",\"duration\":\"50s\"}", 1);
    const char *request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    char answer[16];
    go(slow);
    go(large);
    for (size_t i = 0; request[i]; i++) {
        assert_int_equal(send(slow, request + i, 1, MSG_NOSIGNAL), 1);
        assert_int_equal(send(large, "x", 1, MSG_NOSIGNAL), 1);
        if (i == 10)
            expect_unharmed("clients that send a byte at a time");
    }
    assert_int_equal(recv(slow, answer, 9, MSG_WAITALL), 9); /* it is served in the end */
    assert_memory_equal(answer, "HTTP/1.1 ", 9);
    close(slow);
    close(large);
    await_active(0);
}

#define IDLE 2000

static void many_that_only_connect(void **state)
{
    (void)state;
    static int fds[IDLE];
    for (unsigned i = 0; i < IDLE; i++)
        fds[i] = open_flow("{\"test\":\"tcp_rr\",\"duration\":\"50s\"}", i);
    await_active(IDLE);
    expect_unharmed("2000 clients that only connect");
    for (unsigned i = 0; i < IDLE; i++)
        close(fds[i]);
    await_active(0);
}

/* What is neither go nor a request ends that flow, and no other. */
static void nonsense_ends_one_flow(void **state)
{
    (void)state;
    int no_go = open_flow("{\"test\":\"tcp_rr\",\"duration\":\"50s\"}", 0);
    int no_http = open_flow("{\"test\":\"http\",\"duration\":\"50s\"}", 1);
    int fine = open_flow("{\"test\":\"tcp_rr\",\"duration\":\"50s\"}", 2);
    char byte;
    go(no_http);
    go(fine);
    send(no_go, "?", 1, MSG_NOSIGNAL);
    send(no_http, "POST / HTTP/1.1\r\n\r\n", 19, MSG_NOSIGNAL);
    assert_true(recv(no_go, &byte, 1, 0) <= 0);
    assert_true(recv(no_http, &byte, 1, 0) <= 0);
    assert_int_equal(send(fine, "x", 1, MSG_NOSIGNAL), 1);
    assert_int_equal(recv(fine, &byte, 1, 0), 1);
    close(no_go);
    close(no_http);
    close(fine);
    await_active(0);
}

static void flows_end_with_the_agent(void **state)
{
    (void)state;
    struct loopback *l = calloc(1, sizeof *l);
    loopback_start(l);
    int waits = open_flow_at(l, "{\"test\":\"tcp_rr\",\"duration\":\"50s\"}", 0);
    int runs = open_flow_at(l, "{\"test\":\"tcp_stream\",\"reverse\":true,\"duration\":\"50s\"}", 1);
    char bytes[4096];
    go(runs);
    loopback_stop(l);
    assert_true(recv(waits, bytes, 1, 0) <= 0);
    while (recv(runs, bytes, sizeof bytes, 0) > 0)
        ;
    close(waits);
    close(runs);
    free(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_test_is_served),         cmocka_unit_test(counts_are_exact),
        cmocka_unit_test(a_delay_holds_up_nobody_else), cmocka_unit_test(few_flows_have_threads),
        cmocka_unit_test(threads_are_pinned),           cmocka_unit_test(fairness_is_a_figure),
        cmocka_unit_test(one_that_never_reads),         cmocka_unit_test(one_that_sends_a_byte_at_a_time),
        cmocka_unit_test(many_that_only_connect),       cmocka_unit_test(nonsense_ends_one_flow),
        cmocka_unit_test(flows_end_with_the_agent),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
