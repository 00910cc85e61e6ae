/* The specification: defaults, limits, refusals that say what to do, and two outer forms that lose nothing. */
#include "check.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/clock.h"
#include "core/spec.h"

static int parse(const char *text, struct kn_spec *spec, struct kn_error *err)
{
    json_t *json = json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    if (!json) fail_msg("the test's own JSON is wrong: %s", text);
    int result = kn_spec_parse(json, spec, err);
    json_decref(json);
    return result;
}

static struct kn_spec parsed(const char *text)
{
    struct kn_spec spec;
    struct kn_error err = { .message = "" };
    if (parse(text, &spec, &err)) fail_msg("%s: %s", text, err.message);
    return spec;
}

static void refused(const char *text, const char *says)
{
    struct kn_spec spec;
    struct kn_error err = { .message = "" };
    if (parse(text, &spec, &err) == 0) fail_msg("%s was taken", text);
    check_refusal(&err, KN_E_ARGUMENT, says);
}

static void defaults(void **state)
{
    static const struct { const char *test; uint64_t size, response, flows, nodelay, timeout_s; } list[] = {
        { "tcp_stream", 131072, 0, 1, 0, 5 }, { "tcp_sendfile", 131072, 0, 1, 0, 5 },
        { "udp_stream", 1400, 0, 1, 0, 5 }, { "tcp_rr", 1, 1, 1, 1, 5 },
        { "udp_rr", 1, 1, 1, 0, 1 }, { "tcp_crr", 1, 1, 1, 1, 5 }, { "tcp_bw", 65536, 0, 1, 0, 5 },
        { "tcp_lat", 1, 1, 1, 1, 5 }, { "http", 0, 0, 100, 1, 5 }, { "ping", 56, 0, 1, 0, 1 },
    };
    (void)state;
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        char text[64];
        snprintf(text, sizeof text, "{\"test\":\"%s\"}", list[i].test);
        struct kn_spec s = parsed(text);
        assert_string_equal(kn_test_name((enum kn_test)s.test), list[i].test);
        assert_int_equal(s.duration_ns, 10 * KN_NS_PER_S);
        assert_int_equal(s.warmup_ns, s.test == KN_PING ? 0 : KN_NS_PER_S);
        assert_int_equal(s.interval_ns, KN_NS_PER_S / 2);
        assert_int_equal(s.size, list[i].size);
        assert_int_equal(s.response_size, list[i].response);
        assert_int_equal(s.flows, list[i].flows);
        assert_int_equal(s.nodelay, list[i].nodelay);
        assert_int_equal(s.timeout_ns, list[i].timeout_s * KN_NS_PER_S);
        assert_false(kn_spec_open_loop(&s));
        assert_int_equal(s.wait, KN_WAIT_BLOCK);
        bool tuned = s.test == KN_TCP_STREAM || s.test == KN_TCP_SENDFILE || s.test == KN_UDP_STREAM || s.test == KN_TCP_BW ||
                     s.test == KN_HTTP;
        assert_int_equal(s.tune, tuned ? KN_TUNE_AUTO : KN_TUNE_PLAIN);
    }
    struct kn_spec http = parsed("{\"test\":\"http\"}"), ping = parsed("{\"test\":\"ping\"}");
    assert_string_equal(http.path, "/");
    assert_int_equal(http.body, 45);
    assert_int_equal(http.keepalive, 1);
    assert_int_equal(ping.every_ns, 200 * KN_NS_PER_MS);
}

