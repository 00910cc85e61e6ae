/* The specification: defaults, limits, refusals that say what to do, and two outer forms that lose nothing. */
#include "../core/check.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/clock.h"
#include "core/spec.h"
#include "engines/engines.h"
#include "engines/http/options.h"

static int parse(const char *text, struct kn_spec *spec, struct kn_error *err)
{
    json_t *json = json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    if (!json)
        fail_msg("the test's own JSON is wrong: %s", text);
    int result = kn_spec_parse(json, &kn_engines, spec, err);
    json_decref(json);
    return result;
}

static struct kn_spec parsed(const char *text)
{
    struct kn_spec spec;
    struct kn_error err = {.message = ""};
    if (parse(text, &spec, &err))
        fail_msg("%s: %s", text, err.message);
    return spec;
}

static void refused(const char *text, const char *says)
{
    struct kn_spec spec;
    struct kn_error err = {.message = ""};
    if (parse(text, &spec, &err) == 0)
        fail_msg("%s was taken", text);
    check_refusal(&err, KN_E_ARGUMENT, says);
}

static void defaults(void **state)
{
    static const struct {
        const char *test;
        uint64_t size, response, flows, nodelay, timeout_s;
    } list[] = {
        {"tcp_stream", 131072, 0, 1, 0, 5}, {"tcp_sendfile", 131072, 0, 1, 0, 5},
        {"udp_stream", 1400, 0, 1, 0, 5},   {"tcp_rr", 1, 1, 1, 1, 5},
        {"udp_rr", 1, 1, 1, 0, 1},          {"tcp_crr", 1, 1, 1, 1, 5},
        {"tcp_bw", 65536, 0, 1, 0, 5},      {"tcp_lat", 1, 1, 1, 1, 5},
        {"http", 0, 0, 100, 1, 5},          {"ping", 56, 0, 1, 0, 1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        char text[64];
        snprintf(text, sizeof text, "{\"test\":\"%s\"}", list[i].test);
        struct kn_spec s = parsed(text);
        assert_string_equal(s.test->name, list[i].test);
        assert_int_equal(s.duration_ns, 10 * KN_NS_PER_S);
        assert_int_equal(s.warmup_ns, s.test == &kn_ping ? 0 : KN_NS_PER_S);
        assert_int_equal(s.interval_ns, KN_NS_PER_S / 2);
        assert_int_equal(s.size, list[i].size);
        assert_int_equal(s.response_size, list[i].response);
        assert_int_equal(s.flows, list[i].flows);
        assert_int_equal(s.nodelay, list[i].nodelay);
        assert_int_equal(s.timeout_ns, list[i].timeout_s * KN_NS_PER_S);
        assert_false(kn_spec_open_loop(&s));
        assert_int_equal(s.wait, KN_WAIT_BLOCK);
        bool tuned = s.test == &kn_tcp_stream || s.test == &kn_tcp_sendfile || s.test == &kn_udp_stream ||
                     s.test == &kn_tcp_bw || s.test == &kn_http;
        assert_int_equal(s.tune, tuned ? KN_TUNE_AUTO : KN_TUNE_PLAIN);
    }
    struct kn_spec http = parsed("{\"test\":\"http\"}"), ping = parsed("{\"test\":\"ping\"}");
    assert_string_equal(kn_http_path(&http), "/");
    assert_int_equal(kn_http_body(&http), 45);
    assert_true(kn_http_keepalive(&http));
    assert_int_equal(ping.own[0], 200 * KN_NS_PER_MS);
}

static void warmup_follows_the_duration(void **state)
{
    (void)state;
    assert_int_equal(parsed("{\"test\":\"tcp_rr\",\"duration\":\"10ms\"}").warmup_ns, 50 * KN_NS_PER_MS);
    assert_int_equal(parsed("{\"test\":\"tcp_rr\",\"duration\":\"70ms\"}").warmup_ns, 70 * KN_NS_PER_MS);
    assert_int_equal(parsed("{\"test\":\"tcp_rr\",\"duration\":\"100ms\"}").warmup_ns, 100 * KN_NS_PER_MS);
    assert_int_equal(parsed("{\"test\":\"tcp_rr\",\"duration\":\"2s\"}").warmup_ns, 200 * KN_NS_PER_MS);
    assert_int_equal(parsed("{\"test\":\"tcp_rr\",\"duration\":\"1h\"}").warmup_ns, KN_NS_PER_S);
    assert_int_equal(parsed("{\"test\":\"tcp_rr\",\"count\":10}").warmup_ns, 100 * KN_NS_PER_MS);
    assert_int_equal(parsed("{\"test\":\"http\",\"count\":1000}").warmup_ns, 0);
    assert_int_equal(parsed("{\"test\":\"tcp_rr\",\"warmup\":0}").warmup_ns, 0);
    /* also where the warm-up calibrates */
    assert_int_equal(parsed("{\"test\":\"tcp_stream\",\"duration\":\"2s\"}").warmup_ns, 200 * KN_NS_PER_MS);
    assert_int_equal(parsed("{\"test\":\"tcp_bw\",\"duration\":\"200ms\"}").warmup_ns, 100 * KN_NS_PER_MS);
    assert_int_equal(parsed("{\"test\":\"tcp_sendfile\",\"duration\":\"1h\"}").warmup_ns, KN_NS_PER_S);
    assert_int_equal(parsed("{\"test\":\"tcp_stream\",\"duration\":\"2s\",\"warmup\":\"50ms\"}").warmup_ns,
                     50 * KN_NS_PER_MS);
    assert_int_equal(parsed("{\"test\":\"tcp_rr\",\"warmup\":\"3s\"}").warmup_ns, 3 * KN_NS_PER_S);
}

static void count_and_duration(void **state)
{
    struct kn_spec s;
    (void)state;
    s = parsed("{\"test\":\"tcp_rr\",\"count\":\"20k\"}");
    assert_int_equal(s.count, 20000);
    assert_int_equal(s.duration_ns, 0);
    s = parsed("{\"test\":\"tcp_rr\",\"count\":20000,\"duration\":2}");
    assert_int_equal(s.count, 20000);
    assert_int_equal(s.duration_ns, 2 * KN_NS_PER_S);
    s = parsed(
        "{\"test\":\"ping\",\"interval\":\"10ms\",\"count\":20}"); /* as ping -i, and not the step of the time series */
    assert_int_equal(s.own[0], 10 * KN_NS_PER_MS);
    assert_int_equal(s.interval_ns, KN_NS_PER_S);
    s = parsed("{\"test\":\"http\",\"requests\":50}");
    assert_int_equal(s.flows, 50); /* the default of 100 connections would leave half of them idle */
    s = parsed("{\"test\":\"http\",\"requests\":\"100k\",\"connections\":10,\"keepalive\":\"no\"}");
    assert_int_equal(s.count, 100000);
    assert_int_equal(s.flows, 10);
    assert_false(kn_http_keepalive(&s));
}

static void values_of_every_kind(void **state)
{
    struct kn_spec s;
    (void)state;
    s = parsed(
        "{\"test\":\"tcp_rr\",\"duration\":0.25,\"size\":\"4K\",\"response\":1024.0,\"burst\":\"16\",\"rate\":\"20k/"
        "s\",\"wait\":\"auto\",\"nodelay\":false,"
        "\"ip\":6,\"mss\":1000,\"cc\":\"cubic\",\"delay\":\"2ms\",\"threads\":2,\"sndbuf\":\"1M\",\"tune\":\"auto\"}");
    assert_int_equal(s.duration_ns, 250 * KN_NS_PER_MS);
    assert_int_equal(s.size, 4096);
    assert_int_equal(s.response_size, 1024);
    assert_int_equal(s.burst, 16);
    assert_int_equal(s.rate_per_1000s, 20000000);
    assert_int_equal(s.wait, KN_WAIT_AUTO);
    assert_int_equal(s.nodelay, 0);
    assert_int_equal(s.ip, 6);
    assert_string_equal(s.cc, "cubic");
    assert_int_equal(s.delay_ns, 2 * KN_NS_PER_MS);
    assert_true(kn_spec_open_loop(&s));
    assert_int_equal(parsed("{\"test\":\"tcp_rr\",\"rate\":0.5}").rate_per_1000s, 500);
    assert_int_equal(parsed("{\"test\":\"tcp_stream\",\"rate\":1000000}").rate_bps, 1000000);
    assert_int_equal(parsed("{\"test\":\"udp_stream\",\"rate\":\"1Gbit/s\"}").rate_bps, 1000000000);
    assert_int_equal(parsed("{\"test\":\"udp_stream\",\"rate\":\"5k/s\"}").rate_per_1000s, 5000000);
    assert_false(
        kn_spec_open_loop(&(struct kn_spec){.rate_bps = parsed("{\"test\":\"udp_stream\",\"rate\":0}").rate_bps}));
    assert_int_equal(parsed("{\"test\":\"tcp_lat\",\"size\":\"64K\"}").response_size, 65536);
}

static void keys_that_are_not_there(void **state)
{
    (void)state;
    refused("{\"test\":\"tcp_r\"}", "did you mean \"tcp_rr\"");
    refused("{\"test\":\"quic\"}", "expected one of tcp_stream");
    refused("{\"duration\":1}", "for example \"tcp_rr\"");
    refused("{\"test\":7}", "for example \"tcp_rr\"");
    refused("[]", "must be an object");
    refused("{\"test\":\"tcp_rr\",\"duraton\":1}", "did you mean \"duration\"");
    refused("{\"test\":\"http\",\"request\":1}", "did you mean \"requests\"");
    refused("{\"test\":\"tcp_rr\",\"zebra\":1}", "tcp_rr has no option \"zebra\"");
    refused("{\"test\":\"tcp_rr\",\"gso\":true}", "option gso does not apply to tcp_rr; it is for udp_stream");
    refused("{\"test\":\"tcp_stream\",\"gso\":true}", "it is for udp_stream");
    refused("{\"test\":\"tcp_rr\",\"requests\":10}", "tcp_rr has no option \"requests\"");
    refused("{\"test\":\"udp_rr\",\"mss\":1000}", "it is for tcp_stream, tcp_sendfile");
    refused("{\"test\":\"http\",\"requests\":5,\"count\":5}", "given twice");
    refused("{\"test\":\"http\",\"count\":5,\"requests\":5}", "requests: given twice, also as count");
    refused("{\"test\":\"tcp_rr\",\"\\u001b[31m\\n\":1}", "\"?[31m?\"");
}

static void values_that_make_no_sense(void **state)
{
    (void)state;
    refused("{\"test\":\"tcp_rr\",\"duration\":\"10 parsecs\"}", "duration: \"10 parsecs\" has no valid unit of time");
    refused("{\"test\":\"tcp_rr\",\"duration\":-1}", "duration: -1 is negative");
    refused("{\"test\":\"tcp_rr\",\"duration\":0}", "leave it out");
    refused("{\"test\":\"tcp_rr\",\"duration\":\"25h\"}",
            "duration: 25h00m is too large; tcp_rr takes 1.00 ms to 24h00m");
    refused("{\"test\":\"tcp_rr\",\"duration\":1e300}", "too large");
    refused("{\"test\":\"tcp_rr\",\"duration\":[1]}", "got a list");
    refused("{\"test\":\"tcp_rr\",\"duration\":null}", "got null");
    refused("{\"test\":\"tcp_rr\",\"size\":1.5}", "size: 1.5 is not a whole number");
    refused("{\"test\":\"tcp_rr\",\"size\":0}", "size: 0 is too small; tcp_rr takes 1 to 1073741824");
    refused("{\"test\":\"udp_stream\",\"size\":\"64K\"}", "udp_stream takes 1 to 65507");
    refused("{\"test\":\"ping\",\"size\":8}", "ping takes 16 to 65507");
    refused("{\"test\":\"udp_rr\",\"response\":70000}", "response: 70000 is too large");
    refused("{\"test\":\"tcp_stream\",\"mss\":20}", "mss: 20 is too small; tcp_stream takes 88 to 32767");
    refused("{\"test\":\"tcp_rr\",\"flows\":100000}", "flows: 100000 is too large");
    refused("{\"test\":\"tcp_rr\",\"flows\":true}", "flows: expected a number such as 100000 or \"20k\", got true");
    refused("{\"test\":\"tcp_rr\",\"ip\":5}", "ip must be 4 or 6, got 5");
    refused("{\"test\":\"tcp_rr\",\"wait\":\"forever\"}", "wait: expected one of block, auto, spin, got \"forever\"");
    refused("{\"test\":\"tcp_rr\",\"wait\":1}", "expected block, auto, spin, got a number");
    refused("{\"test\":\"tcp_rr\",\"nodelay\":\"maybe\"}", "expected true or false, got \"maybe\"");
    refused("{\"test\":\"tcp_rr\",\"nodelay\":2}", "expected true or false, got a number");
    refused("{\"test\":\"tcp_stream\",\"cc\":\"a-name-that-is-too-long\"}", "longer than 15");
    refused("{\"test\":\"tcp_stream\",\"cc\":\"a b\"}", "must be printable ASCII without spaces");
    refused("{\"test\":\"http\",\"path\":\"/a\\r\\nHost: x\"}", "must be printable ASCII without spaces");
    refused("{\"test\":\"http\",\"path\":\"/a\\u0000b\"}", "NUL");
    refused("{\"test\":\"http\",\"path\":\"index.html\"}", "path must begin with \"/\"");
    refused("{\"test\":\"http\",\"path\":7}", "path: expected a string, got a number");
}

static void keys_that_exclude_each_other(void **state)
{
    (void)state;
    refused("{\"test\":\"tcp_stream\",\"reverse\":true,\"bidir\":true}", "reverse and bidir");
    refused("{\"test\":\"tcp_rr\",\"rate\":\"1Gbit/s\"}",
            "rate: \"1Gbit/s\" is in bits; tcp_rr takes requests a second, for example \"20k/s\"");
    refused("{\"test\":\"tcp_stream\",\"rate\":\"20k/s\"}", "for example \"1Gbit/s\"");
    refused("{\"test\":\"tcp_bw\",\"rate\":\"20k/s\"}", "option rate does not apply to tcp_bw");
    refused("{\"test\":\"tcp_rr\",\"rate\":true}", "got true");
    refused("{\"test\":\"tcp_rr\",\"rate\":-5}", "negative");
    refused("{\"test\":\"tcp_rr\",\"rate\":\"5G/s\"}", "is too large");
    refused("{\"test\":\"tcp_rr\",\"rate\":1e10}", "rate must be at most 1 G/s");
    refused("{\"test\":\"http\",\"requests\":10,\"connections\":20}", "flows: 20 flows cannot share a count of 10");
    refused("{\"test\":\"http\",\"external\":true,\"body\":100}", "option body does not apply");
    refused("{\"test\":\"http\",\"external\":true,\"delay\":\"1ms\"}", "option delay does not apply");
}

/* A value for each kind of option that no test has as its default. */
static json_t *some_value(const struct kn_spec_option *o, const struct kn_test *test)
{
    uint64_t least, most;
    kn_test_limits(test, o, &least, &most);
    switch (o->kind) {
    case KN_KIND_DURATION: return json_real(0.0123);
    case KN_KIND_RATE: return test->rate == KN_RATE_EVENTS ? json_string("1234.567/s") : json_string("123456789bit/s");
    case KN_KIND_FLAG: return json_true();
    case KN_KIND_CHOICE: return json_string(o->choices[1]);
    case KN_KIND_TEXT: return json_string(strstr(o->name, "cpus") ? "0" : "/some");
    default: return json_integer((json_int_t)(strcmp(o->name, "count") == 0 ? 123456 : least));
    }
}

static void check_forms(const struct kn_spec *spec)
{
    struct kn_spec again;
    struct kn_error err = {.message = ""};
    size_t size = kn_spec_wire_size();
    uint8_t *wire = malloc(size);
    json_t *json = kn_spec_to_json(spec);
    if (kn_spec_parse(json, &kn_engines, &again, &err))
        fail_msg("%s", err.message);
    assert_memory_equal(spec, &again, sizeof again);
    kn_spec_pack(spec, wire);
    if (kn_spec_unpack(wire, size, &kn_engines, &again, &err))
        fail_msg("%s", err.message);
    assert_memory_equal(spec, &again, sizeof again);
    assert_int_equal(kn_spec_unpack(wire, size - 1, &kn_engines, &again, &err), -1);
    check_refusal(&err, KN_E_PROTOCOL, "a specification must have");
    json_decref(json);
    free(wire);
}

static void check_option_of(const struct kn_test *test, const struct kn_spec_option *option)
{
    json_t *json = json_pack("{s:s,s:o}", "test", test->name, option->name, some_value(option, test));
    struct kn_spec spec;
    if (test == &kn_dns && !json_object_get(json, "names")) /* which it requires */
        json_object_set_new(json, "names", json_string("a.test"));
    if (strcmp(option->name, "tls") == 0 || strcmp(option->name, "http2") == 0) /* an agent serves neither */
        json_object_set_new(json, "external", json_true());
    struct kn_error err = {.message = ""};
    if (kn_spec_parse(json, &kn_engines, &spec, &err))
        fail_msg("%s.%s: %s", test->name, option->name, err.message);
    check_forms(&spec);
    json_decref(json);
}

static void every_option_of_every_test_survives(void **state)
{
    (void)state;
    for (const struct kn_test *const *t = kn_engines.tests; *t; t++) {
        const struct kn_spec_option *option;
        for (unsigned i = 0; (option = kn_test_option(*t, i)); i++)
            if (kn_test_has(*t, option))
                check_option_of(*t, option);
    }
    struct kn_spec external = parsed(
        "{\"test\":\"http\",\"external\":true,\"host\":\"a.example:80\",\"path\":\"/f?x=1\"}");
    check_forms(&external);
}

/* Every option of a test is described, and no two of them share a place or a name. */
static void options_do_not_overlap(void **state)
{
    (void)state;
    for (const struct kn_test *const *t = kn_engines.tests; *t; t++) {
        const struct kn_spec_option *a, *b;
        for (unsigned i = 0; (a = kn_test_option(*t, i)); i++) {
            assert_true(i < 64 && a->help && *a->help && a->least <= a->most);
            assert_true(a->offset >= sizeof(void *) && a->offset + a->size <= sizeof(struct kn_spec));
            for (unsigned k = 0; k < i; k++) {
                b = kn_test_option(*t, k);
                assert_string_not_equal(a->name, b->name);
                assert_true(a->offset >= b->offset + b->size || b->offset >= a->offset + a->size);
            }
        }
    }
}

/* A descriptor without what the rest of the program reads would show as an empty table or a crash. */
static void descriptors_are_complete(void **state)
{
    (void)state;
    for (const struct kn_test *const *t = kn_engines.tests; *t; t++) {
        assert_true(strlen((*t)->name) < KN_TEST_NAME_MAX);
        assert_true((*t)->help && (*t)->headline && (*t)->columns && *(*t)->columns && (*t)->compared && (*t)->client);
        assert_true(!(*t)->is_short == !(*t)->serve_short && !(*t)->is_short == !(*t)->serve_once);
    }
}

static void hostile_wire(void **state)
{
    static const struct {
        size_t at;
        uint64_t value;
        const char *says;
    } list[] = {
        {offsetof(struct kn_spec, flows), 0, "flows"},
        {offsetof(struct kn_spec, size), UINT64_MAX, "size"},
        {offsetof(struct kn_spec, reverse), 1, "reverse"},
        {offsetof(struct kn_spec, own[0]), 1, "an unused option is set"},
        {offsetof(struct kn_spec, nodelay), 2, "nodelay"},
        {offsetof(struct kn_spec, wait), 3, "wait"},
        {offsetof(struct kn_spec, duration_ns), 0, "duration"},
        {offsetof(struct kn_spec, rate_bps), 1, "rate"},
        {offsetof(struct kn_spec, rate_per_1000s), UINT64_MAX, "rate"},
        {offsetof(struct kn_spec, cc), 0x2020202020202020, "cc"},
        {offsetof(struct kn_spec, text[0]), 'x', "an unused option is set"},
        {offsetof(struct kn_spec, count), UINT64_MAX, "count"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        struct kn_spec spec = parsed("{\"test\":\"tcp_rr\"}"), again;
        struct kn_error err = {.message = ""};
        uint8_t wire[2048];
        memcpy((char *)&spec + list[i].at, &list[i].value, 8);
        kn_spec_pack(&spec, wire);
        assert_int_equal(kn_spec_unpack(wire, kn_spec_wire_size(), &kn_engines, &again, &err), -1);
        check_refusal(&err, KN_E_ARGUMENT, list[i].says);
    }
    struct kn_spec named = parsed("{\"test\":\"tcp_rr\"}"), back;
    struct kn_error unknown = {.message = ""};
    uint8_t name[2048];
    kn_spec_pack(&named, name);
    name[0] = 'x';
    assert_int_equal(kn_spec_unpack(name, kn_spec_wire_size(), &kn_engines, &back, &unknown), -1);
    check_refusal(&unknown, KN_E_ARGUMENT, "unknown test");
    kn_spec_pack(&named, name);
    name[KN_TEST_NAME_MAX - 1] = 'x';
    assert_int_equal(kn_spec_unpack(name, kn_spec_wire_size(), &kn_engines, &back, &unknown), -1);
    struct kn_spec ping = parsed("{\"test\":\"ping\"}"), lat = parsed("{\"test\":\"tcp_lat\",\"size\":64}");
    struct kn_error why = {.message = ""};
    ping.flows = 0; /* was taken once, and came back from JSON as 1 */
    assert_int_equal(kn_spec_check(&ping, &why), -1);
    check_refusal(&why, KN_E_ARGUMENT, "flows");
    lat.response_size = 1;
    assert_int_equal(kn_spec_check(&lat, &why), -1);
    check_refusal(&why, KN_E_ARGUMENT, "response");
    struct kn_spec endless = parsed("{\"test\":\"http\"}");
    struct kn_error err = {.message = ""};
    memset(endless.text[0], '/', sizeof endless.text[0]);
    assert_int_equal(kn_spec_check(&endless, &err), -1);
    check_refusal(&err, KN_E_ARGUMENT, "not NUL-terminated");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),
        cmocka_unit_test(warmup_follows_the_duration),
        cmocka_unit_test(count_and_duration),
        cmocka_unit_test(values_of_every_kind),
        cmocka_unit_test(keys_that_are_not_there),
        cmocka_unit_test(values_that_make_no_sense),
        cmocka_unit_test(keys_that_exclude_each_other),
        cmocka_unit_test(every_option_of_every_test_survives),
        cmocka_unit_test(options_do_not_overlap),
        cmocka_unit_test(descriptors_are_complete),
        cmocka_unit_test(hostile_wire),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
