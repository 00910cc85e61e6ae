/* Defaults of a specification, options that follow from others, and the rules that it must satisfy. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/clock.h"
#include "core/cpus.h"
#include "core/spec.h"
#include "core/units.h"

/* ---- defaults ---- */

static const struct kn_preset common_presets[] = {
    {offsetof(struct kn_spec, duration_ns), 10 * KN_NS_PER_S}, {offsetof(struct kn_spec, warmup_ns), KN_NS_PER_S},
    {offsetof(struct kn_spec, interval_ns), KN_NS_PER_S},      {offsetof(struct kn_spec, flows), 1},
    {offsetof(struct kn_spec, timeout_ns), 5 * KN_NS_PER_S},   {0, 0},
};

static void preset(struct kn_spec *spec, const struct kn_preset *presets)
{
    for (; presets && presets->offset; presets++)
        memcpy((char *)spec + presets->offset, &presets->value, sizeof presets->value);
}

uint64_t kn_spec_default_interval(const struct kn_spec *spec)
{
    uint64_t step_ns = spec->duration_ns / 20;
    if (spec->duration_ns == 0 || step_ns > KN_NS_PER_S)
        return KN_NS_PER_S;
    return step_ns < 50 * KN_NS_PER_MS ? 50 * KN_NS_PER_MS : step_ns;
}

/* Options that the test does not have get fixed values, so that equal specifications have equal bytes. */
void kn_spec_derive(struct kn_spec *spec)
{
    const struct kn_test *test = spec->test;
    for (unsigned i = 0; i < KN_SHARED_OPTIONS; i++)
        if (!kn_test_has(test, &kn_shared_options[i]))
            memset((char *)spec + kn_shared_options[i].offset, 0, kn_shared_options[i].size);
    if (!(test->options & KN_HAS(FLOWS)))
        spec->flows = 1;
    if (!(test->options & KN_HAS(INTERVAL)))
        spec->interval_ns = kn_spec_default_interval(spec);
    if (test->complete)
        test->complete(spec);
}

void kn_spec_defaults(struct kn_spec *spec, const struct kn_test *test)
{
    memset(spec, 0, sizeof *spec);
    spec->test = test;
    preset(spec, common_presets);
    preset(spec, test->presets);
    if (test->warmup == KN_WARMUP_NONE)
        spec->warmup_ns = 0;
    if (test->text_preset)
        snprintf(spec->text[0], sizeof spec->text[0], "%s", test->text_preset);
    kn_spec_derive(spec);
}

/* ---- limits ---- */

static void show(char *buf, size_t size, const struct kn_spec_option *option, uint64_t value)
{
    if (option->kind == KN_KIND_DURATION)
        kn_format_duration(buf, size, (double)value, false);
    else
        snprintf(buf, size, "%" PRIu64, value);
}

static int check_number(const struct kn_spec *spec, const struct kn_spec_option *option, struct kn_error *err)
{
    uint64_t value = kn_option_get(spec, option), least, most;
    char is[32], low[32], high[32];
    kn_test_limits(spec->test, option, &least, &most);
    if ((value >= least && value <= most) || (value == 0 && option->optional))
        return 0;
    show(is, sizeof is, option, value);
    show(low, sizeof low, option, least);
    show(high, sizeof high, option, most);
    return kn_fail(err, KN_E_ARGUMENT, "%s: %s is too %s; %s takes %s to %s", option->name, is,
                   value < least ? "small" : "large", spec->test->name, low, high);
}

/* Texts are used in request lines and socket options: printable ASCII without spaces, followed only by NULs. */
static int check_text(const struct kn_spec *spec, const struct kn_spec_option *option, struct kn_error *err)
{
    const char *text = (const char *)spec + option->offset;
    char quoted[KN_QUOTE_MAX];
    size_t length = strnlen(text, option->size);
    if (length == option->size)
        return kn_fail(err, KN_E_ARGUMENT, "%s: the text is not NUL-terminated", option->name);
    for (size_t i = 0; i < option->size; i++) {
        bool good = i < length ? text[i] > ' ' && text[i] <= '~' : text[i] == 0;
        if (!good)
            return kn_fail(err, KN_E_ARGUMENT, "%s must be printable ASCII without spaces, got %s", option->name,
                           kn_quote(quoted, text));
    }
    return 0;
}

