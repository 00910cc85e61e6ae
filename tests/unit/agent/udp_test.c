/* UDP: nobody gets more than was sent before the sender's address is proved; one hello, one flow; the rest is counted.
 */
#include "one.h"

#include <sched.h>
#include <sys/wait.h>

#define UDP_RR "{\"test\":\"udp_rr\",\"duration\":\"20s\"}"

/* Kept to the end: a flow lives on after its client, and would hear the next one that the kernel gives the same port.
 */
static int dialled[256];
static size_t n_dialled;

static int set_up(void **state)
{
    (void)state;
    live_config(&l);
    live_start(&l);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    live_end(&l);
    while (n_dialled)
        close(dialled[--n_dialled]);
    return 0;
}

static int dial(void)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, &l.at.u.sa, l.at.len), 0);
    assert_true(n_dialled < sizeof dialled / sizeof *dialled);
    return dialled[n_dialled++] = fd;
}

/* The next datagram, or -1 after `ms`. */
static ssize_t hear(int fd, uint8_t *wire, size_t size, int ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, ms) > 0 ? recv(fd, wire, size, MSG_DONTWAIT) : -1;
}

/* Sends it until there is an answer: datagrams may get lost even here. */
static ssize_t exchange(int fd, const uint8_t *hello, size_t n, uint8_t *wire, size_t size)
{
    for (uint64_t until = soon(); kn_now_ns() < until;) {
        assert_int_equal(send(fd, hello, n, 0), n);
        ssize_t got = hear(fd, wire, size, 1000);
        if (got > 0)
            return got;
    }
    return -1;
}

static json_int_t flows_now(void)
{
    int status;
    json_t *answer = ask(&l, "GET", "/v1/agent", NULL, &status);
    json_int_t n = json_integer_value(json_object_get(answer, "flows"));
    json_decref(answer);
    return n;
}

static void fetch_cookie(int fd, struct kn_hello *h, const struct kn_key *key)
{
    uint8_t hello[4096], wire[4096];
    kn_hello_pack(h, key, hello);
    ssize_t n = exchange(fd, hello, kn_hello_size(), wire, sizeof wire);
    assert_true(n > 0 && (size_t)n <= kn_hello_size());
    assert_int_equal(kn_udp_retry_unpack(wire, (size_t)n, h->cookie), 0);
}

static void a_cookie_first_then_a_flow(void **state)
{
    (void)state;
    uint8_t hello[4096], wire[4096];
    struct kn_welcome w;
    struct kn_hello h = hello_of(UDP_RR, 11);
    int fd = dial();
    fetch_cookie(fd, &h, &l.key);
    kn_hello_pack(&h, &l.key, hello);
    ssize_t n = exchange(fd, hello, kn_hello_size(), wire, sizeof wire);
    assert_int_equal(kn_udp_welcome_unpack(wire, (size_t)n, &w, &err), 0);
    assert_string_equal(w.name, "pod-1");
    assert_int_equal(flows_now(), 1);
}

/* The same hello ten times in a row, before anybody answers: one flow. */
static void a_hello_sent_again_is_one_flow(void **state)
{
    (void)state;
    uint8_t hello[4096], wire[4096];
    struct kn_hello h = hello_of(UDP_RR, 12);
    int fd = dial();
    json_int_t before = flows_now();
    fetch_cookie(fd, &h, &l.key);
    kn_hello_pack(&h, &l.key, hello);
    for (int i = 0; i < 10; i++)
        assert_int_equal(send(fd, hello, kn_hello_size(), 0), kn_hello_size());
    assert_true(exchange(fd, hello, kn_hello_size(), wire, sizeof wire) > 0);
    assert_int_equal(flows_now(), before + 1);
}

static void many_at_the_same_moment(void **state)
{
    (void)state;
    enum { N = 50 };
    int fds[N];
    json_int_t before = flows_now();
    uint8_t hello[N][2048], wire[4096];
    struct kn_welcome w;
    assert_true(kn_hello_size() <= sizeof hello[0]);
    for (int i = 0; i < N; i++) {
        struct kn_hello h = hello_of(UDP_RR, 1000 + (uint64_t)i);
        fds[i] = dial();
        fetch_cookie(fds[i], &h, &l.key);
        kn_hello_pack(&h, &l.key, hello[i]);
    }
    for (int i = 0; i < N; i++) /* all at once: some land on sockets that are being made for others */
        send(fds[i], hello[i], kn_hello_size(), 0);
    for (int i = 0; i < N; i++) {
        ssize_t n = hear(fds[i], wire, sizeof wire, 500);
        if (n < 0)
            n = exchange(fds[i], hello[i], kn_hello_size(), wire, sizeof wire);
        assert_int_equal(kn_udp_welcome_unpack(wire, (size_t)n, &w, &err), 0);
    }
    assert_int_equal(flows_now(), before + N);
}

