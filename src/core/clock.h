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
void kn_sleep_until_ns(uint64_t when_ns); /* absolute, CLOCK_MONOTONIC; returns early on a signal */

#endif
