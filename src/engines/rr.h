/* engines/rr - what the two ways of driving request/response share. */
#ifndef KN_ENGINES_RR_H
#define KN_ENGINES_RR_H

#include "engines/flow.h"

uint64_t kn_rr_response_size(const struct kn_spec *spec);
uint64_t kn_rr_latency(const struct kn_spec *spec, uint64_t round_trip_ns);
size_t kn_rr_chunk(uint64_t size);   /* of a message of that size: what one call takes */

/* Sleeps till then, or a stop (false). With `wait` auto and spin the last part is spun, so that nothing is sent late. */
bool kn_rr_sleep(const struct kn_worker *w, uint64_t until_ns);
/* Sleeps till what is due then; false: it is not due before the end, which has come, or there was a stop. */
bool kn_rr_await(const struct kn_worker *w, uint64_t due_ns);

/* Many flows, or several requests outstanding on one. `chunk` has room for kn_rr_chunk of a burst of the larger message. */
int kn_rr_many(struct kn_worker *w, uint8_t *chunk, struct kn_error *err);

#endif
