/* agent/control - HTTP on the connections that the gate passed on: libmicrohttpd, a thread each. */
#ifndef KN_AGENT_CONTROL_H
#define KN_AGENT_CONTROL_H

#include <stdatomic.h>

#include "agent/api.h"

struct MHD_Daemon;
struct kn_control {
    struct kn_api api;
    struct MHD_Daemon *http;
    atomic_uint connections;
};
int kn_control_start(struct kn_control *control, const struct kn_api *api, struct kn_error *err);
void kn_control_take(struct kn_control *control, int fd); /* takes the socket */
void kn_control_stop(struct kn_control *control);         /* ends every connection */

#endif
