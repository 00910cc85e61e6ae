/* The monitor's result: figures of each interval, computed from the counters of its rows. */
#include <math.h>
#include <unistd.h>

#include "meter/monitor.h"

enum kind {
    GAUGE,  /* at the end of an interval */
    PAGES,  /* the same, in bytes */
    COUNT,  /* in an interval */
    RATE,   /* a second */
    CORES,  /* nanoseconds a nanosecond */
    SECONDS /* nanoseconds in an interval */
};
static const struct {
    const char *group, *name;
    enum kind kind;
    unsigned column;
} columns[] = {
    {"process", "cpu", CORES, KN_COL_PROCESS},
    {"process", "memory", GAUGE, KN_COL_PROCESS_MEMORY},
    {"cgroup", "cpu", CORES, KN_COL_CGROUP},
    {"cgroup", "memory", GAUGE, KN_COL_CGROUP_MEMORY},
    {"cgroup", "throttled", COUNT, KN_COL_THROTTLED},
    {"cgroup", "throttled_s", SECONDS, KN_COL_THROTTLED_NS},
    {"memory", "available", GAUGE, KN_COL_AVAILABLE},
    {"tcp", "segments", COUNT, KN_COL_SEGMENTS},
    {"tcp", "retransmits", COUNT, KN_COL_RETRANSMITS},
    {"tcp", "timeouts", COUNT, KN_COL_TIMEOUTS},
    {"tcp", "listen_drops", COUNT, KN_COL_LISTEN_DROPS},
    {"tcp", "backlog_drops", COUNT, KN_COL_BACKLOG_DROPS},
    {"tcp", "sockets", GAUGE, KN_COL_SOCKETS},
    {"tcp", "time_wait", GAUGE, KN_COL_TIME_WAIT},
    {"tcp", "memory", PAGES, KN_COL_TCP_PAGES},
    {"tcp", "memory_max", PAGES, KN_COL_TCP_PAGES_MAX},
    {"tcp", "memory_pressures", COUNT, KN_COL_TCP_PRESSURES},
    {"tcp", "queue_drops", COUNT, KN_COL_TCP_QUEUE_DROPS},
    {"udp", "receive_drops", COUNT, KN_COL_UDP_RECEIVE_DROPS},
    {"udp", "send_drops", COUNT, KN_COL_UDP_SEND_DROPS},
    {"udp", "memory", PAGES, KN_COL_UDP_PAGES},
    {"softnet", "drops", COUNT, KN_COL_SOFTNET_DROPS},
    {"softnet", "squeezed", COUNT, KN_COL_SOFTNET_SQUEEZED},
    {"conntrack", "entries", GAUGE, KN_COL_TRACKED},
    {"conntrack", "max", GAUGE, KN_COL_TRACKED_MAX},
    {"conntrack", "drops", COUNT, KN_COL_TRACKED_DROPS},
    {"conntrack", "insert_failed", COUNT, KN_COL_TRACKED_FAILED},
};

static const struct {
    const char *name;
    enum kind kind;
    unsigned counter;
} of_interface[] = {
    {"rx_bytes_per_s", RATE, KN_DEV_RX_BYTES},     {"tx_bytes_per_s", RATE, KN_DEV_TX_BYTES},
    {"rx_packets_per_s", RATE, KN_DEV_RX_PACKETS}, {"tx_packets_per_s", RATE, KN_DEV_TX_PACKETS},
    {"rx_drops", COUNT, KN_DEV_RX_DROPS},          {"tx_drops", COUNT, KN_DEV_TX_DROPS},
    {"rx_errors", COUNT, KN_DEV_RX_ERRORS},        {"tx_errors", COUNT, KN_DEV_TX_ERRORS},
};

static json_t *number_of(double value, bool whole)
{
    value = whole ? (double)llround(value) : round(value * 1000) / 1000;
    json_t *number = value == floor(value) ? json_integer((json_int_t)value) : json_real(value);
    kn_json_note(number); /* put() leaves out what is NULL */
    return number;
}

/* The value of a column for the interval that ends with row i; null if unknown. */
static json_t *value_of(const struct kn_monitor_state *m, size_t column, enum kind kind, size_t i)
{
    uint64_t from = kn_monitor_row(m, i - 1)[column], to = kn_monitor_row(m, i)[column];
    double elapsed_ns = (double)(kn_monitor_row(m, i)[KN_COL_AT] - kn_monitor_row(m, i - 1)[KN_COL_AT]);
    if (to == KN_ABSENT)
        return json_null();
    if (kind == GAUGE)
        return number_of((double)to, true);
    if (kind == PAGES)
        return number_of((double)to * (double)sysconf(_SC_PAGESIZE), true);
    if (from == KN_ABSENT || to < from)
        return json_null();
    double more = (double)(to - from);
    if (kind == COUNT)
        return number_of(more, true);
    if (kind == RATE)
        return number_of(more * 1e9 / elapsed_ns, true);
    return number_of(more / (kind == CORES ? elapsed_ns : 1e9), false);
}

/* Returns the list; one value if all are equal; NULL if all are null. Takes the reference. */
static json_t *condensed(json_t *list)
{
    json_t *first = json_array_get(list, 0);
    for (size_t i = 1; i < json_array_size(list); i++)
        if (!json_equal(json_array_get(list, i), first))
            return list;
    first = json_is_null(first) ? NULL : json_incref(first);
    json_decref(list);
    return first;
}

