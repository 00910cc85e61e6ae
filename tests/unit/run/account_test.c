/* A client waits for the account of one of its flows for as long as the server is busy with the others. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/clock.h"
#include "run/flow.h"

#define STEP_MS 500
#define STEPS 11 /* longer than a client waits where nothing moves: 5 s */

struct server {
    int asked, other; /* the server's ends of two flows */
    bool busy;        /* with the other flow, before it sends the account of the first */
};

static void *serve(void *argument)
{
    struct server *s = argument;
    struct kn_error err;
    size_t size;
    json_t *account = json_pack("{s:s}", "name", "far");
    uint8_t *wire = kn_trailer_pack(account, &size, &err);
    for (int i = 0; i < STEPS; i++) {
        kn_sleep_until_ns(kn_now_ns() + STEP_MS * KN_NS_PER_MS);
        if (s->busy)
            send(s->other, "x", 1, MSG_NOSIGNAL);
    }
    send(s->asked, wire, size, MSG_NOSIGNAL);
    close(s->asked);
    json_decref(account);
    free(wire);
    return NULL;
}

/* A client of two flows, which wants the account of the first. */
struct client {
    struct server server;
    int flows[2];
    struct kn_worker w;
    json_t *account;
    struct kn_error err;
};

static void *want(void *argument)
{
    struct client *c = argument;
    c->account = kn_flow_account(&c->w, c->flows[0], NULL, 0, &c->err);
    return NULL;
}

static void set_up(struct client *c, const atomic_bool *stop, bool busy)
{
    int asked[2], other[2];
    struct epoll_event all = {.events = EPOLLIN | EPOLLET};
    assert_false(socketpair(AF_UNIX, SOCK_STREAM, 0, asked) || socketpair(AF_UNIX, SOCK_STREAM, 0, other));
    c->server = (struct server){.asked = asked[1], .other = other[1], .busy = busy};
    c->flows[0] = asked[0];
    c->flows[1] = other[0];
    c->w = (struct kn_worker){.stop = stop, .n_flows = 2, .watched = epoll_create1(0)};
    assert_true(c->w.watched > 0);
    for (int i = 0; i < 2; i++)
        assert_false(epoll_ctl(c->w.watched, EPOLL_CTL_ADD, c->flows[i], &all));
}

static void tear_down(struct client *c)
{
    json_decref(c->account);
    close(c->flows[0]);
    close(c->flows[1]);
    close(c->server.other);
    close(c->w.watched);
}

/* Both at once, since each takes some seconds. */
static void test_a_server_is_awaited_while_anything_moves(void **state)
{
    (void)state;
    atomic_bool stop = false;
    struct client clients[2] = {0};
    pthread_t threads[4];
    for (int i = 0; i < 2; i++) {
        set_up(&clients[i], &stop, i == 0);
        assert_false(pthread_create(&threads[2 * i], NULL, serve, &clients[i].server));
        assert_false(pthread_create(&threads[2 * i + 1], NULL, want, &clients[i]));
    }
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_non_null(clients[0].account);
    assert_null(clients[1].account);
    assert_int_equal(clients[1].err.code, KN_E_LOST);
    assert_string_equal(clients[1].err.message, "the server's account did not come: nothing moved for 5 s");
    for (int i = 0; i < 2; i++)
        tear_down(&clients[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_a_server_is_awaited_while_anything_moves)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
