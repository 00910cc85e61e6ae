/* What a specification must hold to, and its two outer forms: JSON and the wire's bytes. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/clock.h"
#include "core/spec.h"
#include "core/units.h"

static uint64_t number_at(const struct kn_spec *spec, size_t offset)
{
    uint64_t value;
    memcpy(&value, (const char *)spec + offset, sizeof value);
    return value;
}

/* What an agent would do for the client: not asked of a server of somebody else's, nor written down for it. */
static bool is_agents(const struct kn_spec_field *field)
{
    return field->offset == offsetof(struct kn_spec, body) || field->offset == offsetof(struct kn_spec, delay_ns);
}

static bool has(const struct kn_spec_field *field, const struct kn_spec *spec)
{
    return field->tests >> spec->test & 1;
}

/* ---- limits ---- */

static void show(char *buf, size_t size, const struct kn_spec_field *field, uint64_t value)
{
    if (field->kind == KN_FIELD_DURATION)
        kn_format_duration(buf, size, (double)value, false);
    else
        snprintf(buf, size, "%" PRIu64, value);
}

static int check_number(const struct kn_spec *spec, const struct kn_spec_field *field, struct kn_error *err)
{
    uint64_t value = number_at(spec, field->offset), least, most;
    char is[32], low[32], high[32];
    kn_spec_limits(field, (enum kn_test)spec->test, &least, &most);
    if ((value >= least && value <= most) || (value == 0 && field->optional)) return 0;
    show(is, sizeof is, field, value);
    show(low, sizeof low, field, least);
    show(high, sizeof high, field, most);
    return kn_fail(err, KN_E_ARGUMENT, "%s: %s is too %s; %s takes %s to %s", field->name, is,
                   value < least ? "small" : "large", kn_test_name((enum kn_test)spec->test), low, high);
}

/* These end up in a request line or in a socket option: printable ASCII without spaces, and nothing behind the end. */
static int check_text(const struct kn_spec *spec, const struct kn_spec_field *field, struct kn_error *err)
{
    const char *text = (const char *)spec + field->offset;
    char quoted[KN_QUOTE_MAX];
    size_t length = strnlen(text, field->size);
    if (length == field->size) return kn_fail(err, KN_E_ARGUMENT, "%s: has no end", field->name);
    for (size_t i = 0; i < field->size; i++) {
        bool good = i < length ? text[i] > ' ' && text[i] <= '~' : text[i] == 0;
        if (!good)
            return kn_fail(err, KN_E_ARGUMENT, "%s: %s holds a character that cannot be sent", field->name,
                           kn_quote(quoted, text));
    }
    return 0;
}

/* ---- rules between fields ---- */

static int check_rate(const struct kn_spec *s, struct kn_error *err)
{
    const char *test = kn_test_name((enum kn_test)s->test);
    bool stream = s->test == KN_TCP_STREAM || s->test == KN_TCP_SENDFILE;
    if (s->rate_bps && s->rate_per_1000s) return kn_fail(err, KN_E_ARGUMENT, "rate: in bits and in events at once");
    if (s->rate_bps && !stream && s->test != KN_UDP_STREAM)
        return kn_fail(err, KN_E_ARGUMENT, "rate: %s takes requests a second, for example \"20k/s\"", test);
    if (s->rate_per_1000s && stream)
        return kn_fail(err, KN_E_ARGUMENT, "rate: %s takes bits a second, for example \"1Gbit/s\"", test);
    if (s->rate_bps > 10000000000000ull || s->rate_per_1000s > 1000000000000ull)
        return kn_fail(err, KN_E_ARGUMENT, "rate: absurdly fast; 1 G/s and 10 Tbit/s are the most");
    return 0;
}

static int check_rules(const struct kn_spec *s, struct kn_error *err)
{
    if (s->duration_ns == 0 && s->count == 0)
        return kn_fail(err, KN_E_ARGUMENT, "duration: neither it nor count is given");
    if (s->ip == 5) return kn_fail(err, KN_E_ARGUMENT, "ip: 5 is no version; 4 and 6 are");
    if (s->reverse && s->bidir)
        return kn_fail(err, KN_E_ARGUMENT, "reverse and bidir exclude each other: bidir sends both ways");
    if (s->count && s->flows > s->count)
        return kn_fail(err, KN_E_ARGUMENT,
                       "flows: %" PRIu64 " are more than the count of %" PRIu64
                       ", so that some would have nothing to do",
                       s->flows, s->count);
    if (s->external && (s->body || s->delay_ns))
        return kn_fail(err, KN_E_ARGUMENT, "external: the target is no agent, so body and delay cannot be asked of it");
    if (s->test == KN_HTTP && s->path[0] != '/') return kn_fail(err, KN_E_ARGUMENT, "path: does not begin with \"/\"");
    return check_rate(s, err);
}

/* A field that the test has not holds what it must, mostly 0, so that two equal specifications are equal bytes. */
static int check_unused(const struct kn_spec *spec, const struct kn_spec_field *field, struct kn_error *err)
{
    static const char zeros[KN_TEXT_MAX];
    const char *at = (const char *)spec + field->offset;
    uint64_t number = number_at(spec, field->offset), implied = 0;
    if (field->offset == offsetof(struct kn_spec, response_size) && spec->test == KN_TCP_LAT) implied = spec->size;
    if (field->offset == offsetof(struct kn_spec, flows) && spec->test == KN_PING) implied = 1;
    if (field->offset == offsetof(struct kn_spec, interval_ns) && spec->test == KN_PING) implied = kn_spec_default_interval(spec);
    if (implied ? number == implied : memcmp(at, zeros, field->size) == 0) return 0;
    return kn_fail(err, KN_E_ARGUMENT, "%s: %s has none", field->name, kn_test_name((enum kn_test)spec->test));
}

