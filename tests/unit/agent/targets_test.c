/* One measurement of several targets: each agent counts for itself what reached it, and that is what was asked for. */
#include "live.h"

#include <math.h>

#include "run/run.h"

#define N 3

static const char *const names[N] = {"web-1", "web-2", "web-3"};
static const double shares[N] = {70, 20, 10};
static struct live client, web[N];

static void start_web(int i)
{
    static char tokens[N][64];
    live_config(&web[i]);
    snprintf(tokens[i], sizeof tokens[i], "a token of the agent %s", names[i]); /* each has its own */
    web[i].config.token = tokens[i];
    kn_wire_key(tokens[i], &web[i].key);
    snprintf(web[i].config.me.name, sizeof web[i].config.me.name, "%s", names[i]);
    live_start(&web[i]);
}

static int setup(void **state)
{
    (void)state;
    live_config(&client);
    live_start(&client);
    for (int i = 0; i < N; i++)
        start_web(i);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (int i = 0; i < N; i++)
        live_end(&web[i]);
    live_end(&client);
    return 0;
}

/* ---- asking an agent ---- */

static json_t *target_of(int i)
{
    return json_pack("{s:s, s:i, s:s, s:f, s:s}", "host", "127.0.0.1", "port", kn_agent_port(web[i].agent), "name",
                     names[i], "share", shares[i], "token", web[i].config.token);
}

static json_t *all_targets(void)
{
    json_t *list = json_array();
    for (int i = 0; i < N; i++)
        json_array_append_new(list, target_of(i));
    return list;
}

static json_t *post_list(const char *spec, json_t *to, int *status)
{
    json_t *request = json_pack("{s:o, s:o}", "spec", json_loads(spec, 0, NULL), "to", to);
    char *body = json_dumps(request, 0);
    json_t *answer = ask(&client, "POST", "/v1/runs", body, status);
    free(body);
    json_decref(request);
    return answer;
}

/* The result of a run with all three. */
static json_t *measure_once(const char *spec)
{
    int status;
    char path[64];
    json_t *answer = post_list(spec, all_targets(), &status);
    if (status != 201)
        fail_msg("%s: %s", spec, json_dumps(answer, 0));
    snprintf(path, sizeof path, "/v1/runs/%s", json_string_value(json_object_get(answer, "id")));
    json_decref(answer);
    answer = end_of(&client, path);
    json_t *result = json_incref(json_object_get(answer, "result"));
    json_decref(answer);
    return result;
}

/* On a busy machine nothing may arrive in a short time, which is an error as it should be: asked again. */
static json_t *measure(const char *spec)
{
    for (int left = 8;; left--) {
        json_t *result = measure_once(spec), *error = json_object_get(result, "error");
        if (json_is_true(json_object_get(result, "ok")))
            return result;
        if (!left || strcmp(json_string_value(json_object_get(error, "code")), "no_data"))
            fail_msg("%s: %s", spec, json_dumps(result, JSON_INDENT(1)));
        json_decref(result);
    }
}

static double figure(const json_t *result, int i, const char *key)
{
    json_t *target = json_object_get(json_object_get(json_object_get(result, "metrics"), "targets"), names[i]);
    json_t *value = json_object_get(target, key);
    if (!json_is_number(value))
        fail_msg("no %s of %s in %s", key, names[i], json_dumps(result, JSON_INDENT(1)));
    return json_number_value(value);
}

/* What a server says of itself. */
static double said(const json_t *result, int i, const char *key)
{
    size_t k;
    json_t *server;
    json_array_foreach(json_object_get(result, "servers"), k, server)
    {
        if (!strcmp(json_string_value(json_object_get(server, "name")), names[i]))
            return json_number_value(json_object_get(server, key));
    }
    fail_msg("%s said nothing in %s", names[i], json_dumps(result, JSON_INDENT(1)));
    return 0;
}

static bool flagged(const json_t *result, const char *name)
{
    size_t i;
    json_t *flag;
    json_array_foreach(json_object_get(result, "flags"), i, flag)
    {
        if (!strcmp(json_string_value(flag), name))
            return true;
    }
    return false;
}

/* ---- shares ---- */

