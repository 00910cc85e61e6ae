/* agent/observe - what this agent observes while others measure: the observations of POST /v1/observe. */
#ifndef KN_AGENT_OBSERVE_H
#define KN_AGENT_OBSERVE_H

#include <jansson.h>

#include "agent/lease.h"
#include "agent/shared.h"

struct kn_watches {
    struct kn_leases leases;
    struct kn_shared *shared;
};
void kn_watches_init(struct kn_watches *watches, struct kn_shared *shared);
void kn_watches_fini(struct kn_watches *watches);
int kn_watches_start(struct kn_watches *watches, const json_t *request, char id[KN_ID_SIZE], struct kn_error *err);
/* What was seen; NULL with KN_E_LOST: no such id. */
json_t *kn_watches_stop(struct kn_watches *watches, const char *id, struct kn_error *err);

#endif
