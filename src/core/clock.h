/* core/clock - the one clock. Monotonic nanoseconds by the vDSO, some 20 ns a reading: no system call. The bare TSC
 * would take 9 ns, but it neither follows the slewing of CLOCK_MONOTONIC, by which two hosts agree on a second, nor a
 * guest that moves to another machine. */
#ifndef KN_CORE_CLOCK_H
#define KN_CORE_CLOCK_H

#include <stdint.h>

#define KN_NS_PER_S 1000000000ull
#define KN_NS_PER_MS 1000000ull
#define KN_NS_PER_US 1000ull

uint64_t kn_now_ns(void);          /* CLOCK_MONOTONIC */
uint64_t kn_wall_ns(void);         /* CLOCK_REALTIME */
uint64_t kn_thread_cpu_ns(void);   /* CPU time of the calling thread, user + system */
uint64_t kn_process_cpu_ns(void);
/* What the clocks say of one another. The wall clock and CLOCK_MONOTONIC are slewed alike, so that only a jump parts
 * them; CLOCK_BOOTTIME counts on while the machine sleeps. */
struct kn_clocks { uint64_t now_ns, wall_ns, boot_ns, spread_ns; }; /* spread: how long it took to read them */
void kn_clocks_read(struct kn_clocks *c);
#define KN_CLOCKS_LEAST_NS (10 * KN_NS_PER_MS)  /* what is less is no jump and no sleep */
int64_t kn_clocks_jump_ns(const struct kn_clocks *from, const struct kn_clocks *to);   /* of the wall clock; 0: none */
uint64_t kn_clocks_asleep_ns(const struct kn_clocks *from, const struct kn_clocks *to);

void kn_sleep_until_ns(uint64_t when_ns); /* absolute, CLOCK_MONOTONIC; returns early on a signal */

#endif