static void flows_are_dealt_by_shares(void **state)
{
    static const char *const tests[] = {"tcp_rr", "udp_rr", "tcp_stream", "udp_stream", "tcp_bw", "http"};
    static const int flows[N] = {7, 2, 1};
    (void)state;
    for (size_t t = 0; t < sizeof tests / sizeof *tests; t++) {
        char spec[200];
        snprintf(spec, sizeof spec, "{\"test\":\"%s\",\"flows\":10,\"duration\":\"50ms\",\"warmup\":0}", tests[t]);
        json_t *result = measure(spec);
        for (int i = 0; i < N; i++) {
            assert_int_equal((int)figure(result, i, "flows"), flows[i]);
            assert_int_equal((int)said(result, i, "flows"), flows[i]);
            assert_float_equal(figure(result, i, "asked"), shares[i] / 100, 1e-9);
        }
        json_decref(result);
    }
}

static void a_count_is_dealt_exactly(void **state)
{
    static const char *const specs[] = {
        "{\"test\":\"tcp_rr\",\"flows\":5,\"count\":1000,\"warmup\":0}",
        "{\"test\":\"tcp_rr\",\"flows\":5,\"count\":1000,\"warmup\":0,\"threads\":1}",
        "{\"test\":\"tcp_rr\",\"flows\":5,\"count\":1000,\"warmup\":0,\"rate\":\"20k/s\"}",
        "{\"test\":\"tcp_crr\",\"flows\":5,\"count\":1000,\"warmup\":0}",
        "{\"test\":\"http\",\"flows\":12,\"count\":1000,\"warmup\":0}",
        "{\"test\":\"http\",\"flows\":12,\"count\":1000,\"warmup\":0,\"keepalive\":false}",
    };
    (void)state;
    for (size_t s = 0; s < sizeof specs / sizeof *specs; s++) {
        json_t *result = measure(specs[s]);
        for (int i = 0; i < N; i++) {
            assert_int_equal((int)figure(result, i, "ops"), (int)shares[i] * 10);
            assert_int_equal((int)said(result, i, "ops"), (int)shares[i] * 10);
            assert_float_equal(figure(result, i, "share"), shares[i] / 100, 1e-9);
            assert_true(figure(result, i, "p99") >= figure(result, i, "p50") && figure(result, i, "p50") > 0);
        }
        json_decref(result);
    }
}

static void bytes_of_a_stream_are_dealt_exactly(void **state)
{
    static const char *const directions[] = {"", ",\"reverse\":true"};
    (void)state;
    for (size_t d = 0; d < sizeof directions / sizeof *directions; d++) {
        char spec[200];
        snprintf(spec, sizeof spec, "{\"test\":\"tcp_stream\",\"flows\":5,\"count\":1000,\"size\":1000%s}",
                 directions[d]);
        json_t *result = measure(spec);
        json_t *all = json_object_get(json_object_get(result, "metrics"), "bytes");
        double sum = 0;
        for (int i = 0; i < N; i++)
            sum += figure(result, i, "bytes");
        assert_float_equal(sum, json_number_value(all), 0.5);
        for (int i = 0; i < N && !*directions[d]; i++)
            assert_int_equal((int)figure(result, i, "bytes"), (int)shares[i] * 10 * 1000);
        json_decref(result);
    }
}

/* By the clock, so that a target gets its share of the operations with any number of flows. */
static void a_rate_is_dealt_by_shares(void **state)
{
    static const char *const tests[] = {"tcp_rr", "udp_rr", "tcp_crr", "http"};
    (void)state;
    for (size_t t = 0; t < sizeof tests / sizeof *tests; t++) {
        char spec[200];
        double off = 1;
        for (int left = 8; left && off > 0.02; left--) { /* a busy machine may keep one of the threads from its pace */
            snprintf(spec, sizeof spec, "{\"test\":\"%s\",\"flows\":4,\"duration\":\"300ms\",\"rate\":\"1k/s\"}",
                     tests[t]);
            json_t *result = measure(spec);
            off = 0;
            for (int i = 0; i < N; i++)
                off = fmax(off, fabs(figure(result, i, "share") - shares[i] / 100));
            json_decref(result);
        }
        if (off > 0.02)
            fail_msg("%s: a share is off by %g", tests[t], off);
    }
}

