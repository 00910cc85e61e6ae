/* A row of the monitor: the kernel's counters of this node, this network namespace and this cgroup. */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "meter/monitor.h"

static const char *const paths[KN_FILES] = {
    "/proc/stat",
    "/proc/meminfo",
    "/proc/net/snmp",
    "/proc/net/snmp6",
    "/proc/net/netstat",
    "/proc/net/sockstat",
    "/proc/sys/net/ipv4/tcp_mem", /* not in network namespaces but the first */
    "/proc/net/softnet_stat",
    "/proc/net/dev",
    "/proc/sys/net/netfilter/nf_conntrack_count",
    "/proc/sys/net/netfilter/nf_conntrack_max",
    "/proc/net/stat/nf_conntrack",
};

void kn_monitor_open(struct kn_monitor_state *m)
{
    char path[PATH_MAX];
    for (int i = 0; i < KN_FILES; i++) {
        snprintf(path, sizeof path, "%s%s", m->root, paths[i]);
        m->fds[i] = open(path, O_RDONLY | O_CLOEXEC);
    }
}

void kn_monitor_find_interfaces(struct kn_monitor_state *m)
{
    uint64_t counters[KN_DEV_COUNTERS];
    const char *t = kn_monitor_load(m, KN_FILE_DEV);
    while (m->interfaces < KN_MONITOR_INTERFACES && (t = kn_proc_interface(t, m->names[m->interfaces], counters)))
        m->interfaces++;
}

const char *kn_monitor_load(struct kn_monitor_state *m, enum kn_monitor_file file)
{
    size_t used = m->fds[file] >= 0 ? kn_file_part(m->fds[file], m->text, sizeof m->text - 1, 0) : 0;
    m->text[used] = 0;
    return m->text;
}

static void read_own(struct kn_monitor_state *m, uint64_t *v)
{
    struct kn_cpu_reading r;
    kn_cpu_read_cgroups(m->root, &m->cgroups, &r);
    v[KN_COL_AT] = r.at_ns;
    v[KN_COL_PROCESS] = r.process_ns;
    v[KN_COL_CGROUP] = r.cgroup_ns;
    v[KN_COL_THROTTLED] = r.throttled_n;
    v[KN_COL_THROTTLED_NS] = r.throttled_ns;
    v[KN_COL_CGROUP_MEMORY] = r.cgroup_memory;
    v[KN_COL_PROCESS_MEMORY] = r.process_memory;
}

/* Of tcp_mem's three (low, pressure, high) the one from which on the kernel holds back TCP's memory. */
static uint64_t second_number(const char *text)
{
    text += strspn(text, "0123456789");
    return kn_proc_number(text + strspn(text, " \t"));
}

