/* The port: what is no connection of ours is turned away and counted, and the agent serves on. */
#include "gate.h"

#define CRR "{\"test\":\"tcp_crr\",\"duration\":\"20s\"}"

static void garbage_gets_no_answer(void **state)
{
    (void)state;
    static const char *const garbage[] = {"\x16\x03\x01\x02\x01\x01\x01\xfc",
                                          "SSH-2.0-OpenSSH",
                                          "\r\n\r\n\r\n\r\n",
                                          "get / HTTP/1.1\r\n\r\n",
                                          "KNOCK KNOCK",
                                          "GETX",
                                          "KNBX\x01",
                                          "\0\0\0\0"};
    char answer[256];
    for (size_t i = 0; i < sizeof garbage / sizeof *garbage; i++) {
        size_t n = strlen(garbage[i]);
        int fd = say(&l, garbage[i], n ? n : 4);
        assert_int_equal(read_to_end(fd, answer, sizeof answer), 0);
        close(fd);
    }
    assert_int_equal(refused(&l, "garbage"), 8);
    expect_service();
}

static void a_head_with_a_zero_or_without_an_end(void **state)
{
    (void)state;
    static char head[20000];
    char answer[256];
    memset(head, 'a', sizeof head);
    memcpy(head, "GET / HTTP/1.1\r\n", 16);
    json_int_t before = refused(&l, "garbage");
    int fd = say(&l, head, sizeof head);
    assert_int_equal(read_to_end(fd, answer, sizeof answer), 0);
    close(fd);
    fd = say(&l, "GET / HT\0P/1.1\r\n\r\n", 18);
    assert_int_equal(read_to_end(fd, answer, sizeof answer), 0);
    close(fd);
    assert_int_equal(refused(&l, "garbage"), before + 2);
}

/* libmicrohttpd would take what follows a lone LF for a header. */
static void a_head_with_half_a_line_end(void **state)
{
    (void)state;
    static const char *const heads[] = {"GET / HTTP/1.1\nKnbl-Token: x\r\n\r\n",
                                        "GET / HTTP/1.1\r\nA: b\rKnbl-Token: x\r\n\r\n"};
    char answer[256];
    json_int_t before = refused(&l, "garbage");
    for (int i = 0; i < 2; i++) {
        int fd = say(&l, heads[i], strlen(heads[i]));
        assert_int_equal(read_to_end(fd, answer, sizeof answer), 0);
        close(fd);
    }
    assert_int_equal(refused(&l, "garbage"), before + 2);
}

static void a_wrong_key_is_told(void **state)
{
    (void)state;
    static const char *const specs[] = {RR, CRR};
    struct kn_key wrong;
    kn_wire_key("another token, as long", &wrong);
    json_int_t before = refused(&l, "key");
    for (int i = 0; i < 2; i++) {
        uint8_t wire[4096];
        struct kn_welcome w;
        size_t n = pack(specs[i], &wrong, wire);
        memset(wire + n, 'S', 1000); /* a client that did not wait: the refusal arrives all the same */
        int fd = say(&l, wire, n + 1000);
        assert_int_equal(read_welcome(fd, &w), KN_E_AUTH);
        assert_non_null(strstr(err.message, "pod-1"));
        assert_int_equal(read_to_end(fd, wire, sizeof wire), 0);
        close(fd);
    }
    assert_int_equal(refused(&l, "key"), before + 2);
}

static void another_version_is_named_on_both_sides(void **state)
{
    (void)state;
    uint8_t wire[4096];
    struct kn_welcome w;
    pack(RR, &l.key, wire);
    wire[4] = KN_PROTOCOL + 1;
    int fd = say(&l, wire, 5); /* the rest may be of any length in another version */
    assert_int_equal(kn_read_full(fd, wire, kn_welcome_size(), soon(), &err), 0);
    assert_int_equal(kn_welcome_unpack(wire, kn_welcome_size(), &w, &err), -1);
    assert_int_equal(err.code, KN_E_VERSION);
    assert_non_null(strstr(err.message, "protocol 3"));
    wire[4] = KN_PROTOCOL + 1; /* what that other version makes of our answer: ours is the other one there */
    assert_int_equal(kn_welcome_unpack(wire, kn_welcome_size(), &w, &err), -1);
    assert_int_equal(err.code, KN_E_VERSION);
    close(fd);
    expect_refused(&l, "version", 1);
}

