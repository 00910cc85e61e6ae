/* Addresses: what people type, what comes out, and that a name costs no more than its time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <arpa/inet.h>
#include <dirent.h>
#include <poll.h>
#include <string.h>

#include "core/clock.h"
#include "net/addr.h"

static struct kn_error err;

static void texts_are_split(void **state)
{
    (void)state;
    static const struct {
        const char *text, *host;
        uint16_t port;
    } good[] = {
        {"10.0.0.1", "10.0.0.1", 1},
        {"10.0.0.1:7099", "10.0.0.1", 7099},
        {"[fd00::1]:80", "fd00::1", 80},
        {"[fd00::1]", "fd00::1", 1},
        {"fd00::1", "fd00::1", 1},
        {"::", "::", 1},
        {"name", "name", 1},
        {"name:0", "name", 0},
        {":7099", "", 7099},
        {"[::]:65535", "::", 65535},
        {"[fe80::1%eth0]:1", "fe80::1%eth0", 1},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        char host[64];
        uint16_t port = 1;
        assert_int_equal(kn_addr_split(good[i].text, host, sizeof host, &port, &err), 0);
        assert_string_equal(host, good[i].host);
        assert_int_equal(port, good[i].port);
    }
}

static void nonsense_is_named(void **state)
{
    (void)state;
    static const char *const bad[] = {"",         "host:",       "host:65536",  "host:-1",    "host:80x",
                                      "host: 80", "[fd00::1",    "[fd00::1]80", "[fd00::1]:", "http://host",
                                      "a b",      "host:100000", "user@host"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char host[64];
        uint16_t port = 1;
        assert_int_equal(kn_addr_split(bad[i], host, sizeof host, &port, &err), -1);
        assert_int_equal(err.code, KN_E_ARGUMENT);
    }
    char host[64], text[300];
    uint16_t port = 1;
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    assert_int_equal(kn_addr_split(text, host, sizeof host, &port, &err), -1);
    assert_int_equal(kn_addr_split("1234567", host, 8, &port, &err), 0); /* just fits */
    assert_int_equal(kn_addr_split("12345678", host, 8, &port, &err), -1);
}

static void numbers_resolve_at_once(void **state)
{
    (void)state;
    static const struct {
        const char *host;
        unsigned ip;
        const char *text;
    } good[] = {
        {"127.0.0.1", 0, "127.0.0.1:99"},
        {"127.0.0.1", 4, "127.0.0.1:99"},
        {"::1", 0, "[::1]:99"},
        {"::1", 6, "[::1]:99"},
        {"::ffff:10.0.0.1", 6, "10.0.0.1:99"},
        {"", 4, "0.0.0.0:99"},
        {"", 6, "[::]:99"},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct kn_addr a;
        char text[KN_ADDR_TEXT_MAX];
        assert_int_equal(kn_addr_resolve(good[i].host, 99, good[i].ip, 0, &a, &err), 0); /* no time at all is enough */
        assert_string_equal(kn_addr_text(&a, text, sizeof text), good[i].text);
        assert_int_equal(kn_addr_port(&a), 99);
    }
    struct kn_addr a;
    assert_int_equal(kn_addr_resolve("127.0.0.1", 99, 6, KN_NS_PER_S, &a, &err), -1);
    assert_int_equal(err.code, KN_E_ARGUMENT);
    assert_int_equal(kn_addr_resolve("::1", 99, 4, KN_NS_PER_S, &a, &err), -1);
}

#ifdef __SANITIZE_THREAD__
enum { ALONE = 2 }; /* with the sanitizer's own thread */
#else
enum { ALONE = 1 };
#endif

static int threads(void)
{
    int n = -2; /* . and .. */
    DIR *d = opendir("/proc/self/task");
    assert_non_null(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

static void names_resolve_within_their_time(void **state)
{
    (void)state;
    struct kn_addr a;
    char text[KN_ADDR_TEXT_MAX];
    assert_int_equal(kn_addr_resolve("localhost", 80, 4, 10 * KN_NS_PER_S, &a, &err), 0);
    assert_string_equal(kn_addr_host(&a, text, sizeof text), "127.0.0.1");
    uint64_t from = kn_now_ns();
    assert_int_equal(kn_addr_resolve("there-is-no-such-host.invalid", 80, 0, 200 * KN_NS_PER_MS, &a, &err), -1);
    assert_true(err.code == KN_E_RESOLVE || err.code == KN_E_TIMEOUT);
    assert_non_null(strstr(err.message, "there-is-no-such-host.invalid"));
    assert_true(kn_now_ns() - from < 5 * KN_NS_PER_S);
    (void)kn_addr_resolve("there-is-no-such-host.invalid", 80, 0, 0, &a, &err); /* left to itself while it looks */
    /* which a leak checker must not see: it holds memory of the C library's until it ends */
    for (uint64_t until = kn_now_ns() + 60 * KN_NS_PER_S; threads() > ALONE && kn_now_ns() < until;)
        poll(NULL, 0, 1);
    assert_int_equal(threads(), ALONE);
}

static struct kn_addr addr(const char *host, uint16_t port)
{
    struct kn_addr a;
    assert_int_equal(kn_addr_resolve(host, port, 0, 0, &a, &err), 0);
    return a;
}

static void addresses_compare(void **state)
{
    (void)state;
    struct kn_addr a = addr("10.0.0.1", 1), b = addr("10.0.0.1", 1), c = addr("10.0.0.2", 1), d = addr("10.0.0.1", 2),
                   e = addr("fd00::1", 1);
    assert_true(kn_addr_equal(&a, &b));
    assert_false(kn_addr_equal(&a, &c));
    assert_false(kn_addr_equal(&a, &d));
    assert_false(kn_addr_equal(&a, &e));
    b = addr("fd00::1", 1);
    assert_true(kn_addr_equal(&b, &e));
    assert_true(kn_addr_is_v6(&e) && !kn_addr_is_v6(&a));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_are_split),         cmocka_unit_test(nonsense_is_named),
        cmocka_unit_test(numbers_resolve_at_once), cmocka_unit_test(names_resolve_within_their_time),
        cmocka_unit_test(addresses_compare),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
