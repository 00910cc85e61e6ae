/* Many at the port at once: silent ones, ones that vanish, ones without the token. Those that may are served. */
#include "gate.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>

static void a_thousand_that_say_nothing(void **state)
{
    (void)state;
    enum { N = 1000 };
    static int fds[N];
    struct rlimit limit, before;
    getrlimit(RLIMIT_NOFILE, &before);
    limit = before;
    limit.rlim_cur = limit.rlim_max < 8192 ? limit.rlim_max : 8192;
    setrlimit(RLIMIT_NOFILE, &limit);
    int here = count_entries("/proc/self/fd");
    for (int i = 0; i < N; i++)
        fds[i] = say(&l, "K", (size_t)(i % 2));
    expect_service();
    uint8_t wire[4096];
    struct kn_welcome w;
    int fd = say(&l, wire, pack(RR, &l.key, wire));
    assert_int_equal(read_welcome(fd, &w), 0);
    close(fd);
    for (int i = 0; i < N; i++)
        close(fds[i]);
    uint64_t until = soon();
    while (count_entries("/proc/self/fd") > here && kn_now_ns() < until)
        poll(NULL, 0, 10);
    assert_in_range(count_entries("/proc/self/fd"), 0, here);
    setrlimit(RLIMIT_NOFILE, &before);
}

/* More than the process has descriptors for: the oldest silent ones make way. */
static void out_of_descriptors(void **state)
{
    (void)state;
    struct rlimit before, few;
    int fds[200], n = 0, status = 0;
    getrlimit(RLIMIT_NOFILE, &before);
    few = before;
    few.rlim_cur = (rlim_t)count_entries("/proc/self/fd") + 60;
    setrlimit(RLIMIT_NOFILE, &few);
    while (n < 200 && (fds[n] = kn_tcp_connect(&l.at, NULL, soon(), &err)) >= 0) {
        assert_int_equal(kn_write_full(fds[n], "K", 1, soon(), &err), 0);
        n++;
    }
    assert_true(n < 200);
    close(fds[--n]);
    close(fds[--n]);
    close(fds[--n]);
    json_t *answer = ask(&l, "GET", "/v1/agent", NULL, &status);
    assert_int_equal(status, 200);
    json_decref(answer);
    while (n > 0)
        close(fds[--n]);
    setrlimit(RLIMIT_NOFILE, &before);
    expect_service();
}

static json_int_t flows_now(void)
{
    int status;
    json_t *answer = ask(&l, "GET", "/v1/agent", NULL, &status);
    json_int_t n = json_integer_value(json_object_get(answer, "flows"));
    json_decref(answer);
    return n;
}

