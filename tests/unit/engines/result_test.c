/* What a result makes of what both ends reported: costs that several servers tell are not counted twice, and whose
 * limit a figure was. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <string.h>

#include "engines/engines.h"
#include "run/result.h"

/* A run of a second against as many servers as there are texts, each with what it says of its CPU. */
struct made_up {
    struct kn_run run;
    struct kn_server_account servers[4];
    struct kn_view view;
    json_t *mine;
};

static void make_up(struct made_up *m, const char *mine, const char *const *theirs)
{
    memset(m, 0, sizeof *m);
    m->run.servers = m->servers;
    m->run.flags = json_array();
    m->run.n_slots = 1;
    m->run.cpu_open.at_ns = 1;
    m->run.spec.test = &kn_tcp_rr;
    m->run.spec.wait = KN_WAIT_BLOCK;
    m->run.spec.flows = 1;
    for (unsigned i = 0; theirs[i]; i++, m->run.n_servers++) {
        m->servers[i].node[0] = (char)('a' + i); /* pods of a lab are on nodes of their own names */
        m->servers[i].cpu = json_loads(theirs[i], 0, NULL);
        assert_non_null(m->servers[i].cpu);
    }
    m->mine = json_loads(mine, 0, NULL);
    m->view = (struct kn_view){.run = &m->run, .spec = &m->run.spec, .window_ns = KN_NS_PER_S};
    m->view.client.has = m->view.server.has = KN_HAS_CPU;
    m->view.client.window_ns = m->view.server.window_ns = KN_NS_PER_S;
}

static void forget(struct made_up *m)
{
    for (unsigned i = 0; i < m->run.n_servers; i++)
        json_decref(m->servers[i].cpu);
    json_decref(m->run.flags);
    json_decref(m->mine);
}

static void expect_server(const char *const *theirs, double cgroup, double node, double cpus, double memory)
{
    struct made_up m;
    make_up(&m, "{}", theirs);
    json_t *metrics = json_object();
    kn_result_put_cpu(metrics, &m.view, m.mine);
    const json_t *cpu = json_object_get(metrics, "cpu"), *bytes = json_object_get(metrics, "memory");
    assert_float_equal(json_number_value(json_object_get(cpu, "server_cgroup")), cgroup, 1e-9);
    assert_float_equal(json_number_value(json_object_get(cpu, "server_node")), node, 1e-9);
    assert_float_equal(json_number_value(json_object_get(cpu, "server_cpus")), cpus, 1e-9);
    assert_float_equal(json_number_value(json_object_get(bytes, "server_cgroup")), memory, 1e-9);
    json_decref(metrics);
    forget(&m);
}

#define END(machine, id)                                            \
    "{\"machine\":\"" machine "\",\"cgroup\":0.5,\"cgroup_id\":" id \
    ",\"node\":1.5,\"node_cpus\":4,\"cgroup_memory\":100}"

static void what_several_servers_share_counts_once(void **state)
{
    (void)state;
    expect_server((const char *[]){END("m", "7"), NULL}, 0.5, 1.5, 4, 100);
    expect_server((const char *[]){END("m", "7"), END("m", "7"), END("m", "7"), NULL}, 0.5, 1.5, 4, 100);
    expect_server((const char *[]){END("m", "7"), END("m", "8"), NULL}, 1.0, 1.5, 4, 200);
    expect_server((const char *[]){END("m", "7"), END("n", "7"), NULL}, 1.0, 3.0, 8, 200);
    /* without an id they are taken for different */
    expect_server((const char *[]){"{\"cgroup\":0.5}", "{\"cgroup\":0.5}", NULL}, 1.0, 0, 0, 0);
}

static bool flagged(const char *mine, const char *theirs, uint64_t busy_ns, uint64_t asked_bps, double got_bps,
                    const char *name)
{
    struct made_up m;
    make_up(&m, mine, (const char *[]){theirs, NULL});
    m.view.client.cpu_ns = busy_ns;
    if (asked_bps) {
        m.run.spec.test = &kn_udp_stream;
        m.run.spec.size = 1;
        m.run.spec.rate_bps = asked_bps;
        m.view.sender = &m.view.client;
    }
    json_t *metrics = json_pack("{s:f}", "throughput_bps", got_bps), *flags = kn_result_flags(&m.view, metrics, m.mine);
    size_t i;
    json_t *flag;
    bool found = false;
    json_array_foreach(flags, i, flag) found = found || !strcmp(json_string_value(flag), name);
    json_decref(flags);
    json_decref(metrics);
    forget(&m);
    return found;
}

static void whose_cpu_was_the_limit(void **state)
{
    (void)state;
    const uint64_t busy = KN_NS_PER_S * 96 / 100, idle = KN_NS_PER_S / 2;
    assert_true(flagged("{}", "{}", busy, 0, 0, "generator_cpu_bound"));
    assert_false(flagged("{}", "{}", idle, 0, 0, "generator_cpu_bound"));
    /* a quota that stopped an end for more than a twentieth of the second, whatever its share of a CPU */
    assert_true(flagged("{\"throttled_s\":0.06}", "{}", idle, 0, 0, "generator_cpu_bound"));
    assert_false(flagged("{\"throttled_s\":0.04}", "{}", idle, 0, 0, "generator_cpu_bound"));
    assert_true(flagged("{\"throttled_s\":0.04}", "{}", idle, 0, 0, "throttled"));
    assert_true(flagged("{}", "{\"throttled_s\":0.06}", idle, 0, 0, "server_cpu_bound"));
    assert_false(flagged("{}", "{\"throttled_s\":0.06}", idle, 0, 0, "generator_cpu_bound"));
    /* a stream at its rate may be busy waiting between its sends */
    assert_false(flagged("{}", "{}", busy, 1000, 990, "generator_cpu_bound"));
    assert_true(flagged("{}", "{}", busy, 1000, 900, "generator_cpu_bound"));
    assert_true(flagged("{}", "{}", busy, 1000, 900, "rate_not_reached"));
}

