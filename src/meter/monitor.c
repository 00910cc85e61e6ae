/* The monitor: a thread that reads the counters of this node, this network namespace and this cgroup again and again.
 *
 * A sample is a row of numbers, counters as the kernel has them; what they mean is reckoned once, at the end. Where
 * there are too many samples every other one goes and the step doubles: counters lose nothing by that. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/json.h"
#include "core/thread.h"
#include "meter/files.h"
#include "meter/observe.h"
#include "meter/proc.h"

#define INTERVAL_NS KN_NS_PER_S                /* where nothing else is asked for */
#define INTERVAL_MIN_NS (10 * KN_NS_PER_MS)    /* the kernel counts CPU time in such steps */
#define FINE_SAMPLES 240                       /* so many of steps below a second … */
#define SAMPLES_MAX 4096                       /* … and so many of any */
#define INTERFACES_MAX 32
#define TEXT_MAX 65536

/* ---- what there is to read ---- */

enum file { F_STAT, F_MEMINFO, F_SNMP, F_SNMP6, F_NETSTAT, F_SOCKSTAT, F_SOFTNET, F_DEV, F_TRACKED, F_TRACKED_MAX,
            F_TRACKING, FILES };
static const char *const paths[FILES] = {
    "/proc/stat", "/proc/meminfo", "/proc/net/snmp", "/proc/net/snmp6", "/proc/net/netstat", "/proc/net/sockstat",
    "/proc/net/softnet_stat", "/proc/net/dev", "/proc/sys/net/netfilter/nf_conntrack_count",
    "/proc/sys/net/netfilter/nf_conntrack_max", "/proc/net/stat/nf_conntrack",
};

enum { AT, PROCESS, CGROUP, THROTTLED, THROTTLED_NS, CGROUP_MEMORY, PROCESS_MEMORY, AVAILABLE, SEGMENTS, RETRANSMITS,
       TIMEOUTS, LISTEN_DROPS, BACKLOG_DROPS, SOCKETS, TIME_WAIT, TCP_PAGES, UDP_PAGES, UDP_RECEIVE_DROPS,
       UDP_SEND_DROPS, SOFTNET_DROPS, SOFTNET_SQUEEZED, TRACKED, TRACKED_MAX, TRACKED_DROPS, FIXED };

enum kind {
    GAUGE,      /* as it is at the end of an interval */
    PAGES,      /* the same, in bytes */
    COUNT,      /* how many in an interval */
    RATE,       /* how many a second */
    CORES,      /* nanoseconds a nanosecond */
    SECONDS     /* nanoseconds in an interval */
};
static const struct { const char *group, *name; enum kind kind; unsigned column; } columns[] = {
    { "process", "cpu", CORES, PROCESS },
    { "process", "memory", GAUGE, PROCESS_MEMORY },
    { "cgroup", "cpu", CORES, CGROUP },
    { "cgroup", "memory", GAUGE, CGROUP_MEMORY },
    { "cgroup", "throttled", COUNT, THROTTLED },
    { "cgroup", "throttled_s", SECONDS, THROTTLED_NS },
    { "memory", "available", GAUGE, AVAILABLE },
    { "tcp", "segments", COUNT, SEGMENTS },
    { "tcp", "retransmits", COUNT, RETRANSMITS },
    { "tcp", "timeouts", COUNT, TIMEOUTS },
    { "tcp", "listen_drops", COUNT, LISTEN_DROPS },
    { "tcp", "backlog_drops", COUNT, BACKLOG_DROPS },
    { "tcp", "sockets", GAUGE, SOCKETS },
    { "tcp", "time_wait", GAUGE, TIME_WAIT },
    { "tcp", "memory", PAGES, TCP_PAGES },
    { "udp", "receive_drops", COUNT, UDP_RECEIVE_DROPS },
    { "udp", "send_drops", COUNT, UDP_SEND_DROPS },
    { "udp", "memory", PAGES, UDP_PAGES },
    { "softnet", "drops", COUNT, SOFTNET_DROPS },
    { "softnet", "squeezed", COUNT, SOFTNET_SQUEEZED },
    { "conntrack", "entries", GAUGE, TRACKED },
    { "conntrack", "max", GAUGE, TRACKED_MAX },
    { "conntrack", "drops", COUNT, TRACKED_DROPS },
};

