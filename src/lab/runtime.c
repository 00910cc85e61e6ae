#include "lab/keeper.h"

#include <string.h>

#include "core/units.h"

/* To add a runtime, write its file and add it here. */
static const struct kn_lab_runtime *const runtimes[] = {&kn_lab_runc, &kn_lab_host, &kn_lab_gvisor, &kn_lab_kata};
enum { RUNTIMES = sizeof runtimes / sizeof *runtimes };
_Static_assert((int)RUNTIMES <= (int)LAB_RUNTIMES_MAX, "the keeper has room for what was found out about each");

const struct kn_lab_runtime *kn_lab_runtime_find(const char *name, struct kn_error *err)
{
    const char *names[RUNTIMES];
    for (size_t i = 0; i < RUNTIMES; i++) {
        names[i] = runtimes[i]->name;
        if (strcmp(name, names[i]) == 0)
            return runtimes[i];
    }
    kn_fail(err, KN_E_UNSUPPORTED, "the lab has no runtime '%.40s'", name);
    return kn_null(kn_lab_suggest(err, kn_nearest(name, names, RUNTIMES)));
}

const json_t *kn_lab_runtime_about(struct kn_lab_keeper *keeper, const struct kn_lab_runtime *runtime,
                                   struct kn_error *err)
{
    size_t i = 0;
    while (runtimes[i] != runtime)
        i++;
    struct kn_lab_probe *probe = &keeper->probes[i];
    if (!probe->done) {
        probe->done = true;
        probe->about = json_object();
        if (runtime->probe(keeper, probe->about, &probe->why)) {
            json_decref(probe->about);
            probe->about = NULL;
        }
    }
    if (!probe->about)
        *err = probe->why;
    return probe->about;
}

/* Each as {"name","ok":true,…} or {"name","ok":false,"reason"}. */
json_t *kn_lab_runtimes_json(struct kn_lab_keeper *keeper)
{
    json_t *list = json_array();
    for (size_t i = 0; i < RUNTIMES; i++) {
        struct kn_error err;
        const json_t *about = kn_lab_runtime_about(keeper, runtimes[i], &err);
        json_t *json = json_pack("{s:s,s:b}", "name", runtimes[i]->name, "ok", about != NULL);
        if (about)
            json_object_update_missing(json, (json_t *)(uintptr_t)about);
        else
            json_object_set_new(json, "reason", json_string(err.message));
        json_array_append_new(list, json);
    }
    return list;
}
