/* Sockets with deadlines: all of it, or an error in time; options that take; ports in use. */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/prctl.h>

#include "../core/check.h"
#include "core/clock.h"
#include "net/io.h"

static struct kn_error err;

static uint64_t soon(void)
{
    return kn_now_ns() + 10 * KN_NS_PER_S;
}

static struct kn_addr addr(const char *host, uint16_t port)
{
    struct kn_addr a;
    assert_int_equal(kn_addr_resolve(host, port, 0, 0, &a, &err), 0);
    return a;
}

static struct kn_addr name_of(int fd)
{
    struct kn_addr a = {.len = sizeof a.u};
    assert_int_equal(getsockname(fd, &a.u.sa, &a.len), 0);
    return a;
}

/* A listener on a free port of the loopback, and where it is. */
static int listener(struct kn_addr *at)
{
    struct kn_addr any = addr("127.0.0.1", 0);
    int fd = kn_tcp_listen(&any, 16, &err);
    assert_true(fd >= 0);
    *at = name_of(fd);
    return fd;
}

static void all_of_it_or_an_error(void **state)
{
    (void)state;
    int pair[2];
    char in[200000], out[sizeof in];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    memset(out, 'o', sizeof out);
    assert_int_equal(kn_write_full(pair[0], out, 1000, soon(), &err), 0);
    assert_int_equal(kn_read_full(pair[1], in, 400, soon(), &err), 0);
    assert_int_equal(kn_read_full(pair[1], in, 600, 0, &err), 0);
    assert_int_equal(kn_read_full(pair[1], in, 0, 1, &err), 0);

    assert_int_equal(kn_write_full(pair[0], out, 10, soon(), &err), 0);
    uint64_t from = kn_now_ns();
    assert_int_equal(kn_read_full(pair[1], in, 11, from + 50 * KN_NS_PER_MS, &err), -1);
    assert_int_equal(err.code, KN_E_TIMEOUT);
    assert_true(kn_now_ns() - from >= 50 * KN_NS_PER_MS);
    int rc = 0;
    for (int i = 0; i < 1000 && rc == 0; i++) /* until the other side's buffer is full */
        rc = kn_write_full(pair[0], out, sizeof out, kn_now_ns() + 50 * KN_NS_PER_MS, &err);
    assert_int_equal(rc, -1);
    assert_int_equal(err.code, KN_E_TIMEOUT);
    close(pair[1]);
    assert_int_equal(kn_write_full(pair[0], out, 10, soon(), &err), -1); /* and no SIGPIPE */
    assert_int_equal(err.code, KN_E_PROTOCOL);
    close(pair[0]);
}

static void an_early_end_says_how_much_came(void **state)
{
    (void)state;
    int pair[2];
    char in[100];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_int_equal(kn_write_full(pair[0], "0123456789", 10, 0, &err), 0);
    close(pair[0]);
    assert_int_equal(kn_read_full(pair[1], in, sizeof in, soon(), &err), -1);
    assert_int_equal(err.code, KN_E_PROTOCOL);
    assert_non_null(strstr(err.message, "10 of 100"));
    close(pair[1]);
}

static int option(int fd, int level, int name)
{
    int value = -1;
    socklen_t len = sizeof value;
    assert_int_equal(getsockopt(fd, level, name, &value, &len), 0);
    return value;
}

static void options_are_set_before_connect(void **state)
{
    (void)state;
    struct kn_addr at;
    int on = listener(&at);
    struct kn_spec spec = {.mss = 536, .sndbuf = 65536, .rcvbuf = 65536, .nodelay = 1, .cc = "reno"};
    for (int with_deadline = 0; with_deadline < 2; with_deadline++) {
        int fd = kn_tcp_connect(&at, &spec, with_deadline ? soon() : 0, &err);
        assert_true(fd >= 0);
        char cc[KN_CC_MAX] = "";
        socklen_t len = sizeof cc;
        assert_true(option(fd, IPPROTO_TCP, TCP_MAXSEG) <= 536);
        assert_int_equal(option(fd, SOL_SOCKET, SO_SNDBUF), 2 * 65536);
        assert_int_equal(option(fd, SOL_SOCKET, SO_RCVBUF), 2 * 65536);
        assert_int_equal(option(fd, IPPROTO_TCP, TCP_NODELAY), 1);
        assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, cc, &len), 0);
        assert_string_equal(cc, "reno");
        assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
        assert_false(fcntl(fd, F_GETFL) & O_NONBLOCK);
        assert_int_equal(kn_tcp_options(fd, &spec, &err), 0); /* the server's side: what can still be set */
        close(fd);
    }
    close(on);
}

static void what_the_kernel_has_not_is_named(void **state)
{
    (void)state;
    struct kn_addr at;
    int on = listener(&at);
    struct kn_spec spec = {.cc = "nosuchcc"};
    assert_int_equal(kn_tcp_connect(&at, &spec, soon(), &err), -1);
    assert_true(err.code == KN_E_UNSUPPORTED || err.code == KN_E_PERMISSION);
    assert_non_null(strstr(err.message, "nosuchcc"));
    close(on);
}

