#include "core/test.h"

#include <stdio.h>
#include <string.h>

#include "core/json.h"
#include "core/spec.h"
#include "core/units.h"

#define NAMES_MAX 64

/* ---- the registry ---- */

static size_t names_of(const struct kn_registry *registry, const char **names)
{
    size_t n = 0;
    for (; registry->tests[n] && n < NAMES_MAX; n++)
        names[n] = registry->tests[n]->name;
    return n;
}

static void list(char *buf, size_t size, const char *const *names, size_t n)
{
    size_t used = 0;
    *buf = '\0';
    for (size_t i = 0; i < n && used < size; i++)
        used += (size_t)snprintf(buf + used, size - used, "%s%s", i ? ", " : "", names[i]);
}

const struct kn_test *kn_test_find(const struct kn_registry *registry, const char *name, struct kn_error *err)
{
    const char *names[NAMES_MAX] = {NULL};
    char quoted[KN_QUOTE_MAX], all[384];
    size_t n = names_of(registry, names);
    for (size_t i = 0; i < n; i++)
        if (strcmp(name, names[i]) == 0)
            return registry->tests[i];
    const char *near = kn_nearest(name, names, n);
    list(all, sizeof all, names, n);
    if (near)
        kn_fail(err, KN_E_ARGUMENT, "unknown test %s; did you mean \"%s\"?", kn_quote(quoted, name), near);
    else
        kn_fail(err, KN_E_ARGUMENT, "unknown test %s; expected one of %s", kn_quote(quoted, name), all);
    return NULL;
}

/* ---- options ---- */

static bool is_shared(const struct kn_spec_option *option)
{
    return option >= kn_shared_options && option < kn_shared_options + KN_SHARED_OPTIONS;
}

bool kn_test_has(const struct kn_test *test, const struct kn_spec_option *option)
{
    return !is_shared(option) || (test->options >> (option - kn_shared_options) & 1);
}

const struct kn_spec_option *kn_test_option(const struct kn_test *test, unsigned i)
{
    if (i < KN_SHARED_OPTIONS)
        return &kn_shared_options[i];
    const struct kn_spec_option *own = test->own;
    for (i -= KN_SHARED_OPTIONS; own && own->name && i; i--)
        own++;
    return own && own->name ? own : NULL;
}

void kn_test_limits(const struct kn_test *test, const struct kn_spec_option *option, uint64_t *least, uint64_t *most)
{
    *least = option->least;
    *most = option->most;
    for (const struct kn_limit *l = test->limits; l && l->offset; l++) {
        if (l->offset != option->offset)
            continue;
        *least = l->least;
        *most = l->most;
    }
}

const char *kn_test_alias(const struct kn_test *test, const char *key)
{
    for (const struct kn_alias *a = test->aliases; a && a->alias; a++)
        if (strcmp(a->alias, key) == 0)
            return a->name;
    return NULL;
}

/* ---- as JSON ---- */

static json_t *texts(const char *const *names)
{
    json_t *array = json_array();
    for (; names && *names; names++)
        kn_json_append(array, json_string(*names));
    return array;
}

static json_t *aliases_of(const struct kn_test *test)
{
    json_t *object = json_object();
    for (const struct kn_alias *a = test->aliases; a && a->alias; a++)
        kn_json_set(object, a->alias, json_string(a->name));
    return object;
}

static json_t *options_of(const struct kn_test *test)
{
    json_t *array = json_array();
    const struct kn_spec_option *option;
    for (unsigned i = 0; (option = kn_test_option(test, i)); i++)
        if (kn_test_has(test, option))
            kn_json_append(array, json_string(option->name));
    return array;
}

static json_t *test_to_json(const struct kn_test *t)
{
    static const char *const transports[] = {[KN_TCP] = "tcp", [KN_UDP] = "udp", [KN_ICMP] = "icmp"};
    static const char *const shapes[] = {
        [KN_BULK] = "bulk", [KN_RR] = "rr", [KN_SHORT] = "short", [KN_ECHO] = "echo", [KN_PROBE] = "probe"};
    static const char *const rates[] = {
        [KN_RATE_NONE] = "none", [KN_RATE_EVENTS] = "events", [KN_RATE_BITS] = "bits", [KN_RATE_BOTH] = "both"};
    bool external = t->options & KN_HAS(EXTERNAL), agent = t->serve || t->serve_once;
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:b, s:b, s:b, s:b, s:s, s:o, s:o, s:o, s:o}", "name", t->name,
                     "help", t->help, "transport", transports[t->transport], "shape", shapes[t->shape], "rate_kind",
                     rates[t->rate], "port", t->port, "needs_agent", agent && !external, "external", external, "agent",
                     agent, "sized", t->sized, "headline", t->headline, "columns", texts(t->columns), "compare",
                     texts(t->compared), "aliases", aliases_of(t), "options", options_of(t));
}

json_t *kn_tests_to_json(const struct kn_registry *registry)
{
    json_t *array = json_array();
    unsigned long losses = kn_json_losses();
    for (const struct kn_test *const *t = registry->tests; *t; t++)
        kn_json_append(array, test_to_json(*t));
    return kn_json_whole(array, losses);
}

static json_t *option_to_json(const struct kn_spec_option *o)
{
    json_t *row = json_pack("{s:s, s:s, s:o*, s:o, s:s}", "name", o->name, "kind", kn_kind_name(o->kind), "choices",
                            o->choices ? texts(o->choices) : NULL, "tests", json_array(), "help", o->help);
    if (o == &kn_shared_options[KN_OPT_FLOWS])
        kn_json_set(row, "each_agent", json_object());
    return row;
}

static json_t *find_named(json_t *array, const char *name)
{
    size_t i;
    json_t *one;
    json_array_foreach(array, i,
                       one) if (strcmp(json_string_value(json_object_get(one, "name")), name) == 0) return one;
    return NULL;
}

json_t *kn_options_to_json(const struct kn_registry *registry)
{
    json_t *array = json_array();
    unsigned long losses = kn_json_losses();
    for (const struct kn_test *const *t = registry->tests; *t; t++) {
        const struct kn_spec_option *option;
        for (unsigned i = 0; (option = kn_test_option(*t, i)); i++) {
            json_t *row = find_named(array, option->name);
            if (!row) {
                kn_json_append(array, option_to_json(option));
                row = find_named(array, option->name);
            }
            json_t *each = json_object_get(row, "each_agent"); /* how many flows an agent serves at once, by test */
            if (each)
                kn_json_set(each, (*t)->name, json_integer((*t)->desk ? KN_AGENT_FLOWS_MAX : KN_AGENT_THREADS_MAX));
            if (kn_test_has(*t, option))
                kn_json_append(json_object_get(row, "tests"), json_string((*t)->name));
        }
    }
    return kn_json_whole(array, losses);
}
