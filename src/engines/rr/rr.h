/* engines/rr - what the two ways of driving requests and responses over TCP share. */
#ifndef KN_ENGINES_RR_H
#define KN_ENGINES_RR_H

#include "run/worker.h"

size_t kn_rr_chunk(uint64_t size); /* of a message of that size: what one call takes */

/* Many flows, or several requests outstanding on one. `chunk` has room for kn_rr_chunk of a burst of the larger
 * message. */
int kn_rr_many(struct kn_worker *w, uint8_t *chunk, struct kn_error *err);

/* The agent's side of many flows. */
extern const struct kn_desk_test kn_rr_desk;

#endif
