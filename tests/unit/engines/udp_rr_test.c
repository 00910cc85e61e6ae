/* udp_rr over loopback: requests that are answered, late, lost or doubled. */
#include "../core/check.h"
#include "engines/udp/sequence.h"
#include "udp_path.h"

/* The last answer is the end: nothing is waited for after it, which would be in the rate. (A busy machine may delay
 * it.) */
static void a_count_ends_with_its_last_answer(void **state)
{
    double took_s = 1;
    (void)state;
    for (int left = 8; left && took_s >= 0.045; left--) {
        json_t *r = udp_measure(&server, "{\"test\":\"udp_rr\",\"count\":50,\"warmup\":0}");
        assert_ok(r);
        took_s = json_number_value(json_object_get(json_object_get(r, "metrics"), "duration_s"));
        json_decref(r);
    }
    assert_true(took_s < 0.045);
}

static void requests_are_answered(void **state)
{
    static const char *const asked[] = {
        "{\"test\":\"udp_rr\",\"count\":3000,\"warmup\":0.01}",
        "{\"test\":\"udp_rr\",\"count\":3000,\"warmup\":0.01,\"size\":100,\"response\":1000,\"burst\":8}",
        "{\"test\":\"udp_rr\",\"count\":3000,\"warmup\":0.01,\"flows\":5,\"threads\":2,\"burst\":3}",
        "{\"test\":\"udp_rr\",\"count\":3000,\"warmup\":0.01,\"flows\":4,\"threads\":1,\"wait\":\"auto\"}",
        "{\"test\":\"udp_rr\",\"count\":3000,\"warmup\":0.01,\"wait\":\"auto\"}",
        "{\"test\":\"udp_rr\",\"count\":2000,\"rate\":\"10k/s\",\"warmup\":0,\"burst\":4}",
        "{\"test\":\"udp_rr\",\"count\":2000,\"rate\":\"10k/s\","
        "\"warmup\":0,\"flows\":3,\"threads\":2,\"wait\":\"auto\"}",
    };
    (void)state;
    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
        json_t *r = udp_measure(&server, asked[i]);
        assert_ok(r);
        assert_int_equal(metric(r, "ops"), i < 5 ? 3000 : 2000);
        assert_int_equal(metric(r, "lost"), 0);
        assert_int_equal(metric(r, "timeouts"), 0);
        assert_int_equal(metric(r, "errors"), 0);
        json_decref(r);
    }
    assert_true(acceptor_idle(&server, 3 * KN_NS_PER_S));
}

/* Of the measured requests every hundredth is lost on its way there, and as many on their way back. */
struct rr_pattern {
    unsigned there, back, copies, held, n_there, n_back;
    bool late;
};

static enum verdict lose_requests(void *arg, bool to_server, const uint8_t *datagram, size_t size)
{
    struct rr_pattern *p = arg;
    bool measured;
    if (size != 1)
        return PASS;
    kn_udp_head_get(datagram, size, &measured);
    if (!measured)
        return PASS;
    unsigned n = to_server ? ++p->n_there : ++p->n_back;
    if (to_server && n % 100 == 50) {
        p->there++;
        return DROP;
    }
    if (!to_server && n % 100 == 20) {
        p->back++;
        return DROP;
    }
    if (!to_server && n % 100 == 70) {
        p->copies++;
        return TWICE;
    }
    return PASS;
}

static void what_is_lost_times_out_and_stays_in_the_histogram(void **state)
{
    struct path path;
    struct rr_pattern p = {0};
    (void)state;
    assert_int_equal(path_open(&path, &server.at, lose_requests, &p), 0);
    json_t *r = path_measure(&path, "{\"test\":\"udp_rr\",\"count\":1000,\"timeout\":0.02,\"warmup\":0}");
    assert_ok(r);
    /* on a slow machine an answer may be late by itself; then it is told as such */
    assert_in_range((unsigned)metric(r, "lost"), p.there + p.back, p.there + p.back + (unsigned)metric(r, "late") + 1);
    assert_true(metric(r, "timeouts") == metric(r, "lost"));
    assert_int_equal(metric(r, "sent"), 1000);
    assert_true(metric(r, "received") == 1000 - metric(r, "lost"));
    assert_in_range((unsigned)metric(r, "duplicated"), p.copies - 1,
                    p.copies); /* the last copy may come after the end */
    const json_t *latency = json_object_get(json_object_get(r, "metrics"), "latency_ns");
    assert_int_equal(json_integer_value(json_object_get(latency, "count")), 1000);
    assert_true(json_integer_value(json_object_get(latency, "p99")) > 19800000);
    assert_true(json_integer_value(json_object_get(latency, "p90")) < 19800000);
    json_decref(r);
    path_close(&path);
}

/* An answer that is held until the next one comes the other way round: it had timed out, and is nobody else's. */
static enum verdict hold_answers(void *arg, bool to_server, const uint8_t *datagram, size_t size)
{
    struct rr_pattern *p = arg;
    bool measured = false;
    if (size != 1 || to_server)
        return PASS;
    kn_udp_head_get(datagram, size, &measured);
    if (measured && ++p->n_back % 50 == 20) {
        p->held++;
        return HOLD;
    }
    return PASS;
}

static void late_answers_are_told_apart(void **state)
{
    struct path path;
    struct rr_pattern p = {0};
    (void)state;
    assert_int_equal(path_open(&path, &server.at, hold_answers, &p), 0);
    json_t *r = path_measure(&path, "{\"test\":\"udp_rr\",\"count\":500,\"timeout\":0.02,\"warmup\":0}");
    assert_ok(r);
    assert_true(metric(r, "timeouts") >= p.held && metric(r, "late") >= p.held - 1);
    assert_true(metric(r, "timeouts") - metric(r, "late") <= 1); /* the last may come after the end */
    assert_int_equal(metric(r, "duplicated"), 0);
    assert_true(metric(r, "received") == 500 - metric(r, "timeouts"));
    json_decref(r);
    path_close(&path);
}

static void a_slow_server_is_as_slow_as_it_is(void **state)
{
    (void)state;
    json_t *r = udp_measure(&server, "{\"test\":\"udp_rr\",\"count\":50,\"delay\":0.002,\"warmup\":0}");
    assert_ok(r);
    const json_t *latency = json_object_get(json_object_get(r, "metrics"), "latency_ns");
    assert_true(json_integer_value(json_object_get(latency, "min")) >= 2000000);
    json_decref(r);
}

static void too_large_a_burst_is_refused(void **state)
{
    (void)state;
    json_t *r = udp_measure(&server, "{\"test\":\"udp_rr\",\"count\":50,\"burst\":100}");
    assert_string_equal(code_of(r), "argument");
    json_decref(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_are_answered),
        cmocka_unit_test(a_count_ends_with_its_last_answer),
        cmocka_unit_test(what_is_lost_times_out_and_stays_in_the_histogram),
        cmocka_unit_test(late_answers_are_told_apart),
        cmocka_unit_test(a_slow_server_is_as_slow_as_it_is),
        cmocka_unit_test(too_large_a_burst_is_refused),
    };
    return cmocka_run_group_tests(tests, open_server, close_server);
}
