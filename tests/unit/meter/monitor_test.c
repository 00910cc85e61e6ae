/* The tables of /proc, and the monitor on a simulated machine and on this one. */
#include "made_up.h"

#include <stdbool.h>

#include "core/clock.h"
#include "meter/files.h"
#include "meter/observe.h"
#include "meter/proc.h"

/* ---- texts ---- */

static void cpus(void **state)
{
    (void)state;
    static const char text[] =
        "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 10 1 20 300 40 2 5 7 3 0\ncpu2 1 2 3 4\nintr 99 1 2\ncpu7 1 1 1 1\n";
    uint64_t t[3 * KN_CPU_KINDS];
    memset(t, 0xff, sizeof t);
    assert_int_equal(kn_proc_cpus(text, NULL, 0), 3);
    assert_int_equal(kn_proc_cpus(text, t, 3), 3);
    static const uint64_t first[] = {11, 22, 5, 7, 340}, third[] = {3, 3, KN_ABSENT, KN_ABSENT, 4};
    assert_memory_equal(t, first, sizeof first);
    assert_true(t[KN_CPU_KINDS + KN_CPU_IDLE] == KN_ABSENT); /* CPU 1 is not there */
    assert_memory_equal(t + 2 * KN_CPU_KINDS, third, sizeof third);
    assert_int_equal(kn_proc_cpus("", t, 3), 0);
}

static void pairs_and_words(void **state)
{
    (void)state;
    static const char snmp[] =
        "Ip: Forwarding\nIp: 1\nTcp: OutSegs RetransSegs InErrs\nTcp: 100 7\nUdp: OutSegs\nUdp: 5\n";
    assert_int_equal(kn_proc_pair(snmp, "Tcp:", "OutSegs"), 100);
    assert_int_equal(kn_proc_pair(snmp, "Tcp:", "RetransSegs"), 7);
    assert_int_equal(kn_proc_pair(snmp, "Udp:", "OutSegs"), 5);
    assert_true(kn_proc_pair(snmp, "Tcp:", "InErrs") == KN_ABSENT); /* a value is missing */
    assert_true(kn_proc_pair(snmp, "Tcp:", "Retrans") == KN_ABSENT);
    assert_true(kn_proc_pair("Tcp: OutSegs\n", "Tcp:", "OutSegs") == KN_ABSENT);
    static const char sockstat[] = "sockets: used 15\nTCP: inuse 1 orphan 0 tw 12 alloc 4 mem 292\nUDP: inuse 0 mem\n";
    assert_int_equal(kn_proc_word(sockstat, "TCP:", "tw"), 12);
    assert_int_equal(kn_proc_word(sockstat, "TCP:", "mem"), 292);
    assert_true(kn_proc_word(sockstat, "UDP:", "mem") == KN_ABSENT);
    assert_true(kn_proc_word(sockstat, "RAW:", "mem") == KN_ABSENT);
    assert_int_equal(kn_proc_line("MemTotal:  1000 kB\nMemAvailable:     42 kB\n", "MemAvailable:"), 42);
    assert_true(kn_proc_line("MemAvailableX: 4\n", "MemAvailable:") == KN_ABSENT);
}

static void hexadecimal_columns(void **state)
{
    (void)state;
    static const char softnet[] = "00aa1cc8 00000010 00000005\n00846c8a 0000000f 00000004\n";
    assert_int_equal(kn_proc_hex_column(softnet, 1), 0x1f);
    assert_int_equal(kn_proc_hex_column(softnet, 2), 9);
    assert_true(kn_proc_hex_column(softnet, 3) == KN_ABSENT);
    static const char tracked[] =
        "entries  drop early_drop\n00000003  0000000a 00000001\n00000003  00000006 00000000\n";
    assert_int_equal(kn_proc_hex_named(tracked, "drop"), 16);
    assert_int_equal(kn_proc_hex_named(tracked, "early_drop"), 1);
    assert_true(kn_proc_hex_named(tracked, "early") == KN_ABSENT);
    assert_true(kn_proc_hex_named("", "drop") == KN_ABSENT);
}

