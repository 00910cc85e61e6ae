/* Parts of JSON texts: what a shape names stays as it stands, the rest goes, and a text that is cut off is refused. */
#include "check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/pick.h"

/* In a block of exactly its size, so that a sanitizer sees a read past its end. */
static char *pick(const char *text, size_t size, const char *shape_text, struct kn_error *err)
{
    json_t *shape = json_loads(shape_text, JSON_DECODE_ANY, NULL);
    char *copy = malloc(size + 1);
    assert_non_null(shape);
    assert_non_null(copy);
    memcpy(copy, text, size);
    copy[size] = '\0';
    ptrdiff_t n = kn_json_pick(copy, size, shape, err);
    json_decref(shape);
    if (n >= 0) {
        assert_true((size_t)n <= size);
        copy[n] = '\0';
        return copy;
    }
    free(copy);
    return NULL;
}

static const struct {
    const char *text, *shape, *kept;
} cases[] = {
    {"{\"a\": 1, \"b\": [1, 2], \"c\": {\"d\": 3}}", "{\"a\":true,\"c\":true}", "{\"a\":1,\"c\":{\"d\": 3}}"},
    {" { \"a\" :\n1 } ", "{\"b\":true}", "{}"},
    {"{\"b\":\"\\\"}\",\"a\":\"]\\\\\"}", "{\"a\":true}", "{\"a\":\"]\\\\\"}"},
    {"{\"b\":[{\"a\":\"[\"},\"\\\\\\\"\"],\"a\":2}", "{\"a\":true}", "{\"a\":2}"},
    {"[{\"a\":1,\"b\":2}, {\"b\":3}, {\"c\":4, \"a\":-1.5e+3}]", "[{\"a\":true}]", "[{\"a\":1},{},{\"a\":-1.5e+3}]"},
    {"{\"l\":[{\"m\":{\"x\":1,\"y\":2},\"h\":[1]}],\"z\":null}", "{\"l\":[{\"m\":{\"y\":true}}]}",
     "{\"l\":[{\"m\":{\"y\":2}}]}"},
    {"{\"l\":5,\"m\":[1],\"n\":{\"a\":1}}", "{\"l\":[true],\"m\":{\"a\":true},\"n\":[true]}",
     "{\"l\":5,\"m\":[1],\"n\":{\"a\":1}}"},
    {"{\"a\":1,\"b\":0,\"a\":2}", "{\"a\":true}", "{\"a\":1,\"a\":2}"},
    {"\"text\"", "{\"a\":true}", "\"text\""},
    {"[]", "[true]", "[]"},
};

static void what_is_named_stays(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct kn_error err = {.message = ""};
        char *kept = pick(cases[i].text, strlen(cases[i].text), cases[i].shape, &err);
        if (!kept || strcmp(kept, cases[i].kept) != 0)
            fail_msg("%s by %s: %s instead of %s", cases[i].text, cases[i].shape, kept ? kept : err.message,
                     cases[i].kept);
        free(kept);
    }
}

/* Of an object or array every part from its beginning on is cut off. */
static void a_text_that_is_cut_off_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t whole = strlen(cases[i].text);
        while (whole && strchr(" \n", cases[i].text[whole - 1]))
            whole--;
        for (size_t size = 0; size < whole; size++) {
            struct kn_error err = {.message = ""};
            assert_null(pick(cases[i].text, size, cases[i].shape, &err));
            check_refusal(&err, KN_E_ARGUMENT, "not JSON: unexpected ");
        }
    }
}

static void what_is_no_json_is_refused(void **state)
{
    static const char *const texts[] = {
        "",           "   ",        "{\"a\" 1}", "{a:1}", "{\"a\":}",  "{\"a\":1 \"b\":2}", "[1 2]",
        "{\"a\":1}}", "{\"a\":1}x", "[\"a]",     "[,]",   "{\"a\":1]", "{\"a\"::1}"};
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct kn_error err = {.message = ""};
        const char *shape = texts[i][0] == '[' ? "[true]" : "{\"a\":true}";
        char *kept = pick(texts[i], strlen(texts[i]), shape, &err);
        if (kept)
            fail_msg("%s was taken as %s", texts[i], kept);
        check_refusal(&err, KN_E_ARGUMENT, "not JSON: unexpected ");
    }
}

static void a_zero_byte_ends_nothing(void **state)
{
    struct kn_error err = {.message = ""};
    (void)state;
    assert_null(pick("{\"b\":[\0],\"a\":1}", 16, "{\"a\":true}", &err));
    check_refusal(&err, KN_E_ARGUMENT, "at byte 6");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_named_stays),
        cmocka_unit_test(a_text_that_is_cut_off_is_refused),
        cmocka_unit_test(what_is_no_json_is_refused),
        cmocka_unit_test(a_zero_byte_ends_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
