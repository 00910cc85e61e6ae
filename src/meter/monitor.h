/* meter/monitor - what the files of the monitor share: its state and the columns of a sample.
 *
 * monitor.c keeps the thread and the rows, monitor_sample.c reads a row, monitor_json.c computes the result. */
#ifndef KN_METER_MONITOR_H
#define KN_METER_MONITOR_H

#include <net/if.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/clock.h"
#include "core/json.h"
#include "meter/files.h"
#include "meter/proc.h"

#define KN_MONITOR_INTERFACES 32
#define KN_MONITOR_TEXT 65536

enum kn_monitor_file {
    KN_FILE_STAT,
    KN_FILE_MEMINFO,
    KN_FILE_SNMP,
    KN_FILE_SNMP6,
    KN_FILE_NETSTAT,
    KN_FILE_SOCKSTAT,
    KN_FILE_TCP_MEM,
    KN_FILE_SOFTNET,
    KN_FILE_DEV,
    KN_FILE_TRACKED,
    KN_FILE_TRACKED_MAX,
    KN_FILE_TRACKING,
    KN_FILES
};

/* The columns of a row. Those of CPUs and interfaces follow. */
enum {
    KN_COL_AT,
    KN_COL_PROCESS,
    KN_COL_CGROUP,
    KN_COL_THROTTLED,
    KN_COL_THROTTLED_NS,
    KN_COL_CGROUP_MEMORY,
    KN_COL_PROCESS_MEMORY,
    KN_COL_AVAILABLE,
    KN_COL_SEGMENTS,
    KN_COL_RETRANSMITS,
    KN_COL_TIMEOUTS,
    KN_COL_LISTEN_DROPS,
    KN_COL_BACKLOG_DROPS,
    KN_COL_SOCKETS,
    KN_COL_TIME_WAIT,
    KN_COL_TCP_PAGES,
    KN_COL_TCP_PAGES_MAX,
    KN_COL_TCP_PRESSURES,
    KN_COL_TCP_QUEUE_DROPS,
    KN_COL_UDP_PAGES,
    KN_COL_UDP_RECEIVE_DROPS,
    KN_COL_UDP_SEND_DROPS,
    KN_COL_SOFTNET_DROPS,
    KN_COL_SOFTNET_SQUEEZED,
    KN_COL_TRACKED,
    KN_COL_TRACKED_MAX,
    KN_COL_TRACKED_DROPS,
    KN_COL_TRACKED_FAILED,
    KN_COL_FIXED
};

struct kn_monitor_state {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool running, stop;
    const char *root;
    int fds[KN_FILES]; /* -1: not present */
    struct kn_cgroups cgroups;
    unsigned cpus, interfaces;
    char names[KN_MONITOR_INTERFACES][IF_NAMESIZE];
    size_t width, n, room; /* rows */
    uint64_t *rows;        /* KN_COL_FIXED, then each CPU's kinds, then each interface's counters */
    uint64_t interval_ns, started_ns;
    struct kn_clocks clocks;               /* at the last sample */
    uint64_t jumped_ns, asleep_ns, gap_ns; /* the largest jump; all sleep; the longest delay of this thread */
    char text[KN_MONITOR_TEXT];
};

static inline uint64_t *kn_monitor_row(const struct kn_monitor_state *m, size_t i)
{
    return m->rows + i * m->width;
}

static inline size_t kn_monitor_cpu(unsigned cpu)
{
    return KN_COL_FIXED + (size_t)cpu * KN_CPU_KINDS;
}

static inline size_t kn_monitor_interface(const struct kn_monitor_state *m, unsigned i)
{
    return kn_monitor_cpu(m->cpus) + (size_t)i * KN_DEV_COUNTERS;
}

/* monitor_sample.c: opens the files of /proc, and finds the interfaces. */
void kn_monitor_open(struct kn_monitor_state *m);
void kn_monitor_find_interfaces(struct kn_monitor_state *m);

/* Reads a file from its beginning. Returns its text, "" if it is not present. */
const char *kn_monitor_load(struct kn_monitor_state *m, enum kn_monitor_file file);

/* Reads all counters into a row. */
void kn_monitor_sample(struct kn_monitor_state *m, uint64_t *v);

/* monitor_json.c: the figures of all rows. */
json_t *kn_monitor_json(struct kn_monitor_state *m);

#endif