static void one_target_is_as_it_always_was(void **state)
{
    int status;
    char path[64];
    (void)state;
    json_t *answer = post_list("{\"test\":\"tcp_rr\",\"flows\":2,\"count\":100}", json_pack("[o]", target_of(0)),
                               &status);
    assert_int_equal(status, 201);
    snprintf(path, sizeof path, "/v1/runs/%s", json_string_value(json_object_get(answer, "id")));
    json_decref(answer);
    answer = end_of(&client, path);
    json_t *metrics = json_object_get(json_object_get(answer, "result"), "metrics");
    assert_int_equal(json_integer_value(json_object_get(metrics, "ops")), 100);
    assert_null(json_object_get(metrics, "targets"));
    json_decref(answer);
}

/* ---- a target that is gone ---- */

static struct kn_run *start(const char *text, unsigned dead, struct kn_target targets[N])
{
    struct kn_spec spec = spec_of(text);
    for (unsigned i = 0; i < N; i++) {
        targets[i] = (struct kn_target){.host = "127.0.0.1", .port = 1, .key = web[i].key, .share = shares[i]};
        snprintf(targets[i].name, sizeof targets[i].name, "%s", names[i]);
        if (i != dead)
            targets[i].port = kn_agent_port(web[i].agent);
    }
    struct kn_run *run = kn_run_new_to(&spec, targets, N, &err);
    if (!run || kn_run_start(run, &err))
        fail_msg("%s: %s", text, err.message);
    return run;
}

static json_t *finish(struct kn_run *run)
{
    assert_true(kn_run_wait(run, PATIENCE_NS));
    json_t *result = kn_run_result(run);
    kn_run_free(run);
    return result;
}

static void await_ops(struct kn_run *run, uint64_t n)
{
    struct kn_progress p;
    uint64_t until_ns = soon();
    do {
        kn_run_wait(run, KN_NS_PER_MS);
        kn_run_progress(run, &p);
    } while (p.ops < n && kn_now_ns() < until_ns);
}

/* The last one ends in the middle, and the others go on: they have more operations afterwards. */
static void one_dies_and_the_others_go_on(void **state)
{
    static const char *const specs[] = {
        "{\"test\":\"tcp_rr\",\"flows\":6,\"duration\":\"60s\",\"warmup\":0,\"timeout\":\"200ms\"}",
        "{\"test\":\"tcp_crr\",\"flows\":6,\"duration\":\"60s\",\"warmup\":0,\"timeout\":\"200ms\"}",
        "{\"test\":\"http\",\"flows\":6,\"duration\":\"60s\",\"warmup\":0,\"timeout\":\"200ms\"}",
        "{\"test\":\"tcp_stream\",\"flows\":6,\"duration\":\"60s\",\"warmup\":0}",
    };
    struct kn_target targets[N];
    struct kn_progress p;
    (void)state;
    for (size_t s = 0; s < sizeof specs / sizeof *specs; s++) {
        struct kn_run *run = start(specs[s], N, targets);
        uint64_t until_ns = soon();
        await_ops(run, s < 3 ? 100 : 0);
        do {
            kn_run_wait(run, KN_NS_PER_MS);
            kn_run_progress(run, &p);
        } while (p.phase < KN_PHASE_MEASURE && kn_now_ns() < until_ns);
        live_end(&web[N - 1]);
        kn_run_progress(run, &p);
        await_ops(run,
                  s < 3 ? p.ops + 3000 : 0); /* tcp_crr: with so many failures one target alone would be given up */
        kn_run_wait(run, 300 * KN_NS_PER_MS);
        assert_false(kn_run_wait(run, 0));
        kn_run_stop(run);
        json_t *result = finish(run);
        if (!json_is_true(json_object_get(result, "ok")))
            fail_msg("%s: %s", specs[s], json_dumps(result, JSON_INDENT(1)));
        if (figure(result, 2, "errors") + figure(result, 2, "connect_errors") + figure(result, 2, "timeouts") < 1)
            fail_msg("%s: no failure in %s", specs[s], json_dumps(result, JSON_INDENT(1)));
        for (int i = 0; i < N - 1; i++)
            assert_int_equal((int)(figure(result, i, "errors") + figure(result, i, "connect_errors")), 0);
        json_decref(result);
        start_web(N - 1);
    }
}

