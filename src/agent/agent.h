/* agent - serves measurements and takes orders through one port, TCP and UDP.
 *
 * The first bytes say what a connection is: an HTTP request is control, "KNBL" is a hello of the wire protocol
 * (net/wire.h), all else is refused and counted. Everything needs the token: control sends it in the header Knbl-Token,
 * data has it in the hello's keyed hash, UDP gets no answer before a cookie exchange. docs/agent.md describes control.
 *
 * Every run ends by itself: by its duration, by a limit of this agent, or because it was not polled. */
#ifndef KN_AGENT_AGENT_H
#define KN_AGENT_AGENT_H

#include <stdbool.h>

#include "agent/config.h"

struct kn_agent;
/* Listens, and serves in threads of its own. */
struct kn_agent *kn_agent_new(const struct kn_agent_config *config, struct kn_error *err);
uint16_t kn_agent_port(const struct kn_agent *agent);
void kn_agent_stop(struct kn_agent *agent);           /* async-signal-safe: asks it to end */
void kn_agent_wait(struct kn_agent *agent);           /* until it was asked to end, or was idle for too long */
bool kn_agent_was_idle(const struct kn_agent *agent); /* the reason why kn_agent_wait returned */
void kn_agent_free(struct kn_agent *agent);           /* stops every run and flow, joins every thread */

#endif