static void garbage_is_counted_and_never_answered(void **state)
{
    (void)state;
    uint8_t wire[4096];
    json_int_t before = refused(&l, "udp");
    int fd = dial();
    memset(wire, 'g', sizeof wire);
    send(fd, wire, 0, 0);
    send(fd, wire, 1, 0);
    send(fd, wire, kn_hello_size(), 0);
    send(fd, wire, sizeof wire, 0);
    send(fd, "KNBL\x01", 5, 0);
    send(fd, "GET / HTTP/1.1\r\n\r\n", 18, 0);
    expect_refused(&l, "udp", before + 6);
    assert_int_equal(hear(fd, wire, sizeof wire, 50), -1);
}

static void a_cookie_is_good_for_its_address_alone(void **state)
{
    (void)state;
    uint8_t hello[4096], wire[4096];
    struct kn_hello h = hello_of(UDP_RR, 13);
    json_int_t before = refused(&l, "cookie"), flows = flows_now();
    int one = dial(), other = dial();
    fetch_cookie(one, &h, &l.key);
    kn_hello_pack(&h, &l.key, hello);
    ssize_t n = exchange(other, hello, kn_hello_size(), wire, sizeof wire);
    assert_int_equal(kn_udp_kind(wire, (size_t)n), KN_UDP_RETRY);
    assert_true(refused(&l, "cookie") > before);
    assert_int_equal(flows_now(), flows);
}

/* To one whose address is proved it is told what is wrong; before that there is only the cookie. */
static void wrong_keys_and_versions_are_told_after_the_cookie(void **state)
{
    (void)state;
    uint8_t hello[4096], wire[4096];
    struct kn_welcome w;
    struct kn_key wrong;
    kn_wire_key("another token, as long", &wrong);
    struct kn_hello h = hello_of(UDP_RR, 14);
    int fd = dial();
    fetch_cookie(fd, &h, &wrong);
    kn_hello_pack(&h, &wrong, hello);
    ssize_t n = exchange(fd, hello, kn_hello_size(), wire, sizeof wire);
    assert_int_equal(kn_udp_welcome_unpack(wire, (size_t)n, &w, &err), -1);
    assert_int_equal(err.code, KN_E_AUTH);
    hello[4] = KN_PROTOCOL + 1;
    n = exchange(fd, hello, kn_hello_size(), wire, sizeof wire);
    assert_int_equal(kn_udp_welcome_unpack(wire, (size_t)n, &w, &err), -1);
    assert_int_equal(err.code, KN_E_VERSION);
    h = hello_of("{\"test\":\"tcp_rr\"}", 15);
    memset(h.cookie, 0, sizeof h.cookie);
    fetch_cookie(fd, &h, &l.key);
    kn_hello_pack(&h, &l.key, hello);
    n = exchange(fd, hello, kn_hello_size(), wire, sizeof wire);
    assert_int_equal(kn_udp_welcome_unpack(wire, (size_t)n, &w, &err), -1);
    assert_int_equal(err.code, KN_E_ARGUMENT);
}

/* What a probe's datagram gets back; it is never longer than the datagram. */
static enum kn_udp_kind answer_to(int fd, const struct kn_hello *h, const struct kn_key *key)
{
    uint8_t hello[4096], wire[4096];
    kn_hello_pack(h, key, hello);
    ssize_t n = exchange(fd, hello, kn_hello_size(), wire, sizeof wire);
    assert_true(n > 0 && (size_t)n <= kn_hello_size());
    return kn_udp_kind(wire, (size_t)n);
}

/* Without a cookie, so from an address that is not proved: only for a fresh hello with the right key, and no flow
 * begins. */
static void probes_are_answered_without_a_cookie(void **state)
{
    (void)state;
    struct kn_key wrong;
    kn_wire_key("another token, as long", &wrong);
    json_int_t flows = flows_now();
    struct kn_hello h = hello_of("{\"test\":\"probe\",\"kind\":\"udp\",\"duration\":\"1s\"}", 17), old = h, late = h;
    old.issued_ns -= 3600 * KN_NS_PER_S;
    late.issued_ns += 3600 * KN_NS_PER_S;
    int fd = dial();
    assert_int_equal(answer_to(fd, &h, &l.key), KN_UDP_WELCOME);
    assert_int_equal(answer_to(fd, &h, &wrong), KN_UDP_RETRY);
    assert_int_equal(answer_to(fd, &old, &l.key), KN_UDP_RETRY);
    assert_int_equal(answer_to(fd, &late, &l.key), KN_UDP_RETRY);
    assert_int_equal(flows_now(), flows);
}

