/* meter/observe - what watches a machine while something else is measured: the monitor, the profile.
 *
 * An observer is one file with one table of functions; observe.c has the list of them. It is asked for by its name, as
 * in {"monitor": {"interval_ns": 100000000}}, and its answer stands under the same name. What a machine does not permit
 * is an answer too: {"error": {"code", "message"}} in that observer's place, while the others watch. */
#ifndef KN_METER_OBSERVE_H
#define KN_METER_OBSERVE_H

#include <jansson.h>

#include "core/error.h"

struct kn_observer_ops {
    const char *name;
    /* Watches from now on, in threads of its own. `options`: an object. A refusal of what was asked is KN_E_ARGUMENT. */
    void *(*start)(const json_t *options, struct kn_error *err);
    json_t *(*stop)(void *observer);   /* ends it; what it has seen. Called once, before free */
    void (*free)(void *observer);      /* ends it too where stop was not called */
};

extern const struct kn_observer_ops kn_monitor, kn_profile;

/* Several observers at once. `request`: {NAME: options, …}; NULL where it asks for nonsense. */
struct kn_observation;
struct kn_observation *kn_observation_new(const json_t *request, struct kn_error *err);
json_t *kn_observation_stop(struct kn_observation *o);   /* {NAME: what it has seen, …}; NULL without memory */
void kn_observation_free(struct kn_observation *o);

#endif
