/* Memory runs out in runs of every test, at every allocation on the client's side and in the agent that serves them: a
 * run ends with an error or has its whole result, and the agent serves the next. Likewise for control and for the
 * agent's start. */
#include "../run/starved_run.h"
#include "one.h"

#include "agent/lease.h"

static int set_up(void **state)
{
    (void)state;
    live_config(&l);
    live_start(&l);
    return 0;
}

static void runs(long step, const char *text)
{
    struct kn_target target = {.host = "127.0.0.1", .port = kn_agent_port(l.agent), .key = l.key};
    starved_runs_by(step, text, &target);
}

#define SHORT ",\"count\":2,\"warmup\":0,\"timeout\":\"300ms\"}"
#define BRIEF ",\"duration\":\"3ms\",\"warmup\":0,\"timeout\":\"300ms\"}"
#define VARIANT 11  /* the step of n where a test runs in another way */
#define SCHEDULE 11 /* the same for a schedule */
#define RUN(name, step, spec)      \
    static void name(void **state) \
    {                              \
        (void)state;               \
        runs(step, spec);          \
    }
RUN(tcp_rr, STARVED_STEP, "{\"test\":\"tcp_rr\"" SHORT)
RUN(tcp_crr, STARVED_STEP, "{\"test\":\"tcp_crr\"" SHORT)
RUN(udp_rr, STARVED_STEP, "{\"test\":\"udp_rr\",\"count\":1,\"warmup\":0,\"timeout\":\"100ms\"}")
RUN(tcp_stream, STARVED_STEP, "{\"test\":\"tcp_stream\"" BRIEF)
RUN(both_ways, VARIANT, "{\"test\":\"tcp_stream\",\"bidir\":true" BRIEF)
RUN(udp_stream, STARVED_STEP, "{\"test\":\"udp_stream\"" BRIEF)
RUN(http, STARVED_STEP, "{\"test\":\"http\"" SHORT)
RUN(probe, STARVED_STEP, "{\"test\":\"probe\",\"duration\":\"3ms\",\"timeout\":\"300ms\"}")
RUN(session, VARIANT, "{\"test\":\"probe\",\"kind\":\"session\",\"duration\":\"3ms\",\"timeout\":\"300ms\"}")
RUN(pmtu, STARVED_STEP, "{\"test\":\"pmtu\",\"timeout\":\"20ms\"}")
/* more than there are event loops on most machines, so that these serve them */
RUN(many_tcp_rr, VARIANT, "{\"test\":\"tcp_rr\",\"flows\":17,\"count\":17,\"warmup\":0,\"timeout\":\"300ms\"}")
RUN(many_udp_rr, VARIANT, "{\"test\":\"udp_rr\",\"flows\":17,\"count\":17,\"warmup\":0,\"timeout\":\"300ms\"}")
RUN(many_streams, VARIANT, "{\"test\":\"tcp_stream\",\"flows\":17" BRIEF)

static void two_targets(void **state)
{
    static struct kn_target targets[2];
    (void)state;
    for (int i = 0; i < 2; i++) {
        targets[i] = (struct kn_target){.host = "127.0.0.1", .port = kn_agent_port(l.agent), .key = l.key};
        targets[i].name[0] = (char)('a' + i);
    }
    starved_runs_to(VARIANT, "{\"test\":\"tcp_rr\",\"flows\":2" SHORT, targets, 2);
    starved_runs_to(VARIANT, "{\"test\":\"http\",\"flows\":2" SHORT, targets, 2);
}

static void ping(void **state)
{
    (void)state;
    int fd = socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP);
    if (fd < 0)
        skip();
    close(fd);
    runs(STARVED_STEP, "{\"test\":\"ping\",\"count\":1,\"warmup\":0,\"timeout\":\"300ms\"}");
}

/* ---- control ---- */

/* Without memory the agent may close the connection instead of answering. 0: it did. */
static json_t *request(const char *method, const char *path, const char *body, int *status)
{
    static char text[1 << 18];
    int fd = say(&l, NULL, 0);
    snprintf(text, sizeof text,
             "%s %s HTTP/1.1\r\nHost: agent\r\nConnection: close\r\nKnbl-Token: " TOKEN
             "\r\nContent-Length: %zu\r\n\r\n%s",
             method, path, strlen(body), body);
    kn_write_full(fd, text, strlen(text), soon(), &err);
    ssize_t n = read_to_end(fd, text, sizeof text - 1);
    close(fd);
    if (n < 0)
        starved_fail("%s %s: no answer", method, path);
    text[n] = '\0';
    char *end = strstr(text, "\r\n\r\n");
    *status = 0;
    if (!end || sscanf(text, "HTTP/1.1 %d", status) != 1)
        return NULL;
    json_t *answer = json_loads(end + 4, 0, NULL);
    if (!answer)
        starved_fail("%s %s: %zd bytes %s", method, path, n, text);
    if (*status >= 400 && answer && !*code_of(answer))
        starved_fail("%s %s: %s", method, path, text);
    return answer;
}

/* What was asked for has this member, or the answer is an error. */
static char *expect_member(const char *method, const char *path, const char *body, const char *member)
{
    int status;
    json_t *answer = request(method, path, body, &status), *value = json_object_get(answer, member);
    if (status && status < 300 && !value)
        starved_fail("%s %s: no %s in the answer %d %s", method, path, member, status, json_dumps(answer, 0));
    char *text = json_is_string(value) ? strdup(json_string_value(value)) : NULL;
    json_decref(answer);
    return text;
}