static void datagram_tests_are_not_served_over_tcp(void **state)
{
    (void)state;
    static const char *const specs[] = {"{\"test\":\"udp_rr\"}", "{\"test\":\"udp_stream\"}", "{\"test\":\"ping\"}"};
    for (int i = 0; i < 3; i++) {
        uint8_t wire[4096];
        struct kn_welcome w;
        int fd = say(&l, wire, pack(specs[i], &l.key, wire));
        assert_int_equal(read_welcome(fd, &w), KN_E_ARGUMENT);
        close(fd);
    }
}

/* A test of short connections is served by the acceptors themselves, and limited as any other. */
static void short_connections_have_the_same_limit(void **state)
{
    (void)state;
    static const char *const specs[] = {"{\"test\":\"tcp_crr\",\"duration\":\"2h\"}",
                                        "{\"test\":\"http\",\"keepalive\":false,\"duration\":\"2h\"}",
                                        "{\"test\":\"tcp_rr\",\"duration\":\"2h\"}"};
    json_int_t before = refused(&l, "limit");
    for (int i = 0; i < 3; i++) {
        uint8_t wire[4096];
        struct kn_welcome w;
        int fd = say(&l, wire, pack(specs[i], &l.key, wire));
        assert_int_equal(read_welcome(fd, &w), KN_E_LIMIT);
        assert_non_null(strstr(err.message, "3600 s"));
        close(fd);
    }
    assert_int_equal(refused(&l, "limit"), before + 3);
}

/* Byte by byte, as the worst of networks may deliver it. */
static void a_hello_in_pieces_is_served(void **state)
{
    (void)state;
    static const size_t pieces[] = {1, 3, 5, 100};
    for (size_t k = 0; k < sizeof pieces / sizeof *pieces; k++) {
        uint8_t wire[4096];
        struct kn_welcome w;
        size_t n = pack(RR, &l.key, wire);
        int fd = say(&l, NULL, 0), on = 1;
        setsockopt(fd, IPPROTO_TCP, 1 /* TCP_NODELAY */, &on, sizeof on);
        for (size_t at = 0; at < n; at += pieces[k]) {
            size_t size = n - at < pieces[k] ? n - at : pieces[k];
            assert_int_equal(kn_write_full(fd, wire + at, size, soon(), &err), 0);
            if (at < 20)
                poll(NULL, 0, 1); /* so that they do arrive apart */
        }
        assert_int_equal(read_welcome(fd, &w), 0);
        assert_string_equal(w.name, "pod-1");
        close(fd);
    }
}

static void a_request_in_pieces_is_served(void **state)
{
    (void)state;
    static const char request[] = "GET /v1/agent HTTP/1.1\r\nKnbl-Token: " TOKEN
                                  "\r\nHost: a\r\nConnection: close\r\n\r\n";
    int status, fd = say(&l, NULL, 0);
    for (size_t at = 0; at < sizeof request - 1; at += 7) {
        assert_int_equal(
            kn_write_full(fd, request + at, sizeof request - 1 - at < 7 ? sizeof request - 1 - at : 7, soon(), &err),
            0);
        poll(NULL, 0, 1);
    }
    json_decref(read_answer(fd, &status));
    assert_int_equal(status, 200);
    close(fd);
}

