/* Detects from outside when a server in a sandbox is ready, here over loopback. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lab/keeper.h"
#include "net/addr.h"

static int bound(int type, struct kn_addr *at)
{
    memset(at, 0, sizeof *at);
    at->u.v4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    at->len = sizeof at->u.v4;
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, &at->u.sa, at->len), 0);
    assert_int_equal(getsockname(fd, &at->u.sa, &at->len), 0);
    return fd;
}

static bool answers(const struct kn_addr *to, bool udp)
{
    uint64_t next_ns = 0;
    return kn_lab_answers(to, udp, 500, &next_ns);
}

static void test_a_port_that_listens(void **state)
{
    struct kn_addr at;
    (void)state;
    int fd = bound(SOCK_STREAM, &at);
    assert_int_equal(listen(fd, 1), 0);
    assert_true(answers(&at, false));
    assert_true(answers(&at, true));
    close(fd);
    assert_false(answers(&at, false));
    assert_false(answers(&at, true));
}

static void test_datagrams_alone(void **state)
{
    struct kn_addr at;
    (void)state;
    int fd = bound(SOCK_DGRAM, &at);
    assert_false(answers(&at, false));
    assert_true(answers(&at, true));
    close(fd);
    assert_false(answers(&at, true));
}

/* A kernel that refuses only one datagram a second would look like a server the rest of the time. */
static void test_datagrams_are_tried_now_and_then(void **state)
{
    struct kn_addr at;
    uint64_t next_ns = 0;
    (void)state;
    close(bound(SOCK_DGRAM, &at));
    assert_false(kn_lab_answers(&at, true, 500, &next_ns));
    assert_true(next_ns > 0);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, &at.u.sa, at.len), 0);
    assert_false(kn_lab_answers(&at, true, 500, &next_ns));
    next_ns = 0;
    assert_true(kn_lab_answers(&at, true, 500, &next_ns));
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_port_that_listens),
        cmocka_unit_test(test_datagrams_alone),
        cmocka_unit_test(test_datagrams_are_tried_now_and_then),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