static void then(const char *method, const char *folder, const char *id, const char *member)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s?wait=20000", folder, id ? id : "0");
    free(expect_member(method, path, "", member));
}

static void control(void **state)
{
    char body[400];
    (void)state;
    snprintf(body, sizeof body, "{\"spec\":{\"test\":\"tcp_rr\"%s,\"to\":{\"host\":\"127.0.0.1\",\"port\":%u}}", SHORT,
             kn_agent_port(l.agent));
    starved_fed = true; /* this thread is the client */
    STARVED(n)
    {
        starved_begin(n);
        char *id = expect_member("POST", "/v1/runs", body, "id");
        then("GET", "/v1/runs", id, "result");
        then("DELETE", "/v1/runs", id, "result");
        free(id);
        id = expect_member("POST", "/v1/observe", "{\"monitor\":{\"interval_ns\":1000000}}", "id");
        then("GET", "/v1/observe", id, "id");
        then("DELETE", "/v1/observe", id, "monitor");
        free(id);
        free(expect_member("GET", "/v1/agent", "", "environment"));
        starved_end();
    }
    starved_fed = false;
    expect_run(&l, "127.0.0.1", "tcp_rr", "");
}

/* ---- schedules ---- */

/* 0: the connection was closed, or there was no answer that JSON has. */
static int call(const char *method, const char *path, const char *body, json_t **answer)
{
    int status;
    *answer = request(method, path, body, &status);
    return *answer ? status : 0;
}

static void expect_result(const json_t *result)
{
    const json_t *error = json_object_get(result, "error");
    if (json_is_null(result)) /* it was not begun, or there was no memory for the reason */
        return;
    if (json_is_true(json_object_get(result, "ok"))
            ? !json_object_size(json_object_get(result, "metrics")) || !json_object_get(result, "histogram")
            : !*starved_member(error, "code") || !*starved_member(error, "message"))
        starved_fail("a result is incomplete: %s", json_dumps(result, 0));
}

/* From its beginning to its end; how many of its two runs went well. */
static int carry_out(const char *id, long n)
{
    char path[64], start[80], body[400], at[64];
    json_t *answer, *result;
    int good = 0;
    size_t i;
    snprintf(path, sizeof path, "/v1/schedule/%s", id);
    snprintf(start, sizeof start, "%s/start", path);
    snprintf(body, sizeof body,
             "{\"id\":\"%s\",\"histograms\":true,\"tests\":[{\"test\":\"tcp_rr\"%s],\"peers\":[[\"127.0.0.1\",%u]],"
             "\"runs\":[[0,0.5,0,0],[0.001,0.5,0,0]]}",
             id, SHORT, kn_agent_port(l.agent));
    snprintf(at, sizeof at, "{\"at_ns\":\"%llu\"}", (unsigned long long)kn_now_ns());
    if (n)
        starved_begin(n);
    bool taken = call("POST", "/v1/schedule", body, &answer) == 201;
    json_decref(answer);
    bool started = call("POST", start, at, &answer) == 200;
    json_decref(answer);
    for (uint64_t until = soon(); taken && started && kn_now_ns() < until; poll(NULL, 0, 1)) {
        int status = call("GET", path, "", &answer);
        bool over = status == 200 && !strcmp(starved_member(answer, "state"), "over");
        json_decref(answer);
        if (over)
            break;
    }
    starved_end();
    int status = call("DELETE", path, "", &answer);
    if (taken && (status != 200 || strcmp(starved_member(answer, "state"), "over")))
        starved_fail("the schedule is not over: %d %s", status, json_dumps(answer, 0));
    json_array_foreach(json_object_get(answer, "results"), i, result)
    {
        expect_result(result);
        good += json_is_true(json_object_get(result, "ok"));
    }
    json_decref(answer);
    return good;
}

static void schedules(void **state)
{
    char id[KN_ID_SIZE];
    (void)state;
    starved_fed = true; /* this thread is the client */
    STARVED_BY(n, SCHEDULE)
    {
        snprintf(id, sizeof id, "%016lx", n);
        carry_out(id, n);
    }
    starved_fed = false;
    assert_int_equal(carry_out("ffffffffffffffff", 0), 2);
}

/* ---- the agent itself ---- */

static void start_and_end(void **state)
{
    struct live other;
    (void)state;
    live_config(&other);
    other.config.unix_path = "@knbl-starved-test";
    STARVED(n)
    {
        err = (struct kn_error){0};
        starved_begin(n);
        other.agent = kn_agent_new(&other.config, &err);
        starved_end();
        starved_expect(other.agent, &err);
        if (other.agent)
            live_end(&other);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tcp_rr),       cmocka_unit_test(tcp_crr),     cmocka_unit_test(udp_rr),
        cmocka_unit_test(tcp_stream),   cmocka_unit_test(both_ways),   cmocka_unit_test(udp_stream),
        cmocka_unit_test(http),         cmocka_unit_test(probe),       cmocka_unit_test(session),
        cmocka_unit_test(pmtu),         cmocka_unit_test(many_tcp_rr), cmocka_unit_test(many_udp_rr),
        cmocka_unit_test(many_streams), cmocka_unit_test(two_targets), cmocka_unit_test(ping),
        cmocka_unit_test(control),      cmocka_unit_test(schedules),   cmocka_unit_test(start_and_end),
    };
    return cmocka_run_group_tests(tests, set_up, end_agent);
}
