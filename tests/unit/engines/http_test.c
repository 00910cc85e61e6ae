/* The http client against a server that does whatever it likes, and what is counted of it; then against the agent's
 * own server. */
#include "http_hostile.h"

#include <sys/resource.h>

static struct hostile server;

static int setup(void **state)
{
    (void)state;
    hostile_start(&server);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    hostile_stop(&server);
    return 0;
}

static json_t *ask_port(uint16_t port, const char *path, const char *more)
{
    char spec[512];
    struct kn_target target = {.host = "127.0.0.1", .port = port};
    snprintf(spec, sizeof spec, "{\"test\": \"http\", \"external\": true, \"path\": \"%s\", %s}", path, more);
    return finish_run(start_json(&target, spec));
}

static json_t *ask(const char *path, const char *more)
{
    return ask_port(server.port, path, more);
}

static uint64_t count_at(json_t *result, const char *path)
{
    json_t *value = at(result, path);
    assert_true(json_is_integer(value));
    return (uint64_t)json_integer_value(value);
}

static uint64_t ended(json_t *result)
{
    json_t *ops = json_object_get(json_object_get(result, "metrics"), "ops");
    return (uint64_t)json_integer_value(ops) + count_at(result, "metrics.errors") +
           count_at(result, "metrics.timeouts");
}

/* All of them good, each with `body` bytes, and the server saw as many as were asked for. */
static json_t *all_good(const char *path, const char *more, unsigned count, unsigned body)
{
    json_t *r = ask(path, more);
    assert_ok(r);
    assert_int_equal(count_at(r, "metrics.ops"), count);
    assert_int_equal(count_at(r, "metrics.status.2xx"), count);
    assert_int_equal(count_at(r, "metrics.errors"), 0);
    assert_int_equal(count_at(r, "metrics.timeouts"), 0);
    assert_int_equal(count_at(r, "metrics.length_mismatches"), 0);
    assert_int_equal(count_at(r, "metrics.bytes"), (uint64_t)count * body);
    assert_int_equal(count_at(r, "metrics.latency_ns.count"), count);
    assert_int_equal(count_at(r, "metrics.first_byte_ns.count"), count);
    assert_int_equal(atomic_load(&server.requests), count);
    return r;
}

static void the_count_is_exact(void **state)
{
    (void)state;
    json_t *r = all_good("/ok", "\"requests\": 1003, \"connections\": 7, \"threads\": 2", 1003, 5);
    assert_int_equal(count_at(r, "metrics.connects"), 7);
    assert_int_equal(atomic_load(&server.connections), 7);
    assert_int_equal(count_at(r, "metrics.header_bytes"),
                     1003 * strlen("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"));
    assert_int_equal(count_at(r, "metrics.non_2xx"), 0);
    assert_int_equal(count_at(r, "metrics.failed.connect"), 0);
    json_decref(r);
}

static void many_connections_are_swept_and_counted(void **state)
{
    (void)state;
    json_t *r = all_good("/ok", "\"requests\": 20001, \"connections\": 40, \"threads\": 1", 20001, 5);
    assert_non_null(text_at(r, "chosen.waiting"));
    json_decref(r);
}

static void framings_are_understood(void **state)
{
    static const struct {
        const char *path;
        unsigned body;
    } cases[] = {{"/chunked", 11}, {"/continue", 2}, {"/bytewise", 4}, {"/big", 300000},
                 {"/none", 0},     {"/close", 13},   {"/last", 2}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        atomic_store(&server.requests, 0);
        json_decref(all_good(cases[i].path, "\"requests\": 60, \"connections\": 4", 60, cases[i].body));
    }
}

/* Chunks are believed over a length, but not what comes after them: each has a connection of its own, which the server
 * keeps open and the client does not wait for (250 ms each it would). */
