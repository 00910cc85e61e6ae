/* run/tune - finds the fastest of a few ways by trying them (arms) in the warm-up, one after the other. The schedule
 * depends only on the start of the flow, so both ends know it without a message.
 *
 * No fixed choice is right: what doubles the throughput of one path halves that of another. Each arm has a turn in
 * several rounds, and the beginning of each turn is not counted. The arm with the best rate is kept; among similar
 * rates, the one with the least CPU time. */
#ifndef KN_RUN_TUNE_H
#define KN_RUN_TUNE_H

#include <stdbool.h>
#include <stdint.h>

#define KN_ARMS_MAX 6

struct kn_tuner {
    unsigned arms, rounds;
    uint64_t from_ns, to_ns; /* from the first turn to the end of the last */
    int turn;                /* the current one; -1: not begun */
    bool over, measuring;
    uint64_t mark_ns, mark_bytes, mark_cpu_ns;
    uint64_t last_ns, last_bytes;
    uint64_t bytes[KN_ARMS_MAX], ns[KN_ARMS_MAX], cpu_ns[KN_ARMS_MAX];
    unsigned best;
};

#define KN_TUNE_KEEP (-1)

void kn_tuner_init(struct kn_tuner *t, unsigned arms, unsigned rounds, uint64_t from_ns, uint64_t to_ns);
/* To be called as bytes move, by the thread that moves them. Returns the arm to change to, or KN_TUNE_KEEP. After the
 * last turn it returns the best arm once. */
int kn_tuner_step(struct kn_tuner *t, uint64_t now_ns, uint64_t bytes);

#endif
