/* engines/tune - which of a few ways is the fastest here: short arms in the warm-up, one after the other, on a schedule
 * that follows from the start of the flow alone, so that both ends know it and nothing has to be said.
 *
 * No static choice is right: what doubles the throughput of one path halves that of another. Each arm has its turn in
 * several rounds, the beginning of every turn is left out, and the best one by rate is kept (by CPU where the rates are alike). */
#ifndef KN_ENGINES_TUNE_H
#define KN_ENGINES_TUNE_H

#include <stdbool.h>
#include <stdint.h>

#define KN_ARMS_MAX 6

struct kn_tuner {
    unsigned arms, rounds;
    uint64_t from_ns, to_ns;        /* when the turns are taken */
    int turn;                       /* now; -1: not yet */
    bool over, measuring;
    uint64_t mark_ns, mark_bytes, mark_cpu_ns;
    uint64_t last_ns, last_bytes;
    uint64_t bytes[KN_ARMS_MAX], ns[KN_ARMS_MAX], cpu_ns[KN_ARMS_MAX];
    unsigned best;
};

#define KN_TUNE_KEEP (-1)

void kn_tuner_init(struct kn_tuner *t, unsigned arms, unsigned rounds, uint64_t from_ns, uint64_t to_ns);
/* To be called as bytes move, from the thread that moves them. Returns the arm to go over to, or KN_TUNE_KEEP; after the
 * last turn once the best. */
int kn_tuner_step(struct kn_tuner *t, uint64_t now_ns, uint64_t bytes);

#endif
