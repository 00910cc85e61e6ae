/* DNS: names, messages and resolv.conf by themselves; then the client against a server that answers as it likes. */
#include "dns_hostile.h"

#include "engines/dns/names.h"

/* ---- names ---- */

static void test_names_on_the_wire(void **state)
{
    uint8_t wire[KN_DNS_NAME_MAX];
    char text[300];
    (void)state;
    assert_int_equal(kn_dns_name_pack("WWW.example.com", wire), 17);
    assert_memory_equal(wire, "\3www\7example\3com", 17);
    assert_int_equal(kn_dns_name_pack("a.", wire), 3);
    assert_int_equal(kn_dns_name_pack(".", wire), 1);
    assert_int_equal(kn_dns_name_pack("a..b", wire), 0);
    assert_int_equal(kn_dns_name_pack(".a", wire), 0);
    memset(text, 'x', sizeof text);
    text[63] = '\0';
    assert_int_equal(kn_dns_name_pack(text, wire), 65);
    text[63] = 'x', text[64] = '\0';
    assert_int_equal(kn_dns_name_pack(text, wire), 0);
    for (int i = 0; i < 254; i++)
        text[i] = i % 2 ? '.' : 'a';
    text[253] = '\0';
    assert_int_equal(kn_dns_name_pack(text, wire), 255);
    text[253] = '.', text[254] = 'a', text[255] = '\0';
    assert_int_equal(kn_dns_name_pack(text, wire), 0);
}

static void test_addresses_backwards(void **state)
{
    char text[KN_DNS_TEXT_MAX];
    (void)state;
    assert_int_equal(kn_dns_reverse("10.96.0.1", text), 0);
    assert_string_equal(text, "1.0.96.10.in-addr.arpa");
    assert_int_equal(kn_dns_reverse("2001:db8::1", text), 0);
    assert_string_equal(text, "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa");
    assert_int_equal(kn_dns_reverse("no.address", text), -1);
}

static void expect_names(const char *pattern, uint64_t n, const char *first, const char *last)
{
    struct kn_error err;
    char name[KN_DNS_TEXT_MAX];
    assert_int_equal(kn_dns_names_count(pattern, &err), n);
    if (!n)
        return;
    kn_dns_names_at(pattern, 0, name);
    assert_string_equal(name, first);
    kn_dns_names_at(pattern, n - 1, name);
    assert_string_equal(name, last);
}

static void test_patterns(void **state)
{
    char name[KN_DNS_TEXT_MAX];
    (void)state;
    expect_names("a.test", 1, "a.test", "a.test");
    expect_names("a,b,c", 3, "a", "c");
    expect_names("h{9..11}.x", 3, "h9.x", "h11.x");
    expect_names("{api,web}.{1..3}", 6, "api.1", "web.3");
    expect_names("x,{a,b}-{a,b},y{1..2}", 7, "x", "y2");
    kn_dns_names_at("x,{a,b}-{a,b},y{1..2}", 2, name);
    assert_string_equal(name, "a-b");
    expect_names("", 0, NULL, NULL);
    expect_names("a,,b", 0, NULL, NULL);
    expect_names("a,", 0, NULL, NULL);
    expect_names("a{1..", 0, NULL, NULL);
    expect_names("a{}", 0, NULL, NULL);
    expect_names("{3..1}", 0, NULL, NULL);
    expect_names("{a{b}", 0, NULL, NULL);
    expect_names("{1..100000}{1..100000}", 0, NULL, NULL);
    expect_names("{1..99999999999999999999}", 0, NULL, NULL);
}

static void expect_candidates(const struct kn_dns_resolv *r, const char *name, const char *const *expected)
{
    char candidate[KN_DNS_TEXT_MAX];
    unsigned i = 0;
    for (; kn_dns_candidate(r, name, i, candidate); i++) {
        assert_non_null(expected[i]);
        assert_string_equal(candidate, expected[i]);
    }
    assert_null(expected[i]);
}

static void test_resolv_conf(void **state)
{
    struct kn_dns_resolv r;
    (void)state;
    kn_dns_resolv_parse("# x\nnameserver 10.96.0.10\nnameserver 1.1.1.1\nsearch old\nsearch a.svc  svc\tlocal\n"
                        "options timeout:2 ndots:5 rotate",
                        &r);
    assert_string_equal(r.nameserver, "10.96.0.10");
    assert_int_equal(r.n_search, 3);
    assert_int_equal(r.ndots, 5);
    expect_candidates(&r, "api", (const char *const[]){"api.a.svc", "api.svc", "api.local", "api", NULL});
    expect_candidates(&r, "x.y.", (const char *const[]){"x.y.", NULL});
    r.ndots = 1;
    expect_candidates(&r, "x.y", (const char *const[]){"x.y", "x.y.a.svc", "x.y.svc", "x.y.local", NULL});
    kn_dns_resolv_parse("", &r);
    expect_candidates(&r, "x", (const char *const[]){"x", NULL});
    assert_int_equal(r.ndots, 1);
}

