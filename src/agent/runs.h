/* agent/runs - what this agent measures as a client: the runs of POST /v1/runs. */
#ifndef KN_AGENT_RUNS_H
#define KN_AGENT_RUNS_H

#include <jansson.h>

#include "agent/lease.h"
#include "agent/shared.h"

struct kn_runs {
    struct kn_leases leases;
    struct kn_shared *shared;
};
void kn_runs_init(struct kn_runs *runs, struct kn_shared *shared);
void kn_runs_fini(struct kn_runs *runs);
/* `request`: the body of POST /v1/runs. The id of the run goes to `id`. */
int kn_runs_start(struct kn_runs *runs, const json_t *request, char id[KN_ID_SIZE], struct kn_error *err);
/* What GET answers, once the run is over or after wait_ns; NULL with KN_E_LOST: no such run. */
json_t *kn_runs_report(struct kn_runs *runs, const char *id, uint64_t wait_ns, struct kn_error *err);
/* What DELETE answers: the same, after the run was told to stop. The run is forgotten if it ended in time. */
json_t *kn_runs_end(struct kn_runs *runs, const char *id, struct kn_error *err);

#endif
