/* UDP flows over loopback: the handshake with its losses, the two tests both ways, and what happens where nobody is. */
#include <stdio.h>

#include "../core/check.h"
#include "engines/udp.h"
#include "udp_path.h"

static struct acceptor server;

static int open_server(void **state)
{
    (void)state;
    return acceptor_open(&server, "127.0.0.1", 0);
}

static int close_server(void **state)
{
    (void)state;
    acceptor_close(&server);
    return 0;
}

static void assert_ok(const json_t *r)
{
    if (!json_is_true(json_object_get(r, "ok")))
        fail_msg("%s", json_string_value(json_object_get(json_object_get(r, "error"), "message")));
}

static const char *code_of(const json_t *r)
{
    const char *code = json_string_value(json_object_get(json_object_get(r, "error"), "code"));
    return code ? code : "none";
}

static const char *message_of(const json_t *r)
{
    const char *message = json_string_value(json_object_get(json_object_get(r, "error"), "message"));
    return message ? message : "";
}

/* What a busy machine keeps a sender from is allowed where the result says so. */
static bool rate_missed(const json_t *r)
{
    size_t i;
    json_t *flag;
    json_array_foreach(json_object_get(r, "flags"), i, flag)
        if (!strcmp(json_string_value(flag), "rate_not_reached"))
            return true;
    return false;
}

static bool has_metric(const json_t *r, const char *name)
{
    return json_object_get(json_object_get(r, "metrics"), name) != NULL;
}

/* ---- udp_stream ---- */

static void everything_is_counted(void **state)
{
    (void)state;
    json_t *r = udp_measure(&server, "{\"test\":\"udp_stream\",\"count\":2000,\"rate\":\"20k/s\",\"warmup\":0.02,\"size\":200}");
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
        json_t *r = udp_measure(&server, "{\"test\":\"udp_stream\",\"duration\":0.4,\"rate\":\"8Mbit/s\",\"warmup\":0.05,\"size\":500}");
        assert_ok(r);
        held = metric(r, "throughput_bps") >= 7840000 && metric(r, "throughput_bps") <= 8160000;
        json_decref(r);
    }
    assert_true(held);
}

static void in_reverse(void **state)
{
    (void)state;
    json_t *r = udp_measure(&server, "{\"test\":\"udp_stream\",\"duration\":0.3,\"rate\":\"5000/s\",\"warmup\":0.05,\"reverse\":true,\"flows\":3,\"threads\":2}");
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
    json_t *r = udp_measure(&server, "{\"test\":\"udp_stream\",\"count\":1001,\"rate\":\"20k/s\",\"warmup\":0.02,\"reverse\":true,\"flows\":2}");
    assert_ok(r);
    assert_int_equal(metric(r, "sent"), 1001);
    assert_int_equal(metric(r, "received"), 1001);
    json_decref(r);
}

