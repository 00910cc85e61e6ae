/* fetch against a server of its own: a thread that answers each request by its path, and counts connections. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <netinet/in.h>
#include <unistd.h>

#include "core/clock.h"
#include "fetch/fetch.h"

static struct {
    int fd, unix_fd;
    uint16_t port;
    atomic_int connections;
    pthread_t thread, unix_thread;
    char url[64], unix_name[128];
} server;

static void say(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* A body without an end: the line counts up until the peer hangs up. */
static void pour(int fd)
{
    char line[32];
    say(fd, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
    for (unsigned i = 0;; i++) {
        int n = snprintf(line, sizeof line, "line %u\n", i);
        if (send(fd, line, (size_t)n, MSG_NOSIGNAL) < n)
            return;
    }
}

/* One line of three million bytes, then a short one, then an unfinished one. */
static void long_line(int fd)
{
    char block[1000];
    memset(block, 'x', sizeof block);
    say(fd, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
    for (int i = 0; i < 3000; i++)
        if (send(fd, block, sizeof block, MSG_NOSIGNAL) < 0)
            return;
    send(fd, "\r\nshort\nlast", 12, MSG_NOSIGNAL);
}

/* False: the connection is over. */
static bool answer(int fd, const char *request)
{
    char text[8192];
    const char *body = strstr(request, "\r\n\r\n") + 4;
    if (strstr(request, "GET /hang "))
        return recv(fd, text, 1, 0) > 0;
    if (strstr(request, "GET /drop "))
        return false;
    if (strstr(request, "GET /ssh "))
        return say(fd, "SSH-2.0-OpenSSH_9.2\r\n"), false;
    if (strstr(request, "GET /pour "))
        return pour(fd), false;
    if (strstr(request, "GET /long "))
        return long_line(fd), false;
    if (strstr(request, "GET /half ")) {
        say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this\n");
        return false;
    }
    if (strstr(request, "GET /big ")) {
        say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n");
        return say(fd, "012345678901234567890123456789"), true;
    }
    if (strstr(request, "GET /no ")) {
        say(fd, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
                "HTTP/1.1 404 Not Found\r\nWarning: one\r\nWarning: two\r\nContent-Length: 0\r\n\r\n");
        return true;
    }
    snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nX-Mine: %s\r\nContent-Length: %zu\r\n\r\n%s",
             strstr(request, "\r\nX-Asked: yes\r\n") ? "seen" : "none", strlen(body), body);
    return say(fd, text), true;
}

static bool complete(const char *request)
{
    const char *end = strstr(request, "\r\n\r\n"), *length = strstr(request, "Content-Length: ");
    return end && (!length || strlen(end + 4) >= (size_t)atoi(length + 16));
}

static void *serve_one(void *argument)
{
    int fd = (int)(intptr_t)argument;
    char request[4096] = "";
    size_t n = 0;
    ssize_t got;
    while ((got = recv(fd, request + n, sizeof request - 1 - n, 0)) > 0) {
        n += (size_t)got;
        request[n] = 0;
        if (!complete(request))
            continue;
        if (!answer(fd, request))
            break;
        n = 0;
    }
    close(fd);
    return NULL;
}

static void *serve(void *argument)
{
    int fd, listener = *(int *)argument;
    while ((fd = accept(listener, NULL, NULL)) >= 0) {
        pthread_t thread;
        server.connections++;
        assert_int_equal(pthread_create(&thread, NULL, serve_one, (void *)(intptr_t)fd), 0);
        pthread_detach(thread);
    }
    return NULL;
}

static int set_up(void **state)
{
    (void)state;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    socklen_t size = sizeof at;
    server.fd = socket(AF_INET, SOCK_STREAM, 0);
    server.unix_fd = socket(AF_UNIX, SOCK_STREAM, 0);
    int n = snprintf(un.sun_path + 1, sizeof un.sun_path - 1, "knbl-fetch-%d", getpid());
    snprintf(server.unix_name, sizeof server.unix_name, "@%s", un.sun_path + 1);
    assert_int_equal(bind(server.fd, (struct sockaddr *)&at, sizeof at) | listen(server.fd, 16), 0);
    socklen_t un_size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
    assert_int_equal(bind(server.unix_fd, (struct sockaddr *)&un, un_size), 0);
    assert_int_equal(listen(server.unix_fd, 16) | getsockname(server.fd, (struct sockaddr *)&at, &size), 0);
    server.port = ntohs(at.sin_port);
    assert_int_equal(pthread_create(&server.thread, NULL, serve, &server.fd), 0);
    return pthread_create(&server.unix_thread, NULL, serve, &server.unix_fd);
}

static int tear_down(void **state)
{
    (void)state;
    shutdown(server.fd, SHUT_RDWR);
    shutdown(server.unix_fd, SHUT_RDWR);
    pthread_join(server.thread, NULL);
    pthread_join(server.unix_thread, NULL);
    return close(server.fd) | close(server.unix_fd);
}

static struct kn_fetch_request to(const char *path)
{
    snprintf(server.url, sizeof server.url, "http://127.0.0.1:%u%s", server.port, path);
    return (struct kn_fetch_request){.url = server.url, .wake_fd = -1, .timeout_ns = 20 * KN_NS_PER_S};
}

static struct kn_fetch_client *new_client(void)
{
    struct kn_error err;
    struct kn_fetch_client *c = kn_fetch_client_new(&err);
    assert_non_null(c);
    return c;
}

/* ---- whole answers --------------------------------------------------------------------------- */

static void answers_are_whole_and_connections_kept(void **state)
{
    (void)state;
    struct kn_fetch_client *c = new_client();
    struct kn_fetch_response response;
    struct kn_error err;
    const char *const headers[] = {"X-Asked: yes", NULL};
    int before = server.connections;
    for (int i = 0; i < 5; i++) {
        struct kn_fetch_request r = to("/echo");
        r.body = "some body";
        r.body_size = 9;
        r.method = i % 2 ? "PUT" : NULL;
        r.headers = headers;
        assert_int_equal(kn_fetch(c, &r, &response, &err), 0);
        assert_int_equal(response.status, 200);
        assert_string_equal(response.body, "some body");
        assert_int_equal(response.body_size, 9);
        assert_non_null(strstr(response.headers, "x-mine: seen\n"));
        kn_fetch_response_fini(&response);
    }
    assert_int_equal(server.connections - before, 1);
    kn_fetch_client_free(c);
}

static void a_status_is_no_failure(void **state)
{
    (void)state;
    struct kn_fetch_client *c = new_client();
    struct kn_fetch_response response;
    struct kn_error err;
    struct kn_fetch_request r = to("/no");
    assert_int_equal(kn_fetch(c, &r, &response, &err), 0);
    assert_int_equal(response.status, 404);
    assert_string_equal(response.headers, "warning: one\nwarning: two\ncontent-length: 0\n");
    assert_string_equal(response.body, "");
    kn_fetch_response_fini(&response);
    kn_fetch_client_free(c);
}

static void unix_sockets_ignore_proxies(void **state)
{
    (void)state;
    struct kn_fetch_client *c = new_client();
    struct kn_fetch_response response;
    struct kn_error err;
    setenv("http_proxy", "http://127.0.0.1:1", 1);
    struct kn_fetch_request r = {.url = "http://agent/echo", .unix_path = server.unix_name, .wake_fd = -1};
    assert_int_equal(kn_fetch(c, &r, &response, &err), 0);
    kn_fetch_response_fini(&response);
    r = to("/echo"); /* loopback likewise */
    assert_int_equal(kn_fetch(c, &r, &response, &err), 0);
    kn_fetch_response_fini(&response);
    r.url = "http://198.51.100.1/"; /* all else goes by the proxy, which refuses */
    assert_int_equal(kn_fetch(c, &r, &response, &err), -1);
    assert_int_equal(err.code, KN_E_REFUSED);
    unsetenv("http_proxy");
    kn_fetch_client_free(c);
}

static void fails_with(struct kn_fetch_request r, enum kn_code code)
{
    struct kn_fetch_client *c = new_client();
    struct kn_fetch_response response;
    struct kn_error err;
    uint64_t began_ns = kn_now_ns();
    assert_int_equal(kn_fetch(c, &r, &response, &err), -1);
    if (err.code != code)
        fail_msg("%s: %s instead of %s", err.message, kn_code_name(err.code), kn_code_name(code));
    assert_true(kn_now_ns() - began_ns < 10 * KN_NS_PER_S);
    kn_fetch_client_free(c);
}

static void failures_have_their_names(void **state)
{
    (void)state;
    const char *const split[] = {"X: a\r\nY: b", NULL};
    struct kn_fetch_request r = to("/big");
    r.max_body = 29;
    fails_with(r, KN_E_LIMIT);
    fails_with(to("/drop"), KN_E_PROTOCOL);
    fails_with(to("/half"), KN_E_PROTOCOL);
    fails_with(to("/ssh"), KN_E_PROTOCOL); /* another program's server */
    r = to("/hang");
    r.timeout_ns = 50 * KN_NS_PER_MS;
    fails_with(r, KN_E_TIMEOUT);
    r = to("/echo");
    r.headers = split;
    fails_with(r, KN_E_ARGUMENT);
    r = to("/echo");
    r.ca = "/nonexistent/ca.pem";
    r.url = "file:///etc/passwd";
    fails_with(r, KN_E_ARGUMENT);
    r.url = "http://127.0.0.1:1/";
    fails_with(r, KN_E_REFUSED);
    r.url = "http://";
    fails_with(r, KN_E_ARGUMENT);
    r.url = "http://name.invalid/";
    fails_with(r, KN_E_RESOLVE);
    r.url = "http://x/";
    r.unix_path = "/nonexistent/socket";
    fails_with(r, KN_E_REFUSED);
}

static void a_wake_up_ends_the_wait(void **state)
{
    (void)state;
    struct kn_fetch_request r = to("/hang");
    r.wake_fd = eventfd(1, EFD_CLOEXEC);
    fails_with(r, KN_E_INTERRUPTED);
    close(r.wake_fd);
}

/* ---- streams --------------------------------------------------------------------------------- */

static struct kn_fetch_stream *open_stream(const char *path, size_t max_body)
{
    struct kn_error err;
    struct kn_fetch_request r = to(path);
    r.max_body = max_body;
    struct kn_fetch_stream *s = kn_fetch_stream_open(&r, &err);
    if (!s)
        fail_msg("%s", err.message);
    return s;
}

static void streams_give_lines_for_as_long_as_they_are_read(void **state)
{
    (void)state;
    struct kn_fetch_stream *s = open_stream("/pour", 0);
    struct kn_error err;
    const char *line;
    size_t size;
    char expected[32];
    assert_int_equal(kn_fetch_stream_status(s), 200);
    for (unsigned i = 0; i < 300000; i++) {
        assert_int_equal(kn_fetch_stream_read(s, true, 5 * KN_NS_PER_S, &line, &size, &err), 1);
        assert_int_equal(snprintf(expected, sizeof expected, "line %u", i), size);
        assert_memory_equal(line, expected, size);
    }
    kn_fetch_stream_free(s);
}

static void long_lines_fit_up_to_the_limit(void **state)
{
    (void)state;
    struct kn_error err;
    const char *line;
    size_t size;
    struct kn_fetch_stream *s = open_stream("/long", 0);
    assert_int_equal(kn_fetch_stream_read(s, true, 5 * KN_NS_PER_S, &line, &size, &err), 1);
    assert_int_equal(size, 3000000);
    assert_int_equal(kn_fetch_stream_read(s, true, 5 * KN_NS_PER_S, &line, &size, &err), 1);
    assert_int_equal(size, 5);
    assert_memory_equal(line, "short", 5);
    assert_int_equal(kn_fetch_stream_read(s, true, 5 * KN_NS_PER_S, &line, &size, &err), 1);
    assert_int_equal(size, 4);
    assert_int_equal(kn_fetch_stream_read(s, true, 5 * KN_NS_PER_S, &line, &size, &err), 0);
    kn_fetch_stream_free(s);
    s = open_stream("/long", 1 << 20);
    assert_int_equal(kn_fetch_stream_read(s, true, 5 * KN_NS_PER_S, &line, &size, &err), -1);
    assert_int_equal(err.code, KN_E_LIMIT);
    kn_fetch_stream_free(s);
}

static void a_stream_that_breaks_gives_what_came(void **state)
{
    (void)state;
    struct kn_error err;
    const char *line;
    size_t size;
    struct kn_fetch_stream *s = open_stream("/half", 0);
    assert_int_equal(kn_fetch_stream_read(s, true, 5 * KN_NS_PER_S, &line, &size, &err), 1);
    assert_memory_equal(line, "only this", 9);
    assert_int_equal(kn_fetch_stream_read(s, true, 5 * KN_NS_PER_S, &line, &size, &err), -1);
    assert_int_equal(err.code, KN_E_PROTOCOL);
    kn_fetch_stream_free(s);
}

static void a_stream_that_does_not_open_says_so(void **state)
{
    (void)state;
    struct kn_error err;
    struct kn_fetch_request r = to("/hang");
    r.timeout_ns = 50 * KN_NS_PER_MS;
    assert_null(kn_fetch_stream_open(&r, &err));
    assert_int_equal(err.code, KN_E_TIMEOUT);
}

/* ---- many at the same time -------------------------------------------------------------------- */

static void add(struct kn_fetch_pool *pool, const char *path, uint64_t number, uint64_t timeout_ns)
{
    struct kn_fetch_request r = to(path);
    struct kn_error err;
    char body[24];
    r.timeout_ns = timeout_ns;
    r.body = body;
    r.body_size = (size_t)snprintf(body, sizeof body, "number %llu", (unsigned long long)number);
    r.method = strcmp(path, "/echo") ? "GET" : "POST";
    assert_int_equal(kn_fetch_pool_add(pool, &r, number, &err), 0);
}

/* One that hangs and one that breaks off keep nobody from an answer; each has its own. */
static void many_at_the_same_time(void **state)
{
    (void)state;
    struct kn_error err;
    struct kn_fetch_pool *pool = kn_fetch_pool_new(&err);
    bool seen[12] = {false};
    assert_non_null(pool);
    add(pool, "/hang", 0, 300 * KN_NS_PER_MS);
    add(pool, "/drop", 1, 20 * KN_NS_PER_S);
    for (unsigned i = 2; i < 12; i++)
        add(pool, "/echo", i, 20 * KN_NS_PER_S);
    for (unsigned over = 0; over < 12; over++) {
        struct kn_fetch_response response = {0};
        char expected[24];
        uint64_t number;
        int rc;
        assert_int_equal(kn_fetch_pool_wait(pool, 20 * KN_NS_PER_S, -1, &number, &rc, &response, &err), 1);
        assert_true(number < 12 && !seen[number]);
        seen[number] = true;
        assert_int_equal(rc, number < 2 ? -1 : 0);
        snprintf(expected, sizeof expected, "number %llu", (unsigned long long)number);
        if (number >= 2)
            assert_string_equal(response.body, expected);
        else if (number == 0)
            assert_int_equal(err.code, KN_E_TIMEOUT);
        kn_fetch_response_fini(&response);
    }
    uint64_t number;
    assert_int_equal(kn_fetch_pool_wait(pool, KN_NS_PER_MS, -1, &number, NULL, NULL, &err), 0);
    add(pool, "/hang", 1, 20 * KN_NS_PER_S);
    int wake_fd = eventfd(1, EFD_CLOEXEC);
    assert_int_equal(kn_fetch_pool_wait(pool, 20 * KN_NS_PER_S, wake_fd, &number, NULL, NULL, &err), -1);
    assert_int_equal(err.code, KN_E_INTERRUPTED);
    close(wake_fd);
    kn_fetch_pool_free(pool); /* with one under way */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_whole_and_connections_kept),
        cmocka_unit_test(a_status_is_no_failure),
        cmocka_unit_test(unix_sockets_ignore_proxies),
        cmocka_unit_test(failures_have_their_names),
        cmocka_unit_test(a_wake_up_ends_the_wait),
        cmocka_unit_test(many_at_the_same_time),
        cmocka_unit_test(streams_give_lines_for_as_long_as_they_are_read),
        cmocka_unit_test(long_lines_fit_up_to_the_limit),
        cmocka_unit_test(a_stream_that_breaks_gives_what_came),
        cmocka_unit_test(a_stream_that_does_not_open_says_so),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
