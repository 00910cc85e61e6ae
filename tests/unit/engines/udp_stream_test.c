/* udp_stream over loopback, both ways: what is sent, lost, doubled and displaced is counted. */
#include "../core/check.h"
#include "engines/udp/sequence.h"
#include "udp_path.h"

static void everything_is_counted(void **state)
{
    (void)state;
    json_t *r = udp_measure(&server,
                            "{\"test\":\"udp_stream\",\"count\":2000,\"rate\":\"20k/s\",\"warmup\":0.02,\"size\":200}");
    assert_ok(r);
    assert_int_equal(metric(r, "sent"), 2000);
    assert_int_equal(metric(r, "received"), 2000);
    assert_int_equal(metric(r, "bytes"), 2000 * 200);
    assert_int_equal(metric(r, "lost"), 0);
    assert_int_equal(metric(r, "reordered"), 0);
    assert_int_equal(metric(r, "duplicated"), 0);
    assert_true(has_metric(r, "jitter_ns") && metric(r, "jitter_ns") >= 0);
    json_decref(r);
    assert_true(acceptor_idle(&server, KN_NS_PER_S));
}

static void a_rate_is_held(void **state)
{
    (void)state;
    bool held = false;
    for (int i = 0; i < 8 && !held; i++) { /* a busy machine can spoil one */
        json_t *r = udp_measure(
            &server, "{\"test\":\"udp_stream\",\"duration\":0.4,\"rate\":\"8Mbit/s\",\"warmup\":0.05,\"size\":500}");
        assert_ok(r);
        held = metric(r, "throughput_bps") >= 7840000 && metric(r, "throughput_bps") <= 8160000;
        json_decref(r);
    }
    assert_true(held);
}

static void in_reverse(void **state)
{
    (void)state;
    json_t *r = udp_measure(&server, "{\"test\":\"udp_stream\",\"duration\":0.3,\"rate\":\"5000/s\","
                                     "\"warmup\":0.05,\"reverse\":true,\"flows\":3,\"threads\":2}");
    assert_ok(r);
    assert_true(metric(r, "sent") <= 1700);
    assert_true(metric(r, "sent") >= 1300 || rate_missed(r));
    assert_true(metric(r, "received") + metric(r, "lost") == metric(r, "sent"));
    assert_int_equal(metric(r, "lost"), 0);
    json_decref(r);
    assert_true(acceptor_idle(&server, KN_NS_PER_S));
}

static void reverse_by_count(void **state)
{
    (void)state;
    json_t *r = udp_measure(
        &server,
        "{\"test\":\"udp_stream\",\"count\":1001,\"rate\":\"20k/s\",\"warmup\":0.02,\"reverse\":true,\"flows\":2}");
    assert_ok(r);
    assert_int_equal(metric(r, "sent"), 1001);
    assert_int_equal(metric(r, "received"), 1001);
    json_decref(r);
}

static void at_full_speed_the_sum_is_right(void **state)
{
    static const char *const asked[] = {
        "{\"test\":\"udp_stream\",\"duration\":0.4,\"warmup\":0.03}",
        "{\"test\":\"udp_stream\",\"duration\":0.4,\"warmup\":0.03,\"tune\":\"auto\",\"size\":64}",
        "{\"test\":\"udp_stream\",\"duration\":0.4,\"warmup\":0.03,\"reverse\":true}",
        "{\"test\":\"udp_stream\",\"duration\":0.4,\"warmup\":0.03,\"reverse\":true,\"tune\":\"auto\",\"flows\":2,"
        "\"threads\":1}",
        "{\"test\":\"udp_stream\",\"duration\":0.4,\"warmup\":0.03,\"size\":65507,\"flows\":3}",
        "{\"test\":\"udp_stream\",\"duration\":0.4,\"warmup\":0.03,\"size\":68}", /* as long as an order */
        "{\"test\":\"udp_stream\",\"duration\":0.4,\"warmup\":0.03,\"gso\":true,\"tune\":\"auto\"}",
        "{\"test\":\"udp_stream\",\"duration\":0.4,\"warmup\":0.03,\"gso\":true,\"reverse\":true}",
    };
    (void)state;
    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
        json_t *r = udp_measure(&server, asked[i]);
        assert_ok(r);
        assert_true(metric(r, "received") > 0);
        assert_true(metric(r, "received") + metric(r, "lost") == metric(r, "sent"));
        assert_true(metric(r, "receiver_drops") <= metric(r, "lost"));
        assert_true(metric(r, "errors") == 0);
        json_decref(r);
    }
    assert_true(acceptor_idle(&server, 3 * KN_NS_PER_S));
}

