/* agent/poller - one thread that holds the connections that have not said enough yet, and keeps the time of the rest.
 */
#ifndef KN_AGENT_POLLER_H
#define KN_AGENT_POLLER_H

#include <poll.h>
#include <pthread.h>

#include "agent/gate.h"

/* Does what is due now; returns when it must be called again (UINT64_MAX: when something happens). */
typedef uint64_t (*kn_tick)(void *context, uint64_t now_ns);

struct kn_poller {
    struct kn_gate *gate;
    struct kn_shared *shared;
    int unix_fd; /* -1: none */
    kn_tick tick;
    void *context;
    pthread_t thread;
    bool started;
    size_t most;
    pthread_mutex_t lock; /* over the inbox */
    struct kn_incoming *inbox;
    size_t n_inbox;
    bool shed;
    struct kn_incoming *all; /* the thread's own, oldest first */
    struct pollfd *polls;
    size_t n;
};
/* `unix_fd`: control only, and the mode of its file says who may open it. */
int kn_poller_start(struct kn_poller *poller, struct kn_gate *gate, int unix_fd, kn_tick tick, void *context,
                    struct kn_error *err);
void kn_poller_add(struct kn_poller *poller, const struct kn_incoming *in); /* takes it over */
void kn_poller_shed(struct kn_poller *poller);                              /* out of descriptors: the oldest go */
void kn_poller_stop(struct kn_poller *poller); /* `shared->stop` is set: joins the thread */
void kn_poller_fini(struct kn_poller *poller);

#endif