static void interfaces(void **state)
{
    (void)state;
    static const char text[] = "Inter-|   Receive  |  Transmit\n face |bytes    packets errs\n"
                               "    lo:    10 2 0 0 0 0 0 0  11 3 0 0 0 0 0 0\n  eth0:99 1\nbroken\n a:b:c: 1\n";
    char name[IF_NAMESIZE];
    uint64_t c[KN_DEV_COUNTERS];
    const char *at = kn_proc_interface(text, name, c);
    assert_string_equal(name, "lo");
    assert_true(c[KN_DEV_RX_BYTES] == 10 && c[KN_DEV_TX_BYTES] == 11 && c[KN_DEV_TX_PACKETS] == 3);
    at = kn_proc_interface(at, name, c);
    assert_string_equal(name, "eth0");
    assert_true(c[KN_DEV_RX_BYTES] == 99 && c[KN_DEV_TX_BYTES] == KN_ABSENT);
    at = kn_proc_interface(at, name, c);
    assert_string_equal(name, "a");
    assert_null(kn_proc_interface(at, name, c));
}

/* ---- a machine that is made up ---- */

static void *begin(uint64_t interval_ns)
{
    struct kn_error err;
    json_t *options = json_pack("{s:I}", "interval_ns", (json_int_t)interval_ns);
    void *m = kn_monitor_start_under(root, options, &err);
    json_decref(options);
    if (!m)
        fail_msg("%s", err.message);
    return m;
}

static json_t *end(void *m)
{
    json_t *out = kn_monitor.stop(m);
    kn_monitor.free(m);
    return out;
}

static json_t *at(const json_t *out, const char *group, const char *name)
{
    return json_object_get(json_object_get(out, group), name);
}

/* One interval of an hour: its start and its end. */
static void what_went_by(void **state)
{
    (void)state;
    write_file("/proc/stat", "cpu  0\ncpu0 100 0 0 0 0 0 0 0\ncpu1 0 0 0 100 0 0 0 0\n");
    write_file("/proc/net/snmp", "Tcp: OutSegs RetransSegs\nTcp: 100 7\n");
    write_file("/proc/net/dev",
               "h\nh\n eth0: 1000 10 0 0 0 0 0 0 2000 20 0 0 0 0 0 0\n quiet: 5 5 0 0 0 0 0 0 5 5 0 0 0 0 0 0\n");
    write_file("/proc/sys/net/netfilter/nf_conntrack_count", "5\n");
    write_file("/proc/sys/net/netfilter/nf_conntrack_max", "100\n");
    write_file("/proc/net/stat/nf_conntrack", "entries  insert_failed drop early_drop\n05 0a 01 00\n05 10 00 02\n");
    write_file("/proc/net/netstat", "TcpExt: TCPMemoryPressures TCPAbortOnMemory TCPRcvQDrop\nTcpExt: 3 0 5\n");
    write_file("/proc/net/sockstat", "TCP: inuse 1 orphan 0 tw 12 alloc 4 mem 10\n");
    write_file("/proc/sys/net/ipv4/tcp_mem", "100\t200\t300\n");
    write_file("/proc/meminfo", "MemTotal: 2000 kB\nMemAvailable: 1000 kB\n");
    write_file("/proc/sys/kernel/random/boot_id", "abc\n");
    void *m = begin(3600 * KN_NS_PER_S);
    write_file("/proc/stat", "cpu  0\ncpu0 130 0 60 10 0 0 0 0\ncpu1 0 0 0 200 0 0 0 0\n");
    write_file("/proc/net/snmp", "Tcp: OutSegs RetransSegs\nTcp: 150 9\n");
    write_file("/proc/net/dev",
               "h\nh\n eth0: 3000 12 0 4 0 0 0 0 2000 20 0 0 0 0 0 0\n quiet: 5 5 0 0 0 0 0 0 5 5 0 0 0 0 0 0\n");
    write_file("/proc/sys/net/netfilter/nf_conntrack_count", "95\n");
    write_file("/proc/net/netstat", "TcpExt: TCPMemoryPressures TCPAbortOnMemory TCPRcvQDrop\nTcpExt: 4 1 25\n");
    write_file("/proc/net/sockstat", "TCP: inuse 1 orphan 0 tw 12 alloc 4 mem 210\n");
    write_file("/proc/net/stat/nf_conntrack", "entries  insert_failed drop early_drop\n05 0c 01 00\n05 11 03 02\n");
    json_t *out = end(m);
    assert_int_equal(json_array_size(json_object_get(out, "t")), 1);
    assert_true(json_number_value(json_array_get(at(out, "cpu", "user"), 0)) == 0.3);
    assert_true(json_number_value(json_array_get(at(out, "cpu", "system"), 0)) == 0.6);
    assert_true(json_number_value(json_array_get(at(out, "cpu", "idle"), 1)) == 1);
    assert_int_equal(json_integer_value(at(out, "tcp", "segments")), 50);
    assert_int_equal(json_integer_value(at(out, "tcp", "retransmits")), 2);
    assert_null(at(out, "tcp", "timeouts")); /* no such file: absent, not 0 */
    assert_int_equal(json_integer_value(at(out, "tcp", "memory")), 210 * sysconf(_SC_PAGESIZE));
    assert_int_equal(json_integer_value(at(out, "tcp", "memory_max")), 200 * sysconf(_SC_PAGESIZE));
    assert_int_equal(json_integer_value(at(out, "tcp", "memory_pressures")), 2);
    assert_int_equal(json_integer_value(at(out, "tcp", "queue_drops")), 20);
    assert_null(json_object_get(out, "udp"));
    assert_int_equal(json_integer_value(at(out, "conntrack", "entries")), 95);
    assert_int_equal(json_integer_value(at(out, "conntrack", "insert_failed")), 3);
    assert_int_equal(json_integer_value(at(out, "conntrack", "drops")), 3);
    assert_int_equal(json_integer_value(at(out, "conntrack", "max")), 100);
    assert_int_equal(json_integer_value(at(out, "memory", "available")), 1024000);
    assert_int_equal(json_integer_value(at(out, "memory", "total")), 2048000);
    assert_int_equal(json_integer_value(at(json_object_get(out, "interfaces"), "eth0", "rx_drops")), 4);
    assert_null(at(out, "interfaces", "quiet"));
    assert_string_equal(json_string_value(json_object_get(out, "machine")), "abc");
    json_decref(out);
}