/* One byte carries seven bits of a number: how many came is known, in what order is not. */
static void tiny_datagrams_say_what_they_can(void **state)
{
    (void)state;
    json_t *r = udp_measure(&server,
                            "{\"test\":\"udp_stream\",\"count\":1000,\"rate\":\"20k/s\",\"warmup\":0,\"size\":1}");
    assert_ok(r);
    assert_int_equal(metric(r, "received"), 1000);
    assert_int_equal(metric(r, "lost"), 0);
    assert_false(has_metric(r, "reordered") || has_metric(r, "duplicated") || has_metric(r, "jitter_ns"));
    json_decref(r);
}

/* ---- a path with a pattern ---- */

static bool measured_number(const uint8_t *datagram, size_t size, uint64_t *seq)
{
    bool measured;
    if (size != 100)
        return false;
    *seq = kn_udp_head_get(datagram, size, &measured);
    return measured;
}

/* One in ten lost, of each hundred three doubled, one displaced: none of them the same datagram. */
static enum verdict pattern(void *arg, bool to_server, const uint8_t *datagram, size_t size)
{
    uint64_t seq;
    (void)arg, (void)to_server;
    if (!measured_number(datagram, size, &seq))
        return PASS;
    if (seq % 10 == 4)
        return DROP;
    if (seq % 100 == 11 || seq % 100 == 12 || seq % 100 == 75)
        return TWICE;
    return seq % 100 == 50 ? HOLD : PASS;
}

/* Where a busy machine lets a socket of the path overflow, that is loss too: then it is asked again. */
static void check_pattern(const char *asked)
{
    struct path path;
    json_t *r = NULL;
    assert_int_equal(path_open(&path, &server.at, pattern, NULL), 0);
    for (int i = 0; i < 8 && (!r || metric(r, "lost") > 300); i++) {
        json_decref(r);
        r = path_measure(&path, asked);
        assert_ok(r);
    }
    assert_int_equal(metric(r, "sent"), 3000);
    assert_int_equal(metric(r, "lost"), 300);
    assert_int_equal(metric(r, "received"), 2700);
    assert_int_equal(metric(r, "duplicated"), 90);
    assert_int_equal(metric(r, "reordered"), 30);
    assert_int_equal(metric(r, "receiver_drops"), 0);
    assert_true(metric(r, "loss_ratio") > 0.0999 && metric(r, "loss_ratio") < 0.1001);
    json_decref(r);
    path_close(&path);
}

static void loss_copies_and_order_as_the_path_made_them(void **state)
{
    (void)state;
    check_pattern("{\"test\":\"udp_stream\",\"count\":3000,\"rate\":\"10k/s\",\"warmup\":0.02,\"size\":100}");
    check_pattern(
        "{\"test\":\"udp_stream\",\"count\":3000,\"rate\":\"10k/s\",\"warmup\":0.02,\"size\":100,\"tune\":\"auto\"}");
}

/* In reverse the client does not stop by itself before it has all of them: it is the duration that ends it. */
static void the_same_in_reverse(void **state)
{
    (void)state;
    check_pattern("{\"test\":\"udp_stream\",\"count\":3000,\"duration\":0.6,\"rate\":\"10k/s\","
                  "\"warmup\":0.02,\"size\":100,\"reverse\":true}");
}

