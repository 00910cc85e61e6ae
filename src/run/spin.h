/* run/spin - decides whether polling is worth it, for everything that waits for data.
 *
 * Polling pays if most answers come in time. It does not pay on a CPU that other threads want, where a yield takes
 * longer than sleeping would have. If it did not pay, the next waits block, twice as many each time.
 *
 * Polling pays only if both sides poll, for a side that sleeps answers late. Two sides that tried at different times
 * would never find each other again after a disturbance, so both begin to try at the same numbers of waits: at
 * multiples of what they rest for, which are powers of two times the first. */
#ifndef KN_RUN_SPIN_H
#define KN_RUN_SPIN_H

#include <stdbool.h>
#include <stdint.h>

#include "core/clock.h"

#define KN_SPIN_NS (50 * KN_NS_PER_US) /* what a wake-up costs; polling for longer never pays */
#define KN_SPIN_JUDGE_EVERY 64         /* waits */
#define KN_SPIN_SLOW_MOST 4            /* of these, waits of more than twice the time */
#define KN_SPIN_PENALTY 64             /* waits to block for, at first */
#define KN_SPIN_PENALTY_MOST (1u << 17)

struct kn_spin {
    uint32_t tries, hits, slow; /* since it was judged last */
    uint32_t first;             /* the first penalty; 0: KN_SPIN_PENALTY */
    uint32_t penalty, rest;     /* waits to block for, at most: the next time polling does not pay, and still left */
    uint64_t waits;             /* all there were */
};

static inline bool kn_spin_wanted(struct kn_spin *s)
{
    s->waits++;
    if (!s->rest)
        return true;
    s->rest--;
    return false;
}

/* Judges the last KN_SPIN_JUDGE_EVERY waits. */
static inline void kn_spin_judge(struct kn_spin *s, bool paid)
{
    uint32_t first = s->first ? s->first : KN_SPIN_PENALTY;
    s->tries = s->hits = s->slow = 0;
    if (paid) {
        s->penalty = first;
        return;
    }
    uint32_t now = s->penalty ? s->penalty : first;
    s->rest = now - (uint32_t)(s->waits % now);
    s->penalty = now < KN_SPIN_PENALTY_MOST ? 2 * now : KN_SPIN_PENALTY_MOST;
}

/* Counts a wait. `came`: it ended with an answer in time, not one that was there only after a long yield. True: a round
 * of waits is complete, and kn_spin_judge is due. */
static inline bool kn_spin_count(struct kn_spin *s, bool came, uint64_t took_ns)
{
    s->tries++;
    s->hits += came && took_ns < KN_SPIN_NS;
    s->slow += took_ns >= 2 * KN_SPIN_NS;
    return s->tries >= KN_SPIN_JUDGE_EVERY || s->slow >= KN_SPIN_SLOW_MOST;
}

static inline bool kn_spin_paid(const struct kn_spin *s)
{
    return s->slow < KN_SPIN_SLOW_MOST && s->hits * 2 >= s->tries;
}

static inline void kn_spin_done(struct kn_spin *s, bool came, uint64_t took_ns)
{
    if (kn_spin_count(s, came, took_ns))
        kn_spin_judge(s, kn_spin_paid(s));
}

#endif
