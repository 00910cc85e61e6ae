/* net/replay - protects against replayed hellos: a hello must be recent, and it opens a flow only once.
 *
 * The server remembers the flows that were opened (run, flow, nonce) as long as their hellos are valid, so that a
 * captured hello opens no flow. Short tests send the same hello for each connection; those are limited by time only.
 * The clocks of hosts may differ by KN_CLOCKS_APART_NS. */
#ifndef KN_NET_REPLAY_H
#define KN_NET_REPLAY_H

#include "net/wire.h"

#define KN_CLOCKS_APART_NS (900 * KN_NS_PER_S)

/* Fails if the hello is from the future, or older than its run can last: warm-up and duration, or `longest_ns` if only
 * a count limits the run. */
int kn_hello_is_fresh(const struct kn_hello *hello, uint64_t wall_ns, uint64_t longest_ns, struct kn_error *err);

struct kn_replay;
struct kn_replay *kn_replay_new(uint64_t longest_ns); /* the longest run that is allowed; NULL if out of memory */
void kn_replay_free(struct kn_replay *replay);
/* Accepts a valid hello once, then fails with KN_E_AUTH. Thread-safe. */
int kn_replay_take(struct kn_replay *replay, const struct kn_hello *hello, uint64_t wall_ns, struct kn_error *err);

#endif
