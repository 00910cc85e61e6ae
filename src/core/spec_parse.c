#include "core/spec.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/clock.h"
#include "core/units.h"

#define KEYS_MAX 80

/* The state of a parse. `given` has a bit for each option that was given. */
struct parse {
    struct kn_spec *spec;
    const struct kn_registry *tests;
    const struct kn_test *test;
    uint64_t given;
};

static const struct kn_spec_option *row(const struct parse *p, const char *name, unsigned *i)
{
    const struct kn_spec_option *option;
    for (*i = 0; (option = kn_test_option(p->test, *i)); ++*i)
        if (strcmp(option->name, name) == 0)
            return option;
    return NULL;
}

static bool is_given(const struct parse *p, const char *name)
{
    unsigned i;
    return row(p, name, &i) && (p->given >> i & 1);
}

/* ---- keys ---- */

/* Lists the tests that have an option of that name; false if there are none. */
static bool others_with(const struct parse *p, const char *key, char *buf, size_t size)
{
    size_t used = 0;
    *buf = '\0';
    for (const struct kn_test *const *t = p->tests->tests; *t && used < size; t++) {
        struct parse other = {.test = *t};
        unsigned i;
        const struct kn_spec_option *option = row(&other, key, &i);
        if (option && kn_test_has(*t, option))
            used += (size_t)snprintf(buf + used, size - used, "%s%s", used ? ", " : "", (*t)->name);
    }
    return used > 0;
}

static int refuse_key(const struct parse *p, const char *key, struct kn_error *err)
{
    const char *names[KEYS_MAX];
    char quoted[KN_QUOTE_MAX], tests[256];
    const struct kn_spec_option *option;
    size_t n = 0;
    if (others_with(p, key, tests, sizeof tests))
        return kn_fail(err, KN_E_ARGUMENT, "option %s does not apply to %s; it is for %s", key, p->test->name, tests);
    for (unsigned i = 0; (option = kn_test_option(p->test, i)) && n < KEYS_MAX; i++)
        if (kn_test_has(p->test, option))
            names[n++] = option->name;
    for (const struct kn_alias *a = p->test->aliases; a && a->alias && n < KEYS_MAX; a++)
        names[n++] = a->alias;
    const char *near = kn_nearest(key, names, n);
    kn_quote(quoted, key);
    if (near)
        return kn_fail(err, KN_E_ARGUMENT, "%s has no option %s; did you mean \"%s\"?", p->test->name, quoted, near);
    return kn_fail(err, KN_E_ARGUMENT, "%s has no option %s", p->test->name, quoted);
}

/* ---- values ---- */

static int refuse_kind(const json_t *value, const char *wanted, struct kn_error *err)
{
    static const char *const kinds[] = {
        [JSON_OBJECT] = "a table", [JSON_ARRAY] = "a list", [JSON_STRING] = "a string", [JSON_INTEGER] = "a number",
        [JSON_REAL] = "a number",  [JSON_TRUE] = "true",    [JSON_FALSE] = "false",     [JSON_NULL] = "null",
    };
    return kn_fail(err, KN_E_ARGUMENT, "expected %s, got %s", wanted, kinds[json_typeof(value)]);
}

/* value * unit as a whole number; rounded if `rounds`, otherwise a fraction is an error. */
static int whole_of(const json_t *value, double unit, bool rounds, uint64_t *out, struct kn_error *err)
{
    double v = json_number_value(value) * unit;
    char text[32];
    snprintf(text, sizeof text, "%.6g", json_number_value(value));
    if (v < 0)
        return kn_fail(err, KN_E_ARGUMENT, "%s is negative", text);
    if (!(v <= 9e15 * (rounds ? 1000 : 1)))
        return kn_fail(err, KN_E_ARGUMENT, "%s is too large", text);
    if (!rounds && v != floor(v))
        return kn_fail(err, KN_E_ARGUMENT, "%s is not a whole number", text);
    *out = (uint64_t)llround(v);
    if (*out == 0 && v > 0)
        return kn_fail(err, KN_E_ARGUMENT, "%s is too small", text);
    return 0;
}

static int read_duration(const json_t *value, uint64_t *ns, struct kn_error *err)
{
    if (json_is_string(value))
        return kn_duration_parse(json_string_value(value), ns, err);
    if (json_is_number(value))
        return whole_of(value, 1e9, true, ns, err);
    return refuse_kind(value, "a time such as \"10s\" or a number of seconds", err);
}

