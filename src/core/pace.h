/* core/pace - open-loop pacing: when the next operation is due.
 *
 * The due time of operation k is start + k * interval, computed as an exact fraction, so it does not drift. The caller
 * passes the current time in. Operations that became due while the caller was busy keep their due time, and latency is
 * counted from it, so it includes the wait (no coordinated omission).
 *
 * If several threads or flows share one rate, each has its own pacer, `share` of `shares`, and takes every shares-th
 * operation. Together they are evenly spaced, without shared state. */
#ifndef KN_CORE_PACE_H
#define KN_CORE_PACE_H

#include <stdint.h>

struct kn_pace {
    uint64_t start_ns;
    uint64_t step, per; /* the interval between operations over all shares is step / per ns */
    uint64_t share, shares;
    uint64_t next;   /* number of operations that this pacer has taken */
    uint64_t due_ns; /* due time of the next operation; UINT64_MAX for never */
};

/* per_1000s operations in 1000 s (not 0), the first at start_ns. */
void kn_pace_init(struct kn_pace *p, uint64_t per_1000s, uint64_t start_ns, unsigned share, unsigned shares);
/* rate_bps bits per second (not 0), in operations of `size` bytes (1 to KN_SIZE_MAX). */
void kn_pace_init_bits(struct kn_pace *p, uint64_t rate_bps, uint64_t size, uint64_t start_ns, unsigned share,
                       unsigned shares);

static inline uint64_t kn_pace_due_ns(const struct kn_pace *p)
{
    return p->due_ns;
}
void kn_pace_take(struct kn_pace *p, uint64_t n);                   /* marks the next n operations as started */
uint64_t kn_pace_due_of(const struct kn_pace *p, uint64_t k);       /* due time of this pacer's operation k, from 0 */
uint64_t kn_pace_backlog(const struct kn_pace *p, uint64_t now_ns); /* operations that are due and not taken */

#endif
