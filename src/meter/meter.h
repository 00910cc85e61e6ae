/* meter - what a run costs the machine: CPU of threads, process, cgroup and node; TCP_INFO of a flow.
 *
 * Readings are cheap enough to take at the edges of a window, never inside it. What a machine does not offer
 * (no cgroup, /proc hidden) comes out as absent (UINT64_MAX), never as 0. */
#ifndef KN_METER_METER_H
#define KN_METER_METER_H

#include <stdint.h>

#include "core/error.h"
#include "core/figures.h"

#define KN_ABSENT UINT64_MAX

struct kn_cpu_reading {
    uint64_t at_ns;
    uint64_t process_ns;         /* user + system of this process */
    uint64_t cgroup_ns;          /* of this process's cgroup (v1 cpuacct, v2 cpu.stat) */
    uint64_t node_busy_ns;       /* all CPUs, all but idle and iowait, from /proc/stat */
    uint64_t node_softirq_ns, node_steal_ns;
    uint64_t throttled_ns, throttled_n; /* cgroup's cpu quota */
    uint64_t cgroup_memory, process_memory; /* bytes, now */
};
void kn_cpu_read(struct kn_cpu_reading *r);
/* {"process":cores,"cgroup":…,"node":…,"softirq":…,"steal":…,"throttled_s":…}: absent ones left out. */
json_t *kn_cpu_between(const struct kn_cpu_reading *from, const struct kn_cpu_reading *to);

unsigned kn_cpus_allowed(void);   /* affinity, and the cgroup's quota rounded up: how many threads make sense */
double kn_cpu_quota(void);        /* cores; 0 where there is no limit */

/* Adds retransmits, RTT, congestion window and MSS of a TCP flow. */
void kn_tcp_info_add(int fd, struct kn_figures *f);
uint64_t kn_tcp_mss(int fd);

#endif
