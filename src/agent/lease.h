/* agent/lease - a table of things with ids that clients must keep polling: runs and observations.
 *
 * What was not polled for `orphan_ns`, or takes longer than its limit, expires. The kinds differ in what `ops` say:
 * a run is stopped first and kept for a while with its result, an observation goes at once. */
#ifndef KN_AGENT_LEASE_H
#define KN_AGENT_LEASE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"

#define KN_ID_SIZE 17 /* 16 hexadecimal digits */

struct kn_lease { /* the first member of what is leased */
    struct kn_lease *next;
    char id[KN_ID_SIZE];
    unsigned users;       /* requests that use it now */
    bool forgotten;       /* the last user frees it */
    uint64_t asked_ns;    /* last polled */
    uint64_t patience_ns; /* may stay so long without being polled, where that is longer than orphan_ns */
    uint64_t limit_ns;    /* expires by then, polled or not */
};

struct kn_lease_ops {
    const char *what; /* "run" */
    void (*free)(struct kn_lease *lease);
    /* NULL for what is not active once it is over: */
    int (*start)(struct kn_lease *lease, struct kn_error *err); /* called once it has its place in the table */
    bool (*is_over)(struct kn_lease *lease);
    void (*stop)(struct kn_lease *lease);                 /* asks it to end; idempotent, does not block */
    void (*check)(struct kn_lease *lease, void *context); /* called at each tick while it is active */
};

struct kn_leases {
    const struct kn_lease_ops *ops;
    void *context;
    unsigned most; /* active ones; four times as many may be over and kept */
    uint64_t orphan_ns;
    pthread_mutex_t lock;
    struct kn_lease *all; /* the newest first */
    bool closed;
};

void kn_leases_init(struct kn_leases *t, const struct kn_lease_ops *ops, void *context, unsigned most,
                    uint64_t orphan_ns);
void kn_leases_fini(struct kn_leases *t);  /* frees all; they must not be in use */
void kn_leases_close(struct kn_leases *t); /* stops all; none can be added afterwards */

/* A random id, or `given` where it is not NULL: a client that lost the answer asks again with the same id. */
int kn_lease_id(const char *given, char id[KN_ID_SIZE], struct kn_error *err);
/* Takes the lease over. 1: one with this id is there already, and -1: it was refused; both leave it to the caller. */
int kn_leases_add(struct kn_leases *t, struct kn_lease *lease, struct kn_error *err);
unsigned kn_leases_active(struct kn_leases *t);

/* Where there is no such id, these fail. */
int kn_leases_touch(struct kn_leases *t, const char *id, struct kn_error *err); /* a poll */
/* It is the caller's from now on. */
struct kn_lease *kn_leases_remove(struct kn_leases *t, const char *id, struct kn_error *err);
/* It stays until given back. */
struct kn_lease *kn_leases_take(struct kn_leases *t, const char *id, struct kn_error *err);
void kn_leases_give_back(struct kn_leases *t, struct kn_lease *lease, bool forget);

uint64_t kn_leases_tick(struct kn_leases *t, uint64_t now_ns); /* expires what must; returns when to look again */

#endif