/* http tries again as long as there is any connection, so a target that is down from the beginning has failures. */
static void one_is_down_from_the_beginning(void **state)
{
    struct kn_target targets[N];
    (void)state;
    json_t *result = finish(start("{\"test\":\"http\",\"flows\":10,\"duration\":\"200ms\",\"warmup\":0}", 1, targets));
    if (!json_is_true(json_object_get(result, "ok")))
        fail_msg("%s", json_dumps(result, JSON_INDENT(1)));
    assert_true(flagged(result, "target_lost"));
    assert_true(figure(result, 1, "connect_errors") > 0);
    assert_int_equal((int)figure(result, 1, "ops"), 0);
    assert_true(figure(result, 0, "ops") > 0 && figure(result, 2, "ops") > 0);
    json_decref(result);
}

/* A listener whose queue is full answers no connect. Its descriptors are in `fds`. */
static uint16_t deaf_port(int fds[4])
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof to;
    fds[0] = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fds[0], (struct sockaddr *)&to, sizeof to), 0);
    assert_int_equal(listen(fds[0], 0), 0);
    assert_int_equal(getsockname(fds[0], (struct sockaddr *)&to, &n), 0);
    for (int i = 1; i < 4; i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        connect(fds[i], (struct sockaddr *)&to, sizeof to);
    }
    return ntohs(to.sin_port);
}

/* The window is over before a connect of its own could fail: the target is lost all the same. */
static void one_never_answers_in_a_short_window(void **state)
{
    struct kn_target targets[N];
    struct kn_spec spec = spec_of("{\"test\":\"http\",\"flows\":10,\"duration\":\"200ms\",\"warmup\":0,"
                                  "\"timeout\":\"1s\"}");
    int fds[4];
    (void)state;
    for (unsigned i = 0; i < N; i++) {
        targets[i] = (struct kn_target){.host = "127.0.0.1", .key = web[i].key, .share = shares[i]};
        snprintf(targets[i].name, sizeof targets[i].name, "%s", names[i]);
        targets[i].port = i == 1 ? deaf_port(fds) : kn_agent_port(web[i].agent);
    }
    struct kn_run *run = kn_run_new_to(&spec, targets, N, &err);
    assert_int_equal(kn_run_start(run, &err), 0);
    json_t *result = finish(run);
    for (int i = 0; i < 4; i++)
        close(fds[i]);
    assert_true(flagged(result, "target_lost"));
    assert_true(figure(result, 1, "connect_errors") == figure(result, 1, "flows"));
    assert_true(figure(result, 0, "ops") > 0 && figure(result, 0, "connect_errors") == 0);
    json_decref(result);
}

/* The other tests go on without it: the flows that could not be opened are connect errors. */
static void one_cannot_be_opened(void **state)
{
    static const char *const tests[] = {"tcp_rr", "tcp_crr", "udp_rr", "tcp_lat", "tcp_stream", "tcp_bw", "udp_stream"};
    struct kn_target targets[N];
    char spec[128];
    (void)state;
    for (size_t t = 0; t < sizeof tests / sizeof *tests; t++) {
        snprintf(spec, sizeof spec, "{\"test\":\"%s\",\"flows\":10,\"duration\":\"200ms\",\"timeout\":\"1s\"}",
                 tests[t]);
        json_t *result = finish(start(spec, 1, targets));
        const char *moved = strstr(tests[t], "stream") || strstr(tests[t], "bw") ? "bytes" : "ops";
        if (!json_is_true(json_object_get(result, "ok")))
            fail_msg("%s: %s", tests[t], json_dumps(result, JSON_INDENT(1)));
        assert_true(flagged(result, "target_lost"));
        assert_true(figure(result, 1, "connect_errors") == figure(result, 1, "flows"));
        assert_true(figure(result, 1, moved) == 0);
        assert_true(figure(result, 0, moved) > 0 && figure(result, 2, moved) > 0);
        json_decref(result);
    }
}

