/* engines/pmtu - the largest packet that a path carries, by direction: what both ends say to one another.
 *
 * The client decides and asks; the server answers what it is asked and remembers nothing. Sizes in messages are those
 * of the datagram's payload, since only the client knows the headers of its side of a Service. */
#ifndef KN_ENGINES_PMTU_PMTU_H
#define KN_ENGINES_PMTU_PMTU_H

#include "run/served.h"
#include "run/worker.h"

/* ---- datagrams (probe.c) ---- */

enum kn_pmtu_kind {
    KN_PMTU_PROBE = 1, /* client: a datagram of the size in question */
    KN_PMTU_PASSED,    /* server: it came */
    KN_PMTU_ASK,       /* client: send me a datagram of `size` */
    KN_PMTU_BACK,      /* server: that datagram */
    KN_PMTU_LOCAL,     /* server: it is larger than my interface, whose MTU is `mtu` */
    KN_PMTU_REPORTED   /* server: a router reported `mtu` by ICMP */
};
#define KN_PMTU_HEAD 16u
#define KN_PMTU_MOST 65535u /* an IP packet is not larger */
struct kn_pmtu_message {
    enum kn_pmtu_kind kind;
    uint32_t number, size, mtu;
};
void kn_pmtu_pack(const struct kn_pmtu_message *m, uint8_t wire[KN_PMTU_HEAD]);
int kn_pmtu_unpack(const uint8_t *wire, size_t size, struct kn_pmtu_message *m); /* -1: no such message */

/* A socket whose datagrams are never fragmented, and are sent however small the kernel believes the path to be. */
int kn_pmtu_prepare(int fd, struct kn_error *err);
/* What the kernel queued about datagrams that were too large; 0 stays 0 where nothing was said. */
struct kn_pmtu_said {
    uint32_t local, reported; /* MTUs: of the interface, and the least of ICMP */
};
void kn_pmtu_hear(int fd, struct kn_pmtu_said *said);
/* True: sent. `said` then has what was heard before; false with said->local: larger than the interface. */
bool kn_pmtu_send(int fd, const uint8_t *bytes, size_t size, struct kn_pmtu_said *said);

int kn_pmtu_serve_udp(struct kn_served *s, int fd, struct kn_error *err);

/* ---- full TCP segments (segments.c) ---- */

/* Opens a connection and sends full segments through it, each by itself, in one direction. 1: all came; 0: the
 * connection stood still; -1: it could not be opened. `mss` is the payload of one. */
int kn_pmtu_segments(struct kn_worker *w, bool backward, uint64_t *mss);
int kn_pmtu_serve_tcp(struct kn_served *s, int fd, struct kn_error *err);

#endif
