#include "agent/observe.h"

#include <stdlib.h>
#include <string.h>

#include "meter/observe.h"

#define LONGER_NS (120 * KN_NS_PER_S) /* than a run may take: it begins before the run and ends after it */

struct watch {
    struct kn_lease lease;
    struct kn_observation *observation;
};

static void watch_free(struct kn_lease *lease)
{
    kn_observation_free(((struct watch *)lease)->observation);
    free(lease);
}

static const struct kn_lease_ops ops = {.what = "observation", .free = watch_free};

void kn_watches_init(struct kn_watches *watches, struct kn_shared *shared)
{
    watches->shared = shared;
    kn_leases_init(&watches->leases, &ops, NULL, shared->config.max_runs, shared->config.orphan_ns);
}

void kn_watches_fini(struct kn_watches *watches)
{
    kn_leases_fini(&watches->leases);
}

int kn_watches_start(struct kn_watches *watches, const json_t *request, char id[KN_ID_SIZE], struct kn_error *err)
{
    struct watch *w = calloc(1, sizeof *w);
    if (!w)
        return kn_fail_memory(err);
    kn_lease_id(NULL, w->lease.id, err);
    memcpy(id, w->lease.id, KN_ID_SIZE);
    w->lease.limit_ns = kn_now_ns() + watches->shared->config.max_duration_ns + LONGER_NS;
    w->observation = kn_observation_new(request, err);
    if (!w->observation || kn_leases_add(&watches->leases, &w->lease, err)) {
        watch_free(&w->lease);
        return -1;
    }
    kn_shared_wake(watches->shared);
    return 0;
}

json_t *kn_watches_stop(struct kn_watches *watches, const char *id, struct kn_error *err)
{
    struct watch *w = (struct watch *)kn_leases_remove(&watches->leases, id, err);
    if (!w)
        return NULL;
    json_t *out = kn_observation_stop(w->observation);
    if (!out)
        kn_fail_memory(err);
    watch_free(&w->lease);
    return out;
}