static void a_client_that_vanishes(void **state)
{
    (void)state;
    int threads = count_entries("/proc/self/task");
    for (int reset = 0; reset < 2; reset++) {
        int fds[20];
        for (int i = 0; i < 20; i++) {
            uint8_t wire[4096];
            struct kn_welcome w;
            fds[i] = say(&l, wire, pack(RR, &l.key, wire));
            assert_int_equal(read_welcome(fds[i], &w), 0);
            assert_int_equal(kn_write_full(fds[i], "Sxxx", (size_t)(i % 4), soon(), &err), 0);
        }
        assert_int_equal(flows_now(), 20);
        struct linger hard = {.l_onoff = reset, .l_linger = 0};
        for (int i = 0; i < 20; i++) {
            setsockopt(fds[i], SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
            close(fds[i]);
        }
        uint64_t until = soon();
        while (flows_now() && kn_now_ns() < until)
            poll(NULL, 0, 2);
        assert_int_equal(flows_now(), 0);
    }
    expect_threads(threads);
}

/* ---- clients without the token ---- */

/* Serves again once it noticed that those who held its connections are gone. */
static void expect_service_again(void)
{
    char answer[8192];
    static const char request[] = "GET /v1/agent HTTP/1.1\r\nConnection: close\r\nKnbl-Token: " TOKEN "\r\n\r\n";
    ssize_t n = 0;
    for (uint64_t until = soon(); n <= 0 && kn_now_ns() < until;) {
        int fd = say(&l, request, sizeof request - 1);
        n = read_to_end(fd, answer, sizeof answer);
        close(fd);
    }
    expect_service();
}

static atomic_bool enough;

/* Without waiting for the answers: up to 64 connections at once. */
static void *knock(void *argument)
{
    static const char request[] = "GET /v1/agent HTTP/1.1\r\nHost: a\r\nKnbl-Token: wrong\r\n\r\n";
    enum { AT_ONCE = 64 };
    int fds[AT_ONCE];
    (void)argument;
    for (int i = 0; i < AT_ONCE; i++)
        fds[i] = -1;
    for (unsigned i = 0; !atomic_load(&enough); i++) {
        int *fd = &fds[i % AT_ONCE];
        if (*fd >= 0)
            close(*fd);
        *fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connect(*fd, &l.at.u.sa, l.at.len) == 0)
            send(*fd, request, sizeof request - 1, MSG_NOSIGNAL);
    }
    for (int i = 0; i < AT_ONCE; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    return NULL;
}

/* As fast as they can: those with the token are served all the same. */
static void strangers_keep_nobody_away(void **state)
{
    (void)state;
    enum { N = 4 };
    pthread_t threads[N];
    json_int_t before = refused(&l, "token"), crowd = refused(&l, "crowd");
    atomic_store(&enough, false);
    for (int i = 0; i < N; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, knock, NULL), 0);
    for (int i = 0; i < 100; i++) {
        int status = 0;
        json_decref(ask(&l, "GET", "/v1/agent", NULL, &status));
        assert_int_equal(status, 200);
    }
    atomic_store(&enough, true);
    for (int i = 0; i < N; i++)
        pthread_join(threads[i], NULL);
    assert_true(refused(&l, "token") > before);
    assert_int_equal(refused(&l, "crowd"), crowd);
}

/* The refusal needs no thread of libmicrohttpd: it comes while all of its connections are taken. */
static void strangers_are_refused_before_they_cost_anything(void **state)
{
    (void)state;
    static const char begun[] = "POST /v1/runs HTTP/1.1\r\nHost: a\r\nKnbl-Token: " TOKEN
                                "\r\nContent-Length: 100\r\n\r\n{";
    static const char *const requests[] = {
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nknbl-token:wrong\r\n\r\n",
        "GET / HTTP/1.1\r\nX-Knbl-Token: " TOKEN "\r\n\r\n",
        "GET / HTTP/1.1\r\nX: Knbl-Token: " TOKEN "\r\n\r\n",
        "POST /v1/runs HTTP/1.1\r\nContent-Length: 5\r\n\r\nKnbl-Token: " TOKEN "\r\n\r\n",
    };
    enum { FULL = 256 };
    static int fds[FULL];
    char answer[2048];
    for (int i = 0; i < FULL; i++)
        fds[i] = say(&l, begun, sizeof begun - 1);
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        int fd = say(&l, requests[i], strlen(requests[i]));
        ssize_t n = read_to_end(fd, answer, sizeof answer - 1);
        close(fd);
        assert_true(n > 0);
        answer[n] = '\0';
        if (!strstr(answer, "HTTP/1.1 401 ") || !strstr(answer, "\"auth\""))
            fail_msg("%s: %s", requests[i], answer);
    }
    for (int i = 0; i < FULL; i++)
        close(fds[i]);
    expect_service_again();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_thousand_that_say_nothing),
        cmocka_unit_test(out_of_descriptors),
        cmocka_unit_test(a_client_that_vanishes),
        cmocka_unit_test(strangers_keep_nobody_away),
        cmocka_unit_test(strangers_are_refused_before_they_cost_anything),
    };
    return cmocka_run_group_tests(tests, set_up, end_agent);
}