/* A pointer to itself, forwards, or in a circle is no name. */
static void test_pointers_end(void **state)
{
    uint8_t name[KN_DNS_NAME_MAX];
    const uint8_t itself[] = {0xc0, 0}, circle[] = {1, 'a', 0xc0, 0}, forwards[] = {0xc0, 2, 0},
                  good[] = {1, 'A', 0, 0xc0, 0};
    size_t at = 0;
    (void)state;
    assert_int_equal(kn_dns_name_read(itself, sizeof itself, &at, name), 0);
    at = 0;
    assert_int_equal(kn_dns_name_read(circle, sizeof circle, &at, name), 0);
    at = 0;
    assert_int_equal(kn_dns_name_read(forwards, sizeof forwards, &at, name), 0);
    at = 3;
    assert_int_equal(kn_dns_name_read(good, sizeof good, &at, name), 3);
    assert_memory_equal(name, "\1a", 3);
    assert_int_equal(at, 5);
}

/* ---- the client and its server ---- */

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

static json_t *ask(const char *names, const char *more)
{
    char spec[512];
    struct kn_target target = {.host = "127.0.0.1", .port = server.port};
    snprintf(spec, sizeof spec, "{\"test\": \"dns\", \"warmup\": 0, \"names\": \"%s\", %s}", names, more);
    return finish_run(start_json(&target, spec));
}

static unsigned figure(json_t *result, const char *path)
{
    return (unsigned)json_integer_value(at(result, path));
}

/* What became of the lookups, and one of the test's own counters. */
static void expect(const char *names, const char *more, unsigned ok, unsigned errors, unsigned timeouts,
                   const char *counter, unsigned value)
{
    char path[64];
    json_t *r = ask(names, more), *ops = json_object_get(json_object_get(r, "metrics"), "ops");
    snprintf(path, sizeof path, "metrics.lookup.%s", counter);
    if (json_integer_value(ops) != ok || figure(r, "metrics.errors") != errors ||
        figure(r, "metrics.timeouts") != timeouts || figure(r, path) != value)
        fail_msg("%s: %s", names, json_dumps(json_object_get(r, "metrics"), 0));
    json_decref(r);
}

static void test_good_answers(void **state)
{
    (void)state;
    expect("ok.test", "\"count\": 10", 10, 0, 0, "queries", 10);
    expect("ok.test", "\"count\": 100, \"burst\": 16, \"flows\": 3", 100, 0, 0, "queries", 100);
    expect("aliases.test", "\"count\": 4", 4, 0, 0, "empty", 0);
    expect("mixed.test", "\"count\": 9", 9, 0, 0, "differing", 0);
    expect("differ.test", "\"count\": 9", 9, 0, 0, "differing", 8);
    expect("truncated.test", "\"count\": 9", 9, 0, 0, "truncated", 9);
    expect("big.test", "\"count\": 3", 3, 0, 0, "oversized", 3);
    expect("big.test", "\"count\": 3, \"edns\": \"4K\"", 3, 0, 0, "oversized", 0);
    expect("twice.test", "\"count\": 9", 9, 0, 0, "unexpected", 0);
}

/* A run of `count` ends with its last answer, or its rate counts a wait in which nothing is asked. The quickest of some
 * runs, since other programs may delay one. */
static void test_a_count_ends_with_its_last_answer(void **state)
{
    double quickest = 1;
    (void)state;
    for (int i = 0; i < 20 && quickest > 0.04; i++) {
        json_t *r = ask("ok.test", "\"count\": 10");
        double took = number_at(r, "metrics.duration_s");
        quickest = took < quickest ? took : quickest;
        json_decref(r);
    }
    assert_true(quickest < 0.04);
}

static void test_errors_of_the_server(void **state)
{
    (void)state;
    expect("servfail.test", "\"count\": 4", 0, 4, 0, "rcodes.SERVFAIL", 4);
    expect("refused.test", "\"count\": 4", 0, 4, 0, "rcodes.REFUSED", 4);
    expect("{ok,refused}.test", "\"count\": 4", 2, 2, 0, "rcodes.REFUSED", 2);
}