static void flows_end_with_the_agent(void **state)
{
    (void)state;
    uint8_t hello[4096], wire[4096];
    struct kn_hello h = hello_of("{\"test\":\"udp_stream\",\"duration\":\"600s\"}", 16);
    int fd = dial();
    fetch_cookie(fd, &h, &l.key);
    kn_hello_pack(&h, &l.key, hello);
    assert_true(exchange(fd, hello, kn_hello_size(), wire, sizeof wire) > 0);
    uint64_t from = kn_now_ns();
    live_end(&l);
    assert_true(kn_now_ns() - from < 10 * KN_NS_PER_S);
    live_start(&l);
}

/* ---- the port is the agent's alone ---- */

static int bind_beside(const char *host, bool reuse_port)
{
    int on = 1, off = 0;
    struct kn_addr at;
    if (kn_addr_resolve(host, kn_agent_port(l.agent), 0, 0, &at, &err))
        return -1;
    int fd = socket(at.u.sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (reuse_port)
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    int rc = bind(fd, &at.u.sa, at.len);
    close(fd);
    return rc;
}

static void expect_alone(void)
{
    static const char *const hosts[] = {"127.0.0.1", "0.0.0.0", "::"};
    for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++)
        for (int port = 0; port < 2; port++)
            if (bind_beside(hosts[i], port) == 0)
                fail_msg("%s%s: bound beside the agent", hosts[i], port ? " with SO_REUSEPORT" : "");
}

static void open_flow(uint64_t run_id)
{
    uint8_t hello[4096], wire[4096];
    struct kn_hello h = hello_of(UDP_RR, run_id);
    int fd = dial();
    fetch_cookie(fd, &h, &l.key);
    kn_hello_pack(&h, &l.key, hello);
    assert_true(exchange(fd, hello, kn_hello_size(), wire, sizeof wire) > 0);
}

/* Else it would get the hellos of others, and the cookies for them. */
static void no_other_socket_shares_the_port(void **state)
{
    (void)state;
    expect_alone();
    open_flow(3000);
    open_flow(3001);
    assert_true(flows_now() >= 2);
    expect_alone();
}

/* As another user, as fast as it can, until it succeeds or is killed. */
static void bind_for_ever(void)
{
    struct kn_addr at = l.at;
    int on = 1;
    if (setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534))
        _exit(2);
    for (unsigned i = 0;; i++) {
        int fd = socket(AF_INET, SOCK_DGRAM, 0);
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (i % 2)
            setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
        if (bind(fd, &at.u.sa, at.len) == 0)
            _exit(1);
        close(fd);
    }
}

/* Not even in the moment in which a flow's socket is bound. */
static void another_user_never_shares_the_port(void **state)
{
    (void)state;
    int status;
    if (geteuid() != 0)
        skip();
    pid_t child = fork();
    if (child == 0)
        bind_for_ever();
    for (uint64_t i = 0; i < 100; i++)
        open_flow(4000 + i);
    assert_int_equal(waitpid(child, &status, WNOHANG), 0); /* it still tries */
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
}

static void an_agent_does_not_share_the_port_of_another_program(void **state)
{
    (void)state;
    struct live second;
    int on = 1, fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    live_config(&second);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct kn_addr at = second.config.listen;
    assert_int_equal(bind(fd, &at.u.sa, at.len), 0);
    assert_int_equal(getsockname(fd, &second.config.listen.u.sa, &second.config.listen.len), 0);
    second.agent = kn_agent_new(&second.config, &err);
    if (second.agent)
        live_end(&second);
    assert_int_equal(err.code, KN_E_IN_USE);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cookie_first_then_a_flow),
        cmocka_unit_test(a_hello_sent_again_is_one_flow),
        cmocka_unit_test(many_at_the_same_moment),
        cmocka_unit_test(garbage_is_counted_and_never_answered),
        cmocka_unit_test(a_cookie_is_good_for_its_address_alone),
        cmocka_unit_test(wrong_keys_and_versions_are_told_after_the_cookie),
        cmocka_unit_test(probes_are_answered_without_a_cookie),
        cmocka_unit_test(no_other_socket_shares_the_port),
        cmocka_unit_test(another_user_never_shares_the_port),
        cmocka_unit_test(an_agent_does_not_share_the_port_of_another_program),
        cmocka_unit_test(flows_end_with_the_agent),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
