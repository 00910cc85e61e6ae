/* run/flow_udp - a client's UDP flows, from the cookie exchange to the server's account, which comes in parts; and what
 * both sides need to handle UDP sockets. */
#ifndef KN_RUN_FLOW_UDP_H
#define KN_RUN_FLOW_UDP_H

#include <sys/types.h>

#include "run/worker.h"

/* Does the cookie exchange; returns a connected socket. */
int kn_flow_open_udp(struct kn_worker *w, unsigned flow, struct kn_error *err);
/* `sent` is the number of measured datagrams that this side has sent, so that the server knows how many are still on
 * their way (0: does not matter). Closes fd. */
int kn_flow_close_udp(struct kn_worker *w, int fd, unsigned flow, uint64_t sent, struct kn_error *err);

/* ---- sockets ---- */

#define KN_UDP_CONTROL_MAX 1500
#define KN_UDP_FETCHED_ALL UINT32_MAX
#define KN_UDP_STOP_POLL_NS (50 * KN_NS_PER_MS) /* longest wait, so that a stop is noticed */

static inline uint64_t kn_least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}
/* Receives one datagram: returns its size, 0 if none came before `until_ns`, -1 with errno. */
ssize_t kn_udp_receive(int fd, uint8_t *buf, size_t size, uint64_t until_ns);
int kn_udp_timeouts(int fd, uint64_t ns, struct kn_error *err); /* of blocking calls, so that a stop is noticed */
/* Sets the buffers of the specification; if none, `big` asks for large ones. Returns the actual receive buffer. */
uint64_t kn_udp_buffers(int fd, const struct kn_spec *spec, bool big);
/* What the kernel says of a socket's receive buffer: the bytes in it, and the datagrams that it has dropped so far.
 * False if it says nothing (gVisor). */
bool kn_udp_backlog(int fd, uint32_t *bytes, uint32_t *drops);
/* What a client's own socket drops inside the window, between the two calls. */
struct kn_udp_drops {
    uint32_t before;
    bool known;
};
void kn_udp_drops_open(struct kn_udp_drops *d, int fd);
void kn_udp_drops_close(const struct kn_udp_drops *d, int fd, struct kn_figures *f);
void kn_udp_nap(uint64_t ns);
void kn_udp_hear_errors(int fd);   /* report drops by this host's queues (ENOBUFS), and ICMP errors of routers */
void kn_udp_forget_errors(int fd); /* empties the socket's error queue */

/* Packs an order of `kind` for a flow of this run; returns its size. */
size_t kn_udp_order(const struct kn_worker *w, unsigned flow, enum kn_udp_kind kind, uint64_t sent, uint32_t offset,
                    uint8_t *wire);
/* Fetches the account of a flow's server, in parts. Datagrams of the test that still arrive go to `other`. New
 * reference. */
struct kn_udp_other {
    void (*take)(void *arg, const uint8_t *datagram, size_t size);
    void *arg;
};
json_t *kn_udp_fetch(struct kn_worker *w, int fd, unsigned flow, uint64_t sent, const struct kn_udp_other *other,
                     struct kn_error *err);

/* Asks the servers of several flows to make their accounts at the same time, before they are fetched one by one. */
void kn_udp_announce(const struct kn_worker *w, int fd, unsigned flow, uint64_t sent);

#endif
