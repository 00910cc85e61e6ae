/* agent/api - the requests of control and their answers, JSON in and out. docs/agent.md has them all. */
#ifndef KN_AGENT_API_H
#define KN_AGENT_API_H

#include <jansson.h>

#include "agent/flows.h"
#include "agent/observe.h"
#include "agent/runs.h"
#include "agent/schedule.h"
#include "agent/shared.h"

struct kn_api {
    struct kn_shared *shared;
    struct kn_runs *runs;
    struct kn_watches *watches;
    struct kn_schedules *schedules;
    struct kn_flows *flows;
};
struct kn_api_request {
    const char *method, *path;
    const char *wait; /* milliseconds, as text; NULL: none */
    const char *body;
    size_t size;
};
/* The answer and its HTTP status. New reference. */
json_t *kn_api_answer(const struct kn_api *api, const struct kn_api_request *request, unsigned *status);
json_t *kn_api_error(const struct kn_error *err, unsigned *status);

/* KN_E_AUTH and KN_E_VERSION, counted. NULL: the request has no such header. */
int kn_api_check_token(struct kn_shared *shared, const char *token, struct kn_error *err);
int kn_api_check_protocol(struct kn_shared *shared, const char *protocol, struct kn_error *err);

#endif
