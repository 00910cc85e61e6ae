/* Control: who may ask, what can be asked, and how nonsense is answered. */
#include "one.h"

static int set_up(void **state)
{
    (void)state;
    live_config(&l);
    l.config.max_duration_ns = 60 * KN_NS_PER_S;
    live_start(&l);
    return 0;
}

static void it_says_who_it_is(void **state)
{
    (void)state;
    int status;
    json_t *a = ask(&l, "GET", "/v1/agent", NULL, &status);
    assert_int_equal(status, 200);
    assert_string_equal(json_string_value(json_object_get(a, "name")), "pod-1");
    assert_string_equal(json_string_value(json_object_get(a, "node")), "node-a");
    assert_string_equal(json_string_value(json_object_get(a, "version")), KNBL_VERSION);
    assert_int_equal(json_integer_value(json_object_get(a, "protocol")), KN_PROTOCOL);
    assert_int_equal(json_integer_value(json_object_get(a, "pid")), getpid());
    assert_true(json_integer_value(json_object_get(a, "cpus")) >= 1);
    json_t *environment = json_object_get(a, "environment");
    assert_true(json_string_length(json_object_get(environment, "kernel")) > 0);
    assert_true(json_string_length(json_object_get(environment, "machine")) > 0);
    json_decref(a);
    a = ask(&l, "GET", "/v1/alive", NULL, &status);
    assert_int_equal(status, 200);
    assert_int_equal(json_object_size(a), 0);
    json_decref(a);
}

static void nobody_asks_without_the_token(void **state)
{
    (void)state;
    static const char *const headers[] = {"", "Knbl-Token: \r\n", "Knbl-Token: wrong\r\n", "Knbl-Token: " TOKEN "x\r\n",
                                          "Authorization: " TOKEN "\r\n"};
    static const char *const paths[] = {"/v1/agent", "/v1/runs/0", "/v1/observe", "/", "/v1/runs"};
    for (size_t h = 0; h < sizeof headers / sizeof *headers; h++)
        for (size_t p = 0; p < sizeof paths / sizeof *paths; p++) {
            int status;
            json_t *a = ask_on(say(&l, NULL, 0), p < 4 ? "GET" : "POST", paths[p], headers[h], p < 4 ? NULL : "{}",
                               &status);
            assert_int_equal(status, 401);
            assert_string_equal(code_of(a), "auth");
            json_decref(a);
        }
    assert_int_equal(refused(&l, "token"), 25);
}

static void another_version_is_named(void **state)
{
    (void)state;
    int status;
    json_t *a = ask_on(say(&l, NULL, 0), "GET", "/v1/agent", "Knbl-Token: " TOKEN "\r\nKnbl-Protocol: 99\r\n", NULL,
                       &status);
    assert_int_equal(status, 426);
    assert_string_equal(code_of(a), "version");
    const char *message = json_string_value(json_object_get(json_object_get(a, "error"), "message"));
    assert_non_null(strstr(message, "99"));
    assert_non_null(strstr(message, KNBL_VERSION));
    json_decref(a);
    a = ask_on(say(&l, NULL, 0), "GET", "/v1/agent", "Knbl-Token: " TOKEN "\r\nKnbl-Protocol: 2\r\n", NULL, &status);
    assert_int_equal(status, 200);
    json_decref(a);
}

static void what_is_not_there(void **state)
{
    (void)state;
    static const char *const asked[][2] = {{"GET", "/"},
                                           {"GET", "/v1/runs/0123456789abcdef"},
                                           {"DELETE", "/v1/runs/0123456789abcdef"},
                                           {"GET", "/v1/runs/../../etc/passwd"},
                                           {"PUT", "/v1/agent"},
                                           {"DELETE", "/v1/agent"},
                                           {"GET", "/v1/runs/"},
                                           {"POST", "/v1/runs/0123456789abcdef"}};
    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
        int status;
        json_t *a = ask(&l, asked[i][0], asked[i][1], NULL, &status);
        assert_int_equal(status, 404);
        assert_string_equal(code_of(a), i == 1 || i == 2 || i == 3 || i == 6 ? "lost" : "argument");
        json_decref(a);
    }
}

