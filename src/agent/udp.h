/* agent/udp - the thread where hellos over UDP come.
 *
 * A hello without a good cookie gets a retry, which is shorter; one with it gets a socket of its own, bound to the
 * address that it was sent to and connected to its sender. All else is counted, never answered. */
#ifndef KN_AGENT_UDP_H
#define KN_AGENT_UDP_H

#include "agent/flows.h"
#include "agent/shared.h"
#include "agent/udp_socket.h"

#define KN_DATAGRAM_MAX 2048

struct kn_udp_listener {
    struct kn_shared *shared;
    struct kn_flows *flows;
    struct kn_udp_socket *socket;
    struct kn_addr at; /* where it is bound */
    pthread_t thread;
    bool started;
    uint8_t buffer[KN_DATAGRAM_MAX];
};
void kn_udp_listener_init(struct kn_udp_listener *l, struct kn_shared *shared, struct kn_flows *flows,
                          struct kn_udp_socket *socket, const struct kn_addr *at);
/* Takes the next datagram. False: there is none. */
bool kn_udp_listener_step(struct kn_udp_listener *l);
/* Does so in a thread of its own, until kn_udp_listener_stop joins it: `shared->stop` is set by then. */
int kn_udp_listener_start(struct kn_udp_listener *l, struct kn_error *err);
void kn_udp_listener_stop(struct kn_udp_listener *l);

#endif
