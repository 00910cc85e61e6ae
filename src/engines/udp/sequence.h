/* engines/udp/sequence - what tests over datagrams share: the datagram's head, the sequence as its receiver sees it,
 * jitter, and requests in flight.
 *
 * Head of a datagram, little-endian: 8 bytes of sequence number times two plus the measured bit, 8 bytes of the
 * sender's clock (0: not stamped). A shorter datagram carries the low bytes of the first and no stamp. Warm-up
 * datagrams are not marked as measured, and the sequence starts at 0 with the first that is: receivers need no clock of
 * the sender's. */
#ifndef KN_ENGINES_UDP_SEQUENCE_H
#define KN_ENGINES_UDP_SEQUENCE_H

#include <endian.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "core/error.h"

#define KN_UDP_MAX 65507
#define KN_UDP_SEQ_SIZE 8u
#define KN_UDP_HEAD_SIZE 16u

/* How many bits of the sequence number fit. */
static inline unsigned kn_udp_seq_bits(size_t size)
{
    return size >= KN_UDP_SEQ_SIZE ? 63 : (unsigned)(8 * size - 1);
}
static inline void kn_udp_head_put(uint8_t *datagram, size_t size, uint64_t seq, bool measured)
{
    uint64_t word = htole64(seq << 1 | (measured ? 1 : 0));
    memcpy(datagram, &word, size < sizeof word ? size : sizeof word);
}
static inline uint64_t kn_udp_head_get(const uint8_t *datagram, size_t size, bool *measured)
{
    uint64_t word = 0;
    memcpy(&word, datagram, size < sizeof word ? size : sizeof word);
    word = le64toh(word);
    *measured = word & 1;
    return word >> 1;
}

/* ---- the sequence ---- */

#define KN_SEQ_WINDOW 16384u /* datagrams back in which a duplicate is told from a late one */

enum kn_seq_kind { KN_SEQ_NEW, KN_SEQ_REORDERED, KN_SEQ_DUPLICATE };
struct kn_seq {
    unsigned bits; /* of the sequence number that come with a datagram */
    uint64_t next; /* one more than the highest seen */
    uint64_t unique, reordered, duplicated;
    uint64_t seen[KN_SEQ_WINDOW / 64];
};
void kn_seq_init(struct kn_seq *s, unsigned bits);
enum kn_seq_kind kn_seq_take_slow(struct kn_seq *s, uint64_t low);
/* `low`: the bits that came. A number below the highest is reordered (RFC 4737, type-P-reordered), unless it was seen
 * before. */
static inline enum kn_seq_kind kn_seq_take(struct kn_seq *s, uint64_t low)
{
    if (low != (s->next & (~0ull >> (64 - s->bits))))
        return kn_seq_take_slow(s, low);
    uint64_t *word = &s->seen[s->next % KN_SEQ_WINDOW / 64];
    *word = (s->next & 63 ? *word : 0) | 1ull << (s->next & 63);
    s->next++;
    s->unique++;
    return KN_SEQ_NEW;
}
/* Too few bits, and a gap looks like the past: order and duplicates cannot be told. */
static inline bool kn_seq_tells_order(unsigned bits)
{
    return bits >= 23;
}

/* ---- jitter, RFC 3550 section 6.4.1 ---- */

struct kn_jitter {
    uint64_t sent_ns, came_ns;
    double value_ns;
    uint64_t n;
};
void kn_jitter_add(struct kn_jitter *j, uint64_t sent_ns, uint64_t came_ns);
static inline void kn_jitter_break(struct kn_jitter *j)
{
    j->sent_ns = 0;
} /* the next has no predecessor */

/* ---- requests in flight (udp_rr, ping) ---- */

enum kn_answer { KN_ANSWER_RIGHT, KN_ANSWER_DUPLICATE, KN_ANSWER_LATE, KN_ANSWER_STRANGE };
struct kn_request {
    uint64_t seq, due_ns, sent_ns;
    uint8_t state;
};
struct kn_pending {
    unsigned bits; /* of the sequence number that come back */
    uint64_t next, oldest;
    uint32_t mask, waiting;
    struct kn_request *slots;
};
/* `most` requests at once; refuses where their numbers could not be told apart. */
int kn_pending_init(struct kn_pending *p, unsigned bits, uint64_t most, struct kn_error *err);
void kn_pending_fini(struct kn_pending *p);
/* The sequence number for a request that is sent now. Skips numbers whose low bits still stand for one that waits. */
uint64_t kn_pending_send(struct kn_pending *p, uint64_t due_ns, uint64_t now_ns);
/* The request was not sent after all. */
void kn_pending_cancel(struct kn_pending *p, uint64_t seq);
/* What an answer is; where it is RIGHT, to which request. */
enum kn_answer kn_pending_answer(struct kn_pending *p, uint64_t low, struct kn_request *request);
/* The oldest request that was sent at or before `sent_ns` and still waits: it is given up. False: none. */
bool kn_pending_expire(struct kn_pending *p, uint64_t sent_ns, struct kn_request *request);
/* When the oldest that waits was sent; UINT64_MAX: none waits. */
uint64_t kn_pending_oldest_ns(struct kn_pending *p);

#endif
