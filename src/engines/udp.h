/* engines/udp - what the UDP tests share: the datagram's head, the sequence as its receiver sees it, jitter, requests
 * in flight, and the two ends of a stream of datagrams.
 *
 * Head of a datagram, little-endian: 8 bytes of sequence number times two plus the measured bit, 8 bytes of the sender's
 * clock (0: not stamped). A shorter datagram carries the low bytes of the first and no stamp. Warm-up datagrams are not
 * marked as measured, and the sequence starts at 0 with the first that is: receivers need no clock of the sender's. */
#ifndef KN_ENGINES_UDP_H
#define KN_ENGINES_UDP_H

#include <endian.h>
#include <string.h>

#include "engines/flow.h"

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
    unsigned bits;             /* of the sequence number that come with a datagram */
    uint64_t next;             /* one more than the highest seen */
    uint64_t unique, reordered, duplicated;
    uint64_t seen[KN_SEQ_WINDOW / 64];
};
void kn_seq_init(struct kn_seq *s, unsigned bits);
enum kn_seq_kind kn_seq_take_slow(struct kn_seq *s, uint64_t low);
/* `low`: the bits that came. A number below the highest is reordered (RFC 4737, type-P-reordered), unless it was seen before. */
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
static inline bool kn_seq_tells_order(unsigned bits) { return bits >= 23; }

/* ---- jitter, RFC 3550 section 6.4.1 ---- */

struct kn_jitter { uint64_t sent_ns, came_ns; double value_ns; uint64_t n; };
void kn_jitter_add(struct kn_jitter *j, uint64_t sent_ns, uint64_t came_ns);
static inline void kn_jitter_break(struct kn_jitter *j) { j->sent_ns = 0; } /* the next has no predecessor */

/* ---- requests in flight (udp_rr, ping) ---- */

enum kn_answer { KN_ANSWER_RIGHT, KN_ANSWER_DUPLICATE, KN_ANSWER_LATE, KN_ANSWER_STRANGE };
struct kn_request { uint64_t seq, due_ns, sent_ns; uint8_t state; };
struct kn_pending {
    unsigned bits;             /* of the sequence number that come back */
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

/* ---- sockets ---- */

#define KN_UDP_CONTROL_MAX 1500
#define KN_UDP_FETCHED_ALL UINT32_MAX
#define KN_UDP_STOP_POLL_NS (50 * KN_NS_PER_MS)  /* no wait is longer, so that a stop is seen */

static inline uint64_t kn_least(uint64_t a, uint64_t b) { return a < b ? a : b; }
/* One datagram before `until_ns`: its size, 0 for none, -1 with errno. */
ssize_t kn_udp_receive(int fd, uint8_t *buf, size_t size, uint64_t until_ns);
int kn_udp_timeouts(int fd, uint64_t ns, struct kn_error *err);  /* of blocking calls, so that a stop is seen */
/* Buffers as asked; `big` asks for room where nothing was asked for. Returns the receive buffer's effective size. */
uint64_t kn_udp_buffers(int fd, const struct kn_spec *spec, bool big);
void kn_udp_nap(uint64_t ns);
void kn_udp_hear_errors(int fd);     /* what this host's queues drop comes back as ENOBUFS, what routers refuse as an error */
void kn_udp_forget_errors(int fd);   /* they queue up at the socket, beside the error that a call returned */

/* The order of `kind` for a flow of this run, packed; returns its size. */
size_t kn_udp_order(const struct kn_worker *w, unsigned flow, enum kn_udp_kind kind, uint64_t sent, uint32_t offset, uint8_t *wire);
/* The report of a flow's server, by parts. Datagrams of the test that still come go to `other`. New reference. */
struct kn_udp_other { void (*take)(void *arg, const uint8_t *datagram, size_t size); void *arg; };
json_t *kn_udp_fetch(struct kn_worker *w, int fd, unsigned flow, uint64_t sent, const struct kn_udp_other *other, struct kn_error *err);

/* Asks the servers of several flows to make their reports at the same time, before they are fetched one by one. */
void kn_udp_announce(const struct kn_worker *w, int fd, unsigned flow, uint64_t sent);
/* When a server gives its client up that has said nothing since `last_ns`. */
bool kn_served_forsaken(const struct kn_served *s, uint64_t last_ns, uint64_t now_ns);

#endif
