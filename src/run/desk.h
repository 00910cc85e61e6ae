/* run/desk - an agent's side of runs with more flows than it has CPUs: one thread with an event loop for each CPU, or
 * as many as the client's `threads`.
 *
 * A flow at a desk has no thread of its own. Welcome, go byte, test, account and end are states of the loop, and
 * sockets never block. The flows take turns with a bounded number of calls each, so that a flow that sends slowly or
 * reads nothing does not delay the others. Data that all flows of a run have in common is kept once. */
#ifndef KN_RUN_DESK_H
#define KN_RUN_DESK_H

#include "net/addr.h"
#include "run/loop.h"
#include "run/served.h"

#define KN_DESK_ROOM (256u << 10)
#define KN_DESK_CALLS 16 /* rounds of one flow in a row, before the next flow's turn */

struct kn_desk;
struct kn_desk_flow;

enum kn_desk_next {
    KN_DESK_WAIT,  /* until the next edge, or the time given to kn_desk_wake */
    KN_DESK_AGAIN, /* not done: call again after the other flows */
    KN_DESK_OVER,  /* the client is done: the account follows */
    KN_DESK_LIMIT, /* more bytes than the agent allows */
    KN_DESK_FAILED
};

/* How a test is served at a desk: the part of its descriptor (core/test.h). */
struct kn_desk_test {
    size_t size;                               /* of a flow's state: a struct kn_desk_flow, then zeros */
    bool (*takes)(const struct kn_spec *spec); /* NULL: any */
    /* Makes what all flows of a run share, once for each run; freed by free(). NULL: nothing is shared. */
    void *(*share)(const struct kn_spec *spec);
    /* TCP: on the go byte. UDP: on the hello. */
    int (*begin)(struct kn_desk_flow *flow, struct kn_error *err);
    /* Serves what is ready. Called on each edge (`events`), at the time given to kn_desk_wake, after KN_DESK_AGAIN, and
     * from time to time (events = 0). With KN_LOOP_ENDS the stream may have ended. */
    enum kn_desk_next (*serve)(struct kn_desk_flow *flow, uint32_t events);
    void (*end)(struct kn_desk_flow *flow); /* called once, however the flow ended; NULL: nothing to do */
};

/* What a thread lends to the flow that it serves now. */
struct kn_seat {
    uint64_t now_ns; /* of this turn */
    uint8_t *room;   /* KN_DESK_ROOM bytes to receive into */
};

struct kn_desk_flow {
    int fd;
    struct kn_seat *seat;
    const void *shared;
    struct kn_desk_place *place; /* desk.c's own */
    uint64_t turns;              /* calls that moved data, also in the warm-up: its share of the CPU time */
    struct kn_served s;
};

/* serve() is called again at that time. A flow has one such time; 0 cancels it. */
void kn_desk_wake(struct kn_desk_flow *flow, uint64_t at_ns);
/* Adds to the time series of the flow's run, if its specification asks for one. */
void kn_desk_series(struct kn_desk_flow *flow, uint64_t bytes, uint64_t ops);
/* Whether the flow's window is open. */
static inline bool kn_desk_measures(const struct kn_desk_flow *flow)
{
    return flow->s.opened && !flow->s.closed;
}

/* `over` is called when a flow has ended, from any thread; err is NULL unless the flow failed. */
struct kn_desk *kn_desk_new(void (*over)(void *context, const struct kn_error *err), void *context);
void kn_desk_stop(struct kn_desk *desk); /* ends all flows; no more can be added */
void kn_desk_free(struct kn_desk *desk); /* stops first */
/* Whether the flow of this hello is served at the desk, not by a thread of its own. */
bool kn_desk_takes(const struct kn_desk *desk, const struct kn_hello *hello);
/* Takes over the socket. On failure the caller still owns it, to send a refusal. `peer` and `key` are for UDP. */
int kn_desk_add(struct kn_desk *desk, struct kn_server *server, int fd, const struct kn_hello *hello,
                const struct kn_addr *peer, const struct kn_key *key, struct kn_error *err);
unsigned kn_desk_active(const struct kn_desk *desk);
bool kn_desk_has_udp(struct kn_desk *desk, const struct kn_addr *peer, const struct kn_hello *hello);

#endif
