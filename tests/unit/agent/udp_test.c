/* UDP: nobody gets more than was sent before the sender's address is proved; one hello, one flow; the rest is counted. */
#include "live.h"

#define UDP_RR "{\"test\":\"udp_rr\",\"duration\":\"20s\"}"

static struct live l;

/* Kept to the end: a flow lives on after its client, and would hear the next one that the kernel gives the same port. */
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
    struct pollfd p = { .fd = fd, .events = POLLIN };
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cookie_first_then_a_flow),
        cmocka_unit_test(a_hello_sent_again_is_one_flow),
        cmocka_unit_test(many_at_the_same_moment),
        cmocka_unit_test(garbage_is_counted_and_never_answered),
        cmocka_unit_test(a_cookie_is_good_for_its_address_alone),
        cmocka_unit_test(wrong_keys_and_versions_are_told_after_the_cookie),
        cmocka_unit_test(flows_end_with_the_agent),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
