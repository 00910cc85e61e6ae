/* engines/dns - the client of a DNS server: lookups in flight over UDP and TCP.
 *
 * A lookup is what a program asks for: one name, of one type or of A and AAAA at once. It takes one query or several:
 * retries, a second one over TCP where the answer was truncated, the names of a search list. */
#ifndef KN_ENGINES_DNS_DNS_H
#define KN_ENGINES_DNS_DNS_H

#include "core/pace.h"
#include "engines/dns/message.h"
#include "engines/dns/names.h"
#include "run/flow_udp.h"
#include "run/worker.h"

/* ---- options of its own ---- */

enum { KN_DNS_TYPE, KN_DNS_PROTO, KN_DNS_RETRIES, KN_DNS_RESOLVE, KN_DNS_EDNS }; /* numbers */
enum { KN_DNS_NAMES };                                                           /* texts */
enum { KN_DNS_TYPE_A, KN_DNS_TYPE_AAAA, KN_DNS_TYPE_BOTH, KN_DNS_TYPE_SRV, KN_DNS_TYPE_PTR };
enum { KN_DNS_UDP, KN_DNS_TCP };
enum { KN_DNS_EXACT, KN_DNS_POD };

/* ---- counters of its own: of lookups that began inside the window ---- */

enum {
    KN_DNS_LOOKUPS,
    KN_DNS_QUERIES,
    KN_DNS_RETRIED,
    KN_DNS_TRUNCATED,
    KN_DNS_EMPTY, /* no record of the type */
    KN_DNS_DIFFERING,
    KN_DNS_LOOPS,
    KN_DNS_OVERSIZED,
    KN_DNS_BAD,     /* answers that are no DNS message */
    KN_DNS_STRANGE, /* answers with an id that nobody waits for, or to another question */
    KN_DNS_LATE,
    KN_DNS_RECONNECTS,
    KN_DNS_RCODES, /* 16 of them */
};

#define KN_DNS_BURST_MAX 512u
#define KN_DNS_NONE UINT32_MAX

struct kn_dns_lookup {
    uint64_t begun_ns, sent_ns; /* when it was due; of the last attempt */
    uint64_t index;             /* of its name */
    uint64_t content;
    uint32_t prev, next; /* in the order of sent_ns */
    uint32_t flow;
    bool waiting, gave_up;     /* gave_up: the lookup before it, of the slot, timed out */
    uint8_t pending, over_tcp; /* a bit for each of its queries */
    uint8_t generation, attempts, candidate, failed;
    uint8_t name_size, name[KN_DNS_NAME_MAX];
    bool negative;
    unsigned records;
};

struct kn_dns_tcp {
    int fd; /* -1: closed */
    bool connected, answered;
    uint8_t *in, *out;
    size_t in_n, out_n, out_room;
};
struct kn_dns_flow {
    int fd; /* UDP */
    struct kn_udp_drops drops;
    uint32_t n_free, *free;
    struct kn_dns_tcp tcp;
};

#define KN_DNS_BATCH 64u
struct kn_dns_batch; /* datagrams that go out, and come in, by one call */

struct kn_dns_client {
    struct kn_worker *w;
    const struct kn_spec *spec;
    unsigned n, burst, at; /* flows, lookups of each at once, the flow whose turn it is */
    struct kn_dns_flow *flows;
    struct kn_dns_lookup *lookups; /* those of a flow lie together */
    uint32_t waiting, oldest, newest;
    uint64_t attempt_ns, names, next_name;
    bool dry, opened; /* opened: the window */
    int epoll;
    struct kn_pace pace;
    struct kn_dns_batch *batch;
    struct kn_dns_resolv resolv;
    uint64_t *seen; /* what a name was answered with */
    unsigned n_queries;
    uint16_t types[2];
};

/* ---- lookup.c ---- */

bool kn_dns_has_room(const struct kn_dns_client *c);
/* Begins the next lookup, on the next flow that has room. */
void kn_dns_begin(struct kn_dns_client *c, uint64_t due_ns, uint64_t now_ns);
/* What came on a flow. False: the connection it came by makes no sense any more. */
bool kn_dns_take(struct kn_dns_client *c, unsigned flow, bool tcp, const uint8_t *wire, size_t size, uint64_t now_ns);
void kn_dns_expire(struct kn_dns_client *c, uint64_t now_ns);
/* A flow's connection is gone, or its datagrams are refused: `how` all its lookups there end, or `again`. */
void kn_dns_lost(struct kn_dns_client *c, unsigned flow, bool tcp, enum kn_ended how, bool again, uint64_t now_ns);

/* ---- conn.c ---- */

#define KN_DNS_SEEN_MAX 65536u
int kn_dns_conns_init(struct kn_dns_client *c, struct kn_error *err);
void kn_dns_conns_fini(struct kn_dns_client *c);
void kn_dns_put(struct kn_dns_client *c, unsigned flow, bool tcp, const uint8_t *query, size_t size);
void kn_dns_flush(struct kn_dns_client *c);
void kn_dns_receive(struct kn_dns_client *c, uint64_t until_ns);

#endif
