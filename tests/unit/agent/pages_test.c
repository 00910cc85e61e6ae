/* The server of pages: clients that never finish their requests do not lock the others out, heads that are too long are
 * refused, and no path leads anywhere but to a page. */
#include "live.h"

#include "agent/config.h"
#include "agent/pages.h"

#define SLOW 300
#define BODY "the page"

static struct kn_pages *pages;

static int set_up(void **state)
{
    struct kn_addr at;
    (void)state;
    if (kn_agent_listen("127.0.0.1:0", &at, &err) < 0 || !(pages = kn_pages_new(&at, &err)))
        return -1;
    return kn_pages_put(pages, "/metrics", &(struct kn_page){200, "text/plain", BODY, strlen(BODY), 0}, &err);
}

static int tear_down(void **state)
{
    (void)state;
    kn_pages_free(pages);
    return 0;
}

static int dial(void)
{
    struct sockaddr_in at = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(kn_pages_port(pages))};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
    return fd;
}

/* The status; 0: the connection was closed without an answer. */
static int get(const char *request, char *text, size_t size)
{
    int status = 0, fd = dial();
    send(fd, request, strlen(request), MSG_NOSIGNAL);
    ssize_t n = read_to_end(fd, text, size - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    sscanf(text, "HTTP/1.1 %d", &status);
    return status;
}

static void expect_page(void)
{
    char text[4096];
    assert_int_equal(get("GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", text, sizeof text), 200);
    assert_non_null(strstr(text, BODY));
}

static void slow_clients_lock_nobody_out(void **state)
{
    int slow[SLOW];
    (void)state;
    for (int i = 0; i < SLOW; i++) {
        slow[i] = dial();
        assert_int_equal(send(slow[i], "G", 1, MSG_NOSIGNAL), 1);
    }
    expect_page();
    for (int i = 0; i < SLOW; i++)
        close(slow[i]);
    expect_page();
}

static void heads_that_are_too_long_are_refused(void **state)
{
    static char request[1 << 20], text[4096];
    (void)state;
    strcpy(request, "GET /metrics HTTP/1.1\r\nHost: x\r\nX: ");
    memset(request + strlen(request), 'x', sizeof request - strlen(request) - 1);
    int status = get(request, text, sizeof text);
    if (status != 0 && status != 413 && status != 414 && status != 431) /* 0: reset, since more was on its way */
        fail_msg("status %d", status);
    expect_page();
}

static void paths_lead_to_pages_only(void **state)
{
    static const char *const paths[] = {"/../etc/passwd",
                                        "/metrics/../../etc/passwd",
                                        "/%2e%2e/etc/passwd",
                                        "//metrics",
                                        "/metrics/",
                                        "/metric",
                                        "http://127.0.0.1/metrics/x",
                                        "/%00"};
    char request[256], text[4096];
    (void)state;
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", paths[i]);
        int status = get(request, text, sizeof text);
        if (status != 404 && status != 400)
            fail_msg("%s: status %d", paths[i], status);
    }
    assert_int_equal(get("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc", text,
                         sizeof text),
                     405);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(slow_clients_lock_nobody_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(heads_that_are_too_long_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(paths_lead_to_pages_only, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
