/* agent/admit - which hellos this agent serves, and how it refuses the others. */
#ifndef KN_AGENT_ADMIT_H
#define KN_AGENT_ADMIT_H

#include "agent/shared.h"

/* A verified hello that came over UDP or TCP. */
int kn_admit_hello(const struct kn_shared *shared, const struct kn_hello *hello, bool udp, struct kn_error *err);
/* The refusal of a hello, counted; it goes back in place of a welcome. */
void kn_admit_refusal(struct kn_shared *shared, const struct kn_error *why, struct kn_welcome *w);

#endif