static void nobody_listens(void **state)
{
    (void)state;
    struct kn_addr at;
    close(listener(&at));
    assert_int_equal(kn_tcp_connect(&at, NULL, soon(), &err), -1);
    assert_int_equal(err.code, KN_E_REFUSED);
    assert_int_equal(kn_tcp_connect(&at, NULL, 0, &err), -1);
    assert_int_equal(err.code, KN_E_REFUSED);
}

/* A listener whose queue is full answers nobody: the connect waits until its deadline. */
static void a_connect_ends_at_its_deadline(void **state)
{
    (void)state;
    struct kn_addr at, any = addr("127.0.0.1", 0);
    int on = kn_tcp_listen(&any, 0, &err), fds[8], n = 0;
    assert_true(on >= 0);
    at = name_of(on);
    uint64_t from = 0;
    while (n < 8) {
        from = kn_now_ns();
        if ((fds[n] = kn_tcp_connect(&at, NULL, from + 100 * KN_NS_PER_MS, &err)) < 0)
            break;
        n++;
    }
    assert_true(n < 8);
    assert_int_equal(err.code, KN_E_TIMEOUT);
    assert_true(kn_now_ns() - from < 5 * KN_NS_PER_S);
    while (n > 0)
        close(fds[--n]);
    close(on);
}

static void a_port_in_use_is_named(void **state)
{
    (void)state;
    struct kn_addr at;
    char port[16];
    int on = listener(&at);
    assert_int_equal(kn_tcp_listen(&at, 16, &err), -1);
    assert_int_equal(err.code, KN_E_IN_USE);
    snprintf(port, sizeof port, "port %u", kn_addr_port(&at));
    assert_non_null(strstr(err.message, port));
    close(on);
}

static void any_address_takes_both_families(void **state)
{
    (void)state;
    struct kn_addr any;
    if (!has_ipv6())
        skip();
    assert_int_equal(kn_addr_resolve("", 0, 0, 0, &any, &err), 0);
    int on = kn_tcp_listen(&any, 16, &err);
    assert_true(on >= 0);
    struct kn_addr at = name_of(on), v4 = addr("127.0.0.1", kn_addr_port(&at));
    int fd = kn_tcp_connect(&v4, NULL, soon(), &err);
    assert_true(fd >= 0);
    close(fd);
    close(on);
}

/* Makes epoll_pwait2 fail with `sys_errno` for the calling thread, as older kernels and sandboxes do. */
static bool forbid_pwait2(unsigned sys_errno)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_epoll_pwait2, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | sys_errno),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof code / sizeof *code, .filter = code};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

struct waited {
    unsigned forbidden; /* errno of epoll_pwait2; 0: it works */
    bool took;
    int without, with;
    uint64_t slept_ns;
};

/* Waits once in vain and once for a byte that is there. */
static void *wait_twice(void *arg)
{
    struct waited *w = arg;
    int pair[2], epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN};
    w->took = !w->forbidden || forbid_pwait2(w->forbidden);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) || epoll_ctl(epoll, EPOLL_CTL_ADD, pair[0], &event))
        return NULL;
    uint64_t begun_ns = kn_now_ns();
    w->without = kn_epoll_wait(epoll, &event, 1, 1500 * KN_NS_PER_US);
    w->slept_ns = kn_now_ns() - begun_ns;
    w->with = write(pair[1], "x", 1) == 1 ? kn_epoll_wait(epoll, &event, 1, 10 * KN_NS_PER_S) : -1;
    close(pair[0]);
    close(pair[1]);
    close(epoll);
    return NULL;
}

static void a_wait_needs_no_epoll_pwait2(void **state)
{
    (void)state;
    const unsigned forbidden[] = {0, ENOSYS, EPERM};
    for (size_t i = 0; i < sizeof forbidden / sizeof *forbidden; i++) {
        struct waited w = {.forbidden = forbidden[i], .without = -1, .with = -1};
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, wait_twice, &w), 0);
        pthread_join(thread, NULL);
        if (!w.took)
            skip(); /* no seccomp in this sandbox */
        assert_int_equal(w.without, 0);
        assert_true(w.slept_ns >= 1500 * KN_NS_PER_US);
        assert_int_equal(w.with, 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_of_it_or_an_error),
        cmocka_unit_test(an_early_end_says_how_much_came),
        cmocka_unit_test(options_are_set_before_connect),
        cmocka_unit_test(what_the_kernel_has_not_is_named),
        cmocka_unit_test(nobody_listens),
        cmocka_unit_test(a_connect_ends_at_its_deadline),
        cmocka_unit_test(a_port_in_use_is_named),
        cmocka_unit_test(any_address_takes_both_families),
        cmocka_unit_test(a_wait_needs_no_epoll_pwait2),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