static void a_machine_that_shows_nothing(void **state)
{
    (void)state;
    json_t *out = end(begin(KN_NS_PER_S));
    assert_null(json_object_get(out, "cpu"));
    assert_null(json_object_get(out, "tcp"));
    assert_null(json_object_get(out, "interfaces"));
    assert_non_null(at(out, "process", "cpu")); /* requires no file */
    json_decref(out);
}

/* ---- this machine ---- */

static bool lists_fit(const json_t *value, size_t n, bool cores)
{
    const char *key;
    json_t *item;
    size_t i;
    if (json_is_array(value) && cores) {
        json_array_foreach(value, i, item) if (!lists_fit(item, n, false)) return false;
        return true;
    }
    if (json_is_array(value))
        return json_array_size(value) == n;
    json_object_foreach((json_t *)value, key, item) if (!lists_fit(item, n, cores)) return false;
    return true;
}

/* Too many samples: every other one is dropped, without losing counts. */
static void many_samples_are_thinned_out(void **state)
{
    (void)state;
    root[0] = 0;
    uint64_t cpu_ns = kn_process_cpu_ns();
    void *m = begin(1); /* the shortest interval */
    kn_sleep_until_ns(kn_now_ns() + 2700 * KN_NS_PER_MS);
    json_t *out = end(m), *t = json_object_get(out, "t");
    size_t n = json_array_size(t);
    double last = 0, used = 0;
    assert_in_range(n, 10, 241);
    assert_true(lists_fit(json_object_get(out, "tcp"), n, false) &&
                lists_fit(json_object_get(out, "interfaces"), n, false));
    assert_true(lists_fit(json_object_get(out, "cpu"), n, true));
    for (size_t i = 0; i < n; i++) {
        double now = json_number_value(json_array_get(t, i));
        json_t *cpu = at(out, "process", "cpu");
        used += (now - last) * json_number_value(json_is_array(cpu) ? json_array_get(cpu, i) : cpu);
        assert_true(now > last);
        last = now;
    }
    assert_true(last >= 2.69);
    assert_true(used <= (double)(kn_process_cpu_ns() - cpu_ns) / 1e9 + 0.01);
    json_decref(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cpus),
        cmocka_unit_test(pairs_and_words),
        cmocka_unit_test(hexadecimal_columns),
        cmocka_unit_test(interfaces),
        cmocka_unit_test_setup_teardown(what_went_by, make_root, drop_root),
        cmocka_unit_test_setup_teardown(a_machine_that_shows_nothing, make_root, drop_root),
        cmocka_unit_test(many_samples_are_thinned_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
