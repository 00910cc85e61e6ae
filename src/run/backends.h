/* run/backends - which agents answered a worker, and how fast each was.
 *
 * A kept connection learns from its welcome which agent serves it, and a probe's attempt from its answer. Before an
 * operation ends (kn_worker_end), the test sets worker.backend to the number of the agent that answered, or leaves it 0
 * if that is not known. */
#ifndef KN_RUN_BACKENDS_H
#define KN_RUN_BACKENDS_H

#include <jansson.h>
#include <stdint.h>

#include "core/hist.h"

#define KN_BACKENDS_MAX 64 /* further ones all have the number 0 */

struct kn_backends {
    unsigned n;
    struct kn_backend {
        char name[64];
        uint64_t ops;
        struct kn_hist *latency;
    } of[KN_BACKENDS_MAX];
};

/* The number of a backend, from 1; 0 if there is no room for another. The first call allocates *backends. */
unsigned kn_backends_number(struct kn_backends **backends, const char *name);
void kn_backends_count(struct kn_backends *backends, unsigned number, uint64_t latency_ns);
void kn_backends_merge(struct kn_backends **into, const struct kn_backends *from);
void kn_backends_free(struct kn_backends *backends);
/* {NAME: {"ops","share","p50","p99"}…}; NULL without backends. */
json_t *kn_backends_to_json(const struct kn_backends *backends);

#endif
