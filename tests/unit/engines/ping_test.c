/* ping over loopback, where this host lets the test have an ICMP socket. */
#include "../core/check.h"
#include "udp_acceptor.h"

static bool allowed(int family, int protocol)
{
    int fd = socket(family, SOCK_DGRAM, protocol);
    if (fd < 0)
        fd = socket(family, SOCK_RAW, protocol);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

static void check(const char *text, const char *host, double sent)
{
    json_t *r = udp_measure_at(text, host, 7, ACCEPTOR_TOKEN);
    if (!json_is_true(json_object_get(r, "ok")))
        fail_msg("%s", json_string_value(json_object_get(json_object_get(r, "error"), "message")));
    assert_true(sent == 0 || metric(r, "sent") == sent);
    assert_true(metric(r, "sent") > 0 && metric(r, "received") == metric(r, "sent"));
    assert_true(metric(r, "lost") == 0 && metric(r, "duplicated") == 0);
    assert_true(json_integer_value(
                    json_object_get(json_object_get(json_object_get(r, "metrics"), "latency_ns"), "max")) < 1000000000);
    json_decref(r);
}

static void echoes_come_back(void **state)
{
    (void)state;
    if (!allowed(AF_INET, IPPROTO_ICMP))
        skip();
    check("{\"test\":\"ping\",\"count\":5,\"every\":0.01}", "127.0.0.1", 5);
    check("{\"test\":\"ping\",\"count\":500,\"every\":0}", "127.0.0.1", 500);
    check("{\"test\":\"ping\",\"duration\":0.1,\"every\":0.001,\"size\":1400}", "127.0.0.1", 0);
    check("{\"test\":\"ping\",\"count\":3,\"every\":0.001,\"size\":16}", "127.0.0.1", 3);
    check("{\"test\":\"ping\",\"count\":3,\"every\":0.001,\"size\":10001}", "127.0.0.1", 3);
}

static void echoes_come_back_over_ipv6(void **state)
{
    (void)state;
    if (!has_ipv6() || !allowed(AF_INET6, IPPROTO_ICMPV6))
        skip();
    check("{\"test\":\"ping\",\"count\":5,\"every\":0.01}", "::1", 5);
    check("{\"test\":\"ping\",\"count\":200,\"every\":0,\"size\":1001}", "::1", 200);
}

static void count_ends_it_at_once(void **state)
{
    (void)state;
    if (!allowed(AF_INET, IPPROTO_ICMP))
        skip();
    uint64_t begun_ns = kn_now_ns();
    check("{\"test\":\"ping\",\"count\":1,\"every\":10}", "127.0.0.1", 1);
    assert_true(kn_now_ns() - begun_ns < 2 * KN_NS_PER_S);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(echoes_come_back),
        cmocka_unit_test(echoes_come_back_over_ipv6),
        cmocka_unit_test(count_ends_it_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
