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
    struct timespec t = { .tv_sec = (time_t)(when_ns / KN_NS_PER_S), .tv_nsec = (long)(when_ns % KN_NS_PER_S) };
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}