static int check_field(const struct kn_spec *spec, const struct kn_spec_field *field, struct kn_error *err)
{
    if (!has(field, spec)) return check_unused(spec, field, err);
    if (field->kind == KN_FIELD_TEXT) return check_text(spec, field, err);
    return field->kind == KN_FIELD_RATE ? 0 : check_number(spec, field, err);
}

int kn_spec_check(const struct kn_spec *spec, struct kn_error *err)
{
    size_t n;
    const struct kn_spec_field *field = kn_spec_fields(&n);
    if (spec->test >= KN_TEST_COUNT) return kn_fail(err, KN_E_ARGUMENT, "test: number %" PRIu64 " is none", spec->test);
    for (; n--; field++)
        if (check_field(spec, field, err)) return -1;
    return check_rules(spec, err);
}

/* ---- JSON ---- */

static json_t *rate_to_json(const struct kn_spec *spec)
{
    char text[40];
    if (spec->rate_bps)
        snprintf(text, sizeof text, "%" PRIu64 "bit/s", spec->rate_bps);
    else if (spec->rate_per_1000s % 1000)
        snprintf(text, sizeof text, "%" PRIu64 ".%03u/s", spec->rate_per_1000s / 1000,
                 (unsigned)(spec->rate_per_1000s % 1000));
    else
        snprintf(text, sizeof text, "%" PRIu64 "/s", spec->rate_per_1000s / 1000);
    return json_string(text);
}

static json_t *value_to_json(const struct kn_spec *spec, const struct kn_spec_field *field)
{
    uint64_t number = number_at(spec, field->offset);
    switch (field->kind) {
    case KN_FIELD_RATE: return kn_spec_open_loop(spec) ? rate_to_json(spec) : NULL;
    case KN_FIELD_TEXT:
        return *((const char *)spec + field->offset) ? json_string((const char *)spec + field->offset) : NULL;
    default: break;
    }
    if (number == 0 && field->optional) return NULL;
    switch (field->kind) {
    case KN_FIELD_DURATION: return json_real((double)number / 1e9);
    case KN_FIELD_FLAG: return json_boolean(number);
    case KN_FIELD_CHOICE: return json_string(field->choices[number]);
    default: return json_integer((json_int_t)number);
    }
}

json_t *kn_spec_to_json(const struct kn_spec *spec)
{
    size_t n;
    const struct kn_spec_field *field = kn_spec_fields(&n);
    json_t *json = json_object();
    json_object_set_new(json, "test", json_string(kn_test_name((enum kn_test)spec->test)));
    for (; n--; field++) {
        bool asked = has(field, spec) && !(spec->external && is_agents(field));
        json_t *value = asked ? value_to_json(spec, field) : NULL;
        if (value) json_object_set_new(json, field->name, value);
    }
    return json;
}

/* ---- the wire ---- */

static void put_le64(uint8_t *wire, uint64_t value)
{
    for (int i = 0; i < 8; i++) wire[i] = (uint8_t)(value >> 8 * i);
}

static uint64_t get_le64(const uint8_t *wire)
{
    uint64_t value = 0;
    for (int i = 7; i >= 0; i--) value = value << 8 | wire[i];
    return value;
}

size_t kn_spec_wire_size(void)
{
    size_t n, size = 8;
    const struct kn_spec_field *field = kn_spec_fields(&n);
    for (; n--; field++) size += field->size;
    return size;
}

void kn_spec_pack(const struct kn_spec *spec, uint8_t *wire)
{
    size_t n;
    const struct kn_spec_field *field = kn_spec_fields(&n);
    put_le64(wire, spec->test);
    wire += 8;
    for (; n--; wire += field->size, field++) {
        if (field->kind == KN_FIELD_TEXT) {
            memcpy(wire, (const char *)spec + field->offset, field->size);
            continue;
        }
        for (size_t i = 0; i < field->size; i += 8) put_le64(wire + i, number_at(spec, field->offset + i));
    }
}

int kn_spec_unpack(const uint8_t *wire, size_t size, struct kn_spec *spec, struct kn_error *err)
{
    size_t n;
    const struct kn_spec_field *field = kn_spec_fields(&n);
    if (size != kn_spec_wire_size())
        return kn_fail(err, KN_E_PROTOCOL, "a specification of %zu bytes instead of %zu", size, kn_spec_wire_size());
    memset(spec, 0, sizeof *spec);
    spec->test = get_le64(wire);
    wire += 8;
    for (; n--; wire += field->size, field++) {
        char *at = (char *)spec + field->offset;
        if (field->kind == KN_FIELD_TEXT) {
            memcpy(at, wire, field->size);
            continue;
        }
        for (size_t i = 0; i < field->size; i += 8) {
            uint64_t value = get_le64(wire + i);
            memcpy(at + i, &value, sizeof value);
        }
    }
    return kn_spec_check(spec, err);
}
