/* Memory runs out while a run asks a DNS server, or a server of HTTP/2 or HTTPS, at every allocation. Runs against an
 * agent: ../agent/starved_test.c. */
#include "../run/starved_run.h"
#include "dns_hostile.h"
#include "https_server.h"

#include <signal.h>

static struct hostile server;

static void lookups(void **state)
{
    struct kn_target target = {.host = "127.0.0.1", .port = server.port};
    (void)state;
    starved_runs("{\"test\":\"dns\",\"names\":\"a.test\",\"count\":2,\"warmup\":0,\"timeout\":\"300ms\"}", &target);
}

static void over_tcp(void **state)
{
    struct kn_target target = {.host = "127.0.0.1", .port = server.port};
    (void)state;
    starved_runs_by(
        11, "{\"test\":\"dns\",\"names\":\"a.test\",\"proto\":\"tcp\",\"count\":2,\"warmup\":0,\"timeout\":\"300ms\"}",
        &target);
}

/* A run in which nothing arrived is never ok, wherever its result runs out of memory. */
static void without_an_answer(void **state)
{
    struct kn_error err;
    struct kn_spec spec;
    struct kn_target target = {.host = "127.0.0.1", .port = server.port};
    (void)state;
    json_t *json = json_loads(
        "{\"test\":\"dns\",\"names\":\"silent.test\",\"count\":1,\"warmup\":0,\"timeout\":\"10ms\"}", 0, NULL);
    assert_int_equal(kn_spec_parse(json, &kn_engines, &spec, &err), 0);
    json_decref(json);
    struct kn_run *run = kn_run_new(&spec, &target, &err);
    assert_int_equal(kn_run_start(run, &err), 0);
    assert_true(kn_run_wait(run, 60 * KN_NS_PER_S));
    STARVED(n)
    {
        starved_begin(n);
        json_t *result = kn_run_result(run);
        starved_end();
        if (json_is_true(json_object_get(result, "ok")))
            starved_fail("a run without an answer is ok: %s", json_dumps(result, JSON_COMPACT));
        json_decref(result);
    }
    kn_run_free(run);
}

/* ---- HTTP/2 and TLS ---- */

/* TLS allocates more than a thousand times in each run: only some of n are tried. */
#define REQUESTS "\"external\":true,\"count\":2,\"flows\":1,\"warmup\":0,\"timeout\":\"300ms\"}"

static void requests(bool tls, long step, const char *spec)
{
    struct https_server web;
    static struct kn_target target;
    https_start(&web, tls);
    target = (struct kn_target){.host = "127.0.0.1", .port = web.port};
    strcpy(target.ca, web.pem);
    starved_runs_by(step, spec, &target);
    https_stop(&web);
}

static void http2(void **state)
{
    (void)state;
    requests(false, STARVED_STEP, "{\"test\":\"http\",\"http2\":true,\"streams\":2," REQUESTS);
}

static void https(void **state)
{
    (void)state;
    requests(true, 29, "{\"test\":\"http\",\"tls\":true," REQUESTS);
}

static void resumed(void **state)
{
    (void)state;
    requests(true, 197, "{\"test\":\"http\",\"tls\":true,\"keepalive\":false," REQUESTS);
}

static void http2_over_tls(void **state)
{
    (void)state;
    requests(true, 61, "{\"test\":\"http\",\"tls\":true,\"http2\":true," REQUESTS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lookups),       cmocka_unit_test(over_tcp), cmocka_unit_test(without_an_answer),
        cmocka_unit_test(http2),         cmocka_unit_test(https),    cmocka_unit_test(resumed),
        cmocka_unit_test(http2_over_tls)};
    signal(SIGPIPE, SIG_IGN); /* which the server's TLS would raise */
    hostile_start(&server);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    hostile_stop(&server);
    return failed;
}
