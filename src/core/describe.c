#include "core/describe.h"

#include "core/hist.h"
#include "core/spec.h"

static json_t *choices_of(const struct kn_spec_field *f)
{
    json_t *list = f->choices ? json_array() : NULL;
    for (const char *const *c = f->choices; list && *c; c++)
        json_array_append_new(list, json_string(*c));
    return list;
}

static json_t *tests_of(const struct kn_spec_field *f)
{
    json_t *list = json_array();
    for (int i = 0; i < KN_TEST_COUNT; i++)
        if (f->tests & 1u << i)
            json_array_append_new(list, json_string(kn_test_name((enum kn_test)i)));
    return list;
}

json_t *kn_fields_to_json(void)
{
    size_t n;
    const struct kn_spec_field *f = kn_spec_fields(&n);
    json_t *list = json_array();
    for (size_t i = 0; list && i < n; i++) {
        json_t *field = json_pack("{s:s, s:s, s:o*, s:o, s:s}", "name", f[i].name, "kind",
                                  kn_field_kind_name(f[i].kind), "choices", choices_of(&f[i]), "tests",
                                  tests_of(&f[i]), "help", f[i].help);
        if (f[i].offset == offsetof(struct kn_spec, flows))
            json_object_set_new(field, "each_agent", json_integer(KN_AGENT_FLOWS_MAX));
        json_array_append_new(list, field);
    }
    return list;
}

json_t *kn_hist_merge_json(const json_t *list, struct kn_error *err)
{
    struct kn_hist *sum = json_is_array(list) ? kn_hist_new() : NULL;
    size_t n = json_array_size(list);
    if (!sum) {
        kn_fail(err, json_is_array(list) ? KN_E_MEMORY : KN_E_ARGUMENT,
                json_is_array(list) ? "out of memory" : "a list of histograms is wanted");
        return NULL;
    }
    size_t i = 0;
    for (; i < n; i++) {
        struct kn_hist *one = kn_hist_from_json(json_array_get(list, i), err);
        if (!one)
            break;
        kn_hist_merge(sum, one);
        kn_hist_free(one);
    }
    json_t *merged = i == n ? kn_hist_to_json(sum) : NULL;
    if (i == n && !merged)
        kn_fail(err, KN_E_MEMORY, "out of memory");
    kn_hist_free(sum);
    return merged;
}