static void test_nonsense_is_an_error_at_once(void **state)
{
    static const char *const names[] = {"garbage.test", "query.test", "cut.test", "counts.test", "pointer.test"};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        expect(names[i], "\"count\": 4", 0, 4, 0, "malformed", 4);
    expect("circle.test", "\"count\": 4", 0, 4, 0, "alias_loops", 4);
    expect("endless.test", "\"count\": 4", 0, 4, 0, "alias_loops", 4);
}

/* An answer that is not for the question is an error of its own, and the right one is still awaited. */
static void test_answers_that_nobody_asked_for(void **state)
{
    (void)state;
    expect("wrongid.test", "\"count\": 3, \"timeout\": \"100ms\", \"retries\": 0", 0, 3, 3, "unexpected", 3);
    expect("question.test", "\"count\": 3, \"timeout\": \"100ms\", \"retries\": 0", 0, 3, 3, "unexpected", 3);
    expect("short.test", "\"count\": 3, \"timeout\": \"100ms\", \"retries\": 0", 0, 3, 3, "malformed", 3);
    expect("silent.test", "\"count\": 3, \"timeout\": \"100ms\", \"retries\": 1", 0, 0, 3, "retries", 3);
}

/* The server closes each connection after three answers: nothing is lost by it. */
static void test_tcp(void **state)
{
    (void)state;
    expect("ok.test", "\"count\": 10, \"proto\": \"tcp\"", 10, 0, 0, "reconnects", 3);
    expect("garbage.test", "\"count\": 3, \"proto\": \"tcp\"", 0, 3, 0, "malformed", 3);
    expect("hangup.test", "\"count\": 3, \"proto\": \"tcp\"", 0, 3, 0, "reconnects", 0);
}

static void refused(const char *more, const char *message)
{
    char text[512];
    struct kn_spec spec;
    struct kn_error err;
    snprintf(text, sizeof text, "{\"test\": \"dns\", \"duration\": 1, %s}", more);
    json_t *json = json_loads(text, 0, NULL);
    assert_int_equal(kn_spec_parse(json, &kn_engines, &spec, &err), -1);
    assert_non_null(strstr(err.message, message));
    json_decref(json);
}

static void test_bad_options(void **state)
{
    (void)state;
    refused("\"ip\": 4", "names is required");
    refused("\"names\": \"a..b\"", "names: 'a..b' is not a domain name");
    refused("\"names\": \"a{1..\"", "braces must hold a range or a list");
    refused("\"names\": \"a\", \"type\": \"MX\"", "type");
    refused("\"names\": \"a\", \"burst\": 513", "burst");
    refused("\"names\": \"a\", \"edns\": 100", "edns");
}

/* Nobody listens at the second: its lookups fail, and those of the first go on. */
static void test_two_servers(void **state)
{
    static struct kn_target targets[2];
    struct kn_spec spec;
    struct kn_error err;
    (void)state;
    targets[0] = (struct kn_target){.host = "127.0.0.1", .port = server.port, .name = "live"};
    targets[1] = (struct kn_target){.host = "127.0.0.1", .port = 1, .name = "dead"};
    json_t *json = json_loads("{\"test\": \"dns\", \"names\": \"a.test\", \"flows\": 2, \"count\": 200, \"warmup\": 0}",
                              0, NULL);
    assert_int_equal(kn_spec_parse(json, &kn_engines, &spec, &err), 0);
    struct kn_run *run = kn_run_new_to(&spec, targets, 2, &err);
    assert_non_null(run);
    assert_int_equal(kn_run_start(run, &err), 0);
    json_t *r = finish_run(run);
    assert_ok(r);
    assert_int_equal((int)number_at(r, "metrics.targets.live.ops"), 100);
    assert_int_equal((int)number_at(r, "metrics.targets.dead.ops"), 0);
    assert_int_equal((int)number_at(r, "metrics.targets.dead.connect_errors"), 100);
    assert_int_equal((int)number_at(r, "metrics.targets.live.connect_errors"), 0);
    json_decref(r);
    json_decref(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_on_the_wire),
        cmocka_unit_test(test_addresses_backwards),
        cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_a_count_ends_with_its_last_answer),
        cmocka_unit_test(test_resolv_conf),
        cmocka_unit_test(test_pointers_end),
        cmocka_unit_test(test_good_answers),
        cmocka_unit_test(test_errors_of_the_server),
        cmocka_unit_test(test_nonsense_is_an_error_at_once),
        cmocka_unit_test(test_answers_that_nobody_asked_for),
        cmocka_unit_test(test_tcp),
        cmocka_unit_test(test_bad_options),
        cmocka_unit_test(test_two_servers),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, setup, teardown);
}
