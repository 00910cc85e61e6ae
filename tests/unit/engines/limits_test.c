/* What an agent with --max-bytes serves: every test is held to it, in both directions. */
#include "loopback.h"

#define MOST_BYTES (1u << 20)

static struct loopback server;

/* A stream ends near the limit: what one call moves, and what queues hold, may come on top. */
static void streams_end_at_the_limit(void **state)
{
    static const char *const specs[] = {
        "{\"test\":\"tcp_stream\",\"duration\":\"2s\",\"warmup\":0}",
        "{\"test\":\"tcp_stream\",\"duration\":\"2s\",\"warmup\":0,\"reverse\":true}",
        "{\"test\":\"tcp_sendfile\",\"duration\":\"2s\",\"warmup\":0,\"reverse\":true}",
    };
    (void)state;
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
        uint64_t from_ns = kn_now_ns();
        json_t *r = run_json(&server, specs[i]);
        assert_true(number_at(r, "metrics.bytes") <= 16.0 * MOST_BYTES);
        json_decref(r);
        assert_true(kn_now_ns() - from_ns < 30 * KN_NS_PER_S);
    }
}

static void requests_end_at_the_limit(void **state)
{
    (void)state;
    json_t *r = run_json(
        &server, "{\"test\":\"tcp_rr\",\"duration\":\"300ms\",\"warmup\":0,\"size\":\"64K\",\"response\":\"64K\"}");
    assert_true(number_at(r, "metrics.errors") >= 1); /* the flow was closed, and another one opened */
    json_decref(r);
}

/* Short connections share the limit: it is the run's. */
static void transactions_end_at_the_limit(void **state)
{
    (void)state;
    json_t *r = run_json(&server, "{\"test\":\"tcp_crr\",\"duration\":\"300ms\",\"warmup\":0,\"response\":\"64K\"}");
    assert_true(number_at(r, "metrics.ops") <= 16);
    assert_true(number_at(r, "metrics.errors") >= 1);
    json_decref(r);
}

static int start(void **state)
{
    (void)state;
    loopback_start(&server);
    server.server.limits.max_bytes = MOST_BYTES;
    return 0;
}

static int stop(void **state)
{
    (void)state;
    loopback_stop(&server);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streams_end_at_the_limit),
        cmocka_unit_test(requests_end_at_the_limit),
        cmocka_unit_test(transactions_end_at_the_limit),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