static void a_response_framed_twice_ends_its_connection(void **state)
{
    (void)state;
    json_t *r = all_good("/framed-twice", "\"requests\": 60, \"connections\": 2", 60, 2);
    assert_int_equal(atomic_load(&server.connections), 60);
    assert_true(number_at(r, "metrics.duration_s") < 60 / 2 * 0.25);
    json_decref(r);
}

static void a_connection_a_request(void **state)
{
    (void)state;
    json_t *r = all_good("/ok", "\"requests\": 300, \"connections\": 5, \"keepalive\": false", 300, 5);
    assert_int_equal(atomic_load(&server.connections), 300);
    assert_int_equal(count_at(r, "metrics.connects"), 300);
    assert_int_equal(count_at(r, "metrics.connect_ns.count"), 300);
    assert_true(count_at(r, "metrics.connect_ns.min") <= count_at(r, "metrics.first_byte_ns.min"));
    json_decref(r);
}

/* It closes after every third response without having said so: the request that crosses it goes out again, and is no
 * failure. */
static void a_close_between_requests_is_the_servers_right(void **state)
{
    (void)state;
    json_t *r = ask("/unsaid", "\"requests\": 100, \"connections\": 4");
    assert_ok(r);
    assert_int_equal(count_at(r, "metrics.ops"), 100);
    assert_int_equal(count_at(r, "metrics.errors"), 0);
    assert_int_equal(atomic_load(&server.requests), 100);
    assert_true(atomic_load(&server.connections) >= 33);
    json_decref(r);
}

static void statuses_are_counted(void **state)
{
    (void)state;
    json_t *r = ask("/ok", "\"requests\": 50, \"connections\": 3");
    assert_false(has_flag(r, "bad_status"));
    json_decref(r);
    r = ask("/404", "\"requests\": 50, \"connections\": 3");
    assert_true(has_flag(r, "bad_status"));
    assert_int_equal(count_at(r, "metrics.status.4xx"), 50);
    assert_int_equal(count_at(r, "metrics.non_2xx"), 50);
    json_decref(r);
    r = ask("/500", "\"requests\": 50, \"connections\": 3");
    assert_int_equal(count_at(r, "metrics.status.5xx"), 50);
    assert_true(has_flag(r, "bad_status"));
    json_decref(r);
}

static void other_lengths_are_counted(void **state)
{
    (void)state;
    json_t *r = ask("/lengths", "\"requests\": 401, \"connections\": 1");
    assert_ok(r);
    assert_int_equal(count_at(r, "metrics.ops"), 401);
    assert_int_equal(count_at(r, "metrics.length_mismatches"), 100);
    assert_int_equal(count_at(r, "metrics.failed.length"), 100);
    json_decref(r);
}

static void failures_are_counted_and_survived(void **state)
{
    static const struct {
        const char *path;
        bool nonsense;
    } cases[] = {{"/garbage", true}, {"/more", true},  {"/endless", true},
                 {"/early", false},  {"/mute", false}, {"/reset", false}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *r = ask(cases[i].path, "\"requests\": 40, \"connections\": 4");
        assert_false(json_is_true(json_object_get(r, "ok"))); /* nothing good came at all */
        assert_int_equal(count_at(r, "metrics.errors"), 40);
        assert_int_equal(count_at(r, "metrics.bad_responses"), cases[i].nonsense ? 40 : 0);
        assert_int_equal(count_at(r, cases[i].nonsense ? "metrics.failed.exceptions" : "metrics.failed.receive"), 40);
        json_decref(r);
    }
}

static void some_fail_and_the_rest_goes_on(void **state)
{
    (void)state;
    json_t *r = ask("/some", "\"requests\": 600, \"connections\": 6, \"keepalive\": false");
    assert_ok(r);
    assert_int_equal(ended(r), 600);
    assert_int_equal(count_at(r, "metrics.errors"), 200);
    assert_int_equal(atomic_load(&server.requests), 600);
    assert_true(has_flag(r, "errors"));
    json_decref(r);
}