static const struct { const char *name; enum kind kind; unsigned counter; } of_interface[] = {
    { "rx_bytes_per_s", RATE, KN_DEV_RX_BYTES },     { "tx_bytes_per_s", RATE, KN_DEV_TX_BYTES },
    { "rx_packets_per_s", RATE, KN_DEV_RX_PACKETS }, { "tx_packets_per_s", RATE, KN_DEV_TX_PACKETS },
    { "rx_drops", COUNT, KN_DEV_RX_DROPS },          { "tx_drops", COUNT, KN_DEV_TX_DROPS },
    { "rx_errors", COUNT, KN_DEV_RX_ERRORS },        { "tx_errors", COUNT, KN_DEV_TX_ERRORS },
};

struct monitor {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool running, stop;
    const char *root;
    int fds[FILES];                            /* kept open; -1: not there */
    struct kn_cgroups cgroups;
    unsigned cpus, interfaces;
    char names[INTERFACES_MAX][IF_NAMESIZE];
    size_t width, n, room;                     /* rows */
    uint64_t *rows;                            /* FIXED, then each CPU's kinds, then each interface's counters */
    uint64_t interval_ns, started_ns;
    struct kn_clocks clocks;                   /* at the last sample */
    uint64_t jumped_ns, asleep_ns, gap_ns;     /* the largest jump; the sleep of all; the longest that we were not run */
    char text[TEXT_MAX];
};

static uint64_t *row(const struct monitor *m, size_t i)
{
    return m->rows + i * m->width;
}

static size_t cpu_column(unsigned cpu)
{
    return FIXED + (size_t)cpu * KN_CPU_KINDS;
}

static size_t interface_column(const struct monitor *m, unsigned i)
{
    return cpu_column(m->cpus) + (size_t)i * KN_DEV_COUNTERS;
}

/* ---- one sample ---- */

static const char *load(struct monitor *m, enum file file)
{
    size_t used = 0;
    while (m->fds[file] >= 0 && used < sizeof m->text - 1) {
        ssize_t n = pread(m->fds[file], m->text + used, sizeof m->text - 1 - used, (off_t)used);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        used += (size_t)n;
    }
    m->text[used] = 0;
    return m->text;
}

static uint64_t both(uint64_t a, uint64_t b)
{
    return a == KN_ABSENT ? b : b == KN_ABSENT ? a : a + b;
}

static void read_own(struct monitor *m, uint64_t *v)
{
    struct kn_cpu_reading r;
    kn_cpu_read_cgroups(m->root, &m->cgroups, &r);
    v[AT] = r.at_ns;
    v[PROCESS] = r.process_ns;
    v[CGROUP] = r.cgroup_ns;
    v[THROTTLED] = r.throttled_n;
    v[THROTTLED_NS] = r.throttled_ns;
    v[CGROUP_MEMORY] = r.cgroup_memory;
    v[PROCESS_MEMORY] = r.process_memory;
}

static void read_network(struct monitor *m, uint64_t *v)
{
    const char *t = load(m, F_SNMP);
    v[SEGMENTS] = kn_proc_pair(t, "Tcp:", "OutSegs");
    v[RETRANSMITS] = kn_proc_pair(t, "Tcp:", "RetransSegs");
    v[UDP_RECEIVE_DROPS] = kn_proc_pair(t, "Udp:", "RcvbufErrors");
    v[UDP_SEND_DROPS] = kn_proc_pair(t, "Udp:", "SndbufErrors");
    t = load(m, F_SNMP6);
    v[UDP_RECEIVE_DROPS] = both(v[UDP_RECEIVE_DROPS], kn_proc_line(t, "Udp6RcvbufErrors"));
    v[UDP_SEND_DROPS] = both(v[UDP_SEND_DROPS], kn_proc_line(t, "Udp6SndbufErrors"));
    t = load(m, F_NETSTAT);
    v[TIMEOUTS] = kn_proc_pair(t, "TcpExt:", "TCPTimeouts");
    v[LISTEN_DROPS] = kn_proc_pair(t, "TcpExt:", "ListenDrops");
    v[BACKLOG_DROPS] = kn_proc_pair(t, "TcpExt:", "TCPBacklogDrop");
    t = load(m, F_SOCKSTAT);
    v[SOCKETS] = kn_proc_word(t, "TCP:", "inuse");
    v[TIME_WAIT] = kn_proc_word(t, "TCP:", "tw");
    v[TCP_PAGES] = kn_proc_word(t, "TCP:", "mem");
    v[UDP_PAGES] = kn_proc_word(t, "UDP:", "mem");
    t = load(m, F_SOFTNET);
    v[SOFTNET_DROPS] = kn_proc_hex_column(t, 1);
    v[SOFTNET_SQUEEZED] = kn_proc_hex_column(t, 2);
    v[TRACKED] = kn_proc_number(load(m, F_TRACKED));
    v[TRACKED_MAX] = kn_proc_number(load(m, F_TRACKED_MAX));
    t = load(m, F_TRACKING);
    v[TRACKED_DROPS] = both(kn_proc_hex_named(t, "drop"), kn_proc_hex_named(t, "early_drop"));
}

