/* TCP_INFO over loopback: the requested segment size, sums over flows, and nothing from other sockets. */
#include "../core/check.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "meter/meter.h"

/* A connected pair; `mss` is set before connecting, 0: not set. */
static void connect_pair(int mss, int pair[2])
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &size), 0);
    pair[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (mss)
        assert_int_equal(setsockopt(pair[0], IPPROTO_TCP, TCP_MAXSEG, &mss, sizeof mss), 0);
    assert_int_equal(connect(pair[0], (struct sockaddr *)&at, sizeof at), 0);
    pair[1] = accept(listener, NULL, NULL);
    assert_true(pair[1] >= 0);
    close(listener);
}

static void the_segment_as_asked(void **state)
{
    int pair[2];
    (void)state;
    for (int mss = 96; mss <= 1460; mss += 341) {
        connect_pair(mss, pair);
        for (int side = 0; side < 2; side++) /* less 12 with timestamps */
            assert_in_range(kn_tcp_mss(pair[side]), (uint64_t)mss - 12, (uint64_t)mss);
        close(pair[0]);
        close(pair[1]);
    }
}

static void sums_over_flows(void **state)
{
    struct kn_figures f;
    struct kn_error err;
    int large[2], small[2];
    char byte = 'x';
    (void)state;
    assert_int_equal(kn_figures_init(&f, 0, &err), 0);
    connect_pair(0, large);
    connect_pair(500, small);
    assert_int_equal(send(large[0], &byte, 1, 0), 1);
    assert_int_equal(recv(large[1], &byte, 1, 0), 1);
    kn_tcp_info_add(large[0], &f);
    uint64_t cwnd = f.cwnd, rtt = f.rtt_ns;
    assert_true(f.has == KN_HAS_TCP && f.tcp_n == 1 && f.mss > 500 && cwnd > 0 && rtt > 0 && rtt < 1000000000);
    kn_tcp_info_add(small[0], &f);
    assert_true(f.tcp_n == 2 && f.mss <= 500 && f.cwnd > cwnd && f.rtt_ns > rtt && f.retransmits == 0);
    for (int i = 0; i < 2; i++) {
        close(large[i]);
        close(small[i]);
    }
    kn_figures_fini(&f);
}

static void what_is_no_tcp_socket(void **state)
{
    struct kn_figures f;
    struct kn_error err;
    int udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), list[] = {udp, 0, -1, 9999};
    (void)state;
    assert_int_equal(kn_figures_init(&f, 0, &err), 0);
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        kn_tcp_info_add(list[i], &f);
        assert_int_equal(kn_tcp_mss(list[i]), 0);
    }
    assert_true(f.has == 0 && f.tcp_n == 0 && f.mss == 0);
    close(udp);
    kn_figures_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_segment_as_asked),
        cmocka_unit_test(sums_over_flows),
        cmocka_unit_test(what_is_no_tcp_socket),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