static void timeouts_count_at_their_time(void **state)
{
    (void)state;
    json_t *r = ask("/hang", "\"requests\": 12, \"connections\": 4, \"timeout\": \"50ms\"");
    assert_int_equal(count_at(r, "metrics.timeouts"), 12);
    assert_int_equal(count_at(r, "metrics.latency_ns.count"), 12);
    assert_true(count_at(r, "metrics.latency_ns.min") >= 50 * KN_NS_PER_MS);
    assert_int_equal(ended(r), 12);
    json_decref(r);
}

static void times_are_told_apart(void **state)
{
    (void)state;
    json_t *r = ask("/slow", "\"requests\": 8, \"connections\": 2");
    assert_true(count_at(r, "metrics.first_byte_ns.min") >= 20 * KN_NS_PER_MS);
    json_decref(r);
    r = ask("/late-body", "\"requests\": 8, \"connections\": 2");
    assert_true(count_at(r, "metrics.latency_ns.min") >= 50 * KN_NS_PER_MS);
    assert_true(count_at(r, "metrics.first_byte_ns.min") < 45 * KN_NS_PER_MS);
    json_decref(r);
}

/* One stall of 200 ms in 600 ms at 1000/s: open loop sees it in what was due meanwhile, closed loop in one request. */
static void open_loop_counts_from_the_due_time(void **state)
{
    (void)state;
    json_t *r = ask("/stall", "\"connections\": 1, \"rate\": \"1000/s\", \"duration\": \"600ms\", \"warmup\": 0");
    assert_ok(r);
    assert_in_range(count_at(r, "metrics.latency_ns.max"), 200 * KN_NS_PER_MS, 600 * KN_NS_PER_MS);
    assert_in_range(count_at(r, "metrics.latency_ns.p90"), 50 * KN_NS_PER_MS, 600 * KN_NS_PER_MS);
    json_decref(r);
    atomic_store(&server.requests, 0);
    r = ask("/stall", "\"connections\": 1, \"duration\": \"600ms\", \"warmup\": 0");
    assert_in_range(count_at(r, "metrics.latency_ns.max"), 200 * KN_NS_PER_MS, 600 * KN_NS_PER_MS);
    assert_true(count_at(r, "metrics.latency_ns.p90") < 50 * KN_NS_PER_MS);
    json_decref(r);
}

static void the_rate_is_kept(void **state)
{
    (void)state;
    json_t *r = ask("/ok",
                    "\"connections\": 8, \"rate\": \"400/s\", \"duration\": \"500ms\", \"warmup\": 0, \"threads\": 2");
    assert_ok(r);
    assert_in_range(count_at(r, "metrics.ops"), 150, 200);
    json_decref(r);
}

static void refused_is_an_error(void **state)
{
    static const char *const more[] = {"\"connections\": 10", "\"connections\": 10, \"keepalive\": false"};
    uint16_t port = server.port;
    hostile_stop(&server);
    for (size_t i = 0; i < 2; i++) {
        uint64_t from_ns = kn_now_ns();
        json_t *r = ask_port(port, "/ok", more[i]);
        assert_string_equal(text_at(r, "error.code"), "refused");
        assert_non_null(strstr(text_at(r, "error.message"), "127.0.0.1"));
        assert_true(kn_now_ns() - from_ns < KN_NS_PER_S);
        json_decref(r);
    }
    setup(state);
}

static void too_few_descriptors_is_an_error(void **state)
{
    (void)state;
    struct rlimit before, few;
    getrlimit(RLIMIT_NOFILE, &before);
    few = before;
    few.rlim_cur = 64;
    setrlimit(RLIMIT_NOFILE, &few);
    json_t *r = ask("/ok", "\"connections\": 200, \"duration\": \"200ms\"");
    setrlimit(RLIMIT_NOFILE, &before);
    assert_string_equal(text_at(r, "error.code"), "limit");
    json_decref(r);
}

