/* meter/observe - observers of a machine during a measurement: the monitor, the profile.
 *
 * An observer is one file with one table of functions, listed in observe.c. A request names it, as in
 * {"monitor": {"interval_ns": 100000000}}, and its result has the same name. If the machine does not permit it, the
 * result is {"error": {"code", "message"}}, and the other observers still run. */
#ifndef KN_METER_OBSERVE_H
#define KN_METER_OBSERVE_H

#include <jansson.h>

#include "core/error.h"

struct kn_observer_ops {
    const char *name;
    /* Starts observing in threads of its own. `options`: an object. Invalid options are KN_E_ARGUMENT. */
    void *(*start)(const json_t *options, struct kn_error *err);
    json_t *(*stop)(void *observer); /* ends it and returns the result; called once, before free */
    void (*free)(void *observer);    /* ends it if stop was not called */
};

extern const struct kn_observer_ops kn_monitor, kn_profile;

/* Several observers at once. `request`: {NAME: options, …}; NULL if it is invalid. */
struct kn_observation;
struct kn_observation *kn_observation_new(const json_t *request, struct kn_error *err);
json_t *kn_observation_stop(struct kn_observation *o); /* {NAME: result, …}; NULL: out of memory */
void kn_observation_free(struct kn_observation *o);

#endif
