#include "core/spec.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/clock.h"
#include "core/units.h"

#define KEYS_MAX 64

/* A parse under way: what was given, by the row of the table. */
struct parse {
    struct kn_spec *spec;
    enum kn_test test;
    const struct kn_spec_field *fields;
    size_t n;
    uint64_t given;
};

static void put(struct kn_spec *spec, const struct kn_spec_field *field, uint64_t value)
{
    memcpy((char *)spec + field->offset, &value, sizeof value);
}

static bool has(const struct kn_spec_field *field, uint64_t test)
{
    return field->tests >> test & 1;
}

static int row_of(const struct parse *p, const char *name)
{
    for (size_t i = 0; i < p->n; i++)
        if (strcmp(p->fields[i].name, name) == 0) return (int)i;
    return -1;
}

static bool is_given(const struct parse *p, const char *name)
{
    return p->given >> row_of(p, name) & 1;
}

/* ---- keys ---- */

static void list_tests(char *buf, size_t size, uint32_t tests)
{
    size_t used = 0;
    *buf = 0;
    for (unsigned t = 0; t < KN_TEST_COUNT && used < size; t++) {
        if (!(tests >> t & 1)) continue;
        int n = snprintf(buf + used, size - used, "%s%s", used ? ", " : "", kn_test_name((enum kn_test)t));
        used += (size_t)n;
    }
}

static int refuse_key(const struct parse *p, const char *key, struct kn_error *err)
{
    const char *names[KEYS_MAX];
    char quoted[KN_QUOTE_MAX], tests[160];
    size_t n = 0;
    int row = row_of(p, key);
    if (row >= 0) {
        list_tests(tests, sizeof tests, p->fields[row].tests);
        return kn_fail(err, KN_E_ARGUMENT, "%s has no \"%s\"; it is for %s", kn_test_name(p->test), key, tests);
    }
    for (size_t i = 0; i < p->n; i++)
        if (has(&p->fields[i], p->test)) names[n++] = p->fields[i].name;
    if (kn_spec_alias("requests", p->test)) names[n++] = "requests";
    if (kn_spec_alias("connections", p->test)) names[n++] = "connections";
    const char *near = kn_nearest(key, names, n);
    kn_quote(quoted, key);
    if (near)
        return kn_fail(err, KN_E_ARGUMENT, "%s has no %s; did you mean \"%s\"?", kn_test_name(p->test), quoted, near);
    return kn_fail(err, KN_E_ARGUMENT, "%s has no %s", kn_test_name(p->test), quoted);
}

/* ---- values ---- */

static int refuse_kind(const json_t *value, const char *wanted, struct kn_error *err)
{
    static const char *const kinds[] = {
        [JSON_OBJECT] = "a table", [JSON_ARRAY] = "a list", [JSON_STRING] = "a text", [JSON_INTEGER] = "a number",
        [JSON_REAL] = "a number", [JSON_TRUE] = "true", [JSON_FALSE] = "false", [JSON_NULL] = "null",
    };
    return kn_fail(err, KN_E_ARGUMENT, "is %s; %s is wanted", kinds[json_typeof(value)], wanted);
}

/* A number times `unit` as a whole one, to the nearest where `rounds`. */
static int whole_of(const json_t *value, double unit, bool rounds, uint64_t *out, struct kn_error *err)
{
    double v = json_number_value(value) * unit;
    char text[32];
    snprintf(text, sizeof text, "%.6g", json_number_value(value));
    if (v < 0) return kn_fail(err, KN_E_ARGUMENT, "%s is negative", text);
    if (!(v <= 9e15 * (rounds ? 1000 : 1))) return kn_fail(err, KN_E_ARGUMENT, "%s is absurdly large", text);
    if (!rounds && v != floor(v)) return kn_fail(err, KN_E_ARGUMENT, "%s is not a whole number", text);
    *out = (uint64_t)llround(v);
    if (*out == 0 && v > 0) return kn_fail(err, KN_E_ARGUMENT, "%s is absurdly small", text);
    return 0;
}

static int read_duration(const json_t *value, uint64_t *ns, struct kn_error *err)
{
    if (json_is_string(value)) return kn_duration_parse(json_string_value(value), ns, err);
    if (json_is_number(value)) return whole_of(value, 1e9, true, ns, err);
    return refuse_kind(value, "a time such as \"10s\" or a number of seconds", err);
}

static int read_size(const json_t *value, uint64_t *bytes, struct kn_error *err)
{
    if (json_is_string(value)) return kn_size_parse(json_string_value(value), bytes, err);
    if (json_is_number(value)) return whole_of(value, 1, false, bytes, err);
    return refuse_kind(value, "a size such as \"64K\" or a number of bytes", err);
}

