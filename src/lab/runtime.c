#include "lab/keeper.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/units.h"

/* A runtime is a file of its own and a word here. */
static const struct kn_lab_runtime *const runtimes[] = { &kn_lab_runc, &kn_lab_host, &kn_lab_gvisor, &kn_lab_kata,
                                                         &kn_lab_kata_clh, &kn_lab_kata_fc };
enum { RUNTIMES = sizeof runtimes / sizeof *runtimes };
_Static_assert((int)RUNTIMES <= (int)LAB_RUNTIMES_MAX, "the keeper has room for what was found out about each");

const struct kn_lab_runtime *kn_lab_runtime_find(const char *name, struct kn_error *err)
{
    const char *names[RUNTIMES];
    for (size_t i = 0; i < RUNTIMES; i++) {
        names[i] = runtimes[i]->name;
        if (strcmp(name, names[i]) == 0) return runtimes[i];
    }
    const char *near = kn_nearest(name, names, RUNTIMES);
    if (near) kn_fail(err, KN_E_UNSUPPORTED, "the lab has no runtime '%.40s'; did you mean '%s'?", name, near);
    else kn_fail(err, KN_E_UNSUPPORTED, "the lab has no runtime '%.40s'", name);
    return NULL;
}

bool kn_lab_installed(const char *program)
{
    char path[PATH_MAX], *save, *all = strdup(getenv("PATH") ? getenv("PATH") : "/usr/bin:/bin");
    bool found = false;
    for (char *folder = all ? strtok_r(all, ":", &save) : NULL; folder && !found; folder = strtok_r(NULL, ":", &save))
        found = snprintf(path, sizeof path, "%s/%s", folder, program) < (int)sizeof path && access(path, X_OK) == 0;
    free(all);
    return found;
}

const json_t *kn_lab_runtime_about(struct kn_keeper *keeper, const struct kn_lab_runtime *runtime, struct kn_error *err)
{
    size_t i = 0;
    while (runtimes[i] != runtime) i++;
    struct kn_lab_probe *probe = &keeper->probes[i];
    if (!probe->done) {
        probe->done = true;
        probe->about = json_object();
        if (runtime->probe(keeper, runtime, probe->about, &probe->why)) {
            json_decref(probe->about);
            probe->about = NULL;
        }
    }
    if (!probe->about) *err = probe->why;
    return probe->about;
}

/* Each as {"name","ok":true,…} or {"name","ok":false,"reason"}. */
json_t *kn_lab_runtimes_json(struct kn_keeper *keeper)
{
    json_t *list = json_array();
    for (size_t i = 0; i < RUNTIMES; i++) {
        struct kn_error err;
        const json_t *about = kn_lab_runtime_about(keeper, runtimes[i], &err);
        json_t *json = json_pack("{s:s,s:b}", "name", runtimes[i]->name, "ok", about != NULL);
        if (about) json_object_update_missing(json, (json_t *)(uintptr_t)about);
        else json_object_set_new(json, "reason", json_string(err.message));
        json_array_append_new(list, json);
    }
    return list;
}
