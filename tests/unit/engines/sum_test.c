/* Over a thousand flows every one is in the counts: their sum is what the sockets' TCP_INFO says. */
#include "server.h"

#include <linux/tcp.h>
#include <sys/syscall.h>

#define FLOWS 1000
#define ESTABLISHED 1 /* TCP_ESTABLISHED, whose header does not go together with the kernel's */

static atomic_uint_fast64_t sockets, sent, received;

/* The first thing that ends a client's flow is this call, which is taken from the C library here: what its socket has
 * moved until then. */
int shutdown(int fd, int how)
{
    struct sockaddr_in peer = {0};
    socklen_t size = sizeof peer, info_size = sizeof(struct tcp_info);
    struct tcp_info info = {0};
    if (how == SHUT_WR && !getpeername(fd, (struct sockaddr *)&peer, &size) && ntohs(peer.sin_port) == server.port &&
        !getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &info_size) && info.tcpi_state == ESTABLISHED) {
        sockets++;
        sent += info.tcpi_bytes_sent - info.tcpi_bytes_retrans + info.tcpi_notsent_bytes;
        received += info.tcpi_bytes_received;
    }
    return (int)syscall(SYS_shutdown, fd, how);
}

/* One run by count; `to` and `from` are the bytes of an operation. */
static json_t *counted(const char *test, unsigned count, uint64_t to, uint64_t from)
{
    char spec[256];
    snprintf(spec, sizeof spec, "{%s,\"count\":%u,\"warmup\":0,\"duration\":\"60s\",\"flows\":%d}", test, count, FLOWS);
    sockets = sent = received = 0;
    json_t *r = run_json(&server, spec);
    assert_ok(r);
    assert_int_equal(sockets, FLOWS);
    assert_int_equal(sent, FLOWS * (kn_hello_size() + 1) + count * to);
    if (from)
        assert_int_equal(received, FLOWS * kn_welcome_size() + count * from);
    return r;
}

static void requests_and_responses(void **state)
{
    (void)state;
    json_t *r = counted("\"test\":\"tcp_rr\",\"size\":100,\"response\":300", 7000, 100, 300);
    assert_true(number_at(r, "metrics.ops") == 7000);
    assert_true(number_at(r, "metrics.latency_ns.count") == 7000);
    json_decref(r);
    r = counted("\"test\":\"tcp_lat\",\"size\":64", 5000, 64, 64);
    assert_true(number_at(r, "metrics.ops") == 5000);
    json_decref(r);
}

static void an_open_loop(void **state)
{
    (void)state;
    json_t *r = counted("\"test\":\"tcp_rr\",\"rate\":\"20k/s\"", 6000, 1, 1);
    assert_true(number_at(r, "metrics.ops") == 6000);
    json_decref(r);
}

static void streams(void **state)
{
    (void)state;
    json_t *r = counted("\"test\":\"tcp_stream\",\"size\":\"10K\"", 4000, 10240, 0);
    assert_true(number_at(r, "metrics.bytes") == 4000 * 10240.0);
    json_decref(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_and_responses),
        cmocka_unit_test(an_open_loop),
        cmocka_unit_test(streams),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
