/* Memory runs out at every allocation of a request, libcurl's included: an error, or the whole answer. */
#include "../core/starved.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include "core/clock.h"
#include "fetch/fetch.h"

static const char answer[] = "HTTP/1.1 200 OK\r\nX-Mine: yes\r\nContent-Length: 10\r\n\r\none\ntwo\n..";
static int listener;
static char url[64];
static pthread_t server;

/* Each connection's requests, one after another, until the peer hangs up. */
static void *serve(void *unused)
{
    char text[4096];
    starved_fed = true;
    for (int fd; (fd = accept(listener, NULL, NULL)) >= 0; close(fd))
        while (recv(fd, text, sizeof text, 0) > 0 && send(fd, answer, sizeof answer - 1, MSG_NOSIGNAL) > 0)
            ;
    return unused;
}

static int set_up(void **state)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    (void)state;
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&at, size) || listen(listener, 16) ||
        getsockname(listener, (struct sockaddr *)&at, &size))
        return -1;
    snprintf(url, sizeof url, "http://127.0.0.1:%u/", ntohs(at.sin_port));
    return pthread_create(&server, NULL, serve, NULL);
}

static int tear_down(void **state)
{
    (void)state;
    shutdown(listener, SHUT_RDWR);
    return pthread_join(server, NULL) || close(listener);
}

static const char *const headers[] = {"X-Asked: yes", NULL};

static void whole_answers(void **state)
{
    struct kn_fetch_request request = {
        .url = url, .headers = headers, .body = "body", .body_size = 4, .timeout_ns = 10 * KN_NS_PER_S, .wake_fd = -1};
    (void)state;
    STARVED(n)
    {
        struct kn_error err = {0};
        struct kn_fetch_response r = {0};
        starved_begin(n);
        struct kn_fetch_client *client = kn_fetch_client_new(&err);
        bool ok = client && !kn_fetch(client, &request, &r, &err);
        starved_end();
        starved_expect(ok, &err);
        if (ok && (r.status != 200 || r.body_size != 10 || !strstr(r.headers, "x-mine: yes\n")))
            starved_fail("status %d, %zu bytes, headers %s", r.status, r.body_size, r.headers);
        kn_fetch_response_fini(&r);
        kn_fetch_client_free(client);
    }
}

static void streams(void **state)
{
    struct kn_fetch_request request = {.url = url, .timeout_ns = 10 * KN_NS_PER_S, .wake_fd = -1};
    (void)state;
    STARVED(n)
    {
        struct kn_error err = {0};
        const char *chunk;
        size_t size, lines = 0;
        int more = -1;
        starved_begin(n);
        struct kn_fetch_stream *stream = kn_fetch_stream_open(&request, &err);
        while (stream && (more = kn_fetch_stream_read(stream, true, 10 * KN_NS_PER_S, &chunk, &size, &err)) > 0)
            lines++;
        starved_end();
        starved_expect(more == 0, &err);
        if (more == 0 && (lines != 3 || kn_fetch_stream_status(stream) != 200))
            starved_fail("%zu lines of 3", lines);
        kn_fetch_stream_free(stream);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(whole_answers), cmocka_unit_test(streams)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