static int read_size(const json_t *value, uint64_t *bytes, struct kn_error *err)
{
    if (json_is_string(value))
        return kn_size_parse(json_string_value(value), bytes, err);
    if (json_is_number(value))
        return whole_of(value, 1, false, bytes, err);
    return refuse_kind(value, "a size such as \"64K\" or a number of bytes", err);
}

static int read_count(const json_t *value, uint64_t *count, struct kn_error *err)
{
    if (json_is_string(value))
        return kn_count_parse(json_string_value(value), count, err);
    if (json_is_number(value))
        return whole_of(value, 1, false, count, err);
    return refuse_kind(value, "a number such as 100000 or \"20k\"", err);
}

static int read_rate(const json_t *value, struct kn_spec *spec, struct kn_error *err)
{
    struct kn_rate rate = {0, 0};
    enum kn_rate_kind kind = spec->test->rate;
    char quoted[KN_QUOTE_MAX];
    if (json_is_string(value)) {
        const char *text = json_string_value(value);
        if (kn_rate_parse(text, &rate, err))
            return -1;
        if (rate.bps && kind == KN_RATE_EVENTS)
            return kn_fail(err, KN_E_ARGUMENT, "%s is in bits; %s takes requests a second, for example \"20k/s\"",
                           kn_quote(quoted, text), spec->test->name);
        if (rate.per_1000s && kind == KN_RATE_BITS)
            return kn_fail(err, KN_E_ARGUMENT, "%s is in events; %s takes bits a second, for example \"1Gbit/s\"",
                           kn_quote(quoted, text), spec->test->name);
    } else if (!json_is_number(value)) {
        return refuse_kind(value, "a rate such as \"20k/s\" or \"1Gbit/s\"", err);
    } else {
        bool bits = kind != KN_RATE_EVENTS;
        if (whole_of(value, bits ? 1 : 1000, true, bits ? &rate.bps : &rate.per_1000s, err))
            return -1;
    }
    spec->rate_per_1000s = rate.per_1000s;
    spec->rate_bps = rate.bps;
    return 0;
}

static int read_flag(const json_t *value, uint64_t *flag, struct kn_error *err)
{
    static const char *const words[] = {"false", "true", "no", "yes", "off", "on", "0", "1"};
    if (json_is_boolean(value) || (json_is_integer(value) && (json_integer_value(value) | 1) == 1)) {
        *flag = json_is_true(value) || json_integer_value(value) == 1;
        return 0;
    }
    for (unsigned i = 0; json_is_string(value) && i < 8; i++) {
        if (strcmp(json_string_value(value), words[i]) != 0)
            continue;
        *flag = i % 2;
        return 0;
    }
    char quoted[KN_QUOTE_MAX];
    if (json_is_string(value))
        return kn_fail(err, KN_E_ARGUMENT, "expected true or false, got %s",
                       kn_quote(quoted, json_string_value(value)));
    return refuse_kind(value, "true or false", err);
}

static int read_choice(const json_t *value, const struct kn_spec_option *option, uint64_t *choice, struct kn_error *err)
{
    char quoted[KN_QUOTE_MAX], all[160] = "";
    const char *text = json_string_value(value);
    for (uint64_t i = 0; option->choices[i]; i++) {
        size_t used = strlen(all);
        snprintf(all + used, sizeof all - used, "%s%s", i ? ", " : "", option->choices[i]);
        if (!text || strcmp(text, option->choices[i]) != 0)
            continue;
        *choice = i;
        return 0;
    }
    if (!text)
        return refuse_kind(value, all, err);
    return kn_fail(err, KN_E_ARGUMENT, "expected one of %s, got %s", all, kn_quote(quoted, text));
}

static int read_text(const json_t *value, const struct kn_spec_option *option, struct kn_spec *spec,
                     struct kn_error *err)
{
    char quoted[KN_QUOTE_MAX];
    const char *text = json_string_value(value);
    if (!text)
        return refuse_kind(value, "a string", err);
    /* JSON strings can contain NUL */
    if (strlen(text) != json_string_length(value))
        return kn_fail(err, KN_E_ARGUMENT, "%s contains a NUL character", kn_quote(quoted, text));
    if (strlen(text) >= option->size)
        return kn_fail(err, KN_E_ARGUMENT, "%s is longer than %zu characters", kn_quote(quoted, text),
                       option->size - 1);
    memset((char *)spec + option->offset, 0, option->size);
    memcpy((char *)spec + option->offset, text, strlen(text));
    return 0;
}