static void nonsense_is_named(void **state)
{
    (void)state;
#define TO ",\"to\":{\"host\":\"127.0.0.1\",\"port\":1}}"
    static const struct {
        const char *body, *says;
    } bad[] = {
        {"", "JSON"},
        {"{", "JSON"},
        {"[]", "spec"},
        {"{}", "spec"},
        {"{\"spec\":1" TO, "spec"},
        {"{\"spec\":{}" TO, ""},
        {"{\"spec\":{\"test\":\"tcp_rrr\"}" TO, "tcp_rr"},
        {"{\"spec\":{\"test\":\"tcp_rr\",\"durration\":1}" TO, "duration"},
        {"{\"spec\":{\"test\":\"tcp_rr\",\"duration\":\"-1s\"}" TO, "duration"},
        {"{\"spec\":{\"test\":\"tcp_rr\"}}", "host"},
        {"{\"spec\":{\"test\":\"tcp_rr\"},\"to\":{\"host\":\"\"}}", "host"},
        {"{\"spec\":{\"test\":\"tcp_rr\"},\"to\":{\"host\":5}}", "host"},
        {"{\"spec\":{\"test\":\"tcp_rr\"},\"to\":{\"host\":\"h\",\"port\":70000}}", "port"},
        {"{\"spec\":{\"test\":\"tcp_rr\"},\"to\":{\"host\":\"h\",\"port\":\"x\"}}", "port"},
        {"{\"spec\":{\"test\":\"tcp_rr\"},\"token\":7" TO, "token"},
        {"{\"spec\":{\"test\":\"tcp_rr\"},\"id\":7" TO, "\"id\" must be 16"},
        {"{\"spec\":{\"test\":\"tcp_rr\"},\"id\":\"0123\"" TO, "\"id\" must be 16"},
        {"{\"spec\":{\"test\":\"tcp_rr\"},\"id\":\"../../../../agent\"" TO, "\"id\" must be 16"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int status;
        json_t *a = ask(&l, "POST", "/v1/runs", bad[i].body, &status);
        const char *message = json_string_value(json_object_get(json_object_get(a, "error"), "message"));
        bool too_long = strstr(bad[i].says, " s");
        if (status != (too_long ? 429 : 400) || strcmp(code_of(a), too_long ? "limit" : "argument") ||
            !strstr(message, bad[i].says))
            fail_msg("%s: %d %s", bad[i].body, status, message);
        json_decref(a);
    }
}

/* The same code as for a flow that is too long: see a_run_longer_than_the_server_allows. */
static void a_run_that_is_too_long(void **state)
{
    (void)state;
    static const char *const bad[] = {"{\"spec\":{\"test\":\"tcp_rr\",\"duration\":\"61s\"}" TO,
                                      "{\"spec\":{\"test\":\"tcp_rr\",\"duration\":\"1s\",\"warmup\":\"60s\"}" TO};
    json_int_t before = refused(&l, "limit");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int status;
        json_t *a = ask(&l, "POST", "/v1/runs", bad[i], &status);
        assert_int_equal(status, 429);
        assert_string_equal(code_of(a), "limit");
        assert_non_null(strstr(json_string_value(json_object_get(json_object_get(a, "error"), "message")), "60 s"));
        json_decref(a);
    }
    assert_int_equal(refused(&l, "limit"), before + 2);
}

static void bodies_have_an_end(void **state)
{
    (void)state;
    static char body[100001];
    int status;
    memset(body, ' ', sizeof body - 1);
    json_t *a = ask(&l, "POST", "/v1/runs", body, &status);
    assert_int_equal(status, 400);
    assert_non_null(strstr(json_string_value(json_object_get(json_object_get(a, "error"), "message")), "64 KiB"));
    json_decref(a);
}

static void a_connection_serves_many_requests(void **state)
{
    (void)state;
    static const char request[] = "GET /v1/agent HTTP/1.1\r\nHost: a\r\nKnbl-Token: " TOKEN "\r\n\r\n";
    char answer[8192];
    int fd = say(&l, NULL, 0);
    for (int i = 0; i < 20; i++) {
        size_t done = 0;
        assert_int_equal(kn_write_full(fd, request, sizeof request - 1, soon(), &err), 0);
        do {
            assert_int_equal(kn_read_full(fd, answer + done, 1, soon(), &err), 0);
            answer[++done] = '\0';
        } while (!strstr(answer, "\r\n\r\n"));
        size_t length = strtoul(strstr(answer, "Content-Length:") + 15, NULL, 10);
        assert_in_range(length, 2, sizeof answer);
        assert_int_equal(kn_read_full(fd, answer, length, soon(), &err), 0);
    }
    close(fd);
}

static int turned_away(const int *fds, int n)
{
    int closed = 0;
    for (int i = 0; i < n; i++) {
        char c;
        closed += recv(fds[i], &c, 1, MSG_DONTWAIT | MSG_PEEK) >= 0 || errno != EAGAIN;
    }
    return closed;
}