static void every_way_to_wait(void **state)
{
    static const char *const ways[] = {"block", "auto", "spin"};
    char more[128];
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        atomic_store(&server.requests, 0);
        snprintf(more, sizeof more, "\"requests\": 500, \"connections\": 4, \"wait\": \"%s\", \"tune\": \"plain\"",
                 ways[i]);
        json_decref(all_good("/ok", more, 500, 5));
    }
}

/* ---- the agent's server ---- */

static void the_agent_answers(void **state)
{
    static const char *const specs[] = {
        "{\"test\": \"http\", \"requests\": 2000, \"connections\": 20}",
        "{\"test\": \"http\", \"requests\": 2000, \"connections\": 20, \"keepalive\": false}",
        "{\"test\": \"http\", \"requests\": 200, \"connections\": 20, \"body\": \"1M\"}",
        "{\"test\": \"http\", \"requests\": 200, \"connections\": 20, \"body\": \"1M\", \"keepalive\": false}",
        "{\"test\": \"http\", \"requests\": 60, \"connections\": 20, \"delay\": \"2ms\"}",
        "{\"test\": \"http\", \"requests\": 60, \"connections\": 20, \"delay\": \"2ms\", \"keepalive\": false}",
        "{\"test\": \"http\", \"requests\": 100, \"connections\": 5, \"body\": 0}",
    };
    static const uint64_t bodies[] = {45, 45, 1 << 20, 1 << 20, 45, 45, 0},
                          counts[] = {2000, 2000, 200, 200, 60, 60, 100};
    (void)state;
    struct loopback l;
    loopback_start(&l);
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
        json_t *r = run_json(&l, specs[i]);
        assert_ok(r);
        assert_int_equal(count_at(r, "metrics.ops"), counts[i]);
        assert_int_equal(count_at(r, "metrics.bytes"), counts[i] * bodies[i]);
        assert_int_equal(count_at(r, "metrics.errors"), 0);
        assert_string_equal(json_string_value(json_object_get(json_array_get(at(r, "servers"), 0), "name")), "server");
        assert_int_equal(json_integer_value(json_object_get(json_array_get(at(r, "servers"), 0), "ops")), counts[i]);
        if (strstr(specs[i], "2ms"))
            assert_in_range(count_at(r, "metrics.latency_ns.min"), 2 * KN_NS_PER_MS, 200 * KN_NS_PER_MS);
        json_decref(r);
    }
    loopback_stop(&l);
    assert_int_equal(l.failed, 0);
}

/* Few requests for many connections: those that had nothing to do have nothing to report. */
static void idle_connections_are_no_loss(void **state)
{
    (void)state;
    struct loopback l;
    loopback_start(&l);
    for (int i = 0; i < 20; i++) {
        json_t *r = run_json(&l, "{\"test\": \"http\", \"requests\": 40, \"connections\": 40, \"threads\": 4}");
        assert_ok(r);
        assert_int_equal(count_at(r, "metrics.ops"), 40);
        json_decref(r);
    }
    loopback_stop(&l);
}

static void a_duration_against_the_agent(void **state)
{
    (void)state;
    struct loopback l;
    loopback_start(&l);
    json_t *r = run_json(&l, "{\"test\": \"http\", \"duration\": \"200ms\", \"connections\": 32}");
    assert_ok(r);
    assert_true(number_at(r, "metrics.rate_per_s") > 100);
    assert_true(number_at(r, "metrics.cpu.server_process") > 0);
    assert_true(number_at(r, "metrics.cpu.server_process") < 2.5);
    json_decref(r);
    loopback_stop(&l);
}

static void an_agent_that_refuses_is_heard(void **state)
{
    (void)state;
    struct loopback l;
    loopback_start(&l);
    l.server.limits.max_duration_ns = 1;
    json_t *r = run_json(&l, "{\"test\": \"http\", \"duration\": \"100ms\", \"connections\": 3}");
    assert_string_equal(text_at(r, "error.code"), "limit");
    json_decref(r);
    loopback_stop(&l);
}

