/* meter - what a run costs the machine: CPU time of process, cgroup and node; TCP_INFO of a flow.
 *
 * A reading takes about 100 µs, so it is taken at the edges of a window, never inside it. What a machine does not offer
 * (no cgroup, /proc hidden, a sandbox whose /proc/stat is all zeros) is absent (UINT64_MAX), never 0. */
#ifndef KN_METER_METER_H
#define KN_METER_METER_H

#include <stdint.h>

#include "core/error.h"
#include "core/figures.h"

#define KN_ABSENT UINT64_MAX
uint64_t kn_sum(uint64_t a, uint64_t b); /* of those that are not absent */

struct kn_cpu_reading {
    uint64_t at_ns;
    uint64_t process_ns; /* user + system of this process */
    uint64_t process_user_ns;
    uint64_t cgroup_ns,
        cgroup_id; /* of this process's cgroup (v1 cpuacct, v2 cpu.stat); the id tells it from others of its machine */
    /* Of all CPUs, from /proc/stat, in steps of 10 ms. Busy is all but idle, iowait and steal; user includes nice. */
    uint64_t node_busy_ns, node_user_ns, node_softirq_ns, node_steal_ns;
    uint64_t throttled_ns, throttled_n;     /* by the quotas of the cgroup and those above it that are visible */
    uint64_t cgroup_memory, process_memory; /* bytes, now */
};
void kn_cpu_read(struct kn_cpu_reading *r);
/* {"process":cores,"process_user":…,"cgroup":…,"cgroup_id":…,"node":…,"machine":whose,"node_cpus":how
 * many,"node_user":…,"softirq":…,"steal":…, "throttled":times,"throttled_s":…,"process_memory":bytes,"cgroup_memory":…}
 * Memory is that at `to`. Absent values are left out, and those too coarse for the time between the two. */
json_t *kn_cpu_between(const struct kn_cpu_reading *from, const struct kn_cpu_reading *to);

unsigned kn_cpus_allowed(void); /* affinity, and the cgroup's quota rounded up; at least 1 */
unsigned kn_cpus_online(void);  /* of the node */
double kn_cpu_quota(void);      /* cores, the least of the cgroup's and those above it; 0: no limit */

/* Adds segments, retransmits, RTT, congestion window and MSS of a TCP flow; ignores other sockets. */
void kn_tcp_info_add(int fd, struct kn_figures *f);
uint64_t kn_tcp_mss(int fd); /* payload of a full segment as sent now; 0: unknown */

#endif