/* More than it holds at once, all of them in the middle of something: some are turned away, none blocks the others. */
static void a_crowd_of_requests(void **state)
{
    (void)state;
    static const char begun[] = "POST /v1/runs HTTP/1.1\r\nHost: a\r\nKnbl-Token: " TOKEN
                                "\r\nContent-Length: 100\r\n\r\n{";
    static const char request[] = "GET / HTTP/1.1\r\nConnection: close\r\nKnbl-Token: " TOKEN "\r\n\r\n";
    enum { N = 400 };
    static int fds[N];
    for (int i = 0; i < N; i++)
        fds[i] = say(&l, begun, sizeof begun - 1);
    for (uint64_t until = soon(); turned_away(fds, N) < N - 256 && kn_now_ns() < until;)
        poll(NULL, 0, 2);
    for (int i = 0; i < N; i++)
        close(fds[i]);
    char answer[8192];
    ssize_t n = 0;
    for (uint64_t until = soon(); n <= 0 && kn_now_ns() < until;) { /* until it noticed that they are gone */
        int fd = say(&l, request, sizeof request - 1);
        n = read_to_end(fd, answer, sizeof answer);
        close(fd);
    }
    expect_refused(&l, "crowd", N - 256);
}

/* ---- the Unix socket ---- */

static int connect_unix(const char *path, socklen_t extra)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    size_t n = strlen(path);
    memcpy(at.sun_path, path, n);
    if (path[0] == '@')
        at.sun_path[0] = '\0';
    if (connect(fd, (struct sockaddr *)&at, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + extra))) {
        close(fd);
        return -1;
    }
    return fd;
}

static void control_by_a_unix_socket(void **state)
{
    (void)state;
    char folder[] = "/tmp/knbl-test-XXXXXX", path[64], abstract[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/s", folder);
    snprintf(abstract, sizeof abstract, "@knbl-test-%d", (int)getpid());
    const char *const names[] = {path, abstract};
    for (int i = 0; i < 2; i++) {
        struct live u;
        int status;
        live_config(&u);
        u.config.unix_path = names[i];
        live_start(&u);
        json_t *a = ask_on(connect_unix(names[i], i == 0), "GET", "/v1/agent", "Knbl-Token: " TOKEN "\r\n", NULL,
                           &status);
        assert_int_equal(status, 200);
        json_decref(a);
        a = ask_on(connect_unix(names[i], i == 0), "GET", "/v1/agent", "", NULL, &status);
        assert_int_equal(status, 401);
        json_decref(a);
        struct live second; /* while the first one lives, the name is its own */
        live_config(&second);
        second.config.unix_path = names[i];
        assert_null(kn_agent_new(&second.config, &err));
        assert_int_equal(err.code, KN_E_IN_USE);
        live_end(&u);
        assert_int_equal(connect_unix(names[i], i == 0), -1);
    }
    assert_int_equal(rmdir(folder), 0); /* the file went with the agent */
}

static void a_socket_file_of_a_dead_agent_is_replaced(void **state)
{
    (void)state;
    char folder[] = "/tmp/knbl-test-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/s", folder);
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    memcpy(at.sun_path, path, strlen(path));
    int dead = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(dead, (struct sockaddr *)&at, sizeof at), 0);
    close(dead);
    struct live u;
    live_config(&u);
    u.config.unix_path = path;
    live_start(&u);
    close(connect_unix(path, 1));
    live_end(&u);
    FILE *f = fopen(path, "w"); /* a file that is no socket is not ours to remove */
    fclose(f);
    assert_null(kn_agent_new(&u.config, &err));
    assert_int_equal(access(path, F_OK), 0);
    unlink(path);
    rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_says_who_it_is),
        cmocka_unit_test(nobody_asks_without_the_token),
        cmocka_unit_test(another_version_is_named),
        cmocka_unit_test(what_is_not_there),
        cmocka_unit_test(nonsense_is_named),
        cmocka_unit_test(a_run_that_is_too_long),
        cmocka_unit_test(bodies_have_an_end),
        cmocka_unit_test(a_connection_serves_many_requests),
        cmocka_unit_test(a_crowd_of_requests),
        cmocka_unit_test(control_by_a_unix_socket),
        cmocka_unit_test(a_socket_file_of_a_dead_agent_is_replaced),
    };
    return cmocka_run_group_tests(tests, set_up, end_agent);
}
