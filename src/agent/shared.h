/* agent/shared - what every part of an agent reads: its configuration, its keys, its counters, the signs to stop.
 *
 * It knows none of the parts. Of the locks in this folder none is taken while another is held. */
#ifndef KN_AGENT_SHARED_H
#define KN_AGENT_SHARED_H

#include <stdatomic.h>
#include <stdbool.h>

#include "agent/config.h"
#include "agent/refused.h"
#include "core/clock.h"

struct kn_shared {
    struct kn_agent_config config; /* texts are copies; `token` is NULL, the key is all that is kept of it */
    struct kn_key key, cookie_key;
    struct kn_server server; /* each flow serves with a copy that has a `stop` of its own */
    atomic_bool stop;        /* set once: all threads end */
    int asked_event;         /* readable from the moment the agent is asked to end */
    int quit_event;          /* readable once `stop` is set */
    int wake_event;          /* wakes the poller */
    struct kn_refusals refused;
    _Atomic uint64_t flows_served;
    uint64_t started_ns;
    /* idleness */
    _Atomic uint64_t heard_ns; /* the last use of this agent by a client with the token */
    atomic_uint requests;      /* of control, being answered now */
    atomic_bool was_idle;
};

int kn_shared_init(struct kn_shared *shared, const struct kn_agent_config *config, struct kn_error *err);
void kn_shared_fini(struct kn_shared *shared);

static inline bool kn_stopping(const struct kn_shared *shared)
{
    return atomic_load_explicit(&shared->stop, memory_order_relaxed);
}
void kn_shared_ask_to_end(struct kn_shared *shared); /* async-signal-safe */
void kn_shared_stop(struct kn_shared *shared);
void kn_shared_wake(struct kn_shared *shared);

/* Whether `token` is this agent's, in constant time. NULL is not. */
bool kn_shared_knows(const struct kn_shared *shared, const char *token);

/* A client with the token used this agent. Called for each connection of tcp_crr, so it rarely writes. */
static inline void kn_shared_heard(struct kn_shared *shared, uint64_t now_ns)
{
    if (now_ns > atomic_load_explicit(&shared->heard_ns, memory_order_relaxed) + KN_NS_PER_S / 4)
        atomic_store_explicit(&shared->heard_ns, now_ns, memory_order_relaxed);
}
/* Asks the agent to end once it was idle for too long; returns when to look again. `busy`: it serves flows now. */
uint64_t kn_shared_idle_tick(struct kn_shared *shared, bool busy, uint64_t now_ns);

#endif
