/* Schedules: carried out alone and on time, started, polled, stopped, fetched; refused if anything in one is wrong. */
#include "one.h"
#include "core/json.h"

#define ID "00112233445566ff"

static int set_up(void **state)
{
    (void)state;
    live_config(&l);
    l.config.max_runs = 4;
    l.config.orphan_ns = 20 * KN_NS_PER_S;
    live_start(&l);
    return 0;
}

/* `port` 0: the agent itself. */
static json_t *post_schedule(const char *tests, uint16_t port, const char *runs, const char *more, int *status)
{
    static char body[300000];
    snprintf(body, sizeof body, "{\"id\":\"" ID "\",\"tests\":[%s],\"peers\":[[\"127.0.0.1\",%u]],\"runs\":[%s]%s}",
             tests, port ? port : kn_agent_port(l.agent), runs, more);
    return ask(&l, "POST", "/v1/schedule", body, status);
}

static void accept_schedule(const char *tests, uint16_t port, const char *runs, const char *more)
{
    int status;
    json_t *answer = post_schedule(tests, port, runs, more, &status);
    if (status != 201)
        fail_msg("%d %s", status, json_dumps(answer, 0));
    assert_string_equal(json_string_value(json_object_get(answer, "state")), "waiting");
    json_decref(answer);
}

static json_t *start_at(uint64_t at_ns, int *status)
{
    char body[64];
    snprintf(body, sizeof body, "{\"at_ns\":\"%llu\"}", (unsigned long long)at_ns);
    return ask(&l, "POST", "/v1/schedule/" ID "/start", body, status);
}

static void start_now(void)
{
    int status;
    json_decref(start_at(kn_now_ns(), &status));
    assert_int_equal(status, 200);
}

static void await_over(void)
{
    for (uint64_t until = soon(); kn_now_ns() < until; poll(NULL, 0, 10)) {
        int status;
        json_t *answer = ask(&l, "GET", "/v1/schedule/" ID, NULL, &status);
        bool over = !strcmp(json_string_value(json_object_get(answer, "state")), "over");
        assert_null(json_object_get(answer, "results"));
        json_decref(answer);
        if (over)
            return;
    }
    fail_msg("the schedule does not end");
}

static json_t *fetch(void)
{
    int status;
    json_t *answer = ask(&l, "DELETE", "/v1/schedule/" ID, NULL, &status);
    assert_int_equal(status, 200);
    assert_string_equal(json_string_value(json_object_get(answer, "state")), "over");
    return answer;
}

static const json_t *result_of(const json_t *answer, size_t i)
{
    return json_array_get(json_object_get(answer, "results"), i);
}

static const char *failure_of(const json_t *result)
{
    const char *code = json_string_value(json_object_get(json_object_get(result, "error"), "code"));
    return code ? code : "";
}

/* On a machine that is busy a run may be starved: then it says so. */
static void expect_good(const json_t *result)
{
    const char *code = failure_of(result);
    if (!json_is_true(json_object_get(result, "ok")) && strcmp(code, "late") && strcmp(code, "no_data"))
        fail_msg("%s", json_dumps(result, 0));
}

#define LAT "{\"test\":\"tcp_lat\",\"duration\":\"100ms\",\"warmup\":\"10ms\"}"
#define STREAM "{\"test\":\"tcp_stream\",\"duration\":\"100ms\",\"warmup\":\"10ms\"}"

static void carried_out_alone_and_fetched_twice(void **state)
{
    (void)state;
    accept_schedule(LAT "," STREAM, 0, "[0,10,0,0],[0,10,0,0],[0.2,10,1,0]", ",\"histograms\":true");
    start_now();
    await_over();
    for (int i = 0; i < 2; i++) { /* an answer may be lost */
        json_t *answer = fetch();
        assert_int_equal(json_array_size(json_object_get(answer, "results")), 3);
        assert_int_equal(json_integer_value(json_object_get(answer, "done")), 3);
        for (size_t k = 0; k < 3; k++)
            expect_good(result_of(answer, k));
        json_t *metrics = json_object_get(result_of(answer, 2), "metrics");
        if (json_is_true(json_object_get(result_of(answer, 2), "ok")))
            assert_true(json_number_value(json_object_get(metrics, "throughput_bps")) > 0);
        assert_null(json_object_get(metrics, "intervals"));
        json_decref(answer);
    }
}

