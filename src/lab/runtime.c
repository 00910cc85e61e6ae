#include "lab/keeper.h"

#include <string.h>

#include "core/units.h"

/* A runtime is a file of its own and a word here. */
static const struct kn_lab_runtime *const runtimes[] = { &kn_lab_runc, &kn_lab_host };
enum { RUNTIMES = sizeof runtimes / sizeof *runtimes };

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
