/* core/pace - open-loop pacing: when the next operation is due.
 *
 * Due times come from the count, start + k * interval as an exact fraction, never from the time before: nothing drifts,
 * however long it runs and however late the caller is. It owns no clock: the caller passes the time in, so that a test
 * can pass any. What fell due while the caller was busy stays due, with its own due time: latency counted from that
 * includes the wait (no coordinated omission).
 *
 * Where several threads (or flows) drive one rate, each has a pacer of its own, `share` of `shares`: they take every
 * shares-th operation in turn, so that together they are evenly spaced and need to share nothing. */
#ifndef KN_CORE_PACE_H
#define KN_CORE_PACE_H

#include <stdint.h>

struct kn_pace {
    uint64_t start_ns;
    uint64_t step, per;        /* step / per ns from one operation to the next over all shares */
    uint64_t share, shares;
    uint64_t next;             /* how many this pacer has taken */
    uint64_t due_ns;           /* of the next; UINT64_MAX where it never comes */
};

/* At per_1000s operations in 1000 s (not 0), the first at start_ns. */
void kn_pace_init(struct kn_pace *p, uint64_t per_1000s, uint64_t start_ns, unsigned share, unsigned shares);
/* At rate_bps bits per second (not 0), in operations of `size` bytes (1 to KN_SIZE_MAX). */
void kn_pace_init_bits(struct kn_pace *p, uint64_t rate_bps, uint64_t size, uint64_t start_ns, unsigned share,
                       unsigned shares);

static inline uint64_t kn_pace_due_ns(const struct kn_pace *p) { return p->due_ns; }
void kn_pace_take(struct kn_pace *p, uint64_t n);                     /* the next n are done or under way */
uint64_t kn_pace_due_of(const struct kn_pace *p, uint64_t k);         /* when the k-th of this pacer, from 0, is due */
uint64_t kn_pace_backlog(const struct kn_pace *p, uint64_t now_ns);   /* how many are due by now and not taken */

#endif