static void warmup_follows_the_duration(void **state)
{
    (void)state;
    assert_int_equal(parsed("{\"test\":\"tcp_rr\",\"duration\":\"100ms\"}").warmup_ns, 50 * KN_NS_PER_MS);
    assert_int_equal(parsed("{\"test\":\"tcp_rr\",\"duration\":\"2s\"}").warmup_ns, 200 * KN_NS_PER_MS);
    assert_int_equal(parsed("{\"test\":\"tcp_rr\",\"duration\":\"1h\"}").warmup_ns, KN_NS_PER_S);
    assert_int_equal(parsed("{\"test\":\"tcp_rr\",\"count\":10}").warmup_ns, 100 * KN_NS_PER_MS);
    assert_int_equal(parsed("{\"test\":\"http\",\"count\":1000}").warmup_ns, 0);
    assert_int_equal(parsed("{\"test\":\"tcp_rr\",\"warmup\":0}").warmup_ns, 0);
    /* what is calibrated takes its time */
    assert_int_equal(parsed("{\"test\":\"tcp_stream\",\"duration\":\"2s\"}").warmup_ns, 500 * KN_NS_PER_MS);
    assert_int_equal(parsed("{\"test\":\"tcp_bw\",\"duration\":\"200ms\"}").warmup_ns, 100 * KN_NS_PER_MS);
    assert_int_equal(parsed("{\"test\":\"tcp_sendfile\",\"duration\":\"1h\"}").warmup_ns, KN_NS_PER_S);
    assert_int_equal(parsed("{\"test\":\"tcp_stream\",\"duration\":\"2s\",\"tune\":\"plain\"}").warmup_ns, 200 * KN_NS_PER_MS);
    assert_int_equal(parsed("{\"test\":\"tcp_stream\",\"duration\":\"2s\",\"rate\":\"1G\"}").warmup_ns, 200 * KN_NS_PER_MS);
    assert_int_equal(parsed("{\"test\":\"tcp_stream\",\"duration\":\"2s\",\"warmup\":\"50ms\"}").warmup_ns, 50 * KN_NS_PER_MS);
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
    s = parsed("{\"test\":\"ping\",\"interval\":\"10ms\",\"count\":20}"); /* as ping -i, and not the step of the time series */
    assert_int_equal(s.every_ns, 10 * KN_NS_PER_MS);
    assert_int_equal(s.interval_ns, KN_NS_PER_S);
    s = parsed("{\"test\":\"http\",\"requests\":50}");
    assert_int_equal(s.flows, 50); /* the default of 100 connections would leave half of them idle */
    s = parsed("{\"test\":\"http\",\"requests\":\"100k\",\"connections\":10,\"keepalive\":\"no\"}");
    assert_int_equal(s.count, 100000);
    assert_int_equal(s.flows, 10);
    assert_int_equal(s.keepalive, 0);
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
        kn_spec_open_loop(&(struct kn_spec){ .rate_bps = parsed("{\"test\":\"udp_stream\",\"rate\":0}").rate_bps }));
    assert_int_equal(parsed("{\"test\":\"tcp_lat\",\"size\":\"64K\"}").response_size, 65536);
}

static void keys_that_are_not_there(void **state)
{
    (void)state;
    refused("{\"test\":\"tcp_r\"}", "did you mean \"tcp_rr\"");
    refused("{\"test\":\"quic\"}", "there are tcp_stream");
    refused("{\"duration\":1}", "for example \"tcp_rr\"");
    refused("{\"test\":7}", "for example \"tcp_rr\"");
    refused("[]", "a specification is a table");
    refused("{\"test\":\"tcp_rr\",\"duraton\":1}", "did you mean \"duration\"");
    refused("{\"test\":\"http\",\"request\":1}", "did you mean \"requests\"");
    refused("{\"test\":\"tcp_rr\",\"zebra\":1}", "tcp_rr has no \"zebra\"");
    refused("{\"test\":\"tcp_rr\",\"gso\":true}", "tcp_rr has no \"gso\"; it is for udp_stream");
    refused("{\"test\":\"tcp_stream\",\"gso\":true}", "it is for udp_stream");
    refused("{\"test\":\"tcp_rr\",\"requests\":10}", "tcp_rr has no \"requests\"");
    refused("{\"test\":\"udp_rr\",\"mss\":1000}", "it is for tcp_stream, tcp_sendfile");
    refused("{\"test\":\"http\",\"requests\":5,\"count\":5}", "given too");
    refused("{\"test\":\"http\",\"count\":5,\"requests\":5}", "requests: the same as count");
    refused("{\"test\":\"tcp_rr\",\"\\u001b[31m\\n\":1}", "\"?[31m?\"");
}

