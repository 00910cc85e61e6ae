/* agent/sockets - where an agent listens: TCP and UDP on one port, and a Unix socket for control. */
#ifndef KN_AGENT_SOCKETS_H
#define KN_AGENT_SOCKETS_H

#include "agent/udp_socket.h"

struct kn_sockets {
    int tcp_fd, unix_fd;
    struct kn_udp_socket udp;
    struct kn_addr at;     /* with the port that was picked */
    const char *unix_path; /* not a copy */
};
/* `unix_path`: NULL for none; "@name" is abstract. What fails leaves nothing open but what fini closes. */
int kn_sockets_open(struct kn_sockets *s, const struct kn_addr *at, const char *unix_path, struct kn_error *err);
void kn_sockets_fini(struct kn_sockets *s);

#endif
