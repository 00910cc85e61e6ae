#include "core/pace.h"

#include "core/clock.h"

static void init(struct kn_pace *p, uint64_t step, uint64_t per, uint64_t start_ns, unsigned share, unsigned shares)
{
    *p = (struct kn_pace){.start_ns = start_ns, .step = step, .per = per, .share = share, .shares = shares};
    kn_pace_take(p, 0);
}

void kn_pace_init(struct kn_pace *p, uint64_t per_1000s, uint64_t start_ns, unsigned share, unsigned shares)
{
    init(p, 1000 * KN_NS_PER_S, per_1000s, start_ns, share, shares);
}

void kn_pace_init_bits(struct kn_pace *p, uint64_t rate_bps, uint64_t size, uint64_t start_ns, unsigned share,
                       unsigned shares)
{
    init(p, size * 8 * KN_NS_PER_S, rate_bps, start_ns, share, shares);
}

uint64_t kn_pace_due_of(const struct kn_pace *p, uint64_t k)
{
    uint64_t number;
    if (__builtin_mul_overflow(k, p->shares, &number) || __builtin_add_overflow(number, p->share, &number))
        return UINT64_MAX;
    unsigned __int128 since = (unsigned __int128)number * p->step / p->per;
    return since > UINT64_MAX - p->start_ns ? UINT64_MAX : p->start_ns + (uint64_t)since;
}

void kn_pace_take(struct kn_pace *p, uint64_t n)
{
    p->next += n;
    p->due_ns = kn_pace_due_of(p, p->next);
}

/* Due times are rounded down, so operation `number` is due if number * step < (since + 1) * per. */
uint64_t kn_pace_backlog(const struct kn_pace *p, uint64_t now_ns)
{
    if (now_ns < p->due_ns)
        return 0;
    uint64_t since = now_ns - p->start_ns;
    unsigned __int128 last = (((unsigned __int128)since + 1) * p->per - 1) / p->step;
    return (uint64_t)((last - p->share) / p->shares) + 1 - p->next;
}
