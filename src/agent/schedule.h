/* agent/schedule - a client's part of a mesh: the runs of POST /v1/schedule, which the agent makes alone, each at its
 * time on the agent's own CLOCK_MONOTONIC, once it was told when to start.
 *
 * A run that cannot begin in time is not made, and one that does not end with its slot is stopped: either costs its own
 * pair. Results are kept until they were fetched. A schedule that is not polled for longer than its patience is
 * stopped, as a run is (agent/lease.h); while there is one, the agent is not idle. */
#ifndef KN_AGENT_SCHEDULE_H
#define KN_AGENT_SCHEDULE_H

#include <jansson.h>

#include "agent/lease.h"
#include "agent/shared.h"

#define KN_SCHEDULE_RUNS_MAX 8192
#define KN_SCHEDULE_PEERS_MAX 4096
#define KN_SCHEDULE_TESTS_MAX 16
#define KN_SCHEDULE_BODY_MAX (1u << 20) /* of the request */

struct kn_schedules {
    struct kn_leases leases; /* one at a time */
    struct kn_shared *shared;
};
void kn_schedules_init(struct kn_schedules *schedules, struct kn_shared *shared);
void kn_schedules_fini(struct kn_schedules *schedules);
/* `request`: the body of POST /v1/schedule. The answer is what GET gives, with an error NULL. */
json_t *kn_schedules_add(struct kn_schedules *schedules, const json_t *request, struct kn_error *err);
/* POST /v1/schedule/ID/start: KN_E_LOST: no such schedule. */
json_t *kn_schedules_start(struct kn_schedules *schedules, const char *id, const json_t *request, struct kn_error *err);
/* GET: how far it is; DELETE (`end`): it is stopped, and the results are in the answer. NULL with KN_E_LOST: no
 * such schedule. */
json_t *kn_schedules_report(struct kn_schedules *schedules, const char *id, bool end, struct kn_error *err);

#endif
