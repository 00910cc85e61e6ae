#include "core/clock.h"

#include <time.h>

static uint64_t read_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * KN_NS_PER_S + (uint64_t)t.tv_nsec;
}

uint64_t kn_now_ns(void)
{
    return read_ns(CLOCK_MONOTONIC);
}

uint64_t kn_wall_ns(void)
{
    return read_ns(CLOCK_REALTIME);
}

uint64_t kn_thread_cpu_ns(void)
{
    return read_ns(CLOCK_THREAD_CPUTIME_ID);
}

uint64_t kn_process_cpu_ns(void)
{
    return read_ns(CLOCK_PROCESS_CPUTIME_ID);
}

void kn_sleep_until_ns(uint64_t when_ns)
{
    struct timespec t = kn_timespec(when_ns);
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

/* Of several tries, keeps the one in which the readings were closest together. */
void kn_clocks_read(struct kn_clocks *c)
{
    c->spread_ns = UINT64_MAX;
    for (int i = 0; i < 5 && c->spread_ns > 20 * KN_NS_PER_US; i++) {
        struct kn_clocks one = {.now_ns = kn_now_ns(), .wall_ns = kn_wall_ns(), .boot_ns = read_ns(CLOCK_BOOTTIME)};
        one.spread_ns = kn_now_ns() - one.now_ns;
        if (one.spread_ns < c->spread_ns)
            *c = one;
    }
}

/* By how much clock `b` advanced more than CLOCK_MONOTONIC. 0 if it is within the precision of the readings. */
static int64_t parted(const struct kn_clocks *from, const struct kn_clocks *to, uint64_t b_from_ns, uint64_t b_to_ns)
{
    int64_t by_ns = (int64_t)(b_to_ns - b_from_ns) - (int64_t)(to->now_ns - from->now_ns);
    uint64_t size_ns = by_ns < 0 ? 0 - (uint64_t)by_ns : (uint64_t)by_ns;
    return size_ns > KN_CLOCKS_LEAST_NS + from->spread_ns + to->spread_ns ? by_ns : 0;
}

int64_t kn_clocks_jump_ns(const struct kn_clocks *from, const struct kn_clocks *to)
{
    /* the wall clock also advances while the machine is suspended, which is not a jump */
    return parted(from, to, from->wall_ns, to->wall_ns - kn_clocks_asleep_ns(from, to));
}

uint64_t kn_clocks_asleep_ns(const struct kn_clocks *from, const struct kn_clocks *to)
{
    int64_t by_ns = parted(from, to, from->boot_ns, to->boot_ns);
    return by_ns > 0 ? (uint64_t)by_ns : 0;
}