/* Interfaces that come later are not seen; those that go are absent from then on. */
static void read_interfaces(struct monitor *m, uint64_t *v)
{
    char name[IF_NAMESIZE];
    uint64_t counters[KN_DEV_COUNTERS];
    const char *t = load(m, F_DEV);
    while ((t = kn_proc_interface(t, name, counters)))
        for (unsigned i = 0; i < m->interfaces; i++)
            if (!strcmp(m->names[i], name))
                memcpy(v + interface_column(m, i), counters, sizeof counters);
}

static void check_clocks(struct monitor *m)
{
    struct kn_clocks now;
    kn_clocks_read(&now);
    uint64_t jumped_ns = (uint64_t)llabs(kn_clocks_jump_ns(&m->clocks, &now));
    m->asleep_ns += kn_clocks_asleep_ns(&m->clocks, &now);
    if (jumped_ns > m->jumped_ns) m->jumped_ns = jumped_ns;
    m->clocks = now;
}

static void sample(struct monitor *m, uint64_t *v)
{
    check_clocks(m);
    memset(v, 0xff, m->width * sizeof *v);
    read_own(m, v);
    const char *t = load(m, F_MEMINFO);
    uint64_t kib = kn_proc_line(t, "MemAvailable:");
    v[AVAILABLE] = kib == KN_ABSENT ? kib : kib * 1024;
    kn_proc_cpus(load(m, F_STAT), v + cpu_column(0), m->cpus);
    read_network(m, v);
    read_interfaces(m, v);
}

/* ---- the rows ---- */

static void halve(struct monitor *m)
{
    for (size_t i = 1; 2 * i < m->n; i++) memcpy(row(m, i), row(m, 2 * i), m->width * sizeof *m->rows);
    m->n = (m->n + 1) / 2;
    m->interval_ns *= 2;
}

/* Room for one more; where there is no memory for it the last one is written over. */
static uint64_t *next_row(struct monitor *m)
{
    bool fine = m->interval_ns * 2 <= KN_NS_PER_S;
    if (m->n >= (fine ? FINE_SAMPLES : SAMPLES_MAX) + 1) halve(m);
    if (m->n == m->room) {
        size_t room = 2 * m->room;
        uint64_t *more = realloc(m->rows, room * m->width * sizeof *more);
        if (!more) return row(m, m->n - 1);
        m->rows = more;
        m->room = room;
    }
    return row(m, m->n++);
}

static void *monitor_main(void *argument)
{
    struct monitor *m = argument;
    uint64_t next_ns = m->started_ns + m->interval_ns;
    pthread_mutex_lock(&m->lock);
    while (!m->stop) {
        struct timespec until = { .tv_sec = (time_t)(next_ns / KN_NS_PER_S),
                                  .tv_nsec = (long)(next_ns % KN_NS_PER_S) };
        if (kn_now_ns() < next_ns) {
            pthread_cond_timedwait(&m->wake, &m->lock, &until);
            continue;
        }
        uint64_t now_ns = kn_now_ns();
        if (now_ns - next_ns > m->gap_ns) m->gap_ns = now_ns - next_ns;
        sample(m, next_row(m));
        next_ns += m->interval_ns;
        now_ns = kn_now_ns();
        /* what was missed is not made up for, and no two samples lie so close that they say nothing */
        if (next_ns < now_ns + m->interval_ns / 2) next_ns = now_ns + m->interval_ns;
    }
    pthread_mutex_unlock(&m->lock);
    return NULL;
}

/* ---- beginning ---- */

static void open_files(struct monitor *m)
{
    char path[PATH_MAX];
    for (int i = 0; i < FILES; i++) {
        snprintf(path, sizeof path, "%s%s", m->root, paths[i]);
        m->fds[i] = open(path, O_RDONLY | O_CLOEXEC);
    }
}

static void find_interfaces(struct monitor *m)
{
    uint64_t counters[KN_DEV_COUNTERS];
    const char *t = load(m, F_DEV);
    while (m->interfaces < INTERFACES_MAX && (t = kn_proc_interface(t, m->names[m->interfaces], counters)))
        m->interfaces++;
}