/* The agent's own histograms add up to the merged one. */
static void histograms_are_merged(void **state)
{
    (void)state;
    accept_schedule(LAT "," STREAM, 0, "[0,10,0,0],[0.1,10,0,0],[0.2,10,1,0]", ",\"histograms\":true");
    start_now();
    await_over();
    json_t *answer = fetch(), *merged = json_object_get(answer, "merged");
    json_int_t sum = 0;
    for (size_t i = 0; i < 2; i++) {
        expect_good(result_of(answer, i));
        const char *text = json_string_value(json_object_get(result_of(answer, i), "histogram"));
        json_t *own = text ? json_loads(text, 0, NULL) : NULL;
        assert_true(own || !json_is_true(json_object_get(result_of(answer, i), "ok")));
        sum += json_integer_value(json_object_get(own, "count"));
        json_decref(own);
    }
    assert_int_equal(json_integer_value(json_object_get(json_array_get(merged, 0), "count")), sum);
    assert_true(json_is_null(json_array_get(merged, 1)));
    json_decref(answer);
}

/* A start in the past: the slots that are over cost their own runs, not the others'. */
static void what_is_late_is_not_begun(void **state)
{
    (void)state;
    int status;
    accept_schedule(LAT, 0, "[0,1,0,0],[60,30,0,0]", "");
    json_decref(start_at(kn_now_ns() - 60 * KN_NS_PER_S, &status));
    assert_int_equal(status, 200);
    await_over();
    json_t *answer = fetch();
    assert_string_equal(failure_of(result_of(answer, 0)), "late");
    assert_true(json_number_value(json_object_get(result_of(answer, 0), "late_s")) >= 59);
    expect_good(result_of(answer, 1));
    json_decref(answer);
}

/* Nobody accepts there, and nobody answers: each costs its own slot. */
static void a_dead_peer_costs_its_slot(void **state)
{
    (void)state;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, size), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &size), 0);
    accept_schedule(LAT, ntohs(at.sin_port), "[0,0.3,0,0],[0.4,0.3,0,0]", "");
    uint64_t from_ns = kn_now_ns();
    start_now();
    await_over();
    assert_true(kn_now_ns() - from_ns < 10 * KN_NS_PER_S); /* the timeout of a connect is longer */
    json_t *answer = fetch();
    for (size_t i = 0; i < 2; i++)
        assert_true(json_is_false(json_object_get(result_of(answer, i), "ok")));
    json_decref(answer);
    close(fd);
}

static void stopped_early_it_gives_what_there_is(void **state)
{
    (void)state;
    accept_schedule(LAT, 0, "[0,10,0,0],[3000,10,0,0]", "");
    json_t *answer = fetch(); /* it was never started */
    assert_true(json_is_null(result_of(answer, 0)));
    json_decref(answer);
    int status;
    json_decref(start_at(kn_now_ns(), &status)); /* too late: it is over */
    answer = ask(&l, "GET", "/v1/agent", NULL, &status);
    assert_int_equal(json_integer_value(json_object_get(answer, "schedules")), 0);
    json_decref(answer);
}

static void the_start_is_given_once(void **state)
{
    (void)state;
    int status;
    accept_schedule(LAT, 0, "[0,10,0,0]", "");
    uint64_t at_ns = kn_now_ns() + 1000 * KN_NS_PER_S;
    for (int i = 0; i < 2; i++) { /* the answer may be lost */
        json_t *answer = start_at(at_ns, &status);
        assert_int_equal(status, 200);
        assert_string_equal(json_string_value(json_object_get(answer, "state")), "running");
        json_decref(answer);
    }
    json_t *answer = start_at(at_ns + 1, &status);
    assert_int_equal(status, 409);
    json_decref(answer);
    json_decref(ask(&l, "POST", "/v1/schedule/" ID "/start", "{\"at_ns\":true}", &status));
    assert_int_equal(status, 400);
    json_decref(start_at(kn_now_ns() + 4000 * KN_NS_PER_S, &status));
    assert_int_equal(status, 400);
    json_decref(ask(&l, "POST", "/v1/schedule/ffffffffffffffff/start", "{\"at_ns\":1}", &status));
    assert_int_equal(status, 404);
    json_decref(fetch());
}