static int read_count(const json_t *value, uint64_t *count, struct kn_error *err)
{
    if (json_is_string(value)) return kn_count_parse(json_string_value(value), count, err);
    if (json_is_number(value)) return whole_of(value, 1, false, count, err);
    return refuse_kind(value, "a number such as 100000 or \"20k\"", err);
}

static bool takes_events(enum kn_test test)
{
    return test != KN_TCP_STREAM && test != KN_TCP_SENDFILE;
}

static bool takes_bits(enum kn_test test)
{
    return test == KN_TCP_STREAM || test == KN_TCP_SENDFILE || test == KN_UDP_STREAM;
}

static int read_rate(const json_t *value, struct kn_spec *spec, struct kn_error *err)
{
    struct kn_rate rate = { 0, 0 };
    enum kn_test test = (enum kn_test)spec->test;
    char quoted[KN_QUOTE_MAX];
    if (json_is_string(value)) {
        const char *text = json_string_value(value);
        if (kn_rate_parse(text, &rate, err)) return -1;
        if (rate.bps && !takes_bits(test))
            return kn_fail(err, KN_E_ARGUMENT, "%s is in bits; %s takes requests a second, for example \"20k/s\"",
                           kn_quote(quoted, text), kn_test_name(test));
        if (rate.per_1000s && !takes_events(test))
            return kn_fail(err, KN_E_ARGUMENT, "%s is in events; %s takes bits a second, for example \"1Gbit/s\"",
                           kn_quote(quoted, text), kn_test_name(test));
    } else if (!json_is_number(value)) {
        return refuse_kind(value, "a rate such as \"20k/s\" or \"1Gbit/s\"", err);
    } else {
        bool bits = takes_bits(test);
        if (whole_of(value, bits ? 1 : 1000, true, bits ? &rate.bps : &rate.per_1000s, err)) return -1;
    }
    spec->rate_per_1000s = rate.per_1000s;
    spec->rate_bps = rate.bps;
    return 0;
}

static int read_flag(const json_t *value, uint64_t *flag, struct kn_error *err)
{
    static const char *const words[] = { "false", "true", "no", "yes", "off", "on", "0", "1" };
    if (json_is_boolean(value) || (json_is_integer(value) && (json_integer_value(value) | 1) == 1)) {
        *flag = json_is_true(value) || json_integer_value(value) == 1;
        return 0;
    }
    for (unsigned i = 0; json_is_string(value) && i < 8; i++) {
        if (strcmp(json_string_value(value), words[i]) != 0) continue;
        *flag = i % 2;
        return 0;
    }
    char quoted[KN_QUOTE_MAX];
    if (json_is_string(value))
        return kn_fail(err, KN_E_ARGUMENT, "%s is neither true nor false", kn_quote(quoted, json_string_value(value)));
    return refuse_kind(value, "true or false", err);
}

static int read_choice(const json_t *value, const struct kn_spec_field *field, uint64_t *choice, struct kn_error *err)
{
    char quoted[KN_QUOTE_MAX], all[160] = "";
    const char *text = json_string_value(value);
    for (uint64_t i = 0; field->choices[i]; i++) {
        size_t used = strlen(all);
        snprintf(all + used, sizeof all - used, "%s%s", i ? ", " : "", field->choices[i]);
        if (!text || strcmp(text, field->choices[i]) != 0) continue;
        *choice = i;
        return 0;
    }
    if (!text) return refuse_kind(value, all, err);
    return kn_fail(err, KN_E_ARGUMENT, "%s is none of %s", kn_quote(quoted, text), all);
}

static int read_text(const json_t *value, const struct kn_spec_field *field, struct kn_spec *spec, struct kn_error *err)
{
    char quoted[KN_QUOTE_MAX];
    const char *text = json_string_value(value);
    if (!text) return refuse_kind(value, "a text", err);
    /* strlen stops at a NUL that JSON can carry */
    if (strlen(text) != json_string_length(value))
        return kn_fail(err, KN_E_ARGUMENT, "%s holds a NUL", kn_quote(quoted, text));
    if (strlen(text) >= field->size)
        return kn_fail(err, KN_E_ARGUMENT, "%s is longer than %zu characters", kn_quote(quoted, text), field->size - 1);
    memset((char *)spec + field->offset, 0, field->size);
    memcpy((char *)spec + field->offset, text, strlen(text));
    return 0;
}