static int start_thread(struct monitor *m, struct kn_error *err)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&m->wake, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&m->lock, NULL);
    if ((errno = kn_thread_start(&m->thread, "knbl-monitor", monitor_main, m)) != 0)
        return kn_fail_errno(err, "no thread for the monitor");
    m->running = true;
    return 0;
}

static void end_thread(struct monitor *m)
{
    if (!m->running) return;
    pthread_mutex_lock(&m->lock);
    m->stop = true;
    pthread_cond_signal(&m->wake);
    pthread_mutex_unlock(&m->lock);
    pthread_join(m->thread, NULL);
    m->running = false;
}

static void monitor_free(void *observer)
{
    struct monitor *m = observer;
    end_thread(m);
    for (int i = 0; i < FILES; i++)
        if (m->fds[i] >= 0) close(m->fds[i]);
    free(m->rows);
    free(m);
}

void *kn_monitor_start_under(const char *root, const json_t *options, struct kn_error *err)
{
    uint64_t interval_ns = INTERVAL_NS;
    if (kn_json_u64_member(options, "interval_ns", &interval_ns, err)) {
        err->code = KN_E_ARGUMENT;
        return NULL;
    }
    struct monitor *m = calloc(1, sizeof *m);
    if (!m) {
        kn_fail_memory(err);
        return NULL;
    }
    m->root = root;
    m->interval_ns = interval_ns < INTERVAL_MIN_NS ? INTERVAL_MIN_NS : interval_ns;
    kn_clocks_read(&m->clocks);
    open_files(m);
    kn_cgroups_find(root, &m->cgroups);
    m->cpus = kn_proc_cpus(load(m, F_STAT), NULL, 0);
    find_interfaces(m);
    m->width = interface_column(m, m->interfaces);
    m->room = 32;
    m->rows = malloc(m->room * m->width * sizeof *m->rows);
    if (m->rows) {
        sample(m, row(m, m->n++));
        m->started_ns = row(m, 0)[AT];
        if (start_thread(m, err) == 0) return m;
    } else {
        kn_fail_memory(err);
    }
    monitor_free(m);
    return NULL;
}

static void *monitor_start(const json_t *options, struct kn_error *err)
{
    return kn_monitor_start_under("", options, err);
}

/* ---- the answer ---- */

static json_t *number_of(double value, bool whole)
{
    if (whole) return json_integer((json_int_t)llround(value));
    value = round(value * 1000) / 1000;
    return value == floor(value) ? json_integer((json_int_t)value) : json_real(value);
}

/* What a column says of the interval that ends with row i; null where it is not known. */
static json_t *value_of(const struct monitor *m, size_t column, enum kind kind, size_t i)
{
    uint64_t from = row(m, i - 1)[column], to = row(m, i)[column];
    double elapsed_ns = (double)(row(m, i)[AT] - row(m, i - 1)[AT]);
    if (to == KN_ABSENT) return json_null();
    if (kind == GAUGE) return number_of((double)to, true);
    if (kind == PAGES) return number_of((double)to * (double)sysconf(_SC_PAGESIZE), true);
    if (from == KN_ABSENT || to < from) return json_null();
    double more = (double)(to - from);
    if (kind == COUNT) return number_of(more, true);
    if (kind == RATE) return number_of(more * 1e9 / elapsed_ns, true);
    return number_of(more / (kind == CORES ? elapsed_ns : 1e9), false);
}

/* A list; where all are alike that one, where all are null nothing. Takes it. */
static json_t *condensed(json_t *list)
{
    json_t *first = json_array_get(list, 0);
    for (size_t i = 1; i < json_array_size(list); i++)
        if (!json_equal(json_array_get(list, i), first)) return list;
    first = json_is_null(first) ? NULL : json_incref(first);
    json_decref(list);
    return first;
}

static json_t *column_json(const struct monitor *m, size_t column, enum kind kind)
{
    json_t *list = json_array();
    for (size_t i = 1; i < m->n; i++) json_array_append_new(list, value_of(m, column, kind, i));
    return condensed(list);
}

static void put(json_t *out, const char *group, const char *name, json_t *value)
{
    if (!value) return;
    json_t *object = json_object_get(out, group);
    if (!object) json_object_set_new(out, group, object = json_object());
    json_object_set_new(object, name, value);
}

/* A CPU's kind as a share of the time that went by on it. */
static json_t *share_of(const struct monitor *m, unsigned cpu, int kind, size_t i)
{
    const uint64_t *from = row(m, i - 1) + cpu_column(cpu), *to = row(m, i) + cpu_column(cpu);
    double all = 0;
    for (int k = 0; k < KN_CPU_KINDS; k++)
        if (from[k] != KN_ABSENT && to[k] != KN_ABSENT && to[k] >= from[k]) all += (double)(to[k] - from[k]);
    if (to[kind] == KN_ABSENT || from[kind] == KN_ABSENT || to[kind] < from[kind] || all == 0) return json_null();
    return number_of((double)(to[kind] - from[kind]) / all, false);
}