static bool loses(uint64_t resent, uint64_t needless)
{
    struct made_up m;
    make_up(&m, "{}", (const char *[]){"{}", NULL});
    m.view.client.segments = 10000;
    m.view.client.retransmits = resent;
    m.view.client.needless = needless;
    json_t *metrics = json_object(), *flags = kn_result_flags(&m.view, metrics, m.mine), *flag;
    size_t i;
    bool found = false;
    json_array_foreach(flags, i, flag) found = found || !strcmp(json_string_value(flag), "retransmits");
    json_decref(flags);
    json_decref(metrics);
    forget(&m);
    return found;
}

/* BBR sends segments again that the receiver has; the path has dropped nothing then. */
static void only_lost_segments_are_a_doubt(void **state)
{
    (void)state;
    assert_true(loses(452, 0));
    assert_false(loses(452, 452));
    assert_false(loses(452, 445));
    assert_true(loses(452, 400));
}

/* Of 50 operations a second, or of as many datagrams of 60,000 bytes. */
static bool misses_rate_of(const struct kn_test *test, double rate_per_s, unsigned workers)
{
    struct made_up m;
    make_up(&m, "{}", (const char *[]){"{}", NULL});
    m.run.spec.test = test;
    m.run.spec.size = 60000;
    m.run.spec.rate_per_1000s = test == &kn_tcp_rr ? 50 * 1000 : 0;
    m.run.spec.rate_bps = test == &kn_tcp_rr ? 0 : 50 * 8 * 60000;
    m.run.n_slots = workers;
    json_t *metrics = json_pack("{s:f, s:f}", "rate_per_s", rate_per_s, "throughput_bps", rate_per_s * 8 * 60000),
           *flags = kn_result_flags(&m.view, metrics, m.mine);
    size_t n = json_array_size(flags); /* it is the last, and here the only one */
    assert_true(!n || !strcmp(json_string_value(json_array_get(flags, 0)), "rate_not_reached"));
    json_decref(flags);
    json_decref(metrics);
    forget(&m);
    return n;
}

static bool misses_rate(double rate_per_s, unsigned workers)
{
    bool datagrams = misses_rate_of(&kn_udp_stream, rate_per_s, workers);
    assert_true(datagrams == misses_rate_of(&kn_tcp_rr, rate_per_s, workers));
    return datagrams;
}

/* Of 50 operations in a second one may be under way at the end, for each worker. A stream of TCP has no such parts. */
static void a_rate_is_missed_by_more_than_what_is_under_way(void **state)
{
    (void)state;
    assert_false(misses_rate(49, 1));
    assert_true(misses_rate(48, 1));
    assert_false(misses_rate(48, 2));
    assert_true(misses_rate(40, 2));
    assert_false(misses_rate_of(&kn_tcp_stream, 49, 1));
    assert_true(misses_rate_of(&kn_tcp_stream, 48.9, 1));
}

static void expect_why(uint64_t timeouts, uint64_t rejected, uint64_t errors, const char *figures, const char *expected)
{
    char text[400];
    struct made_up m;
    make_up(&m, "{}", (const char *[]){"{}", NULL});
    json_t *metrics = json_loads(figures, 0, NULL);
    m.run.spec.timeout_ns = 200 * KN_NS_PER_MS;
    m.view.client.timeouts = timeouts;
    m.view.client.connect_errors = rejected;
    m.view.client.errors = errors;
    kn_result_why(text, sizeof text, &m.view, metrics);
    assert_string_equal(text, expected);
    json_decref(metrics);
    forget(&m);
}

/* What failed is named by how it failed, and only a timeout sends the reader to what lies between. */
static void why_nothing_succeeded(void **state)
{
    (void)state;
    expect_why(3, 0, 0, "{}",
               "no operation succeeded: 3 had no answer in 200 ms (timeout): look at what lies between (firewall, "
               "policy, MTU), and whether the timeout is long enough");
    expect_why(0, 8, 0, "{}",
               "no operation succeeded: 8 found no server (refused, or no route): check that a server listens on that "
               "address and port");
    expect_why(0, 0, 5, "{}", "no operation succeeded: 5 failed (reset, closed, or an invalid answer)");
    expect_why(0, 0, 5, "{\"lookup\":{\"rcodes\":{\"NOERROR\":1,\"REFUSED\":4,\"SERVFAIL\":1}}}",
               "no operation succeeded: 5 failed (response code REFUSED, SERVFAIL)");
    expect_why(1, 0, 6, "{\"outages\":[{\"refused\":2,\"timeout\":1},{\"refused\":3,\"reset\":1}]}",
               "no operation succeeded: 1 had no answer in 200 ms (timeout), 5 were refused, 1 were reset or closed: "
               "check that a server listens on that address and port");
    expect_why(
        9, 0, 0, "{\"outages\":[{\"timeout\":9}],\"blind\":0.25}",
        "no operation succeeded: 9 had no answer in 200 ms (timeout), and for 0.25 s the prober itself did not run "
        "(blind): look at what lies between (firewall, policy, MTU), and whether the timeout is long enough");
    expect_why(0, 0, 7, "{\"outages\":[{\"status\":7}]}",
               "no operation succeeded: 7 got a status other than 2xx and 3xx");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_several_servers_share_counts_once),
        cmocka_unit_test(whose_cpu_was_the_limit),
        cmocka_unit_test(only_lost_segments_are_a_doubt),
        cmocka_unit_test(a_rate_is_missed_by_more_than_what_is_under_way),
        cmocka_unit_test(why_nothing_succeeded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
