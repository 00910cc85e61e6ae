#include <math.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/json.h"
#include "meter/files.h"
#include "meter/proc.h"

static uint64_t times(uint64_t value, uint64_t unit)
{
    return value == KN_ABSENT || value > (KN_ABSENT - 1) / unit ? KN_ABSENT : value * unit;
}

/* ---- the node ---- */

static void read_node(const char *root, struct kn_cpu_reading *r)
{
    char text[512];
    uint64_t ticks[KN_CPU_KINDS], tick_ns = KN_NS_PER_S / (uint64_t)sysconf(_SC_CLK_TCK);
    if (kn_file_read(root, "/proc/stat", text, sizeof text) < 0 || strncmp(text, "cpu ", 4) != 0)
        return;
    kn_proc_cpu(text, ticks);
    uint64_t busy = kn_sum(kn_sum(ticks[KN_CPU_USER], ticks[KN_CPU_SYSTEM]), ticks[KN_CPU_SOFTIRQ]);
    if (ticks[KN_CPU_IDLE] == KN_ABSENT || busy + ticks[KN_CPU_IDLE] == 0)
        return; /* gVisor shows only zeros */
    r->node_busy_ns = times(busy, tick_ns);
    r->node_user_ns = times(ticks[KN_CPU_USER], tick_ns);
    r->node_softirq_ns = times(ticks[KN_CPU_SOFTIRQ], tick_ns);
    r->node_steal_ns = times(ticks[KN_CPU_STEAL], tick_ns);
}

/* ---- the cgroup ---- */

static void read_usage(const char *root, const struct kn_cgroup *g, struct kn_cpu_reading *r)
{
    if (g->version == 1)
        r->cgroup_ns = kn_file_number(root, g->folder, "cpuacct.usage");
    if (g->version == 2)
        r->cgroup_ns = times(kn_file_member(root, g->folder, "cpu.stat", "usage_usec"), 1000);
    if (g->version)
        r->cgroup_id = kn_file_id(root, g->folder);
}

/* The quotas of the cgroups above apply to this process too, and are counted there. */
static void read_throttling(const char *root, struct kn_cgroup g, struct kn_cpu_reading *r)
{
    if (!g.version)
        return;
    do {
        r->throttled_n = kn_sum(r->throttled_n, kn_file_member(root, g.folder, "cpu.stat", "nr_throttled"));
        if (g.version == 1)
            r->throttled_ns = kn_sum(r->throttled_ns, kn_file_member(root, g.folder, "cpu.stat", "throttled_time"));
        else
            r->throttled_ns = kn_sum(r->throttled_ns,
                                     times(kn_file_member(root, g.folder, "cpu.stat", "throttled_usec"), 1000));
    } while (kn_cgroup_up(&g));
}