static void all_are_down(void **state)
{
    struct kn_target targets[N];
    (void)state;
    for (int i = 0; i < N; i++) {
        targets[i] = (struct kn_target){.host = "127.0.0.1", .port = 1};
        snprintf(targets[i].name, sizeof targets[i].name, "%s", names[i]);
    }
    for (int http = 0; http < 2; http++) {
        struct kn_spec spec = spec_of(http ? "{\"test\":\"http\",\"flows\":10,\"duration\":\"60s\"}"
                                           : "{\"test\":\"tcp_rr\",\"flows\":10,\"duration\":\"60s\"}");
        struct kn_run *run = kn_run_new_to(&spec, targets, N, &err);
        assert_int_equal(kn_run_start(run, &err), 0);
        json_t *result = finish(run);
        json_t *error = json_object_get(result, "error");
        assert_string_equal(json_string_value(json_object_get(error, "code")), "refused");
        assert_non_null(strstr(json_string_value(json_object_get(error, "message")), "127.0.0.1:1"));
        json_decref(result);
    }
}

/* ---- refusals ---- */

static void expect_refusal(const char *spec, json_t *to, const char *says)
{
    int status;
    json_t *answer = post_list(spec, to, &status);
    const char *message = json_string_value(json_object_get(json_object_get(answer, "error"), "message"));
    assert_int_equal(status, 400);
    if (!strstr(message, says))
        fail_msg("\"%s\" should say \"%s\"", message, says);
    json_decref(answer);
}

static void what_is_refused(void **state)
{
    json_t *many = json_array();
    (void)state;
    for (int i = 0; i < 65; i++)
        json_array_append_new(many, json_pack("{s:s}", "host", "127.0.0.1"));
    expect_refusal("{\"test\":\"tcp_rr\",\"flows\":100}", many, "1 to 64 targets, got 65");
    expect_refusal("{\"test\":\"tcp_rr\"}", json_array(), "1 to 64 targets, got 0");
    expect_refusal("{\"test\":\"tcp_rr\",\"flows\":2}", all_targets(),
                   "to has 3 targets, but flows is 2: each target needs a flow");
    expect_refusal("{\"test\":\"ping\"}", all_targets(), "to must be one target for ping");
    expect_refusal("{\"test\":\"pmtu\"}", all_targets(), "to must be one target for pmtu");
    expect_refusal("{\"test\":\"probe\"}", all_targets(), "to must be one target for probe");
    expect_refusal("{\"test\":\"tcp_rr\",\"flows\":2}", json_pack("[o, o]", target_of(0), target_of(0)),
                   "different names, got web-1 twice");
    expect_refusal("{\"test\":\"tcp_rr\",\"flows\":2}",
                   json_pack("[{s:s, s:i}, {s:s}]", "host", "a", "share", -1, "host", "b"),
                   "\"share\" must be a positive number");
    expect_refusal("{\"test\":\"tcp_rr\",\"flows\":2}", json_pack("[{s:s}, {s:i}]", "host", "a", "port", 1),
                   "\"to\" must have a \"host\"");
}

static void addresses_of_both_families(void **state)
{
    struct kn_spec spec = spec_of("{\"test\":\"tcp_rr\",\"flows\":2}");
    struct kn_target targets[2] = {{.host = "127.0.0.1", .port = 1}, {.host = "::1", .port = 1}};
    (void)state;
    if (!has_ipv6())
        skip();
    struct kn_run *run = kn_run_new_to(&spec, targets, 2, &err);
    assert_int_equal(kn_run_start(run, &err), 0);
    json_t *result = finish(run);
    const char *message = json_string_value(json_object_get(json_object_get(result, "error"), "message"));
    assert_string_equal(message,
                        "all targets must have one address family: 127.0.0.1:1 has IPv4, [::1]:1 has only IPv6");
    json_decref(result);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flows_are_dealt_by_shares),
        cmocka_unit_test(a_count_is_dealt_exactly),
        cmocka_unit_test(bytes_of_a_stream_are_dealt_exactly),
        cmocka_unit_test(a_rate_is_dealt_by_shares),
        cmocka_unit_test(one_target_is_as_it_always_was),
        cmocka_unit_test(one_dies_and_the_others_go_on),
        cmocka_unit_test(one_is_down_from_the_beginning),
        cmocka_unit_test(one_never_answers_in_a_short_window),
        cmocka_unit_test(one_cannot_be_opened),
        cmocka_unit_test(all_are_down),
        cmocka_unit_test(what_is_refused),
        cmocka_unit_test(addresses_of_both_families),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
