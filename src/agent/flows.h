/* agent/flows - the flows that this agent serves: few by a thread each, with a time for each phase; many at the desks
 * (run/desk.h). */
#ifndef KN_AGENT_FLOWS_H
#define KN_AGENT_FLOWS_H

#include <pthread.h>

#include "agent/shared.h"

struct kn_flow;
struct kn_flows {
    struct kn_shared *shared;
    pthread_mutex_t lock;
    struct kn_flow *active, *ended;
    unsigned n_active;
};
void kn_flows_init(struct kn_flows *flows, struct kn_shared *shared);
void kn_flows_fini(struct kn_flows *flows);
/* Takes the socket; where it fails the socket stays the caller's. `peer`: NULL for TCP. `extra` came after the hello.
 */
int kn_flows_start(struct kn_flows *flows, int fd, const struct kn_hello *hello, const struct kn_addr *peer,
                   const uint8_t *extra, size_t extra_size, struct kn_error *err);
bool kn_flows_has_udp(struct kn_flows *flows, const struct kn_addr *peer, const struct kn_hello *hello);
unsigned kn_flows_active(struct kn_flows *flows);
uint64_t kn_flows_tick(struct kn_flows *flows, uint64_t now_ns); /* ends the overdue; returns when to look again */
void kn_flows_stop(struct kn_flows *flows); /* `shared->stop` is set, so none is added: ends and joins them all */

#endif
