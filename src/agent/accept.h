/* agent/accept - the threads that accept TCP connections. They serve the short ones in place. */
#ifndef KN_AGENT_ACCEPT_H
#define KN_AGENT_ACCEPT_H

#include "agent/gate.h"
#include "agent/poller.h"

struct kn_acceptors;
struct kn_acceptors *kn_acceptors_new(struct kn_gate *gate, struct kn_poller *poller, int tcp_fd, struct kn_error *err);
/* `shared->stop` is set, the listening socket is shut down by this: joins and frees them. NULL is fine. */
void kn_acceptors_free(struct kn_acceptors *all);

#endif