static void read_memory(const char *root, const struct kn_cgroup *g, struct kn_cpu_reading *r)
{
    char text[128];
    unsigned long long pages;
    if (g->version)
        r->cgroup_memory = kn_file_number(root, g->folder,
                                          g->version == 1 ? "memory.usage_in_bytes" : "memory.current");
    if (kn_file_read(root, "/proc/self/statm", text, sizeof text) > 0 && sscanf(text, "%*u %llu", &pages) == 1)
        r->process_memory = pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

void kn_cgroups_find(const char *root, struct kn_cgroups *c)
{
    kn_cgroup_find(root, "cpu", &c->cpu);
    kn_cgroup_find(root, "cpuacct", &c->cpuacct);
    kn_cgroup_find(root, "memory", &c->memory);
}

static uint64_t user_ns(void)
{
    struct rusage u;
    if (getrusage(RUSAGE_SELF, &u))
        return KN_ABSENT;
    return (uint64_t)u.ru_utime.tv_sec * KN_NS_PER_S + (uint64_t)u.ru_utime.tv_usec * 1000;
}

void kn_cpu_read_cgroups(const char *root, const struct kn_cgroups *c, struct kn_cpu_reading *r)
{
    memset(r, 0xff, sizeof *r);
    r->at_ns = kn_now_ns();
    r->process_ns = kn_process_cpu_ns();
    r->process_user_ns = user_ns();
    read_usage(root, &c->cpuacct, r);
    read_throttling(root, c->cpu, r);
    read_memory(root, &c->memory, r);
}

void kn_cpu_read_under(const char *root, struct kn_cpu_reading *r)
{
    struct kn_cgroups c;
    kn_cgroups_find(root, &c);
    kn_cpu_read_cgroups(root, &c, r);
    read_node(root, r);
}

void kn_cpu_read(struct kn_cpu_reading *r)
{
    kn_cpu_read_under("", r);
}

/* ---- between two readings ---- */

/* False if a counter decreased, as when a CPU was removed. */
static bool difference(uint64_t from, uint64_t to, double *out)
{
    if (from == KN_ABSENT || to == KN_ABSENT || to < from)
        return false;
    *out = (double)(to - from);
    return true;
}

static void put_share(json_t *json, const char *name, uint64_t from, uint64_t to, double per)
{
    double d;
    if (per > 0 && difference(from, to, &d))
        kn_json_set(json, name, json_real(d / per));
}

/* The shortest windows for a figure: readings are up to 100 µs from the window's edges, and /proc/stat has steps of
 * 10 ms. */
#define CGROUP_LEAST_NS (10 * KN_NS_PER_MS)
#define NODE_LEAST_NS (50 * KN_NS_PER_MS)

json_t *kn_cpu_between(const struct kn_cpu_reading *from, const struct kn_cpu_reading *to)
{
    json_t *json = json_object();
    char machine[64];
    double elapsed = 0, times_throttled;
    if (!difference(from->at_ns, to->at_ns, &elapsed))
        elapsed = 0;
    /* it moved to another cgroup, or there was no memory to find it */
    bool same = from->cgroup_id == to->cgroup_id;
    double cgroup = same && elapsed >= CGROUP_LEAST_NS ? elapsed : 0, node = elapsed >= NODE_LEAST_NS ? elapsed : 0;
    put_share(json, "process", from->process_ns, to->process_ns, elapsed);
    put_share(json, "process_user", from->process_user_ns, to->process_user_ns, elapsed);
    put_share(json, "cgroup", from->cgroup_ns, to->cgroup_ns, cgroup);
    put_share(json, "node", from->node_busy_ns, to->node_busy_ns, node);
    if (json_object_get(json, "cgroup") && to->cgroup_id != KN_ABSENT)
        kn_json_set(json, "cgroup_id", kn_json_u64(to->cgroup_id));
    if (elapsed > 0 && !kn_boot_id("", machine, sizeof machine))
        kn_json_set(json, "machine", json_string(machine));
    if (json_object_get(json, "node"))
        kn_json_set(json, "node_cpus", json_integer(kn_cpus_online()));
    put_share(json, "node_user", from->node_user_ns, to->node_user_ns, node);
    put_share(json, "softirq", from->node_softirq_ns, to->node_softirq_ns, node);
    put_share(json, "steal", from->node_steal_ns, to->node_steal_ns, node);
    put_share(json, "throttled_s", from->throttled_ns, to->throttled_ns, same && elapsed > 0 ? 1e9 : 0);
    if (same && elapsed > 0 && difference(from->throttled_n, to->throttled_n, &times_throttled))
        kn_json_set(json, "throttled", kn_json_u64((uint64_t)times_throttled));
    if (to->process_memory != KN_ABSENT)
        kn_json_set(json, "process_memory", kn_json_u64(to->process_memory));
    if (to->cgroup_memory != KN_ABSENT)
        kn_json_set(json, "cgroup_memory", kn_json_u64(to->cgroup_memory));
    return json;
}

/* ---- the number of CPUs ---- */

/* v1 has one file for the quota (-1: none) and one for the period; v2's cpu.max is "QUOTA|max PERIOD". */
static double quota_of(const char *root, const struct kn_cgroup *g)
{
    char path[PATH_MAX + 16], text[64];
    unsigned long long quota, period;
    if (g->version == 1) {
        uint64_t q = kn_file_number(root, g->folder, "cpu.cfs_quota_us"),
                 p = kn_file_number(root, g->folder, "cpu.cfs_period_us");
        return q == KN_ABSENT || p == KN_ABSENT || p == 0 ? 0 : (double)q / (double)p;
    }
    snprintf(path, sizeof path, "%s/cpu.max", g->folder);
    if (kn_file_read(root, path, text, sizeof text) < 0 || sscanf(text, "%llu %llu", &quota, &period) != 2 ||
        period == 0)
        return 0;
    return (double)quota / (double)period;
}

double kn_cpu_quota_under(const char *root)
{
    struct kn_cgroup g;
    double least = 0;
    kn_cgroup_find(root, "cpu", &g);
    if (!g.version)
        return 0;
    do {
        double q = quota_of(root, &g);
        if (q > 0 && (least == 0 || q < least))
            least = q;
    } while (kn_cgroup_up(&g));
    return least;
}

double kn_cpu_quota(void)
{
    return kn_cpu_quota_under("");
}

unsigned kn_cpus_online(void)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (unsigned)n : 1;
}

/* The set must be as large as the kernel's, which may have more than 1024 CPUs. */
static unsigned count_affinity(void)
{
    for (size_t cpus = 1024; cpus <= 1u << 16; cpus *= 2) {
        cpu_set_t *set = CPU_ALLOC(cpus);
        if (!set)
            break;
        int n = sched_getaffinity(0, CPU_ALLOC_SIZE(cpus), set) == 0 ? CPU_COUNT_S(CPU_ALLOC_SIZE(cpus), set) : 0;
        CPU_FREE(set);
        if (n > 0)
            return (unsigned)n;
    }
    return kn_cpus_online();
}

unsigned kn_cpus_allowed(void)
{
    unsigned n = count_affinity();
    double quota = kn_cpu_quota();
    if (quota > 0 && ceil(quota) < n)
        n = (unsigned)ceil(quota);
    return n;
}
