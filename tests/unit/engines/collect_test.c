/* The end of a run against servers that do not end, or cannot be reached again: collecting their accounts has one
 * deadline, and a stop is heard. */
#include "loopback.h"

/* A server that serves tcp_rr of one byte, and after the client's half-close sends a byte now and then for ever. */
struct dripper {
    int fd;
    uint16_t port;
    struct kn_key key;
    atomic_bool stop;
    atomic_uint dripping;
    pthread_t thread;
};

static void serve_until_half_close(int fd)
{
    uint8_t byte;
    while (recv(fd, &byte, 1, 0) == 1)
        if (send(fd, &byte, 1, MSG_NOSIGNAL) != 1)
            return;
}

static void *drip(void *arg)
{
    struct dripper *d = arg;
    int fd = accept(d->fd, NULL, NULL);
    struct kn_error err;
    struct kn_welcome w = {.protocol = KN_PROTOCOL, .name = "dripper", .node = "node"};
    uint8_t hello[kn_hello_size()], welcome[kn_welcome_size()], go;
    kn_welcome_pack(&w, welcome);
    if (fd >= 0 && !kn_read_full(fd, hello, sizeof hello, kn_now_ns() + 10 * KN_NS_PER_S, &err) &&
        !kn_write_full(fd, welcome, sizeof welcome, kn_now_ns() + 10 * KN_NS_PER_S, &err) && recv(fd, &go, 1, 0) == 1) {
        serve_until_half_close(fd);
        while (!atomic_load(&d->stop) && send(fd, "x", 1, MSG_NOSIGNAL) == 1) {
            atomic_fetch_add(&d->dripping, 1);
            kn_sleep_until_ns(kn_now_ns() + 20 * KN_NS_PER_MS);
        }
    }
    if (fd >= 0)
        close(fd);
    return NULL;
}

static void dripper_start(struct dripper *d, void *(*server)(void *))
{
    struct kn_addr at;
    struct kn_error err;
    memset(d, 0, sizeof *d);
    assert_int_equal(kn_addr_resolve("127.0.0.1", 0, 4, KN_NS_PER_S, &at, &err), 0);
    d->fd = kn_tcp_listen(&at, 16, &err);
    assert_true(d->fd >= 0);
    at.len = sizeof at.u;
    getsockname(d->fd, &at.u.sa, &at.len);
    d->port = kn_addr_port(&at);
    kn_wire_key(TOKEN, &d->key);
    pthread_create(&d->thread, NULL, server, d);
}

static void dripper_stop(struct dripper *d)
{
    atomic_store(&d->stop, true);
    shutdown(d->fd, SHUT_RDWR);
    pthread_join(d->thread, NULL);
    close(d->fd);
}

/* It would go on for as long as the server likes; a stop ends it within half a second and what the machine adds. */
static void a_stop_ends_collecting(void **state)
{
    struct dripper d;
    struct kn_target target = {.host = "127.0.0.1"};
    (void)state;
    dripper_start(&d, drip);
    target.port = d.port;
    target.key = d.key;
    struct kn_run *run = start_json(&target, "{\"test\":\"tcp_rr\",\"duration\":\"100ms\",\"warmup\":0}");
    for (uint64_t until_ns = kn_now_ns() + 20 * KN_NS_PER_S; !atomic_load(&d.dripping) && kn_now_ns() < until_ns;)
        kn_sleep_until_ns(kn_now_ns() + KN_NS_PER_MS);
    assert_true(atomic_load(&d.dripping) > 0);
    assert_false(kn_run_wait(run, 100 * KN_NS_PER_MS));
    uint64_t asked_ns = kn_now_ns();
    kn_run_stop(run);
    json_t *r = finish_run(run);
    assert_true(kn_now_ns() - asked_ns < 5 * KN_NS_PER_S);
    assert_true(number_at(r, "metrics.ops") > 0);
    json_decref(r);
    dripper_stop(&d);
}

/* The server hangs up and takes no connection any more: its queue is full, so that SYNs are dropped. */
static void *hang_up(void *arg)
{
    struct dripper *d = arg;
    int fd = accept(d->fd, NULL, NULL), full[2];
    struct kn_error err;
    struct kn_welcome w = {.protocol = KN_PROTOCOL, .name = "gone", .node = "node"};
    struct sockaddr_in self = {.sin_family = AF_INET, .sin_port = htons(d->port)};
    uint8_t hello[kn_hello_size()], welcome[kn_welcome_size()], bytes[2];
    self.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    kn_welcome_pack(&w, welcome);
    assert_true(fd >= 0 && !listen(d->fd, 0));
    for (int i = 0; i < 2; i++) {
        full[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        connect(full[i], (struct sockaddr *)&self, sizeof self);
    }
    if (!kn_read_full(fd, hello, sizeof hello, kn_now_ns() + 10 * KN_NS_PER_S, &err) &&
        !kn_write_full(fd, welcome, sizeof welcome, kn_now_ns() + 10 * KN_NS_PER_S, &err))
        kn_read_full(fd, bytes, sizeof bytes, kn_now_ns() + 10 * KN_NS_PER_S, &err); /* go, and a request */
    close(fd);
    for (uint64_t until_ns = kn_now_ns() + 60 * KN_NS_PER_S; !atomic_load(&d->stop) && kn_now_ns() < until_ns;)
        kn_sleep_until_ns(kn_now_ns() + KN_NS_PER_MS);
    close(full[0]);
    close(full[1]);
    return NULL;
}

static void a_stop_ends_opening_again(void **state)
{
    struct dripper d;
    struct kn_target target = {.host = "127.0.0.1"};
    (void)state;
    dripper_start(&d, hang_up);
    target.port = d.port;
    target.key = d.key;
    struct kn_run *run = start_json(&target, "{\"test\":\"tcp_rr\",\"duration\":\"50s\",\"warmup\":0,\"ip\":4,"
                                             "\"timeout\":\"40s\"}");
    assert_false(kn_run_wait(run, 500 * KN_NS_PER_MS));
    uint64_t asked_ns = kn_now_ns();
    kn_run_stop(run);
    json_decref(finish_run(run));
    assert_true(kn_now_ns() - asked_ns < 15 * KN_NS_PER_S);
    dripper_stop(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_stop_ends_collecting),
                                       cmocka_unit_test(a_stop_ends_opening_again)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