static int read_value(struct parse *p, const struct kn_spec_option *option, const json_t *value, struct kn_error *err)
{
    uint64_t number = 0;
    switch (option->kind) {
    case KN_KIND_DURATION:
        if (read_duration(value, &number, err))
            return -1;
        break;
    case KN_KIND_SIZE:
        if (read_size(value, &number, err))
            return -1;
        break;
    case KN_KIND_COUNT:
        if (read_count(value, &number, err))
            return -1;
        break;
    case KN_KIND_FLAG:
        if (read_flag(value, &number, err))
            return -1;
        break;
    case KN_KIND_CHOICE:
        if (read_choice(value, option, &number, err))
            return -1;
        break;
    case KN_KIND_RATE: return read_rate(value, p->spec, err);
    case KN_KIND_TEXT: return read_text(value, option, p->spec, err);
    }
    /* 0 means "not set" in struct kn_spec, so it would be ignored */
    if (number == 0 && option->optional)
        return kn_fail(err, KN_E_ARGUMENT, "cannot be 0; leave it out instead");
    kn_option_set(p->spec, option, number);
    return 0;
}

static int read_key(struct parse *p, const char *key, const json_t *value, struct kn_error *err)
{
    const char *alias = kn_test_alias(p->test, key), *name = alias ? alias : key;
    unsigned i;
    const struct kn_spec_option *option = row(p, name, &i);
    if (!option || !kn_test_has(p->test, option))
        return refuse_key(p, key, err);
    if (p->given >> i & 1)
        return kn_fail(err, KN_E_ARGUMENT, "%s: given twice, also as %s", key, alias ? name : "one of its aliases");
    p->given |= 1ull << i;
    return read_value(p, option, value, err) == 0 ? 0 : kn_error_context(err, "%s", key);
}

/* ---- defaults that depend on other options ---- */

static uint64_t at_least(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}
static uint64_t at_most(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* A tenth of the duration, from 100 ms to 1 s, because a flow takes 100 ms until its rate is steady: the kernel moves
 * the threads of both sides, and sizes of windows and buffers grow. A run that is shorter than that has as much warm-up
 * as duration, at least 50 ms. */
static uint64_t default_warmup(const struct kn_spec *spec)
{
    enum kn_warmup kind = spec->test->warmup;
    if (kind == KN_WARMUP_NONE)
        return 0;
    if (spec->duration_ns == 0)
        return kind == KN_WARMUP_TIMED ? 0 : 100 * KN_NS_PER_MS;
    uint64_t least_ns = at_least(50 * KN_NS_PER_MS, at_most(100 * KN_NS_PER_MS, spec->duration_ns));
    return at_least(least_ns, at_most(KN_NS_PER_S, spec->duration_ns / 10));
}

static void complete(struct parse *p)
{
    struct kn_spec *spec = p->spec;
    if (spec->count && !is_given(p, "duration"))
        spec->duration_ns = 0;
    if (!is_given(p, "warmup"))
        spec->warmup_ns = default_warmup(spec);
    if (!is_given(p, "interval"))
        spec->interval_ns = kn_spec_default_interval(spec);
    if (spec->count && spec->flows > spec->count && !is_given(p, "flows"))
        spec->flows = spec->count;
    kn_spec_derive(spec);
}

/* An external server does not support options that require an agent. */
static int check_external(const struct parse *p, struct kn_error *err)
{
    const struct kn_spec_option *option;
    if (!p->spec->external)
        return 0;
    for (unsigned i = 0; (option = kn_test_option(p->test, i)); i++)
        if (option->agents && (p->given >> i & 1))
            return kn_fail(err, KN_E_ARGUMENT, "external: the target is not an agent, so option %s does not apply",
                           option->name);
    for (unsigned i = 0; (option = kn_test_option(p->test, i)); i++)
        if (option->agents)
            kn_option_set(p->spec, option, 0);
    return 0;
}

int kn_spec_parse(const json_t *object, const struct kn_registry *tests, struct kn_spec *spec, struct kn_error *err)
{
    struct parse p = {.spec = spec, .tests = tests};
    const char *key, *name = json_string_value(json_object_get(object, "test"));
    json_t *value;
    if (!json_is_object(object))
        return kn_fail(err, KN_E_ARGUMENT, "a specification must be an object, for example {\"test\": \"tcp_rr\"}");
    if (!name)
        return kn_fail(err, KN_E_ARGUMENT, "test is required, for example \"tcp_rr\"");
    p.test = kn_test_find(tests, name, err);
    if (!p.test)
        return -1;
    kn_spec_defaults(spec, p.test);
    json_object_foreach((json_t *)(uintptr_t)object, key,
                        value) if (strcmp(key, "test") != 0 && read_key(&p, key, value, err)) return -1;
    if (check_external(&p, err))
        return -1;
    complete(&p);
    return kn_spec_check(spec, err);
}
