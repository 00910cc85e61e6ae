/* What the agent asks kube-proxy, of servers that answer well, badly, byte by byte or not at all. */
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../core/check.h"
#include "agent/environment.h"
#include "core/clock.h"

#define PATIENCE_NS (30 * KN_NS_PER_S)

/* Serves one connection: the answer in pieces, a pause after each. */
struct server {
    const char *answer;
    size_t piece;
    int pause_ms;
    int fd;
    uint16_t port;
    pthread_t thread;
    atomic_bool stop;
};

static void *server_main(void *argument)
{
    struct server *s = argument;
    int fd = accept(s->fd, NULL, NULL);
    char request[512]; /* unread, it would make of the close a reset, which takes the answer with it */
    (void)!recv(fd, request, sizeof request, 0);
    size_t size = strlen(s->answer);
    for (size_t at = 0; fd >= 0 && at < size && !atomic_load(&s->stop); at += s->piece) {
        if (send(fd, s->answer + at, size - at < s->piece ? size - at : s->piece, MSG_NOSIGNAL) < 0)
            break;
        poll(NULL, 0, s->pause_ms);
    }
    while (size == 0 && !atomic_load(&s->stop))
        poll(NULL, 0, 1);
    close(fd);
    return NULL;
}

static void begin(struct server *s)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(s->fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(s->fd, 1), 0);
    assert_int_equal(getsockname(s->fd, (struct sockaddr *)&at, &size), 0);
    s->port = ntohs(at.sin_port);
    assert_int_equal(pthread_create(&s->thread, NULL, server_main, s), 0);
}

static void end(struct server *s)
{
    atomic_store(&s->stop, true);
    shutdown(s->fd, SHUT_RDWR);
    pthread_join(s->thread, NULL);
    close(s->fd);
}

static void its_answer_is_taken(void **state)
{
    (void)state;
    static const struct {
        const char *answer, *mode;
    } cases[] = {
        {"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\niptables", "iptables"},
        {"HTTP/1.0 200 OK\r\n\r\nipvs\n", "ipvs"},
        {"HTTP/1.0 404 Not Found\r\n\r\nnothing", NULL},
        {"HTTP/1.0 200 OK\r\n\r\n<html>", NULL},
        {"HTTP/1.0 200 OK\r\n\r\naveryveryverylongword", NULL},
        {"HTTP/1.0 200 OK\r\n", NULL},
        {"SSH-2.0\r\n", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct server s = {.answer = cases[i].answer, .piece = 7};
        char mode[KN_PROXY_MODE_SIZE] = "";
        begin(&s);
        bool known = kn_proxy_mode(s.port, PATIENCE_NS, mode);
        end(&s);
        if (known != (cases[i].mode != NULL) || (known && strcmp(mode, cases[i].mode)))
            fail_msg("%s: %d %s", cases[i].answer, known, mode);
    }
}

/* A byte every 20 ms, for half a minute: no byte may buy the next. */
static void a_slow_server_costs_the_timeout_only(void **state)
{
    (void)state;
    static char slow[1501] = "HTTP/1.0 200 OK\r\nX-Filler: ";
    size_t have = strlen(slow);
    memset(slow + have, 'x', sizeof slow - 1 - have);
    struct server s = {.answer = slow, .piece = 1, .pause_ms = 20};
    char mode[KN_PROXY_MODE_SIZE];
    begin(&s);
    uint64_t from_ns = kn_now_ns();
    assert_false(kn_proxy_mode(s.port, 200 * KN_NS_PER_MS, mode));
    uint64_t took_ns = kn_now_ns() - from_ns;
    end(&s);
    assert_in_range(took_ns, 190 * KN_NS_PER_MS, 10 * KN_NS_PER_S);
}

static void a_silent_server_costs_the_timeout(void **state)
{
    (void)state;
    struct server s = {.answer = "", .piece = 1};
    char mode[KN_PROXY_MODE_SIZE];
    begin(&s);
    uint64_t from_ns = kn_now_ns();
    assert_false(kn_proxy_mode(s.port, 100 * KN_NS_PER_MS, mode));
    assert_true(kn_now_ns() - from_ns < 10 * KN_NS_PER_S);
    end(&s);
}

static void no_server_is_known_at_once(void **state)
{
    (void)state;
    struct server s = {.answer = "", .piece = 1};
    char mode[KN_PROXY_MODE_SIZE];
    begin(&s);
    uint16_t port = s.port;
    end(&s);
    assert_false(kn_proxy_mode(port, PATIENCE_NS, mode));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(its_answer_is_taken),
        cmocka_unit_test(a_slow_server_costs_the_timeout_only),
        cmocka_unit_test(a_silent_server_costs_the_timeout),
        cmocka_unit_test(no_server_is_known_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
