#include "meter/observe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"

static const struct kn_observer_ops *const observers[] = {&kn_monitor, &kn_profile};

#define OBSERVERS (sizeof observers / sizeof *observers)

struct kn_observation {
    void *running[OBSERVERS]; /* NULL: not requested, or refused */
    json_t *refused[OBSERVERS];
};

static size_t find(const char *name)
{
    size_t i = 0;
    while (i < OBSERVERS && strcmp(observers[i]->name, name))
        i++;
    return i;
}

static int unknown(const char *name, struct kn_error *err)
{
    char known[128] = "", quoted[KN_QUOTE_MAX];
    for (size_t i = 0, n = 0; i < OBSERVERS && n < sizeof known; i++)
        n += (size_t)snprintf(known + n, sizeof known - n, "%s%s", i ? ", " : "", observers[i]->name);
    return kn_fail(err, KN_E_ARGUMENT, "unknown observer %s; available: %s", kn_quote(quoted, name), known);
}

static int start(struct kn_observation *o, const char *name, const json_t *options, struct kn_error *err)
{
    size_t i = find(name);
    if (i == OBSERVERS)
        return unknown(name, err);
    if (!json_is_object(options))
        return kn_fail(err, KN_E_ARGUMENT, "options of \"%s\" must be an object", name);
    o->running[i] = observers[i]->start(options, err);
    if (o->running[i])
        return 0;
    if (err->code == KN_E_ARGUMENT || err->code == KN_E_MEMORY)
        return -1;
    o->refused[i] = json_pack("{s:{s:s, s:s}}", "error", "code", kn_code_name(err->code), "message", err->message);
    return o->refused[i] ? 0 : kn_fail_memory(err);
}

struct kn_observation *kn_observation_new(const json_t *request, struct kn_error *err)
{
    struct kn_observation *o = NULL;
    const char *name;
    json_t *options;
    if (!json_object_size(request))
        return kn_null(kn_fail(err, KN_E_ARGUMENT, "request must name an observer, like {\"monitor\":{}}"));
    if (!(o = calloc(1, sizeof *o))) {
        return kn_null(kn_fail_memory(err));
    }
    json_object_foreach((json_t *)request, name, options)
    {
        if (start(o, name, options, err)) {
            kn_observation_free(o);
            return NULL;
        }
    }
    return o;
}

json_t *kn_observation_stop(struct kn_observation *o)
{
    json_t *out = json_object();
    unsigned long losses = kn_json_losses();
    for (size_t i = 0; i < OBSERVERS; i++) {
        if (o->running[i])
            kn_json_set(out, observers[i]->name, observers[i]->stop(o->running[i]));
        else if (o->refused[i])
            kn_json_set(out, observers[i]->name, json_incref(o->refused[i]));
    }
    return kn_json_whole(out, losses);
}

void kn_observation_free(struct kn_observation *o)
{
    for (size_t i = 0; o && i < OBSERVERS; i++) {
        if (o->running[i])
            observers[i]->free(o->running[i]);
        json_decref(o->refused[i]);
    }
    free(o);
}
