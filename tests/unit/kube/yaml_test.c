#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kube/yaml.h"

static void expect_json(const char *yaml, const char *json)
{
    struct kn_error err = {0};
    json_t *got = kn_yaml_parse(yaml, strlen(yaml), &err);
    if (!got)
        fail_msg("%s: %s", yaml, err.message);
    char *text = json_dumps(got, JSON_COMPACT | JSON_SORT_KEYS);
    assert_string_equal(text, json);
    free(text);
    json_decref(got);
}

static void expect_refused(const char *yaml, const char *part)
{
    struct kn_error err = {0};
    assert_null(kn_yaml_parse(yaml, strlen(yaml), &err));
    if (!strstr(err.message, part))
        fail_msg("\"%s\" lacks \"%s\"", err.message, part);
}

static void test_values(void **state)
{
    (void)state;
    expect_json("a: 1\nb: [x, 2.5, yes, ~]\nc: {d: 'yes', e: \"1\"}\n",
                "[{\"a\":1,\"b\":[\"x\",2.5,true,null],\"c\":{\"d\":\"yes\",\"e\":\"1\"}}]");
    expect_json("v: v1.20\nw: 1.20.2\nx: 0x10\ny: -3\nz: 1e3\n",
                "[{\"v\":\"v1.20\",\"w\":\"1.20.2\",\"x\":16,\"y\":-3,\"z\":1000.0}]");
    expect_json("", "[]");
    expect_json("--- \n---\na: b\n---\n- 1\n", "[{\"a\":\"b\"},[1]]");
    expect_json("t: |\n  one\n  two\n", "[{\"t\":\"one\\ntwo\\n\"}]");
}

static void test_anchors(void **state)
{
    (void)state;
    expect_json("a: &x {k: 1}\nb: *x\nc:\n  <<: *x\n  l: 2\n",
                "[{\"a\":{\"k\":1},\"b\":{\"k\":1},\"c\":{\"k\":1,\"l\":2}}]");
    expect_refused("a: *nobody\n", "line 1, column 4");
    /* each alias is ten of the last: a "billion laughs" is refused, not unfolded */
    char bomb[4096];
    int n = snprintf(bomb, sizeof bomb, "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for (int i = 1; i < 9; i++)
        n += snprintf(bomb + n, sizeof bomb - (size_t)n,
                      "a%d: &a%d [*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d]\n", i, i, i - 1, i - 1, i - 1,
                      i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1);
    expect_refused(bomb, "expand to too much");
}

/* What mallinfo2() says is in use. */
static size_t in_use(void)
{
    struct mallinfo2 m = mallinfo2();
    return m.uordblks + m.hblkhd;
}

/* Each level of nesting has an anchor over all that is inside: 100 copies of it, were anchors copied. */
static void test_nested_anchors_are_not_copied(void **state)
{
    (void)state;
    enum { DEPTH = 90, ITEMS = 20000 };
    char *text = malloc(DEPTH * 16 + ITEMS * 4 + 64), *at = text;
    for (int i = 0; i < DEPTH; i++)
        at += sprintf(at, "&a%d [", i);
    for (int i = 0; i < ITEMS; i++)
        at += sprintf(at, "x, ");
    at += sprintf(at, "x");
    for (int i = 0; i < DEPTH; i++)
        *at++ = ']';
    struct kn_error err = {0};
    size_t before = in_use();
    json_t *got = kn_yaml_parse(text, (size_t)(at - text), &err);
    size_t used = in_use() - before;
    if (!got)
        fail_msg("%s", err.message);
    if (used > ITEMS * 200)
        fail_msg("%zu bytes for %d values", used, ITEMS);
    json_decref(got);
    free(text);
}

/* A long string is more than one value: 200 KB that say a megabyte a thousand times. */
static void test_aliases_of_long_strings(void **state)
{
    (void)state;
    enum { LENGTH = 200000, ALIASES = 1000 };
    char *text = malloc(LENGTH + ALIASES * 4 + 64), *at = text;
    at += sprintf(at, "a: &a ");
    memset(at, 'x', LENGTH);
    at += LENGTH;
    at += sprintf(at, "\nb: [*a");
    for (int i = 1; i < ALIASES; i++)
        at += sprintf(at, ",*a");
    at += sprintf(at, "]\n");
    expect_refused(text, "expand to too much");
    free(text);
}

static void test_refusals(void **state)
{
    (void)state;
    expect_refused("a: [1, 2\nb: 3\n", "line 2");
    expect_refused("? [a, b]\n: 1\n", "a key must be a scalar");
    expect_refused("a: b: c\n", "line 1");
    char deep[512];
    memset(deep, '[', 300);
    deep[300] = 0;
    expect_refused(deep, "too deeply");
}

static void test_round_trip(void **state)
{
    (void)state;
    const char *json = "{\"a\":\"yes\",\"b\":\"1.0\",\"c\":[],\"d\":{},\"e\":\"two\\nlines\\n\",\"f\":null,"
                       "\"g\":[1,true,{\"h\":\"x: y\"}],\"i\":\"\",\"j\":\" # \"}";
    json_t *value = json_loads(json, 0, NULL);
    struct kn_error err = {0};
    char *text = kn_yaml_emit(value, &err);
    assert_non_null(text);
    json_t *back = kn_yaml_parse(text, strlen(text), &err);
    assert_non_null(back);
    assert_true(json_equal(json_array_get(back, 0), value));
    json_decref(back);
    json_decref(value);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_values),
                                       cmocka_unit_test(test_anchors),
                                       cmocka_unit_test(test_nested_anchors_are_not_copied),
                                       cmocka_unit_test(test_aliases_of_long_strings),
                                       cmocka_unit_test(test_refusals),
                                       cmocka_unit_test(test_round_trip)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
