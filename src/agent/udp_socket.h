/* agent/udp_socket - sockets that share the agent's UDP port: the one where hellos come, and one for each flow.
 *
 * Linux lets two sockets share a port where both have SO_REUSEADDR, also those of different users: an agent whose
 * socket had it would share its port with any local user. So the agent's has SO_REUSEPORT instead, which asks for the
 * same owner, and only while a flow's socket is bound: kernels before 5.4 would spread the datagrams of such a group
 * over its connected sockets too. A sandbox that remembers the options of the time of the bind (gVisor) keeps
 * SO_REUSEADDR. */
#ifndef KN_AGENT_UDP_SOCKET_H
#define KN_AGENT_UDP_SOCKET_H

#include <stdbool.h>

#include "core/error.h"
#include "net/addr.h"

struct kn_udp_socket {
    int fd; /* -1: closed */
    bool shares_always;
};
/* Closing the descriptor is all that it takes. */
int kn_udp_socket_open(struct kn_udp_socket *s, const struct kn_addr *at, struct kn_error *err);
/* A socket of a flow, bound to `to`, which has the agent's port, and connected to `from`. -1 with errno. One thread
 * calls it. */
int kn_udp_socket_flow(struct kn_udp_socket *s, const struct kn_addr *to, const struct kn_addr *from);

#endif
