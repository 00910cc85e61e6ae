/* UDP flows over loopback: what happens where nobody is, or nobody any more. */
#include <stdio.h>

#include "../core/check.h"
#include "udp_acceptor.h"
#include "engines/engines.h"

static void a_closed_port_refuses(void **state)
{
    struct kn_addr at = {.u.v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)},
                         .len = sizeof at.u.v4};
    (void)state;
    int fd = socket(AF_INET, SOCK_DGRAM, 0); /* a port that is free for sure */
    assert_int_equal(bind(fd, &at.u.sa, at.len), 0);
    assert_int_equal(getsockname(fd, &at.u.sa, &at.len), 0);
    close(fd);
    json_t *r = udp_measure_at("{\"test\":\"udp_rr\",\"duration\":1}", "127.0.0.1", kn_addr_port(&at), ACCEPTOR_TOKEN);
    assert_string_equal(code_of(r), "refused");
    assert_non_null(strstr(message_of(r), "127.0.0.1:"));
    json_decref(r);
}

static void silence_is_a_timeout(void **state)
{
    struct kn_addr at = {.u.v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)},
                         .len = sizeof at.u.v4};
    (void)state;
    int fd = socket(AF_INET, SOCK_DGRAM, 0); /* hears, and says nothing */
    assert_int_equal(bind(fd, &at.u.sa, at.len), 0);
    assert_int_equal(getsockname(fd, &at.u.sa, &at.len), 0);
    uint64_t begun_ns = kn_now_ns();
    json_t *r = udp_measure_at("{\"test\":\"udp_rr\",\"duration\":1}", "127.0.0.1", kn_addr_port(&at), ACCEPTOR_TOKEN);
    assert_string_equal(code_of(r), "timeout");
    assert_non_null(strstr(message_of(r), "no answer from 127.0.0.1:"));
    assert_true(kn_now_ns() - begun_ns < 2 * KN_NS_PER_S);
    json_decref(r);
    close(fd);
}

/* A server that goes away in the middle: what is missing is its report. */
static void a_server_that_dies_is_lost(void **state)
{
    struct acceptor mortal;
    (void)state;
    assert_int_equal(acceptor_open(&mortal, "127.0.0.1", 0), 0);
    struct kn_error err;
    struct kn_spec spec;
    struct kn_target target = {.host = "127.0.0.1", .port = kn_addr_port(&mortal.at), .key = mortal.key};
    json_t *object = json_loads("{\"test\":\"udp_stream\",\"duration\":30,\"warmup\":0,\"rate\":\"1000/s\"}", 0, NULL);
    assert_int_equal(kn_spec_parse(object, &kn_engines, &spec, &err), 0);
    json_decref(object);
    struct kn_run *run = kn_run_new(&spec, &target, &err);
    assert_non_null(run);
    assert_int_equal(kn_run_start(run, &err), 0);
    struct kn_progress progress = {0};
    for (int i = 0; i < 2000 && progress.ops < 10; i++) {
        kn_sleep_until_ns(kn_now_ns() + KN_NS_PER_MS);
        kn_run_progress(run, &progress);
    }
    assert_true(progress.ops >= 10);
    acceptor_close(&mortal);
    assert_true(kn_run_wait(run, 10 * KN_NS_PER_S)); /* long before its 30 s are over */
    json_t *r = kn_run_result(run);
    assert_false(json_is_true(json_object_get(r, "ok")));
    json_decref(r);
    kn_run_free(run);
}

static void a_stop_keeps_what_was_measured(void **state)
{
    static const char *const asked[] = {
        "{\"test\":\"udp_stream\",\"duration\":30,\"warmup\":0,\"rate\":\"1000/s\"}",
        "{\"test\":\"udp_stream\",\"duration\":30,\"warmup\":0,\"rate\":\"1000/s\",\"reverse\":true}",
        "{\"test\":\"udp_rr\",\"duration\":30,\"warmup\":0,\"rate\":\"1000/s\"}",
    };
    (void)state;
    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
        struct kn_error err;
        struct kn_spec spec;
        struct kn_target target = {.host = "127.0.0.1", .port = kn_addr_port(&server.at), .key = server.key};
        json_t *object = json_loads(asked[i], 0, NULL);
        assert_int_equal(kn_spec_parse(object, &kn_engines, &spec, &err), 0);
        json_decref(object);
        struct kn_run *run = kn_run_new(&spec, &target, &err);
        assert_non_null(run);
        assert_int_equal(kn_run_start(run, &err), 0);
        struct kn_progress progress = {0};
        for (int k = 0; k < 3000 && progress.ops < 20; k++) {
            kn_sleep_until_ns(kn_now_ns() + KN_NS_PER_MS);
            kn_run_progress(run, &progress);
        }
        kn_run_stop(run);
        assert_true(kn_run_wait(run, KN_NS_PER_S));
        json_t *r = kn_run_result(run);
        assert_ok(r);
        assert_true(metric(r, "received") >= 20);
        json_decref(r);
        kn_run_free(run);
    }
}

static void over_ipv6(void **state)
{
    struct acceptor six;
    (void)state;
    if (!has_ipv6())
        skip();
    assert_int_equal(acceptor_open(&six, "::1", 0), 0);
    json_t *r = udp_measure(&six, "{\"test\":\"udp_rr\",\"count\":200,\"warmup\":0}");
    assert_ok(r);
    json_decref(r);
    r = udp_measure(&six, "{\"test\":\"udp_stream\",\"count\":500,\"rate\":\"20k/s\",\"warmup\":0}");
    assert_ok(r);
    assert_int_equal(metric(r, "received"), 500);
    json_decref(r);
    acceptor_close(&six);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_closed_port_refuses),
        cmocka_unit_test(silence_is_a_timeout),
        cmocka_unit_test(a_server_that_dies_is_lost),
        cmocka_unit_test(a_stop_keeps_what_was_measured),
        cmocka_unit_test(over_ipv6),
    };
    return cmocka_run_group_tests(tests, open_server, close_server);
}
