/* core/clock - the clock that all of knbl uses: CLOCK_MONOTONIC in nanoseconds. It is read through the vDSO, without a
 * system call, in about 20 ns. Reading the TSC directly takes 9 ns, but the TSC is not slewed as CLOCK_MONOTONIC is, so
 * two hosts would disagree on the length of a second, and it changes when a guest moves to another machine. */
#ifndef KN_CORE_CLOCK_H
#define KN_CORE_CLOCK_H

#include <stdint.h>
#include <time.h>

#define KN_NS_PER_S 1000000000ull
#define KN_NS_PER_MS 1000000ull
#define KN_NS_PER_US 1000ull

uint64_t kn_now_ns(void);        /* CLOCK_MONOTONIC */
uint64_t kn_wall_ns(void);       /* CLOCK_REALTIME */
uint64_t kn_thread_cpu_ns(void); /* CPU time of the calling thread, user + system */
uint64_t kn_process_cpu_ns(void);
/* Readings of three clocks at the same time. The wall clock and CLOCK_MONOTONIC are slewed alike, so their difference
 * changes only if the wall clock jumps. CLOCK_BOOTTIME also counts while the machine is suspended. */
struct kn_clocks {
    uint64_t now_ns, wall_ns, boot_ns, spread_ns;
}; /* spread: how long the readings took */
void kn_clocks_read(struct kn_clocks *c);
#define KN_CLOCKS_LEAST_NS (10 * KN_NS_PER_MS) /* smaller differences are ignored */
/* How far the wall clock jumped; 0 if it did not. */
int64_t kn_clocks_jump_ns(const struct kn_clocks *from, const struct kn_clocks *to);
uint64_t kn_clocks_asleep_ns(const struct kn_clocks *from, const struct kn_clocks *to);

static inline struct timespec kn_timespec(uint64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / KN_NS_PER_S), .tv_nsec = (long)(ns % KN_NS_PER_S)};
}

void kn_sleep_until_ns(uint64_t when_ns); /* absolute, CLOCK_MONOTONIC; returns early on a signal */

#endif
