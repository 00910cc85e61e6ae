/* Errors: codes and names, the kernel's reasons, context, and messages that stay one line of UTF-8. */
#include "check.h"

#include <stdio.h>

#include "core/clock.h"
#include "core/json.h"

static void codes_have_names(void **state)
{
    (void)state;
    for (unsigned i = 0; i < KN_E_COUNT; i++) {
        assert_non_null(kn_code_name((enum kn_code)i));
        assert_int_equal(kn_code_from_name(kn_code_name((enum kn_code)i)), i);
    }
    assert_string_equal(kn_code_name(KN_E_NO_DATA), "no_data");
    assert_string_equal(kn_code_name((enum kn_code)999), "system");
    assert_int_equal(kn_code_from_name("no such thing"), KN_E_SYSTEM);
}

static void the_kernels_reason(void **state)
{
    struct kn_error err;
    (void)state;
    errno = ECONNREFUSED;
    assert_int_equal(kn_fail_errno(&err, "connect to %s", "10.0.0.1"), -1);
    assert_int_equal(err.code, KN_E_REFUSED);
    assert_int_equal(err.sys_errno, ECONNREFUSED);
    assert_string_equal(err.message, "connect to 10.0.0.1: Connection refused");
    assert_int_equal(kn_code_from_errno(EACCES), KN_E_PERMISSION);
    assert_int_equal(kn_code_from_errno(EADDRINUSE), KN_E_IN_USE);
    assert_int_equal(kn_code_from_errno(ENETUNREACH), KN_E_UNREACHABLE);
    assert_int_equal(kn_code_from_errno(EINTR), KN_E_INTERRUPTED);
    assert_int_equal(kn_code_from_errno(EIO), KN_E_SYSTEM);
}

static void context_comes_first(void **state)
{
    struct kn_error err;
    char whole[600];
    (void)state;
    kn_fail(&err, KN_E_ARGUMENT, "bad");
    kn_error_context(&err, "line %d", 3);
    assert_string_equal(err.message, "line 3: bad");
    assert_int_equal(err.code, KN_E_ARGUMENT);
    memset(whole, 'x', sizeof whole - 1);
    whole[sizeof whole - 1] = 0;
    kn_fail(&err, KN_E_ARGUMENT, "%s", whole);
    assert_int_equal(strlen(err.message), sizeof err.message - 1);
    kn_error_context(&err, "c");
    assert_int_equal(strlen(err.message), sizeof err.message - 1);
    assert_int_equal(strncmp(err.message, "c: xxx", 6), 0);
    kn_error_context(&err, "%s", whole);
    assert_int_equal(strlen(err.message), sizeof err.message - 1);
    errno = EIO;
    kn_fail_errno(&err, "%s", whole);
    assert_int_equal(strlen(err.message), sizeof err.message - 1);
}

/* Whatever goes in, jansson takes the message: it refuses broken UTF-8, and the error would be lost with it. */
static void messages_are_always_utf8(void **state)
{
    static const char pieces[] = "\xe2\x82\xac\xc3\xb6\xf0\x9f\x98\x80\xed\xa0";
    struct random r = {11};
    struct kn_error err;
    char bytes[700], quoted[KN_QUOTE_MAX];
    (void)state;
    for (int round = 0; round < 5000; round++) {
        size_t n = random_next(&r) % sizeof bytes;
        for (size_t i = 0; i < n; i++)
            bytes[i] = random_next(&r) % 3 ? (char)random_next(&r) : pieces[random_next(&r) % (sizeof pieces - 1)];
        bytes[n ? n - 1 : 0] = 0;
        kn_fail(&err, KN_E_ARGUMENT, "%s", bytes);
        kn_error_context(&err, "%s", kn_quote(quoted, bytes));
        if (*err.message)
            check_refusal(&err, KN_E_ARGUMENT, NULL);
        assert_true(strlen(quoted) < KN_QUOTE_MAX && quoted[0] == '"' && quoted[strlen(quoted) - 1] == '"');
    }
    for (size_t pad = 500; pad < 512; pad++) { /* a sequence across the cut */
        memset(bytes, 'a', pad);
        strcpy(bytes + pad, "€€€€€€€€");
        kn_fail(&err, KN_E_ARGUMENT, "%s", bytes);
        check_refusal(&err, KN_E_ARGUMENT, NULL);
    }
    kn_fail(&err, KN_E_ARGUMENT, "a\nb\tc\033[0m µ");
    assert_string_equal(err.message, "a b c [0m µ");
}

