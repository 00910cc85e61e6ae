/* A server of its own for the http client's tests: what it answers is named by the path, and it counts the requests
 * that it saw. Plain HTTP over blocking sockets, a thread for each connection. */
#ifndef TESTS_HTTP_HOSTILE_H
#define TESTS_HTTP_HOSTILE_H

#include "loopback.h"

#include <netinet/tcp.h>

struct hostile {
    int fd;
    uint16_t port;
    pthread_t acceptor;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    atomic_uint requests, connections;
    atomic_bool stop;
    int fds[MOST];
    unsigned active;
};

struct visit {
    struct hostile *h;
    int fd;
    unsigned slot, served;
};

static bool say(int fd, const char *text)
{
    size_t size = strlen(text);
    return send(fd, text, size, MSG_NOSIGNAL) == (ssize_t)size;
}

static bool ok_of(int fd, unsigned length)
{
    char text[256];
    int n = snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nContent-Length: %u\r\n\r\n", length);
    memset(text + n, 'x', length);
    text[n + (int)length] = '\0';
    return say(fd, text);
}

static void reset(int fd)
{
    const struct linger now = {.l_onoff = 1};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

static void pause_for(uint64_t ns)
{
    kn_sleep_until_ns(kn_now_ns() + ns);
}

static bool send_bytewise(int fd, const char *text)
{
    for (; *text; text++)
        if (send(fd, text, 1, MSG_NOSIGNAL) != 1)
            return false;
    return true;
}

static bool send_big(int fd, size_t size)
{
    static const char zeros[65536];
    char head[128];
    snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", size);
    bool good = say(fd, head);
    for (size_t n; good && size; size -= n) {
        n = size < sizeof zeros ? size : sizeof zeros;
        good = send(fd, zeros, n, MSG_NOSIGNAL) == (ssize_t)n;
    }
    return good;
}

static void until_gone(int fd)
{
    char rest[512];
    while (recv(fd, rest, sizeof rest, 0) > 0)
        ;
}

static void endless_head(int fd)
{
    while (say(fd, "X-More: and more\r\n"))
        ;
}

static bool is(const char *request, const char *path)
{
    return !strncmp(request + 4, path, strlen(path)) && request[4 + strlen(path)] == ' ';
}

/* Answers one request; true: the connection stays. */
static bool answer(struct visit *v, const char *r, unsigned number)
{
    int fd = v->fd;
    if (is(r, "/ok"))
        return ok_of(fd, 5);
    if (is(r, "/none"))
        return say(fd, "HTTP/1.1 204 No Content\r\n\r\n");
    if (is(r, "/404"))
        return say(fd, "HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nnever");
    if (is(r, "/500"))
        return say(fd, "HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n");
    if (is(r, "/chunked"))
        return say(fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n") &&
               say(fd, "6\r\n there\r\n0\r\nX: y\r\n\r\n");
    if (is(r, "/framed-twice"))
        return say(fd,
                   "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n");
    if (is(r, "/continue"))
        return say(fd, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    if (is(r, "/bytewise"))
        return send_bytewise(fd, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow");
    if (is(r, "/big"))
        return send_big(fd, 300000);
    if (is(r, "/lengths"))
        return ok_of(fd, number && number % 4 == 0 ? 6 : 5);
    if (is(r, "/slow")) {
        pause_for(20 * KN_NS_PER_MS);
        return ok_of(fd, 5);
    }
    if (is(r, "/stall")) {
        if (number == 100)
            pause_for(200 * KN_NS_PER_MS);
        return ok_of(fd, 5);
    }
    if (is(r, "/late-body")) {
        bool good = say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n");
        pause_for(50 * KN_NS_PER_MS);
        return good && say(fd, "body");
    }
    if (is(r, "/hang")) {
        until_gone(fd);
        return false;
    }
    if (is(r, "/close")) {
        say(fd, "HTTP/1.1 200 OK\r\n\r\nuntil the end");
        return false;
    }
    if (is(r, "/last")) {
        bool last = ++v->served == 3;
        say(fd, last ? "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
                     : "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        return !last;
    }
    if (is(r, "/unsaid"))
        return ok_of(fd, 5) && ++v->served < 3;
    if (is(r, "/garbage")) {
        say(fd, "lorem ipsum dolor\r\n\r\n");
        return false;
    }
    if (is(r, "/more"))
        return say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokand more");
    if (is(r, "/early")) {
        say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nnot all");
        return false;
    }
    if (is(r, "/mute"))
        return false;
    if (is(r, "/reset")) {
        say(fd, "HTTP/1.1 200");
        reset(fd);
        return false;
    }
    if (is(r, "/endless")) {
        say(fd, "HTTP/1.1 200 OK\r\n");
        endless_head(fd);
        return false;
    }
    if (is(r, "/named")) { /* only to a request that names this server */
        char host[64];
        snprintf(host, sizeof host, "\r\nHost: 127.0.0.1:%u\r\n", v->h->port);
        if (strstr(r, host))
            return ok_of(fd, 5);
    }
    if (is(r, "/some")) { /* every third fails somehow */
        if (number % 3)
            return ok_of(fd, 5);
        if (number % 2)
            reset(fd);
        return false;
    }
    return say(fd, "HTTP/1.1 400 What\r\nContent-Length: 0\r\n\r\n");
}

static void *host(void *arg)
{
    struct visit *v = arg;
    struct hostile *h = v->h;
    char request[2048];
    size_t have = 0;
    for (ssize_t n; have < sizeof request - 1 && (n = recv(v->fd, request + have, sizeof request - 1 - have, 0)) > 0;) {
        have += (size_t)n;
        request[have] = '\0';
        char *end = strstr(request, "\r\n\r\n");
        if (!end)
            continue;
        unsigned number = atomic_fetch_add(&h->requests, 1);
        bool stays = answer(v, request, number);
        have = 0;
        if (!stays || strstr(request, "Connection: close"))
            break;
    }
    pthread_mutex_lock(&h->lock);
    h->fds[v->slot] = -1;
    close(v->fd);
    h->active--;
    pthread_cond_broadcast(&h->changed);
    pthread_mutex_unlock(&h->lock);
    free(v);
    return NULL;
}

static void invite(struct hostile *h, int fd)
{
    pthread_t thread;
    struct visit *v = calloc(1, sizeof *v);
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    v->h = h;
    v->fd = fd;
    atomic_fetch_add(&h->connections, 1);
    pthread_mutex_lock(&h->lock);
    while (h->active == MOST)
        pthread_cond_wait(&h->changed, &h->lock);
    while (v->slot < MOST && h->fds[v->slot] >= 0)
        v->slot++;
    h->fds[v->slot] = fd;
    h->active++;
    pthread_mutex_unlock(&h->lock);
    pthread_create(&thread, NULL, host, v);
    pthread_detach(thread);
}

static void *invite_all(void *arg)
{
    struct hostile *h = arg;
    int fd;
    while ((fd = accept4(h->fd, NULL, NULL, SOCK_CLOEXEC)) >= 0)
        invite(h, fd);
    return NULL;
}

static void hostile_start(struct hostile *h)
{
    struct kn_error err;
    struct kn_addr at;
    memset(h, 0, sizeof *h);
    for (int i = 0; i < MOST; i++)
        h->fds[i] = -1;
    assert_int_equal(kn_addr_resolve("127.0.0.1", 0, 4, KN_NS_PER_S, &at, &err), 0);
    h->fd = kn_tcp_listen(&at, 512, &err);
    assert_true(h->fd >= 0);
    at.len = sizeof at.u;
    getsockname(h->fd, &at.u.sa, &at.len);
    h->port = kn_addr_port(&at);
    pthread_mutex_init(&h->lock, NULL);
    pthread_cond_init(&h->changed, NULL);
    pthread_create(&h->acceptor, NULL, invite_all, h);
}

static void hostile_stop(struct hostile *h)
{
    shutdown(h->fd, SHUT_RDWR);
    pthread_join(h->acceptor, NULL);
    pthread_mutex_lock(&h->lock);
    for (int i = 0; i < MOST; i++)
        if (h->fds[i] >= 0)
            shutdown(h->fds[i], SHUT_RDWR);
    while (h->active)
        pthread_cond_wait(&h->changed, &h->lock);
    pthread_mutex_unlock(&h->lock);
    close(h->fd);
    pthread_mutex_destroy(&h->lock);
    pthread_cond_destroy(&h->changed);
}

#endif