static void put_cpus(const struct monitor *m, json_t *out)
{
    static const char *const kinds[KN_CPU_KINDS] = { "user", "system", "softirq", "steal", "idle" };
    for (int kind = 0; kind < KN_CPU_KINDS; kind++) {
        json_t *cores = json_array();
        bool any = false;
        for (unsigned cpu = 0; cpu < m->cpus; cpu++) {
            json_t *list = json_array();
            for (size_t i = 1; i < m->n; i++) json_array_append_new(list, share_of(m, cpu, kind, i));
            json_t *one = condensed(list);
            any = any || one;
            json_array_append_new(cores, one ? one : json_null());
        }
        put(out, "cpu", kinds[kind], any ? cores : NULL);
        if (!any) json_decref(cores);
    }
}

/* Those that carried anything; of a node's hundreds the loopback's silence is of no interest. */
static bool is_silent(const struct monitor *m, unsigned i)
{
    size_t at = interface_column(m, i);
    const uint64_t *from = row(m, 0) + at, *to = row(m, m->n - 1) + at;
    return from[KN_DEV_RX_PACKETS] == to[KN_DEV_RX_PACKETS] && from[KN_DEV_TX_PACKETS] == to[KN_DEV_TX_PACKETS] &&
           from[KN_DEV_RX_DROPS] == to[KN_DEV_RX_DROPS] && from[KN_DEV_TX_DROPS] == to[KN_DEV_TX_DROPS];
}

static void put_interfaces(const struct monitor *m, json_t *out)
{
    json_t *all = json_object();
    for (unsigned i = 0; i < m->interfaces; i++) {
        if (is_silent(m, i)) continue;
        for (size_t k = 0; k < sizeof of_interface / sizeof *of_interface; k++)
            put(all, m->names[i], of_interface[k].name,
                column_json(m, interface_column(m, i) + of_interface[k].counter, of_interface[k].kind));
    }
    if (json_object_size(all)) json_object_set(out, "interfaces", all);
    json_decref(all);
}

static void put_machine(struct monitor *m, json_t *out)
{
    char text[64];
    uint64_t kib = kn_proc_line(load(m, F_MEMINFO), "MemTotal:");
    if (kn_boot_id(m->root, text, sizeof text) == 0) json_object_set_new(out, "machine", json_string(text));
    if (kib != KN_ABSENT) put(out, "memory", "total", kn_json_u64(kib * 1024));
}

/* What the measurement's own clock does not show. */
static void put_clock(const struct monitor *m, json_t *out)
{
    put(out, "clock", "late_s", number_of((double)m->gap_ns / 1e9, false));
    if (m->jumped_ns) put(out, "clock", "jumped_s", number_of((double)m->jumped_ns / 1e9, false));
    if (m->asleep_ns) put(out, "clock", "asleep_s", number_of((double)m->asleep_ns / 1e9, false));
}

static json_t *monitor_json(struct monitor *m)
{
    json_t *out = json_object(), *times = json_array();
    json_object_set_new(out, "started_ns", kn_json_u64(m->started_ns));
    json_object_set_new(out, "interval_ns", kn_json_u64(m->interval_ns));
    for (size_t i = 1; i < m->n; i++)
        json_array_append_new(times, number_of((double)(row(m, i)[AT] - m->started_ns) / 1e9, false));
    json_object_set_new(out, "t", times);
    put_cpus(m, out);
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++)
        put(out, columns[i].group, columns[i].name, column_json(m, columns[i].column, columns[i].kind));
    put_interfaces(m, out);
    put_machine(m, out);
    put_clock(m, out);
    double quota = kn_cpu_quota_under(m->root);
    if (quota > 0) put(out, "cgroup", "quota", number_of(quota, false));
    return out;
}

/* What went by since the last sample belongs to it, unless it is worth one of its own. */
static json_t *monitor_stop(void *observer)
{
    struct monitor *m = observer;
    end_thread(m);
    bool late = m->n > 1 && kn_now_ns() - row(m, m->n - 1)[AT] < m->interval_ns / 2;
    sample(m, late ? row(m, m->n - 1) : next_row(m));
    return monitor_json(m);
}

const struct kn_observer_ops kn_monitor = { "monitor", monitor_start, monitor_stop, monitor_free };
