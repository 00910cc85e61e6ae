#include "run/tune.h"

#include <string.h>

#include "core/clock.h"

#define SETTLE 0.3 /* share of a turn that is not counted: buffers still hold the last arm's data */
#define ALIKE 0.97 /* rates this close to the best count as equal; the cheapest arm wins */

void kn_tuner_init(struct kn_tuner *t, unsigned arms, unsigned rounds, uint64_t from_ns, uint64_t to_ns)
{
    memset(t, 0, sizeof *t);
    t->arms = arms;
    t->rounds = rounds;
    t->from_ns = from_ns;
    t->to_ns = to_ns;
    t->turn = -1;
    t->over = arms < 2 || to_ns <= from_ns;
}

static uint64_t turn_ns(const struct kn_tuner *t)
{
    return (t->to_ns - t->from_ns) / (t->arms * t->rounds);
}

static void end_turn(struct kn_tuner *t)
{
    if (!t->measuring)
        return;
    unsigned arm = (unsigned)t->turn % t->arms;
    t->bytes[arm] += t->last_bytes - t->mark_bytes;
    t->ns[arm] += t->last_ns - t->mark_ns;
    t->cpu_ns[arm] += kn_thread_cpu_ns() - t->mark_cpu_ns;
    t->measuring = false;
}

static double rate(const struct kn_tuner *t, unsigned arm)
{
    return t->ns[arm] ? (double)t->bytes[arm] / (double)t->ns[arm] : 0;
}

static double cost(const struct kn_tuner *t, unsigned arm)
{
    return t->bytes[arm] ? (double)t->cpu_ns[arm] / (double)t->bytes[arm] : 1e300;
}

static unsigned best_of(const struct kn_tuner *t)
{
    double top = 0;
    unsigned best = 0;
    for (unsigned i = 0; i < t->arms; i++)
        if (rate(t, i) > top)
            top = rate(t, i), best = i;
    for (unsigned i = 0; i < t->arms; i++)
        if (rate(t, i) >= ALIKE * top && cost(t, i) < cost(t, best))
            best = i;
    return best;
}

int kn_tuner_step(struct kn_tuner *t, uint64_t now_ns, uint64_t bytes)
{
    if (t->over || now_ns < t->from_ns)
        return KN_TUNE_KEEP;
    if (now_ns >= t->to_ns) {
        end_turn(t);
        t->over = true;
        t->best = best_of(t);
        return (int)t->best;
    }
    uint64_t length_ns = turn_ns(t), since_ns = now_ns - t->from_ns;
    int turn = (int)(since_ns / length_ns);
    if (turn >= (int)(t->arms * t->rounds)) /* the division's remainder */
        return KN_TUNE_KEEP;
    if (turn != t->turn) {
        end_turn(t);
        t->turn = turn;
        return (int)((unsigned)turn % t->arms);
    }
    t->last_ns = now_ns;
    t->last_bytes = bytes;
    if (!t->measuring && (double)(since_ns % length_ns) >= SETTLE * (double)length_ns) {
        t->measuring = true;
        t->mark_ns = now_ns;
        t->mark_bytes = bytes;
        t->mark_cpu_ns = kn_thread_cpu_ns();
    }
    return KN_TUNE_KEEP;
}
