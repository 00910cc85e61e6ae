/* agent/refused - what the agent turned away, counted by reason; the counts are in GET /v1/agent. */
#ifndef KN_AGENT_REFUSED_H
#define KN_AGENT_REFUSED_H

#include <jansson.h>
#include <stdatomic.h>
#include <stdint.h>

#include "core/error.h"

enum kn_refused {
    KN_REFUSED_GARBAGE, /* neither HTTP nor a hello */
    KN_REFUSED_SILENT,  /* closed or timed out before it said what it is */
    KN_REFUSED_CROWD,   /* dropped to make room: too many connections */
    KN_REFUSED_KEY,     /* a hello under another token */
    KN_REFUSED_VERSION, /* another protocol version */
    KN_REFUSED_HELLO,   /* a hello that asks for something impossible */
    KN_REFUSED_LIMIT,   /* too long, or too many flows, runs or observations at once */
    KN_REFUSED_UDP,     /* datagrams that are no hello */
    KN_REFUSED_COOKIE,  /* hellos with a wrong or old cookie; they get a new one */
    KN_REFUSED_TOKEN,   /* control without the token */
    KN_REFUSED_REQUEST, /* control that asks for something impossible */
    KN_REFUSED_COUNT
};

struct kn_refusals {
    _Atomic uint64_t n[KN_REFUSED_COUNT];
};

static inline void kn_refuse(struct kn_refusals *refusals, enum kn_refused why)
{
    atomic_fetch_add_explicit(&refusals->n[why], 1, memory_order_relaxed);
}
enum kn_refused kn_refused_by(enum kn_code code); /* the reason to count for a refused hello */
json_t *kn_refusals_json(const struct kn_refusals *refusals);

#endif