static void at_full_speed_the_sum_is_right(void **state)
{
    static const char *const asked[] = {
        "{\"test\":\"udp_stream\",\"duration\":0.15,\"warmup\":0.03}",
        "{\"test\":\"udp_stream\",\"duration\":0.15,\"warmup\":0.03,\"tune\":\"auto\",\"size\":64}",
        "{\"test\":\"udp_stream\",\"duration\":0.15,\"warmup\":0.03,\"reverse\":true}",
        "{\"test\":\"udp_stream\",\"duration\":0.15,\"warmup\":0.03,\"reverse\":true,\"tune\":\"auto\",\"flows\":2,\"threads\":1}",
        "{\"test\":\"udp_stream\",\"duration\":0.15,\"warmup\":0.03,\"size\":65507,\"flows\":3}",
        "{\"test\":\"udp_stream\",\"duration\":0.15,\"warmup\":0.03,\"size\":68}",   /* as long as an order */
        "{\"test\":\"udp_stream\",\"duration\":0.15,\"warmup\":0.03,\"gso\":true,\"tune\":\"auto\"}",
        "{\"test\":\"udp_stream\",\"duration\":0.15,\"warmup\":0.03,\"gso\":true,\"reverse\":true}",
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
    json_t *r = udp_measure(&server, "{\"test\":\"udp_stream\",\"count\":1000,\"rate\":\"20k/s\",\"warmup\":0,\"size\":1}");
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
    check_pattern("{\"test\":\"udp_stream\",\"count\":3000,\"rate\":\"10k/s\",\"warmup\":0.02,\"size\":100,\"tune\":\"auto\"}");
}

/* In reverse the client does not stop by itself before it has all of them: it is the duration that ends it. */
static void the_same_in_reverse(void **state)
{
    (void)state;
    check_pattern("{\"test\":\"udp_stream\",\"count\":3000,\"duration\":0.6,\"rate\":\"10k/s\",\"warmup\":0.02,\"size\":100,\"reverse\":true}");
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
    json_t *r = path_measure(&path, "{\"test\":\"udp_stream\",\"count\":1000,\"rate\":\"10k/s\",\"warmup\":0,\"size\":100}");
    assert_ok(r);
    assert_int_equal(metric(r, "lost"), 100);
    assert_int_equal(metric(r, "received"), 900);
    assert_true(metric(r, "duration_s") > 0.095); /* the silence at the end is part of the window */
    json_decref(r);
    path_close(&path);
}

/* Every control datagram is lost once or twice before one gets through. */
struct losses { unsigned left[8]; };

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
    struct losses losses = {.left = {[KN_UDP_RETRY] = 1, [KN_UDP_WELCOME] = 1, [KN_UDP_FETCH] = 2, [KN_UDP_PART_OF] = 2, [KN_UDP_STEER] = 1, [7] = 1}};
    (void)state;
    assert_int_equal(path_open(&path, &server.at, lose_control, &losses), 0);
    json_t *r = path_measure(&path, "{\"test\":\"udp_stream\",\"duration\":0.4,\"rate\":\"1000/s\",\"warmup\":0.02,\"size\":100,\"reverse\":true,\"timeout\":5}");
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
    json_t *r = path_measure(&path, "{\"test\":\"udp_stream\",\"duration\":0.5,\"interval\":0.001,\"rate\":\"20k/s\",\"warmup\":0,\"size\":100}");
    assert_ok(r);
    assert_true(json_array_size(json_object_get(json_object_get(r, "metrics"), "intervals")) >= 450);
    json_decref(r);
    path_close(&path);
}

/* ---- udp_rr ---- */

/* The last answer is the end: nothing is waited for after it, which would be in the rate. (A busy machine may delay it.) */
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
        "{\"test\":\"udp_rr\",\"count\":2000,\"rate\":\"10k/s\",\"warmup\":0,\"flows\":3,\"threads\":2,\"wait\":\"auto\"}",
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
struct rr_pattern { unsigned there, back, copies, held, n_there, n_back; bool late; };

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
    assert_in_range((unsigned)metric(r, "duplicated"), p.copies - 1, p.copies); /* the last copy may come after the end */
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

/* ---- nobody there ---- */

static void a_closed_port_refuses(void **state)
{
    struct kn_addr at = {.u.v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, .len = sizeof at.u.v4};
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
    struct kn_addr at = {.u.v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, .len = sizeof at.u.v4};
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
    assert_int_equal(kn_spec_parse(object, &spec, &err), 0);
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
        assert_int_equal(kn_spec_parse(object, &spec, &err), 0);
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
        cmocka_unit_test(everything_is_counted), cmocka_unit_test(a_rate_is_held), cmocka_unit_test(in_reverse),
        cmocka_unit_test(reverse_by_count), cmocka_unit_test(at_full_speed_the_sum_is_right),
        cmocka_unit_test(tiny_datagrams_say_what_they_can),
        cmocka_unit_test(loss_copies_and_order_as_the_path_made_them), cmocka_unit_test(the_same_in_reverse),
        cmocka_unit_test(a_lost_tail_is_lost), cmocka_unit_test(control_that_is_lost_is_sent_again),
        cmocka_unit_test(a_long_report_comes_by_parts), cmocka_unit_test(requests_are_answered),
        cmocka_unit_test(a_count_ends_with_its_last_answer),
        cmocka_unit_test(what_is_lost_times_out_and_stays_in_the_histogram), cmocka_unit_test(late_answers_are_told_apart),
        cmocka_unit_test(a_slow_server_is_as_slow_as_it_is), cmocka_unit_test(too_large_a_burst_is_refused),
        cmocka_unit_test(a_closed_port_refuses), cmocka_unit_test(silence_is_a_timeout), cmocka_unit_test(a_server_that_dies_is_lost),
        cmocka_unit_test(a_stop_keeps_what_was_measured), cmocka_unit_test(over_ipv6),
    };
    return cmocka_run_group_tests(tests, open_server, close_server);
}
