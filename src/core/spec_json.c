/* Converts a specification to JSON. */
#include <inttypes.h>
#include <stdio.h>

#include "core/json.h"
#include "core/spec.h"

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

static bool has_value(const struct kn_spec *spec, const struct kn_spec_option *option)
{
    switch (option->kind) {
    case KN_KIND_RATE: return kn_spec_open_loop(spec);
    case KN_KIND_TEXT: return *((const char *)spec + option->offset);
    default: return !option->optional || kn_option_get(spec, option);
    }
}

static json_t *value_to_json(const struct kn_spec *spec, const struct kn_spec_option *option)
{
    if (option->kind == KN_KIND_RATE)
        return rate_to_json(spec);
    if (option->kind == KN_KIND_TEXT)
        return json_string((const char *)spec + option->offset);
    uint64_t number = kn_option_get(spec, option);
    switch (option->kind) {
    case KN_KIND_DURATION: return json_real((double)number / 1e9);
    case KN_KIND_FLAG: return json_boolean(number);
    case KN_KIND_CHOICE: return json_string(option->choices[number]);
    default: return json_integer((json_int_t)number);
    }
}

json_t *kn_spec_to_json(const struct kn_spec *spec)
{
    json_t *json = json_object();
    unsigned long losses = kn_json_losses();
    const struct kn_spec_option *option;
    kn_json_set(json, "test", json_string(spec->test->name));
    for (unsigned i = 0; (option = kn_test_option(spec->test, i)); i++) {
        bool asked = kn_test_has(spec->test, option) && !(spec->external && option->agents);
        if (asked && has_value(spec, option))
            kn_json_set(json, option->name, value_to_json(spec, option));
    }
    return kn_json_whole(json, losses);
}
