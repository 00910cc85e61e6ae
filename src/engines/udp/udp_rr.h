/* engines/udp/udp_rr - what the files of udp_rr share. */
#ifndef KN_ENGINES_UDP_RR_H
#define KN_ENGINES_UDP_RR_H

#include <errno.h>
#include <sched.h>

#include "core/test.h"
#include "net/io.h"
#include "run/wait.h"

#define KN_UDP_RR_ROOM 65536u /* of a buffer for what is received */

extern const struct kn_desk_test kn_udp_rr_desk; /* the agent's side of many flows */
int kn_udp_rr_serve(struct kn_served *s, int fd, struct kn_error *err);

/* As kn_recv_wait, but spinning ends too, as the socket's own timeout does. */
static inline ssize_t kn_udp_rr_receive(struct kn_waiter *wait, int fd, uint8_t *buf, uint64_t most_ns)
{
    if (wait->mode != KN_WAIT_SPIN)
        return kn_recv_wait(wait, fd, buf, KN_UDP_RR_ROOM, 0);
    for (uint64_t until_ns = kn_now_ns() + most_ns;;) {
        ssize_t n = kn_recv(fd, buf, KN_UDP_RR_ROOM, MSG_DONTWAIT);
        if (n >= 0 || errno != EAGAIN || kn_now_ns() >= until_ns)
            return n;
        sched_yield();
    }
}

#endif