static void values_that_make_no_sense(void **state)
{
    (void)state;
    refused("{\"test\":\"tcp_rr\",\"duration\":\"10 parsecs\"}", "duration: \"10 parsecs\" has no unit of time");
    refused("{\"test\":\"tcp_rr\",\"duration\":-1}", "duration: -1 is negative");
    refused("{\"test\":\"tcp_rr\",\"duration\":0}", "leave it out");
    refused("{\"test\":\"tcp_rr\",\"duration\":\"25h\"}",
            "duration: 25h00m is too large; tcp_rr takes 1.00 ms to 24h00m");
    refused("{\"test\":\"tcp_rr\",\"duration\":1e300}", "absurdly large");
    refused("{\"test\":\"tcp_rr\",\"duration\":[1]}", "duration: is a list");
    refused("{\"test\":\"tcp_rr\",\"duration\":null}", "duration: is null");
    refused("{\"test\":\"tcp_rr\",\"size\":1.5}", "size: 1.5 is not a whole number");
    refused("{\"test\":\"tcp_rr\",\"size\":0}", "size: 0 is too small; tcp_rr takes 1 to 1073741824");
    refused("{\"test\":\"udp_stream\",\"size\":\"64K\"}", "udp_stream takes 1 to 65507");
    refused("{\"test\":\"ping\",\"size\":8}", "ping takes 16 to 65507");
    refused("{\"test\":\"udp_rr\",\"response\":70000}", "response: 70000 is too large");
    refused("{\"test\":\"tcp_stream\",\"mss\":20}", "mss: 20 is too small; tcp_stream takes 88 to 32767");
    refused("{\"test\":\"tcp_rr\",\"flows\":100000}", "flows: 100000 is too large");
    refused("{\"test\":\"tcp_rr\",\"flows\":true}", "flows: is true");
    refused("{\"test\":\"tcp_rr\",\"ip\":5}", "4 and 6");
    refused("{\"test\":\"tcp_rr\",\"wait\":\"forever\"}", "wait: \"forever\" is none of block, auto, spin");
    refused("{\"test\":\"tcp_rr\",\"wait\":1}", "block, auto, spin is wanted");
    refused("{\"test\":\"tcp_rr\",\"nodelay\":\"maybe\"}", "neither true nor false");
    refused("{\"test\":\"tcp_rr\",\"nodelay\":2}", "true or false is wanted");
    refused("{\"test\":\"tcp_stream\",\"cc\":\"a-name-that-is-too-long\"}", "longer than 15");
    refused("{\"test\":\"tcp_stream\",\"cc\":\"a b\"}", "cannot be sent");
    refused("{\"test\":\"http\",\"path\":\"/a\\r\\nHost: x\"}", "cannot be sent");
    refused("{\"test\":\"http\",\"path\":\"/a\\u0000b\"}", "NUL");
    refused("{\"test\":\"http\",\"path\":\"index.html\"}", "path: does not begin with \"/\"");
    refused("{\"test\":\"http\",\"path\":7}", "path: is a number; a text is wanted");
}

static void keys_that_exclude_each_other(void **state)
{
    (void)state;
    refused("{\"test\":\"tcp_stream\",\"reverse\":true,\"bidir\":true}", "reverse and bidir");
    refused("{\"test\":\"tcp_rr\",\"rate\":\"1Gbit/s\"}",
            "rate: \"1Gbit/s\" is in bits; tcp_rr takes requests a second, for example \"20k/s\"");
    refused("{\"test\":\"tcp_stream\",\"rate\":\"20k/s\"}", "for example \"1Gbit/s\"");
    refused("{\"test\":\"tcp_bw\",\"rate\":\"20k/s\"}", "tcp_bw has no \"rate\"");
    refused("{\"test\":\"tcp_rr\",\"rate\":true}", "rate: is true");
    refused("{\"test\":\"tcp_rr\",\"rate\":-5}", "negative");
    refused("{\"test\":\"tcp_rr\",\"rate\":\"5G/s\"}", "fast");
    refused("{\"test\":\"tcp_rr\",\"rate\":1e10}", "fast");
    refused("{\"test\":\"http\",\"requests\":10,\"connections\":20}", "flows: 20 are more than the count of 10");
    refused("{\"test\":\"http\",\"external\":true,\"body\":100}", "body cannot be asked");
    refused("{\"test\":\"http\",\"external\":true,\"delay\":\"1ms\"}", "delay cannot be asked");
}

/* A value for each kind of key that no test has as its default. */
static json_t *some_value(const struct kn_spec_field *f, enum kn_test test)
{
    uint64_t least, most;
    kn_spec_limits(f, test, &least, &most);
    switch (f->kind) {
    case KN_FIELD_DURATION: return json_real(0.0123);
    case KN_FIELD_RATE: return test <= KN_UDP_STREAM ? json_string("123456789bit/s") : json_string("1234.567/s");
    case KN_FIELD_FLAG: return json_true();
    case KN_FIELD_CHOICE: return json_string(f->choices[1]);
    case KN_FIELD_TEXT: return json_string("/some");
    default: return json_integer((json_int_t)(strcmp(f->name, "count") == 0 ? 123456 : least));
    }
}

static void check_forms(const struct kn_spec *spec)
{
    struct kn_spec again;
    struct kn_error err = { .message = "" };
    size_t size = kn_spec_wire_size();
    uint8_t *wire = malloc(size);
    json_t *json = kn_spec_to_json(spec);
    if (kn_spec_parse(json, &again, &err)) fail_msg("%s", err.message);
    assert_memory_equal(spec, &again, sizeof again);
    kn_spec_pack(spec, wire);
    if (kn_spec_unpack(wire, size, &again, &err)) fail_msg("%s", err.message);
    assert_memory_equal(spec, &again, sizeof again);
    assert_int_equal(kn_spec_unpack(wire, size - 1, &again, &err), -1);
    check_refusal(&err, KN_E_PROTOCOL, "bytes instead of");
    json_decref(json);
    free(wire);
}

