/* run/desk_inside - what desk.c (threads and their turns) and desk_flow.c (a flow from welcome to end) share. */
#ifndef KN_RUN_DESK_INSIDE_H
#define KN_RUN_DESK_INSIDE_H

#include <pthread.h>
#include <sched.h>

#include "run/desk.h"

#define KN_DESKS_MAX 64

enum kn_desk_state { KN_AT_GO, KN_AT_TEST, KN_AT_ACCOUNT, KN_AT_END };

/* What all flows of a run have in common. */
struct kn_desk_run {
    struct kn_desk_run *next;
    unsigned refs; /* under the desk's lock */
    struct kn_hello hello;
    void *shared;
    struct kn_figures *series; /* of each thread: points that no account has contained yet */
};

/* What a UDP flow has in addition. */
struct kn_desk_udp {
    struct kn_hello hello;
    struct kn_addr peer;
    struct kn_desk_flow *next; /* in the same bucket; under the desk's lock */
};

/* Where a flow is: its thread, its state, its lists. */
struct kn_desk_place {
    struct kn_desk_flow *flow;
    const struct kn_desk_test *test;
    uint8_t state;
    bool goes_on; /* is in the list `again` */
    bool lost;    /* out of memory for points of the series: no account is sent */
    struct desk *desk;
    struct kn_desk_run *run;
    struct kn_desk_udp *udp;
    struct kn_desk_place *next, *prev;    /* the list of all flows of the thread */
    struct kn_desk_place *sooner, *later; /* the list of flows that wait for a time */
    struct kn_desk_place *again;          /* the list of flows that have more to do */
    uint64_t wake_ns, deadline_ns;
    uint64_t cpu_ns, desk_turns, own_turns; /* when the window opened: of the thread, and of the flow */
    uint8_t *out;                           /* the account that is being sent */
    size_t out_size, out_done;
};

struct desk {
    struct kn_seat seat;
    struct kn_desk *all;
    unsigned index;
    pthread_t thread;
    bool started;
    int call; /* eventfd: a flow arrived, or the thread must end */
    struct kn_loop loop;
    uint64_t turns, swept_ns;
    unsigned pinned; /* flows whose run asks for CPUs; without any, the thread runs on `free` */
    cpu_set_t free;
    unsigned n, spinning[3];                /* all flows; flows in their test, by enum kn_wait */
    struct kn_desk_place *_Atomic arrivals; /* any thread adds at the front, this one takes */
    struct kn_desk_place *places, *soonest, *latest, *again;
};

#define KN_DESK_BUCKETS 4096

struct kn_desk {
    pthread_mutex_t lock;
    void (*over)(void *context, const struct kn_error *err);
    void *context;
    unsigned n;
    atomic_bool stop;
    atomic_uint active;
    struct kn_cpu_reading last;
    struct kn_desk_run *runs;
    struct kn_desk_flow *udp[KN_DESK_BUCKETS];
    struct desk desks[KN_DESKS_MAX];
};

/* desk.c: how many threads serve a run. */
unsigned kn_desk_loops(const struct kn_desk *all, const struct kn_spec *spec);
/* desk_flow.c */
struct kn_desk_flow *kn_desk_flow_new(struct kn_desk *all, struct kn_server *server, int fd,
                                      const struct kn_hello *hello, const struct kn_addr *peer,
                                      const struct kn_key *key, struct kn_error *err);
void kn_desk_flow_free(struct kn_desk *all, struct kn_desk_flow *flow); /* does not close the socket */
/* Serves what is ready. False: the flow has ended; err is set if it failed. */
bool kn_desk_attend(struct desk *d, struct kn_desk_place *p, uint32_t events, struct kn_error *err);
/* Called once before the flow is freed: closes its window and ends its test. */
void kn_desk_conclude(struct desk *d, struct kn_desk_place *p);
int kn_desk_welcome(struct kn_desk_flow *flow, struct kn_error *err);

#endif