static void read_network(struct kn_monitor_state *m, uint64_t *v)
{
    const char *t = kn_monitor_load(m, KN_FILE_SNMP);
    v[KN_COL_SEGMENTS] = kn_proc_pair(t, "Tcp:", "OutSegs");
    v[KN_COL_RETRANSMITS] = kn_proc_pair(t, "Tcp:", "RetransSegs");
    v[KN_COL_UDP_RECEIVE_DROPS] = kn_proc_pair(t, "Udp:", "RcvbufErrors");
    v[KN_COL_UDP_SEND_DROPS] = kn_proc_pair(t, "Udp:", "SndbufErrors");
    t = kn_monitor_load(m, KN_FILE_SNMP6);
    v[KN_COL_UDP_RECEIVE_DROPS] = kn_sum(v[KN_COL_UDP_RECEIVE_DROPS], kn_proc_line(t, "Udp6RcvbufErrors"));
    v[KN_COL_UDP_SEND_DROPS] = kn_sum(v[KN_COL_UDP_SEND_DROPS], kn_proc_line(t, "Udp6SndbufErrors"));
    t = kn_monitor_load(m, KN_FILE_NETSTAT);
    v[KN_COL_TIMEOUTS] = kn_proc_pair(t, "TcpExt:", "TCPTimeouts");
    v[KN_COL_LISTEN_DROPS] = kn_proc_pair(t, "TcpExt:", "ListenDrops");
    v[KN_COL_BACKLOG_DROPS] = kn_proc_pair(t, "TcpExt:", "TCPBacklogDrop");
    v[KN_COL_TCP_PRESSURES] = kn_sum(kn_proc_pair(t, "TcpExt:", "TCPMemoryPressures"),
                                     kn_proc_pair(t, "TcpExt:", "TCPAbortOnMemory"));
    v[KN_COL_TCP_QUEUE_DROPS] = kn_proc_pair(t, "TcpExt:", "TCPRcvQDrop");
    t = kn_monitor_load(m, KN_FILE_SOCKSTAT);
    v[KN_COL_SOCKETS] = kn_proc_word(t, "TCP:", "inuse");
    v[KN_COL_TIME_WAIT] = kn_proc_word(t, "TCP:", "tw");
    v[KN_COL_TCP_PAGES] = kn_proc_word(t, "TCP:", "mem");
    v[KN_COL_UDP_PAGES] = kn_proc_word(t, "UDP:", "mem");
    v[KN_COL_TCP_PAGES_MAX] = second_number(kn_monitor_load(m, KN_FILE_TCP_MEM));
    t = kn_monitor_load(m, KN_FILE_SOFTNET);
    v[KN_COL_SOFTNET_DROPS] = kn_proc_hex_column(t, 1);
    v[KN_COL_SOFTNET_SQUEEZED] = kn_proc_hex_column(t, 2);
    v[KN_COL_TRACKED] = kn_proc_number(kn_monitor_load(m, KN_FILE_TRACKED));
    v[KN_COL_TRACKED_MAX] = kn_proc_number(kn_monitor_load(m, KN_FILE_TRACKED_MAX));
    t = kn_monitor_load(m, KN_FILE_TRACKING);
    v[KN_COL_TRACKED_DROPS] = kn_sum(kn_proc_hex_named(t, "drop"), kn_proc_hex_named(t, "early_drop"));
    v[KN_COL_TRACKED_FAILED] = kn_proc_hex_named(t, "insert_failed");
}

/* New interfaces are not seen; those removed are absent from then on. */
static void read_interfaces(struct kn_monitor_state *m, uint64_t *v)
{
    char name[IF_NAMESIZE];
    uint64_t counters[KN_DEV_COUNTERS];
    const char *t = kn_monitor_load(m, KN_FILE_DEV);
    while ((t = kn_proc_interface(t, name, counters)))
        for (unsigned i = 0; i < m->interfaces; i++)
            if (!strcmp(m->names[i], name))
                memcpy(v + kn_monitor_interface(m, i), counters, sizeof counters);
}

static void check_clocks(struct kn_monitor_state *m)
{
    struct kn_clocks now;
    kn_clocks_read(&now);
    uint64_t jumped_ns = (uint64_t)llabs(kn_clocks_jump_ns(&m->clocks, &now));
    m->asleep_ns += kn_clocks_asleep_ns(&m->clocks, &now);
    if (jumped_ns > m->jumped_ns)
        m->jumped_ns = jumped_ns;
    m->clocks = now;
}

void kn_monitor_sample(struct kn_monitor_state *m, uint64_t *v)
{
    check_clocks(m);
    memset(v, 0xff, m->width * sizeof *v);
    read_own(m, v);
    const char *t = kn_monitor_load(m, KN_FILE_MEMINFO);
    uint64_t kib = kn_proc_line(t, "MemAvailable:");
    v[KN_COL_AVAILABLE] = kib == KN_ABSENT ? kib : kib * 1024;
    kn_proc_cpus(kn_monitor_load(m, KN_FILE_STAT), v + kn_monitor_cpu(0), m->cpus);
    read_network(m, v);
    read_interfaces(m, v);
}