static void every_key_of_every_test_survives(void **state)
{
    size_t n;
    const struct kn_spec_field *fields = kn_spec_fields(&n);
    (void)state;
    for (unsigned t = 0; t < KN_TEST_COUNT; t++)
        for (size_t i = 0; i < n; i++) {
            if (!(fields[i].tests >> t & 1)) continue;
            json_t *json = json_pack("{s:s,s:o}", "test", kn_test_name((enum kn_test)t), fields[i].name,
                                     some_value(&fields[i], (enum kn_test)t));
            struct kn_spec spec;
            struct kn_error err = { .message = "" };
            if (kn_spec_parse(json, &spec, &err))
                fail_msg("%s.%s: %s", kn_test_name((enum kn_test)t), fields[i].name, err.message);
            check_forms(&spec);
            json_decref(json);
        }
    struct kn_spec external =
        parsed("{\"test\":\"http\",\"external\":true,\"host\":\"a.example:80\",\"path\":\"/f?x=1\"}");
    check_forms(&external);
}

/* The members of the struct and the rows of the table are one to one: what is in no row would not travel. */
static void the_table_covers_the_struct(void **state)
{
    size_t n, covered = sizeof(uint64_t);
    const struct kn_spec_field *fields = kn_spec_fields(&n);
    (void)state;
    assert_true(n <= 64);
    for (size_t i = 0; i < n; i++) {
        covered += fields[i].size;
        assert_true(fields[i].tests != 0 && fields[i].help && *fields[i].help && fields[i].least <= fields[i].most);
        for (size_t k = 0; k < i; k++) {
            assert_string_not_equal(fields[i].name, fields[k].name);
            assert_true(fields[i].offset >= fields[k].offset + fields[k].size ||
                        fields[k].offset >= fields[i].offset + fields[i].size);
        }
    }
    assert_int_equal(covered, sizeof(struct kn_spec));
    assert_int_equal(kn_spec_wire_size(), covered);
}

static void hostile_wire(void **state)
{
    static const struct { size_t at; uint64_t value; const char *says; } list[] = {
        { 0, 10, "test" }, { 0, UINT64_MAX, "test" }, { offsetof(struct kn_spec, flows), 0, "flows" },
        { offsetof(struct kn_spec, size), UINT64_MAX, "size" },
        { offsetof(struct kn_spec, gso), 1, "gso" }, { offsetof(struct kn_spec, nodelay), 2, "nodelay" },
        { offsetof(struct kn_spec, wait), 3, "wait" },
        { offsetof(struct kn_spec, duration_ns), 0, "duration" }, { offsetof(struct kn_spec, rate_bps), 1, "rate" },
        { offsetof(struct kn_spec, rate_per_1000s), UINT64_MAX, "rate" },
        { offsetof(struct kn_spec, cc), 0x2020202020202020, "cc" },
        { offsetof(struct kn_spec, path), 'x', "path" }, { offsetof(struct kn_spec, count), UINT64_MAX, "count" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        struct kn_spec spec = parsed("{\"test\":\"tcp_rr\"}"), again;
        struct kn_error err = { .message = "" };
        uint8_t wire[1024];
        memcpy((char *)&spec + list[i].at, &list[i].value, 8);
        kn_spec_pack(&spec, wire);
        assert_int_equal(kn_spec_unpack(wire, kn_spec_wire_size(), &again, &err), -1);
        check_refusal(&err, KN_E_ARGUMENT, list[i].says);
    }
    struct kn_spec ping = parsed("{\"test\":\"ping\"}"), lat = parsed("{\"test\":\"tcp_lat\",\"size\":64}");
    struct kn_error why = { .message = "" };
    ping.flows = 0; /* was taken once, and came back from JSON as 1 */
    assert_int_equal(kn_spec_check(&ping, &why), -1);
    check_refusal(&why, KN_E_ARGUMENT, "flows");
    lat.response_size = 1;
    assert_int_equal(kn_spec_check(&lat, &why), -1);
    check_refusal(&why, KN_E_ARGUMENT, "response");
    struct kn_spec endless = parsed("{\"test\":\"http\"}");
    struct kn_error err = { .message = "" };
    memset(endless.path, '/', sizeof endless.path);
    assert_int_equal(kn_spec_check(&endless, &err), -1);
    check_refusal(&err, KN_E_ARGUMENT, "has no end");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults), cmocka_unit_test(warmup_follows_the_duration), cmocka_unit_test(count_and_duration),
        cmocka_unit_test(values_of_every_kind), cmocka_unit_test(keys_that_are_not_there),
        cmocka_unit_test(values_that_make_no_sense),
        cmocka_unit_test(keys_that_exclude_each_other), cmocka_unit_test(every_key_of_every_test_survives),
        cmocka_unit_test(the_table_covers_the_struct), cmocka_unit_test(hostile_wire),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
