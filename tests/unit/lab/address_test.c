/* A lab of a thousand nodes: each node's range of addresses is its own, and all are in the range of all pods; what the
 * keeper holds for each is out of select()'s reach. */
#include "../core/check.h"

#include <arpa/inet.h>
#include <sys/resource.h>
#include <sys/select.h>

#include "lab/keeper.h"

static void ranges_are_apart(void **state)
{
    (void)state;
    static bool taken[1024];
    uint32_t mask = 0xffffffffu << (32 - kn_lab_range_bits(AF_INET));
    for (unsigned node = 1; node <= LAB_NODES_MAX; node++) {
        struct kn_ip range, last;
        uint32_t from, to;
        kn_lab_pod_range(node, AF_INET, &range);
        kn_lab_pod_ip(node, LAB_SLOT_LAST + 1, AF_INET, &last);
        memcpy(&from, range.bytes, 4);
        memcpy(&to, last.bytes, 4);
        from = ntohl(from), to = ntohl(to);
        assert_int_equal(from & ~mask, 0);
        assert_int_equal(to & mask, from);
        assert_int_equal(from >> 20, (10u << 24 | 240u << 16) >> 20); /* LAB_ALL_PODS_4 */
        assert_false(taken[from >> 10 & 1023]);
        taken[from >> 10 & 1023] = true;
    }
}

/* As in every lab before: scripts and pictures know them. */
static void the_first_are_flannels(void **state)
{
    (void)state;
    struct kn_ip ip;
    char text[LAB_IP_TEXT];
    kn_lab_pod_ip(1, 2, AF_INET, &ip);
    assert_string_equal(kn_ip_text(&ip, text, sizeof text), "10.244.0.2");
    kn_lab_pod_ip(2, 2, AF_INET, &ip);
    assert_string_equal(kn_ip_text(&ip, text, sizeof text), "10.244.4.2");
    kn_lab_pod_ip(1000, 2, AF_INET6, &ip);
    assert_string_equal(kn_ip_text(&ip, text, sizeof text), "fd00:10:244:3e8::2");
    kn_lab_node_ip(1000, AF_INET, &ip);
    assert_string_equal(kn_ip_text(&ip, text, sizeof text), "172.30.3.242");
}

/* select() on a socket aborts where its number is 1024 or more. */
static void sockets_stay_out_of_select(void **state)
{
    (void)state;
    struct kn_error err;
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    if (limit.rlim_max <= FD_SETSIZE)
        skip();
    limit.rlim_cur = limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    struct nl_sock *one = kn_netns_socket(&err), *two = kn_netns_socket(&err);
    assert_true(one && two);
    assert_true(nl_socket_get_fd(one) >= FD_SETSIZE && nl_socket_get_fd(two) >= FD_SETSIZE);
    assert_int_not_equal(nl_socket_get_local_port(one), nl_socket_get_local_port(two));
    assert_int_equal(kn_link_up(one, LAB_IF_LO + 1000000, 0, &err), -1); /* it answers */
    nl_socket_free(one);
    nl_socket_free(two);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranges_are_apart),
        cmocka_unit_test(the_first_are_flannels),
        cmocka_unit_test(sockets_stay_out_of_select),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
