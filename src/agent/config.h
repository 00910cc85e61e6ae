/* agent/config - what an agent is told: where it listens, its token, its limits. */
#ifndef KN_AGENT_CONFIG_H
#define KN_AGENT_CONFIG_H

#include <stdint.h>

#include "core/error.h"
#include "net/addr.h"
#include "run/server.h"

struct kn_agent_config {   /* 0 is the default */
    struct kn_addr listen; /* TCP and UDP; port 0 picks one */
    const char *unix_path; /* a second way to control, for the lab; NULL: none. "@name" is abstract */
    const char *token;     /* at least KN_TOKEN_LEAST characters */
    struct kn_identity me; /* name and node; empty: the host's name */
    uint64_t
        max_duration_ns; /* warm-up and duration of a run, default 1 h; also the longest that a run by count takes */
    uint64_t max_bytes;  /* of a flow that is served and of a run that is made; default: no limit */
    unsigned max_runs;   /* at once; default 64 */
    uint64_t idle_ns;    /* ends by itself after this time without control and data; default: never */
    uint64_t orphan_ns;  /* stops a run that was not polled for this time; default 30 s */
    uint64_t hello_ns;   /* closes a connection that has not said what it is; default 5 s */
};
void kn_agent_defaults(struct kn_agent_config *config);
/* "10.0.0.1:7099", "[fd00::1]:0", "name", or ":7099" for every address of both families, as `listen` wants it. */
int kn_agent_listen(const char *text, struct kn_addr *out, struct kn_error *err);

#endif