/* Its answers say when the agent's clock was read, between its client's question and the answer. */
static void the_clock_is_told(void **state)
{
    (void)state;
    int status;
    accept_schedule(LAT, 0, "[0,10,0,0]", "");
    uint64_t before_ns = kn_now_ns();
    json_t *answer = ask(&l, "GET", "/v1/schedule/" ID, NULL, &status), *clock = json_object_get(answer, "clock");
    uint64_t after_ns = kn_now_ns(), taken_ns = 0, answered_ns = 0;
    assert_int_equal(kn_json_u64_get(json_object_get(clock, "taken_ns"), &taken_ns), 0);
    assert_int_equal(kn_json_u64_get(json_object_get(clock, "answered_ns"), &answered_ns), 0);
    assert_true(before_ns <= taken_ns && taken_ns <= answered_ns && answered_ns <= after_ns);
    json_decref(answer);
    json_decref(fetch());
}

static void asked_twice_it_is_one_and_another_waits(void **state)
{
    (void)state;
    int status;
    accept_schedule(LAT, 0, "[0,10,0,0]", "");
    accept_schedule(LAT, 0, "[0,10,0,0]", "");
    char body[500];
    snprintf(body, sizeof body, "{\"tests\":[" LAT "],\"peers\":[[\"127.0.0.1\",1]],\"runs\":[[0,1,0,0]]}");
    json_t *answer = ask(&l, "POST", "/v1/schedule", body, &status);
    assert_int_equal(status, 429);
    assert_string_equal(code_of(answer), "limit");
    json_decref(answer);
    json_decref(fetch());
}

static void expect_wrong(const char *tests, const char *runs, const char *more, int wanted, const char *said)
{
    int status;
    json_t *answer = post_schedule(tests, 0, runs, more, &status);
    const char *message = json_string_value(json_object_get(json_object_get(answer, "error"), "message"));
    if (status != wanted || !message || !strstr(message, said) || strchr(message, '\n'))
        fail_msg("%d %s", status, json_dumps(answer, 0));
    json_decref(answer);
}

static void what_is_wrong_is_refused(void **state)
{
    (void)state;
    static char many[200000];
    size_t used = 0;
    expect_wrong("", "[0,1,0,0]", "", 400, "\"tests\" must have from 1 to 16 members, got 0");
    expect_wrong("{\"test\":\"tcp_lamp\"}", "[0,1,0,0]", "", 400, "tcp_lamp");
    expect_wrong("7", "[0,1,0,0]", "", 400, "test 0 must be a specification");
    expect_wrong(LAT, "", "", 400, "\"runs\" must have from 1 to 8192 members, got 0");
    expect_wrong(LAT, "[0,1,0]", "", 400, "run 0 must be a list of four");
    expect_wrong(LAT, "[-1,1,0,0]", "", 400, "run 0 must be a list of four");
    expect_wrong(LAT, "[0,1,1,0]", "", 400, "run 0 has test 1 of 1");
    expect_wrong(LAT, "[0,1,0,-1]", "", 400, "peer -1 of 1");
    expect_wrong(LAT, "[1,1,0,0],[0,1,0,0]", "", 400, "run 1 begins before run 0");
    expect_wrong(LAT, "[0,0.1,0,0]", "", 400, "a slot of 0.1 s is shorter than warmup and duration of tcp_lat, 0.11 s");
    expect_wrong(LAT, "[0,1,0,0],[0,1,0,0],[0,1,0,0],[0,1,0,0],[0.9,1,0,0]", "", 429,
                 "at 0.9 s more than 4 runs overlap");
    expect_wrong(LAT, "[3600,1,0,0]", "", 429, "the schedule must take at most 3600 s on this agent, got 3601 s");
    expect_wrong(LAT, "[0,1,0,0]", ",\"patience\":-1", 400, "\"patience\" must be a number");
    expect_wrong(LAT, "[0,1,0,0]", ",\"histograms\":1", 400, "\"histograms\" must be true or false");
    expect_wrong(LAT, "[0,1,0,0]", ",\"token\":1", 400, "\"token\" must be a string");
    expect_wrong("{\"test\":\"tcp_lat\",\"duration\":\"2h\"}", "[0,8000,0,0]", "", 429, "at most 3600 s");
    for (unsigned i = 0; i < 8193; i++)
        used += (size_t)snprintf(many + used, sizeof many - used, "%s[%u,0.5,0,0]", i ? "," : "", i);
    expect_wrong(LAT, many, "", 429, "\"runs\" must have from 1 to 8192 members, got 8193");
    json_decref(ask(&l, "GET", "/v1/schedule/" ID, NULL, &(int){0}));
    int status;
    json_decref(ask(&l, "GET", "/v1/schedule", NULL, &status));
    assert_int_equal(status, 404);
}