/* Who hangs up, and who says a little and then nothing, is gone after the time; those that wait cost no thread. */
static void the_silent_are_let_go(void **state)
{
    (void)state;
    static const char *const beginnings[] = {"K", "KNBL\x02", "G", "GET /v1/agent HTTP/1.1\r\nKnbl-Token: x\r\n"};
    int fds[40], threads = count_entries("/proc/self/task");
    char answer[64];
    uint64_t from = kn_now_ns();
    for (int i = 0; i < 40; i++)
        fds[i] = say(&l, beginnings[i % 4], strlen(beginnings[i % 4]));
    close(say(&l, "KNB", 3));
    close(say(&l, NULL, 0));
    expect_service();
    expect_threads(threads);
    for (int i = 0; i < 40; i++) {
        assert_int_equal(read_to_end(fds[i], answer, sizeof answer), 0);
        close(fds[i]);
    }
    assert_true(kn_now_ns() - from >= KN_NS_PER_S * 9 / 10);
    expect_refused(&l, "silent", 41);
}

static void the_port_is_in_use(void **state)
{
    (void)state;
    struct live second;
    char says[32];
    live_config(&second);
    second.config.listen = l.at;
    assert_null(kn_agent_new(&second.config, &err));
    assert_int_equal(err.code, KN_E_IN_USE);
    snprintf(says, sizeof says, "port %u is in use", kn_agent_port(l.agent));
    assert_non_null(strstr(err.message, says));
    for (int i = 0; i < 20; i++) { /* free for TCP, taken for UDP: one of these is */
        int udp = socket(AF_INET, SOCK_DGRAM, 0);
        struct kn_addr at = {.u.v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)},
                             .len = sizeof at.u.v4};
        assert_int_equal(bind(udp, &at.u.sa, at.len), 0);
        assert_int_equal(getsockname(udp, &second.config.listen.u.sa, &second.config.listen.len), 0);
        assert_null(kn_agent_new(&second.config, &err));
        close(udp);
        assert_int_equal(err.code, KN_E_IN_USE);
        if (strstr(err.message, "UDP"))
            break;
    }
    assert_non_null(strstr(err.message, "UDP"));
    second.config.token = "short";
    assert_null(kn_agent_new(&second.config, &err));
    assert_int_equal(err.code, KN_E_ARGUMENT);
}

static void a_port_can_be_taken_again_at_once(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++) {
        struct live again;
        uint8_t wire[4096];
        struct kn_welcome w;
        live_config(&again);
        if (i)
            again.config.listen = l.at;
        live_end(&l);
        live_start(&again);
        int fd = say(&again, wire, pack(RR, &again.key, wire));
        assert_int_equal(read_welcome(fd, &w), 0);
        l = again;
        close(fd);
    }
}

static void both_families_on_one_port(void **state)
{
    (void)state;
    struct live any;
    static const char *const hosts[] = {"127.0.0.1", "::1", "127.8.8.8"};
    live_config(&any);
    assert_int_equal(kn_addr_resolve("", 0, 0, 0, &any.config.listen, &err), 0);
    live_start(&any);
    for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++) {
        if (strchr(hosts[i], ':') && !has_ipv6())
            continue;
        expect_run(&any, hosts[i], "tcp_rr", "");
        expect_run(&any, hosts[i], "udp_rr", "");
    }
    live_end(&any);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(garbage_gets_no_answer),
        cmocka_unit_test(a_head_with_a_zero_or_without_an_end),
        cmocka_unit_test(a_head_with_half_a_line_end),
        cmocka_unit_test(a_wrong_key_is_told),
        cmocka_unit_test(another_version_is_named_on_both_sides),
        cmocka_unit_test(datagram_tests_are_not_served_over_tcp),
        cmocka_unit_test(short_connections_have_the_same_limit),
        cmocka_unit_test(a_hello_in_pieces_is_served),
        cmocka_unit_test(a_request_in_pieces_is_served),
        cmocka_unit_test(the_silent_are_let_go),
        cmocka_unit_test(the_port_is_in_use),
        cmocka_unit_test(a_port_can_be_taken_again_at_once),
        cmocka_unit_test(both_families_on_one_port),
    };
    return cmocka_run_group_tests(tests, set_up, end_agent);
}