static int check_cpus(const struct kn_spec *spec, struct kn_error *err)
{
    cpu_set_t set;
    if (*spec->cpus && kn_cpus_parse("cpus", spec->cpus, &set, err))
        return -1;
    return *spec->server_cpus ? kn_cpus_parse("server_cpus", spec->server_cpus, &set, err) : 0;
}

static int check_option(const struct kn_spec *spec, const struct kn_spec_option *option, struct kn_error *err)
{
    if (!kn_test_has(spec->test, option) || option->kind == KN_KIND_RATE)
        return 0;
    return option->kind == KN_KIND_TEXT ? check_text(spec, option, err) : check_number(spec, option, err);
}

static int check_options(const struct kn_spec *spec, struct kn_error *err)
{
    const struct kn_spec_option *option;
    for (unsigned i = 0; (option = kn_test_option(spec->test, i)); i++)
        if (check_option(spec, option, err))
            return -1;
    return check_cpus(spec, err);
}

/* Options that the test does not have must have the values that kn_spec_derive sets. */
static int check_unused(const struct kn_spec *spec, struct kn_error *err)
{
    struct kn_spec derived = *spec;
    kn_spec_derive(&derived);
    for (unsigned i = 0; i < KN_SHARED_OPTIONS; i++) {
        const struct kn_spec_option *o = &kn_shared_options[i];
        if (memcmp((const char *)spec + o->offset, (const char *)&derived + o->offset, o->size) != 0)
            return kn_fail(err, KN_E_ARGUMENT, "option %s does not apply to %s", o->name, spec->test->name);
    }
    unsigned numbers = 0, texts = 0;
    for (const struct kn_spec_option *o = spec->test->own; o && o->name; o++)
        o->kind == KN_KIND_TEXT ? texts++ : numbers++;
    for (; numbers < KN_OWN_MAX; numbers++)
        if (spec->own[numbers])
            return kn_fail(err, KN_E_ARGUMENT, "%s: an unused option is set", spec->test->name);
    for (; texts < KN_TEXTS_MAX; texts++)
        for (size_t i = 0; i < KN_TEXT_MAX; i++)
            if (spec->text[texts][i])
                return kn_fail(err, KN_E_ARGUMENT, "%s: an unused option is set", spec->test->name);
    return 0;
}

/* ---- rules between options ---- */

static int check_rate(const struct kn_spec *s, struct kn_error *err)
{
    enum kn_rate_kind kind = s->test->rate;
    if (s->rate_bps && s->rate_per_1000s)
        return kn_fail(err, KN_E_ARGUMENT, "rate: expected bits or requests a second, got both");
    if (s->rate_bps && kind == KN_RATE_EVENTS)
        return kn_fail(err, KN_E_ARGUMENT, "rate: %s takes requests a second, for example \"20k/s\"", s->test->name);
    if (s->rate_per_1000s && kind == KN_RATE_BITS)
        return kn_fail(err, KN_E_ARGUMENT, "rate: %s takes bits a second, for example \"1Gbit/s\"", s->test->name);
    if (s->rate_bps > 10000000000000ull || s->rate_per_1000s > 1000000000000ull)
        return kn_fail(err, KN_E_ARGUMENT, "rate must be at most 1 G/s or 10 Tbit/s");
    return 0;
}

static int check_rules(const struct kn_spec *s, struct kn_error *err)
{
    const uint64_t limits = KN_HAS(DURATION) | KN_HAS(COUNT); /* a test without them ends by itself */
    if ((s->test->options & limits) && s->duration_ns == 0 && s->count == 0)
        return kn_fail(err, KN_E_ARGUMENT, "duration or count is required");
    if (s->ip == 5)
        return kn_fail(err, KN_E_ARGUMENT, "ip must be 4 or 6, got 5");
    if (s->reverse && s->bidir)
        return kn_fail(err, KN_E_ARGUMENT, "reverse and bidir exclude each other: bidir sends both ways");
    if (s->count && s->flows > s->count)
        return kn_fail(err, KN_E_ARGUMENT,
                       "flows: %" PRIu64 " flows cannot share a count of %" PRIu64 "; every flow needs at least one",
                       s->flows, s->count);
    if (check_rate(s, err))
        return -1;
    return s->test->check ? s->test->check(s, err) : 0;
}

int kn_spec_check(const struct kn_spec *spec, struct kn_error *err)
{
    return check_options(spec, err) || check_unused(spec, err) || check_rules(spec, err) ? -1 : 0;
}