/* One megabyte at most; the answer is one line. */
static void a_body_without_end_is_refused(void **state)
{
    (void)state;
    static char text[3 << 20];
    int status, n = snprintf(text, sizeof text,
                             "POST /v1/schedule HTTP/1.1\r\nHost: agent\r\nConnection: close\r\nKnbl-Token: " TOKEN
                             "\r\nContent-Length: %u\r\n\r\n",
                             2u << 20);
    memset(text + n, '[', 2u << 20);
    int fd = say(&l, NULL, 0);
    kn_write_full(fd, text, (size_t)n + (2u << 20), soon(), &err);
    json_t *answer = read_answer(fd, &status);
    assert_int_equal(status, 400);
    assert_string_equal(json_string_value(json_object_get(json_object_get(answer, "error"), "message")),
                        "the body is longer than 1024 KiB");
    json_decref(answer);
    close(fd);
}

/* What nobody polls is stopped, and an agent that ends stops it too. */
static void one_that_nobody_asks_for_is_stopped(void **state)
{
    (void)state;
    live_end(&l);
    l.config.orphan_ns = 200 * KN_NS_PER_MS;
    live_start(&l);
    accept_schedule(LAT, 0, "[1000,10,0,0]", ",\"patience\":0.1");
    start_now();
    for (uint64_t until = soon(); kn_now_ns() < until; poll(NULL, 0, 20)) {
        int status;
        json_t *answer = ask(&l, "GET", "/v1/agent", NULL, &status);
        json_int_t n = json_integer_value(json_object_get(answer, "schedules"));
        json_decref(answer);
        if (n == 0)
            return;
    }
    fail_msg("it goes on");
}

/* --idle: a schedule is work, however long nobody asks. */
static void an_agent_with_a_schedule_is_not_idle(void **state)
{
    (void)state;
    live_end(&l);
    l.config.idle_ns = 300 * KN_NS_PER_MS;
    live_start(&l);
    accept_schedule(LAT, 0, "[1,20,0,0]", ",\"patience\":60");
    uint64_t begun_ns = kn_now_ns();
    start_now();
    kn_agent_wait(l.agent); /* idle once the run is over, not before */
    assert_true(kn_agent_was_idle(l.agent));
    assert_true(kn_now_ns() - begun_ns >= 1100 * KN_NS_PER_MS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(carried_out_alone_and_fetched_twice, set_up, end_agent),
        cmocka_unit_test_setup_teardown(histograms_are_merged, set_up, end_agent),
        cmocka_unit_test_setup_teardown(what_is_late_is_not_begun, set_up, end_agent),
        cmocka_unit_test_setup_teardown(a_dead_peer_costs_its_slot, set_up, end_agent),
        cmocka_unit_test_setup_teardown(stopped_early_it_gives_what_there_is, set_up, end_agent),
        cmocka_unit_test_setup_teardown(the_start_is_given_once, set_up, end_agent),
        cmocka_unit_test_setup_teardown(the_clock_is_told, set_up, end_agent),
        cmocka_unit_test_setup_teardown(asked_twice_it_is_one_and_another_waits, set_up, end_agent),
        cmocka_unit_test_setup_teardown(what_is_wrong_is_refused, set_up, end_agent),
        cmocka_unit_test_setup_teardown(a_body_without_end_is_refused, set_up, end_agent),
        cmocka_unit_test_setup_teardown(one_that_nobody_asks_for_is_stopped, set_up, end_agent),
        cmocka_unit_test_setup_teardown(an_agent_with_a_schedule_is_not_idle, set_up, end_agent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