static int read_value(struct parse *p, const struct kn_spec_field *field, const json_t *value, struct kn_error *err)
{
    uint64_t number = 0;
    switch (field->kind) {
    case KN_FIELD_DURATION: if (read_duration(value, &number, err)) return -1; break;
    case KN_FIELD_SIZE: if (read_size(value, &number, err)) return -1; break;
    case KN_FIELD_COUNT: if (read_count(value, &number, err)) return -1; break;
    case KN_FIELD_FLAG: if (read_flag(value, &number, err)) return -1; break;
    case KN_FIELD_CHOICE: if (read_choice(value, field, &number, err)) return -1; break;
    case KN_FIELD_RATE: return read_rate(value, p->spec, err);
    case KN_FIELD_TEXT: return read_text(value, field, p->spec, err);
    }
    /* 0 stands for "not given" inside, so one that was given would silently be dropped */
    if (number == 0 && field->optional) return kn_fail(err, KN_E_ARGUMENT, "cannot be 0; leave it out instead");
    put(p->spec, field, number);
    return 0;
}

static int read_key(struct parse *p, const char *key, const json_t *value, struct kn_error *err)
{
    const char *alias = kn_spec_alias(key, p->test), *name = alias ? alias : key;
    int row = row_of(p, name);
    if (row < 0 || !has(&p->fields[row], p->test)) return refuse_key(p, key, err);
    if (p->given >> row & 1)
        return kn_fail(err, KN_E_ARGUMENT, "%s: the same as %s, which is given too", key,
                       alias ? name : "one of its aliases");
    p->given |= 1ull << row;
    if (read_value(p, &p->fields[row], value, err) == 0) return 0;
    kn_error_context(err, "%s", key);
    return -1;
}

/* ---- defaults that hang on what else was given ---- */

static uint64_t at_least(uint64_t a, uint64_t b) { return a > b ? a : b; }
static uint64_t at_most(uint64_t a, uint64_t b) { return a < b ? a : b; }

static bool calibrates(const struct kn_spec *spec)
{
    bool stream = spec->test == KN_TCP_STREAM || spec->test == KN_TCP_SENDFILE || spec->test == KN_TCP_BW;
    return stream && spec->tune == KN_TUNE_AUTO && !spec->rate_bps;
}

/* A tenth of the duration, 50 ms to 1 s. What is calibrated in it wants half a second, which is 20 ms for each turn: several
 * ticks of the scheduler. A short run gives half its own time. */
static uint64_t default_warmup(const struct kn_spec *spec)
{
    if (spec->test == KN_PING) return 0;
    if (spec->duration_ns == 0) return spec->test == KN_HTTP ? 0 : 100 * KN_NS_PER_MS;
    uint64_t least = 50 * KN_NS_PER_MS;
    if (calibrates(spec)) least = at_least(least, at_most(500 * KN_NS_PER_MS, spec->duration_ns / 2));
    return at_least(least, at_most(KN_NS_PER_S, spec->duration_ns / 10));
}

uint64_t kn_spec_default_interval(const struct kn_spec *spec)
{
    if (spec->duration_ns == 0) return KN_NS_PER_S;
    return at_least(50 * KN_NS_PER_MS, at_most(KN_NS_PER_S, spec->duration_ns / 20));
}

static void complete(struct parse *p)
{
    struct kn_spec *spec = p->spec;
    if (spec->count && !is_given(p, "duration")) spec->duration_ns = 0;
    if (!is_given(p, "warmup")) spec->warmup_ns = default_warmup(spec);
    if (!is_given(p, "interval")) spec->interval_ns = kn_spec_default_interval(spec);
    if (spec->count && spec->flows > spec->count && !is_given(p, "flows")) spec->flows = spec->count;
    if (spec->test == KN_TCP_LAT) spec->response_size = spec->size;
    if (spec->external) spec->body = 0;
}

int kn_spec_parse(const json_t *object, struct kn_spec *spec, struct kn_error *err)
{
    struct parse p = { .spec = spec };
    const char *key, *name = json_string_value(json_object_get(object, "test"));
    json_t *value;
    p.fields = kn_spec_fields(&p.n);
    if (!json_is_object(object))
        return kn_fail(err, KN_E_ARGUMENT, "a specification is a table, for example {\"test\": \"tcp_rr\"}");
    if (!name) return kn_fail(err, KN_E_ARGUMENT, "test: which one is not said, for example \"tcp_rr\"");
    if (kn_test_parse(name, &p.test, err)) return -1;
    kn_spec_defaults(spec, p.test);
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
        if (strcmp(key, "test") != 0 && read_key(&p, key, value, err)) return -1;
    if (spec->external && (is_given(&p, "body") || is_given(&p, "delay")))
        return kn_fail(err, KN_E_ARGUMENT, "external: the target is no agent, so %s cannot be asked of it",
                       is_given(&p, "body") ? "body" : "delay");
    complete(&p);
    return kn_spec_check(spec, err);
}