static void an_agent_that_goes_away_in_the_middle(void **state)
{
    (void)state;
    struct loopback l;
    struct kn_target target;
    loopback_start(&l);
    target_of(&l, &target);
    loopback_use_desk(&l, false);
    struct kn_run *run = start_json(&target,
                                    "{\"test\": \"http\", \"duration\": \"400ms\", \"warmup\": 0, \"connections\": 4}");
    struct kn_progress p = {0};
    for (uint64_t until_ns = kn_now_ns() + 5 * KN_NS_PER_S; p.ops < 50 && kn_now_ns() < until_ns;
         kn_run_progress(run, &p))
        pause_for(KN_NS_PER_MS);
    loopback_cut(&l);
    json_t *r = finish_run(run);
    assert_ok(r); /* the connections were made again */
    assert_true(count_at(r, "metrics.connects") > 4);
    json_decref(r);
    loopback_use_desk(&l, true);
    loopback_stop(&l);
}

#define WITH_SERVER(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

/* Each server counts for itself, and is asked by its own name. */
static void several_servers_have_their_shares(void **state)
{
    static const double shares[] = {1, 3, 4};
    static struct hostile servers[3];
    static struct kn_target targets[3];
    struct kn_error err;
    struct kn_spec spec;
    char name[64];
    (void)state;
    for (int i = 0; i < 3; i++) {
        hostile_start(&servers[i]);
        targets[i] = (struct kn_target){.host = "127.0.0.1", .port = servers[i].port, .share = shares[i]};
    }
    json_t *json = json_loads("{\"test\":\"http\",\"external\":true,\"path\":\"/named\",\"count\":800,\"flows\":8}", 0,
                              NULL);
    assert_int_equal(kn_spec_parse(json, &kn_engines, &spec, &err), 0);
    struct kn_run *run = kn_run_new_to(&spec, targets, 3, &err);
    assert_non_null(run);
    assert_int_equal(kn_run_start(run, &err), 0);
    json_t *r = finish_run(run);
    assert_ok(r);
    assert_int_equal(count_at(r, "metrics.status.2xx"), 800);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(atomic_load(&servers[i].requests), (unsigned)shares[i] * 100);
        assert_int_equal(atomic_load(&servers[i].connections), (unsigned)shares[i]);
        snprintf(name, sizeof name, "127.0.0.1:%u", servers[i].port);
        json_t *target = json_object_get(at(r, "metrics.targets"), name);
        assert_int_equal(json_integer_value(json_object_get(target, "ops")), (unsigned)shares[i] * 100);
        hostile_stop(&servers[i]);
    }
    json_decref(r);
    json_decref(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SERVER(the_count_is_exact),
        WITH_SERVER(many_connections_are_swept_and_counted),
        WITH_SERVER(framings_are_understood),
        WITH_SERVER(a_response_framed_twice_ends_its_connection),
        WITH_SERVER(a_connection_a_request),
        WITH_SERVER(a_close_between_requests_is_the_servers_right),
        WITH_SERVER(statuses_are_counted),
        WITH_SERVER(other_lengths_are_counted),
        WITH_SERVER(failures_are_counted_and_survived),
        WITH_SERVER(some_fail_and_the_rest_goes_on),
        WITH_SERVER(timeouts_count_at_their_time),
        WITH_SERVER(times_are_told_apart),
        WITH_SERVER(open_loop_counts_from_the_due_time),
        WITH_SERVER(the_rate_is_kept),
        WITH_SERVER(every_way_to_wait),
        WITH_SERVER(too_few_descriptors_is_an_error),
        WITH_SERVER(refused_is_an_error),
        cmocka_unit_test(the_agent_answers),
        cmocka_unit_test(idle_connections_are_no_loss),
        cmocka_unit_test(a_duration_against_the_agent),
        cmocka_unit_test(an_agent_that_refuses_is_heard),
        cmocka_unit_test(an_agent_that_goes_away_in_the_middle),
        cmocka_unit_test(several_servers_have_their_shares),
    };
    return cmocka_run_group_tests_name("http", tests, NULL, NULL);
}