static enum verdict no_tail(void *arg, bool to_server, const uint8_t *datagram, size_t size)
{
    uint64_t seq;
    (void)arg, (void)to_server;
    return measured_number(datagram, size, &seq) && seq >= 900 ? DROP : PASS;
}

static void a_lost_tail_is_lost(void **state)
{
    struct path path;
    (void)state;
    assert_int_equal(path_open(&path, &server.at, no_tail, NULL), 0);
    json_t *r = path_measure(&path,
                             "{\"test\":\"udp_stream\",\"count\":1000,\"rate\":\"10k/s\",\"warmup\":0,\"size\":100}");
    assert_ok(r);
    assert_int_equal(metric(r, "lost"), 100);
    assert_int_equal(metric(r, "received"), 900);
    assert_true(metric(r, "duration_s") > 0.095); /* the silence at the end is part of the window */
    json_decref(r);
    path_close(&path);
}

/* Every control datagram is lost once or twice before one gets through. */
struct losses {
    unsigned left[8];
};

static enum verdict lose_control(void *arg, bool to_server, const uint8_t *datagram, size_t size)
{
    struct losses *l = arg;
    enum kn_udp_kind kind = kn_udp_kind(datagram, size);
    unsigned i = kind != KN_UDP_NONE ? (unsigned)kind : to_server && size == kn_hello_size() ? 7 : 0;
    if (!i || !l->left[i])
        return PASS;
    l->left[i]--;
    return DROP;
}

static void control_that_is_lost_is_sent_again(void **state)
{
    struct path path;
    struct losses losses = {.left = {[KN_UDP_RETRY] = 1,
                                     [KN_UDP_WELCOME] = 1,
                                     [KN_UDP_FETCH] = 2,
                                     [KN_UDP_PART_OF] = 2,
                                     [KN_UDP_STEER] = 1,
                                     [7] = 1}};
    (void)state;
    assert_int_equal(path_open(&path, &server.at, lose_control, &losses), 0);
    json_t *r = path_measure(&path, "{\"test\":\"udp_stream\",\"duration\":0.4,\"rate\":\"1000/s\","
                                    "\"warmup\":0.02,\"size\":100,\"reverse\":true,\"timeout\":5}");
    assert_ok(r);
    assert_true(metric(r, "received") > 50);
    for (int i = 0; i < 8; i++)
        assert_int_equal(losses.left[i], 0);
    json_decref(r);
    path_close(&path);
}

/* A report of many parts: a time series of 1 ms steps. */
static void a_long_report_comes_by_parts(void **state)
{
    struct path path;
    struct losses losses = {.left = {[KN_UDP_PART_OF] = 3}};
    (void)state;
    assert_int_equal(path_open(&path, &server.at, lose_control, &losses), 0);
    json_t *r = path_measure(
        &path,
        "{\"test\":\"udp_stream\",\"duration\":0.5,\"interval\":0.001,\"rate\":\"20k/s\",\"warmup\":0,\"size\":100}");
    assert_ok(r);
    assert_true(json_array_size(json_object_get(json_object_get(r, "metrics"), "intervals")) >= 450);
    json_decref(r);
    path_close(&path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_is_counted),
        cmocka_unit_test(a_rate_is_held),
        cmocka_unit_test(in_reverse),
        cmocka_unit_test(reverse_by_count),
        cmocka_unit_test(at_full_speed_the_sum_is_right),
        cmocka_unit_test(tiny_datagrams_say_what_they_can),
        cmocka_unit_test(loss_copies_and_order_as_the_path_made_them),
        cmocka_unit_test(the_same_in_reverse),
        cmocka_unit_test(a_lost_tail_is_lost),
        cmocka_unit_test(control_that_is_lost_is_sent_again),
        cmocka_unit_test(a_long_report_comes_by_parts),
    };
    return cmocka_run_group_tests(tests, open_server, close_server);
}
