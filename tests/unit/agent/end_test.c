/* The end of an agent: in time whatever it does, and by itself where nobody uses it. */
#include "live.h"

#include <pthread.h>
#include <sys/socket.h>

#define IN_TIME_NS (5 * KN_NS_PER_S)
#define IDLE_NS KN_NS_PER_S

/* ---- in time ---- */

static int open_flow(const struct live *l, const char *spec, uint64_t run_id)
{
    uint8_t wire[4096];
    struct kn_welcome w;
    struct kn_hello h = hello_of(spec, run_id);
    kn_hello_pack(&h, &l->key, wire);
    int fd = say(l, wire, kn_hello_size());
    assert_int_equal(read_welcome(fd, &w), 0);
    return fd;
}

static void *wait_for_a_run(void *argument)
{
    char answer[8192];
    int fd = *(int *)argument;
    while (recv(fd, answer, sizeof answer, 0) > 0)
        ;
    return NULL;
}

/* A flow that sleeps before its answer, one whose client says nothing, half a hello, half a request, a request that
 * waits for a run, and the run, whose server never answers. */
static void it_ends_in_time_whatever_it_does(void **state)
{
    (void)state;
    struct live l, silent;
    char path[64], text[256];
    live_config(&l);
    live_start(&l);
    live_config(&silent);
    int listening = kn_tcp_listen(&silent.config.listen, 16, &err), fds[8], n = 0;
    struct kn_addr at = {.len = sizeof at.u};
    assert_int_equal(getsockname(listening, &at.u.sa, &at.len), 0);
    fds[n++] = open_flow(&l, "{\"test\":\"tcp_rr\",\"duration\":\"60s\",\"delay\":\"60s\",\"timeout\":\"100s\"}", 1);
    assert_int_equal(kn_write_full(fds[0], "Sx", 2, soon(), &err), 0);
    fds[n++] = open_flow(&l, "{\"test\":\"tcp_stream\",\"duration\":\"60s\",\"reverse\":true}", 2);
    assert_int_equal(kn_write_full(fds[1], "S", 1, soon(), &err), 0);
    fds[n++] = open_flow(&l, "{\"test\":\"http\",\"duration\":\"60s\"}", 3);
    fds[n++] = say(&l, "KNBL", 4);
    fds[n++] = say(&l, "GET /v1/agent HTTP/1.1\r\n", 24);
    int status;
    json_t *answer = post(&l, "{\"test\":\"tcp_rr\",\"duration\":\"60s\",\"timeout\":\"60s\"}", kn_addr_port(&at), "",
                          &status);
    snprintf(path, sizeof path, "/v1/runs/%s", json_string_value(json_object_get(answer, "id")));
    json_decref(answer);
    snprintf(text, sizeof text, "GET %s?wait=60000 HTTP/1.1\r\nKnbl-Token: " TOKEN "\r\n\r\n", path);
    fds[n++] = say(&l, text, strlen(text));
    pthread_t waiting;
    assert_int_equal(pthread_create(&waiting, NULL, wait_for_a_run, &fds[n - 1]), 0);
    poll(NULL, 0, 300); /* each of them is in the middle of it */
    uint64_t from_ns = kn_now_ns();
    live_end(&l);
    assert_in_range(kn_now_ns() - from_ns, 0, IN_TIME_NS);
    pthread_join(waiting, NULL);
    while (n)
        close(fds[--n]);
    close(listening);
}

/* ---- idle ---- */

static void *await(void *agent)
{
    kn_agent_wait(agent);
    return NULL;
}

static void start_idle(struct live *l, pthread_t *thread)
{
    live_config(l);
    l->config.idle_ns = IDLE_NS;
    live_start(l);
    assert_int_equal(pthread_create(thread, NULL, await, l->agent), 0);
}

static void expect_idle_end(struct live *l, pthread_t thread)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += (time_t)(PATIENCE_NS / KN_NS_PER_S);
    assert_int_equal(pthread_timedjoin_np(thread, NULL, &until), 0);
    assert_true(kn_agent_was_idle(l->agent));
    live_end(l);
}

static void an_agent_that_nobody_uses_ends(void **state)
{
    (void)state;
    struct live l;
    pthread_t thread;
    uint64_t from_ns = kn_now_ns();
    start_idle(&l, &thread);
    close(say(&l, "GET / HTTP/1.1\r\n\r\n", 18)); /* without the token it does not count */
    expect_idle_end(&l, thread);
    assert_true(kn_now_ns() - from_ns >= IDLE_NS);
}

static void requests_keep_it(void **state)
{
    (void)state;
    struct live l;
    pthread_t thread;
    start_idle(&l, &thread);
    for (uint64_t until_ns = kn_now_ns() + 2 * IDLE_NS; kn_now_ns() < until_ns; poll(NULL, 0, 20)) {
        int status;
        json_decref(ask(&l, "GET", "/v1/runs/0123456789abcdef", NULL, &status));
        assert_int_equal(status, 404);
        assert_false(kn_agent_was_idle(l.agent));
    }
    expect_idle_end(&l, thread);
}

/* One request that waits for longer than that, for a run that is measured meanwhile. */
static void a_run_that_is_polled_keeps_it(void **state)
{
    (void)state;
    struct live l;
    pthread_t thread;
    char path[64];
    start_idle(&l, &thread);
    start_run(&l, "{\"test\":\"tcp_rr\",\"duration\":\"2s\",\"warmup\":0}", path);
    expect_ok(end_of(&l, path));
    assert_false(kn_agent_was_idle(l.agent));
    expect_idle_end(&l, thread);
}

/* Servers are not polled in a run without observations. */
static void data_keeps_it(void **state)
{
    (void)state;
    static const char *const tests[] = {"tcp_rr", "tcp_crr", "udp_rr", "http"};
    enum { N = sizeof tests / sizeof *tests };
    struct live servers[N], client;
    pthread_t threads[N];
    char path[N][64];
    live_config(&client);
    live_start(&client);
    for (int i = 0; i < N; i++) {
        char spec[128];
        int status;
        start_idle(&servers[i], &threads[i]);
        snprintf(spec, sizeof spec, "{\"test\":\"%s\",\"duration\":\"3s\",\"warmup\":0}", tests[i]);
        json_t *answer = post(&client, spec, kn_agent_port(servers[i].agent), "", &status);
        snprintf(path[i], sizeof path[i], "/v1/runs/%s", json_string_value(json_object_get(answer, "id")));
        json_decref(answer);
    }
    for (int i = 0; i < N; i++) {
        expect_ok(end_of(&client, path[i]));
        if (i == 0) /* the others may have had no client for as long as the first was waited for */
            for (int k = 0; k < N; k++)
                assert_false(kn_agent_was_idle(servers[k].agent));
    }
    for (int i = 0; i < N; i++)
        expect_idle_end(&servers[i], threads[i]);
    live_end(&client);
}

static void a_standing_agent_stays(void **state)
{
    (void)state;
    struct live l;
    live_config(&l);
    live_start(&l);
    poll(NULL, 0, 100);
    assert_false(kn_agent_was_idle(l.agent));
    live_end(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_ends_in_time_whatever_it_does),
        cmocka_unit_test(an_agent_that_nobody_uses_ends),
        cmocka_unit_test(requests_keep_it),
        cmocka_unit_test(a_run_that_is_polled_keeps_it),
        cmocka_unit_test(data_keeps_it),
        cmocka_unit_test(a_standing_agent_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