static json_t *column_json(const struct kn_monitor_state *m, size_t column, enum kind kind)
{
    json_t *list = json_array();
    for (size_t i = 1; i < m->n; i++)
        kn_json_append(list, value_of(m, column, kind, i));
    return condensed(list);
}

static void put(json_t *out, const char *group, const char *name, json_t *value)
{
    if (!value)
        return;
    json_t *object = json_object_get(out, group);
    if (!object) {
        kn_json_set(out, group, json_object());
        object = json_object_get(out, group);
    }
    kn_json_set(object, name, value);
}

/* The share of a kind in a CPU's time. */
static json_t *share_of(const struct kn_monitor_state *m, unsigned cpu, int kind, size_t i)
{
    const uint64_t *from = kn_monitor_row(m, i - 1) + kn_monitor_cpu(cpu),
                   *to = kn_monitor_row(m, i) + kn_monitor_cpu(cpu);
    double all = 0;
    for (int k = 0; k < KN_CPU_KINDS; k++)
        if (from[k] != KN_ABSENT && to[k] != KN_ABSENT && to[k] >= from[k])
            all += (double)(to[k] - from[k]);
    if (to[kind] == KN_ABSENT || from[kind] == KN_ABSENT || to[kind] < from[kind] || all == 0)
        return json_null();
    return number_of((double)(to[kind] - from[kind]) / all, false);
}

static void put_cpus(const struct kn_monitor_state *m, json_t *out)
{
    static const char *const kinds[KN_CPU_KINDS] = {"user", "system", "softirq", "steal", "idle"};
    for (int kind = 0; kind < KN_CPU_KINDS; kind++) {
        json_t *cores = json_array();
        bool any = false;
        for (unsigned cpu = 0; cpu < m->cpus; cpu++) {
            json_t *list = json_array();
            for (size_t i = 1; i < m->n; i++)
                kn_json_append(list, share_of(m, cpu, kind, i));
            json_t *one = condensed(list);
            any = any || one;
            kn_json_append(cores, one ? one : json_null());
        }
        put(out, "cpu", kinds[kind], any ? cores : NULL);
        if (!any)
            json_decref(cores);
    }
}

/* True for an interface without traffic: a node may have hundreds. */
static bool is_silent(const struct kn_monitor_state *m, unsigned i)
{
    size_t at = kn_monitor_interface(m, i);
    const uint64_t *from = kn_monitor_row(m, 0) + at, *to = kn_monitor_row(m, m->n - 1) + at;
    return from[KN_DEV_RX_PACKETS] == to[KN_DEV_RX_PACKETS] && from[KN_DEV_TX_PACKETS] == to[KN_DEV_TX_PACKETS] &&
           from[KN_DEV_RX_DROPS] == to[KN_DEV_RX_DROPS] && from[KN_DEV_TX_DROPS] == to[KN_DEV_TX_DROPS];
}

static void put_interfaces(const struct kn_monitor_state *m, json_t *out)
{
    json_t *all = json_object();
    for (unsigned i = 0; i < m->interfaces; i++) {
        if (is_silent(m, i))
            continue;
        for (size_t k = 0; k < sizeof of_interface / sizeof *of_interface; k++)
            put(all, m->names[i], of_interface[k].name,
                column_json(m, kn_monitor_interface(m, i) + of_interface[k].counter, of_interface[k].kind));
    }
    if (json_object_size(all))
        kn_json_set(out, "interfaces", json_incref(all));
    json_decref(all);
}

static void put_machine(struct kn_monitor_state *m, json_t *out)
{
    char text[64];
    uint64_t kib = kn_proc_line(kn_monitor_load(m, KN_FILE_MEMINFO), "MemTotal:");
    if (kn_boot_id(m->root, text, sizeof text) == 0)
        kn_json_set(out, "machine", json_string(text));
    if (kib != KN_ABSENT)
        put(out, "memory", "total", number_of((double)kib * 1024, true));
}

/* What CLOCK_MONOTONIC does not show. */
static void put_clock(const struct kn_monitor_state *m, json_t *out)
{
    put(out, "clock", "late_s", number_of((double)m->gap_ns / 1e9, false));
    if (m->jumped_ns)
        put(out, "clock", "jumped_s", number_of((double)m->jumped_ns / 1e9, false));
    if (m->asleep_ns)
        put(out, "clock", "asleep_s", number_of((double)m->asleep_ns / 1e9, false));
}

json_t *kn_monitor_json(struct kn_monitor_state *m)
{
    json_t *out = json_object(), *times = json_array();
    kn_json_set(out, "started_ns", kn_json_u64(m->started_ns));
    kn_json_set(out, "interval_ns", kn_json_u64(m->interval_ns));
    for (size_t i = 1; i < m->n; i++)
        kn_json_append(times, number_of((double)(kn_monitor_row(m, i)[KN_COL_AT] - m->started_ns) / 1e9, false));
    kn_json_set(out, "t", times);
    put_cpus(m, out);
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++)
        put(out, columns[i].group, columns[i].name, column_json(m, columns[i].column, columns[i].kind));
    put_interfaces(m, out);
    put_machine(m, out);
    put_clock(m, out);
    double quota = kn_cpu_quota_under(m->root);
    if (quota > 0)
        put(out, "cgroup", "quota", number_of(quota, false));
    return out;
}