static void quotes(void **state)
{
    char quoted[KN_QUOTE_MAX];
    (void)state;
    assert_string_equal(kn_quote(quoted, "10 µs"), "\"10 µs\"");
    assert_string_equal(kn_quote(quoted, ""), "\"\"");
    assert_string_equal(kn_quote(quoted, "a\nb\xff"), "\"a?b?\"");
    assert_string_equal(kn_quote(quoted, "\xc0\x80 \xed\xa0\x80"), "\"?? ???\"");
    kn_quote(quoted,
             "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789");
    assert_non_null(strstr(quoted, "…\""));
}

static void whole_numbers_in_json(void **state)
{
    static const uint64_t list[] = {0, 1, KN_JSON_PLAIN_MAX, KN_JSON_PLAIN_MAX + 1, 1ull << 63, UINT64_MAX};
    static const char *const bad[] = {"-1",     "1.5",  "\"\"", "\"1x\"", "\"-1\"", "\"18446744073709551616\"",
                                      "\" 1\"", "null", "1e30", "[1]",    "true"};
    struct kn_error err = {.message = ""};
    uint64_t v;
    (void)state;
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        json_t *json = kn_json_u64(list[i]);
        assert_int_equal(json_is_string(json), list[i] > KN_JSON_PLAIN_MAX);
        assert_int_equal(kn_json_u64_get(json, &v), 0);
        assert_true(v == list[i]);
        json_decref(json);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        json_t *json = json_loads(bad[i], JSON_DECODE_ANY, NULL), *object = json_pack("{s:O}", "k", json);
        assert_int_equal(kn_json_u64_get(json, &v), -1);
        assert_int_equal(kn_json_u64_member(object, "k", &v, &err), -1);
        check_refusal(&err, KN_E_PROTOCOL, "k is not a whole number");
        json_decref(json);
        json_decref(object);
    }
    json_t *real = json_loads("{\"k\":1e14}", 0, NULL);
    assert_int_equal(kn_json_u64_member(real, "k", &v, &err), 0);
    assert_true(v == 100000000000000);
    v = 3;
    assert_int_equal(kn_json_u64_member(real, "absent", &v, &err), 0);
    assert_int_equal(v, 3);
    json_decref(real);
}

static void clocks(void **state)
{
    uint64_t last = kn_now_ns(), start = last, process = kn_process_cpu_ns(), thread = kn_thread_cpu_ns();
    (void)state;
    for (int i = 0; i < 200000; i++) {
        uint64_t now = kn_now_ns();
        assert_true(now >= last);
        last = now;
    }
    uint64_t elapsed = last - start;
    thread = kn_thread_cpu_ns() - thread;
    process = kn_process_cpu_ns() - process;
    assert_true(thread > 0 && thread <= elapsed + KN_NS_PER_MS);
    assert_true(process + KN_NS_PER_MS >= thread);
    assert_true(kn_wall_ns() > 1577836800ull * KN_NS_PER_S);
    uint64_t when = kn_now_ns() + 3 * KN_NS_PER_MS;
    kn_sleep_until_ns(when);
    assert_true(kn_now_ns() >= when);
    kn_sleep_until_ns(1); /* long past */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(codes_have_names),
        cmocka_unit_test(the_kernels_reason),
        cmocka_unit_test(context_comes_first),
        cmocka_unit_test(messages_are_always_utf8),
        cmocka_unit_test(quotes),
        cmocka_unit_test(whole_numbers_in_json),
        cmocka_unit_test(clocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
