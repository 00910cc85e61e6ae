/* The meter on simulated machines (both cgroup versions, containers, sandboxes), and against getrusage on this one. */
#include "made_up.h"

#include <fcntl.h>
#include <math.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "core/clock.h"
#include "meter/files.h"

/* ---- made-up machines ---- */

static void version_1_on_a_host(void **state)
{
    struct kn_cpu_reading r;
    (void)state;
    write_file("/proc/self/cgroup",
               "9:name=systemd:/x\n4:memory:/kubepods/pod1/c1\n2:cpu,cpuacct:/kubepods/pod1/c1\n0::/other\n");
    write_file("/proc/self/mountinfo",
               "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
               "33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
               "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n41 31 0:38 / "
               "/sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
    write_file("/sys/fs/cgroup/cpu,cpuacct/kubepods/pod1/c1/cpuacct.usage", "1234567890123\n");
    write_file("/sys/fs/cgroup/cpu,cpuacct/kubepods/pod1/c1/cpu.stat",
               "nr_periods 10\nnr_throttled 3\nthrottled_time 5000\n");
    write_file("/sys/fs/cgroup/cpu,cpuacct/kubepods/pod1/cpu.stat",
               "nr_periods 10\nnr_throttled 4\nthrottled_time 6000\n");
    write_file("/sys/fs/cgroup/cpu,cpuacct/kubepods/pod1/c1/cpu.cfs_quota_us", "-1\n");
    write_file("/sys/fs/cgroup/cpu,cpuacct/kubepods/pod1/c1/cpu.cfs_period_us", "100000\n");
    write_file("/sys/fs/cgroup/cpu,cpuacct/kubepods/pod1/cpu.cfs_quota_us", "150000\n");
    write_file("/sys/fs/cgroup/cpu,cpuacct/kubepods/pod1/cpu.cfs_period_us", "100000\n");
    write_file("/sys/fs/cgroup/memory/kubepods/pod1/c1/memory.usage_in_bytes", "4096\n");
    write_file("/proc/stat", "cpu  100 20 30 400 50 6 7 8 9 10\ncpu0 1 2 3 4 5\n");
    kn_cpu_read_under(root, &r);
    assert_int_equal(r.cgroup_ns, 1234567890123);
    assert_true(r.cgroup_id != KN_ABSENT);
    assert_int_equal(r.throttled_n, 7);
    assert_int_equal(r.throttled_ns, 11000);
    assert_int_equal(r.cgroup_memory, 4096);
    uint64_t tick_ns = KN_NS_PER_S / (uint64_t)sysconf(_SC_CLK_TCK);
    assert_int_equal(r.node_busy_ns, (100 + 20 + 30 + 6 + 7) * tick_ns);
    assert_int_equal(r.node_user_ns, (100 + 20) * tick_ns);
    assert_int_equal(r.node_softirq_ns, 7 * tick_ns);
    assert_int_equal(r.node_steal_ns, 8 * tick_ns);
    assert_true(r.process_memory == KN_ABSENT); /* this machine has no statm */
    assert_true(kn_cpu_quota_under(root) == 1.5);
}

static void version_2_in_a_container(void **state)
{
    struct kn_cpu_reading r;
    (void)state;
    write_file("/proc/self/cgroup", "0::/\n");
    write_file(
        "/proc/self/mountinfo",
        "1 2 0:5 / / rw - overlay overlay rw\n30 24 0:26 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw,nsdelegate\n");
    write_file("/sys/fs/cgroup/cpu.stat",
               "usage_usec 5000000\nuser_usec 4\nsystem_usec 1\nnr_periods 5\nnr_throttled 2\nthrottled_usec 900\n");
    write_file("/sys/fs/cgroup/cpu.max", "50000 100000\n");
    write_file("/sys/fs/cgroup/memory.current", "8192\n");
    write_file("/proc/self/statm", "1000 25 10 1 0 100 0\n");
    kn_cpu_read_under(root, &r);
    assert_int_equal(r.cgroup_ns, 5 * KN_NS_PER_S);
    assert_int_equal(r.throttled_n, 2);
    assert_int_equal(r.throttled_ns, 900000);
    assert_int_equal(r.cgroup_memory, 8192);
    assert_int_equal(r.process_memory, 25 * (uint64_t)sysconf(_SC_PAGESIZE));
    assert_true(r.node_busy_ns == KN_ABSENT);
    assert_true(kn_cpu_quota_under(root) == 0.5);
    write_file("/sys/fs/cgroup/cpu.max", "max 100000\n");
    assert_true(kn_cpu_quota_under(root) == 0);
}

static void version_2_takes_the_least_quota_above(void **state)
{
    (void)state;
    write_file("/proc/self/cgroup", "0::/a/b/c\n");
    write_file("/proc/self/mountinfo", "30 24 0:26 / /sys/fs/my\\040cgroup rw - cgroup2 cgroup rw\n");
    write_file("/sys/fs/my cgroup/a/b/c/cpu.max", "300000 100000\n");
    write_file("/sys/fs/my cgroup/a/b/cpu.max", "max 100000\n");
    write_file("/sys/fs/my cgroup/a/cpu.max", "200000 100000\n");
    assert_true(kn_cpu_quota_under(root) == 2);
}

/* docker without a cgroup namespace: the path is the host's, and the mount shows only the part below it. */
static void the_hosts_path_in_a_container(void **state)
{
    struct kn_cpu_reading r;
    (void)state;
    write_file("/proc/self/cgroup", "3:cpuacct:/docker/abc\n2:cpu:/docker/abc/deeper\n");
    write_file("/proc/self/mountinfo", "32 31 0:29 /docker/abc /cg/cpu ro - cgroup cgroup rw,cpu\n33 31 0:30 "
                                       "/docker/ab /cg/wrong ro - cgroup cgroup rw,cpuacct\n"
                                       "34 31 0:30 /docker/abc /cg/cpuacct ro - cgroup cgroup rw,cpuacct\n");
    write_file("/cg/cpuacct/cpuacct.usage", "77\n");
    write_file("/cg/cpu/deeper/cpu.stat", "nr_throttled 1\nthrottled_time 2\n");
    kn_cpu_read_under(root, &r);
    assert_int_equal(r.cgroup_ns, 77);
    assert_int_equal(r.throttled_n, 1);
    assert_int_equal(r.throttled_ns, 2);
}

static void what_cannot_be_seen_is_absent(void **state)
{
    struct kn_cpu_reading r, later;
    (void)state;
    kn_cpu_read_under(root, &r); /* no /proc at all */
    assert_true(r.cgroup_ns == KN_ABSENT && r.node_busy_ns == KN_ABSENT && r.throttled_n == KN_ABSENT &&
                r.cgroup_memory == KN_ABSENT);
    assert_true(r.process_ns != KN_ABSENT && r.at_ns != KN_ABSENT);
    assert_true(kn_cpu_quota_under(root) == 0);
    /* the mount comes from outside this cgroup namespace */
    write_file("/proc/self/cgroup", "0::/\n");
    write_file("/proc/self/mountinfo", "30 24 0:26 /../.. /sys/fs/cgroup ro - cgroup2 cgroup rw\n");
    write_file("/sys/fs/cgroup/cpu.stat", "usage_usec 5000000\n");
    /* a sandbox whose numbers are all zeros */
    write_file("/proc/stat", "cpu  0 0 0 0 0 0 0 0 0 0\n");
    kn_cpu_read_under(root, &r);
    assert_true(r.cgroup_ns == KN_ABSENT && r.node_busy_ns == KN_ABSENT && r.node_steal_ns == KN_ABSENT);
    kn_cpu_read_under(root, &later);
    json_t *json = kn_cpu_between(&r, &later);
    assert_non_null(json_object_get(json, "process"));
    assert_non_null(json_object_get(json, "process_user"));
    assert_int_equal(json_object_size(json), json_object_get(json, "machine") ? 3 : 2);
    json_decref(json);
}

static void garbage_is_absent(void **state)
{
    static const char *const garbage[] = {"",
                                          "\n",
                                          "cpu",
                                          ":::",
                                          "0::",
                                          "x 24 - \n",
                                          "max",
                                          "-5\n",
                                          "99999999999999999999999\n",
                                          "usage_usec \nnr_throttled x\n",
                                          "a - b"};
    struct kn_cpu_reading r;
    (void)state;
    for (size_t i = 0; i < sizeof garbage / sizeof *garbage; i++)
        for (int good = 0; good < 2; good++) {
            write_file("/proc/self/cgroup", good ? "0::/\n" : garbage[i]);
            write_file("/proc/self/mountinfo", good ? "30 24 0:26 / /cg ro - cgroup2 cgroup rw\n" : garbage[i]);
            write_file("/proc/stat", garbage[i]);
            write_file("/proc/self/statm", garbage[i]);
            write_file("/cg/cpu.stat", garbage[i]);
            write_file("/cg/cpu.max", garbage[i]);
            write_file("/cg/memory.current", garbage[i]);
            kn_cpu_read_under(root, &r);
            assert_true(r.cgroup_ns == KN_ABSENT && r.node_busy_ns == KN_ABSENT && r.throttled_ns == KN_ABSENT &&
                        r.cgroup_memory == KN_ABSENT);
            assert_true(kn_cpu_quota_under(root) == 0);
        }
}

static double share(const json_t *json, const char *name)
{
    const json_t *v = json_object_get(json, name);
    assert_non_null(v);
    return json_number_value(v);
}

static void between_two_readings(void **state)
{
    struct kn_cpu_reading a, b;
    (void)state;
    memset(&a, 0, sizeof a);
    b = (struct kn_cpu_reading){.at_ns = 2000 * KN_NS_PER_MS,
                                .process_ns = 1000 * KN_NS_PER_MS,
                                .cgroup_ns = 3000 * KN_NS_PER_MS,
                                .node_busy_ns = 4000 * KN_NS_PER_MS,
                                .node_softirq_ns = 500 * KN_NS_PER_MS,
                                .process_user_ns = 200 * KN_NS_PER_MS,
                                .node_user_ns = 2500 * KN_NS_PER_MS,
                                .node_steal_ns = 0,
                                .throttled_ns = 1500000000,
                                .throttled_n = 4,
                                .cgroup_memory = 10,
                                .process_memory = 5};
    json_t *json = kn_cpu_between(&a, &b);
    assert_true(share(json, "process") == 0.5 && share(json, "cgroup") == 1.5 && share(json, "node") == 2 &&
                share(json, "softirq") == 0.25 && share(json, "process_user") == 0.1 &&
                share(json, "node_user") == 1.25);
    assert_true(share(json, "node_cpus") == kn_cpus_online());
    assert_true(share(json, "steal") == 0 && share(json, "throttled_s") == 1.5 && share(json, "throttled") == 4 &&
                share(json, "process_memory") == 5);
    json_decref(json);
    a.cgroup_ns = 9999 * KN_NS_PER_MS; /* moved to another cgroup in between */
    b.node_busy_ns = KN_ABSENT;
    json = kn_cpu_between(&a, &b);
    assert_null(json_object_get(json, "cgroup"));
    assert_null(json_object_get(json, "node"));
    json_decref(json);
    json = kn_cpu_between(&b, &b);
    assert_null(json_object_get(json, "process")); /* not 0/0 */
    json_decref(json);
}

static void what_is_too_coarse_is_absent(void **state)
{
    static const struct {
        uint64_t ms;
        bool cgroup, node;
    } cases[] = {{1, false, false}, {9, false, false}, {10, true, false}, {49, true, false}, {50, true, true}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct kn_cpu_reading a = {0}, b = {.at_ns = cases[i].ms * KN_NS_PER_MS,
                                            .cgroup_ns = 10 * KN_NS_PER_MS,
                                            .node_busy_ns = 10 * KN_NS_PER_MS};
        json_t *json = kn_cpu_between(&a, &b);
        assert_non_null(json_object_get(json, "process"));
        assert_true((json_object_get(json, "cgroup") != NULL) == cases[i].cgroup);
        for (size_t k = 0; k < 5; k++)
            assert_true((json_object_get(json, (const char *[]){"node", "node_user", "softirq", "steal",
                                                                "node_cpus"}[k]) != NULL) == cases[i].node);
        json_decref(json);
    }
}

/* ---- this machine ---- */

static double rusage_s(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* Works for a CPU time, so that a busy machine makes it longer but not less. */
static void spin(uint64_t cpu_ns)
{
    uint64_t end = kn_thread_cpu_ns() + cpu_ns;
    while (kn_thread_cpu_ns() < end)
        continue;
}

static void as_getrusage_has_it(void **state)
{
    struct kn_cpu_reading a, b;
    (void)state;
    double before = rusage_s();
    kn_cpu_read(&a);
    spin(200 * KN_NS_PER_MS);
    kn_cpu_read(&b);
    double used = rusage_s() - before, elapsed = (double)(b.at_ns - a.at_ns) / 1e9;
    json_t *json = kn_cpu_between(&a, &b);
    assert_true(fabs(share(json, "process") * elapsed - used) <= 0.004); /* the readings' own cost */
    assert_true(share(json, "process") <= 1.02);
    if (json_object_get(json, "cgroup"))
        assert_true(share(json, "cgroup") * elapsed >= 0.2 * 0.95);
    if (json_object_get(json, "node"))
        assert_true(share(json, "node") <= kn_cpus_online() + 0.2);
    assert_true(kn_cpus_allowed() >= 1 && kn_cpus_allowed() <= kn_cpus_online());
    json_decref(json);
}

static void memory_grows_by_what_is_touched(void **state)
{
    struct kn_cpu_reading a, b;
    size_t size = 64 << 20;
    (void)state;
    kn_cpu_read(&a);
    char *block = malloc(size);
    for (size_t i = 0; i < size; i += 4096)
        ((volatile char *)block)[i] = 1;
    kn_cpu_read(&b);
    free(block);
    assert_true(b.process_memory >= a.process_memory + size / 10 * 9);
}

static int put(const char *folder, const char *name, const char *text)
{
    char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_WRONLY);
    if (fd < 0)
        return -1;
    ssize_t n = write(fd, text, strlen(text));
    close(fd);
    return n == (ssize_t)strlen(text) ? 0 : -1;
}

/* A cgroup of 20 % of one CPU, if the test may make one: the process sees its quota and its throttling. */
static int in_a_quota(const char *folder)
{
    struct kn_cpu_reading a, b;
    if (put(folder, "cgroup.procs", "0"))
        return 2;
    if (fabs(kn_cpu_quota() - 0.2) > 1e-9)
        return 3;
    if (kn_cpus_allowed() != 1)
        return 4;
    kn_cpu_read(&a);
    for (int i = 0; i < 100; i++) { /* on a busy machine it takes a while to get more than 20 % */
        spin(100 * KN_NS_PER_MS);
        kn_cpu_read(&b);
        if (b.throttled_n == KN_ABSENT || (b.throttled_n > a.throttled_n && b.throttled_ns > a.throttled_ns))
            break;
    }
    if (b.throttled_n == KN_ABSENT || b.throttled_n <= a.throttled_n)
        return 5;
    if (b.throttled_ns <= a.throttled_ns)
        return 6;
    if (b.cgroup_ns != KN_ABSENT && b.cgroup_ns - a.cgroup_ns < 90 * KN_NS_PER_MS && strstr(folder, "cpuacct"))
        return 7;
    return 0;
}

static void a_real_quota(void **state)
{
    struct kn_cgroup g;
    char folder[PATH_MAX + 32];
    int status = 0;
    (void)state;
    kn_cgroup_find("", "cpu", &g);
    snprintf(folder, sizeof folder, "%s/knbl-meter-%d", g.folder, (int)getpid());
    if (!g.version || mkdir(folder, 0755))
        skip();
    bool made = g.version == 1 ? put(folder, "cpu.cfs_quota_us", "20000") == 0
                               : put(folder, "cpu.max", "20000 100000") == 0;
    pid_t child = made ? fork() : -1;
    if (child == 0)
        _exit(in_a_quota(folder));
    if (child > 0)
        waitpid(child, &status, 0);
    rmdir(folder);
    if (!made)
        skip();
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 2)
        skip(); /* the test may make a cgroup, but not enter it */
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
#define MADE_UP(test) cmocka_unit_test_setup_teardown(test, make_root, drop_root)
    const struct CMUnitTest tests[] = {
        MADE_UP(version_1_on_a_host),
        MADE_UP(version_2_in_a_container),
        MADE_UP(version_2_takes_the_least_quota_above),
        MADE_UP(the_hosts_path_in_a_container),
        MADE_UP(what_cannot_be_seen_is_absent),
        MADE_UP(garbage_is_absent),
        cmocka_unit_test(between_two_readings),
        cmocka_unit_test(what_is_too_coarse_is_absent),
        cmocka_unit_test(as_getrusage_has_it),
        cmocka_unit_test(memory_grows_by_what_is_touched),
        cmocka_unit_test(a_real_quota),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
