/* A path between a client and an acceptor that loses, doubles and displaces what a filter names: loss with a known
 * answer. */
#ifndef KN_TESTS_UDP_PATH_H
#define KN_TESTS_UDP_PATH_H

#include "udp_acceptor.h"

#define PATH_CLIENTS 16

enum verdict { PASS, DROP, TWICE, HOLD }; /* HOLD: after the next one in the same direction */
typedef enum verdict (*path_filter)(void *arg, bool to_server, const uint8_t *datagram, size_t size);

struct held {
    uint8_t bytes[2048];
    size_t size;
};

struct path {
    int fd;
    struct kn_addr at, server;
    path_filter filter;
    void *arg;
    atomic_bool stop;
    pthread_t thread;
    struct path_client {
        struct kn_addr peer;
        int fd;
        struct held held[2];
    } clients[PATH_CLIENTS];
    unsigned n;
};

static void path_send(struct path *p, struct path_client *c, bool to_server, const uint8_t *bytes, size_t size)
{
    if (to_server)
        send(c->fd, bytes, size, 0);
    else
        sendto(p->fd, bytes, size, 0, &c->peer.u.sa, c->peer.len);
}

static void path_carry(struct path *p, struct path_client *c, bool to_server, const uint8_t *bytes, size_t size)
{
    struct held *held = &c->held[to_server];
    enum verdict v = p->filter(p->arg, to_server, bytes, size);
    if (v == HOLD && !held->size && size <= sizeof held->bytes) {
        memcpy(held->bytes, bytes, size);
        held->size = size;
        return;
    }
    if (v != DROP)
        path_send(p, c, to_server, bytes, size);
    if (v == TWICE)
        path_send(p, c, to_server, bytes, size);
    if (held->size) {
        path_send(p, c, to_server, held->bytes, held->size);
        held->size = 0;
    }
}

static struct path_client *path_client_of(struct path *p, const struct kn_addr *peer)
{
    for (unsigned i = 0; i < p->n; i++)
        if (kn_addr_equal(&p->clients[i].peer, peer))
            return &p->clients[i];
    if (p->n == PATH_CLIENTS)
        return NULL;
    struct path_client *c = &p->clients[p->n];
    c->peer = *peer;
    c->fd = socket(p->server.u.sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, &p->server.u.sa, p->server.len))
        return NULL;
    p->n++;
    return c;
}

static void path_round(struct path *p)
{
    uint8_t in[65536];
    struct pollfd polls[PATH_CLIENTS + 1] = {{.fd = p->fd, .events = POLLIN}};
    for (unsigned i = 0; i < p->n; i++)
        polls[i + 1] = (struct pollfd){.fd = p->clients[i].fd, .events = POLLIN};
    unsigned known = p->n;
    if (poll(polls, known + 1, 20) <= 0)
        return;
    for (int i = 0; i < 64 && polls[0].revents; i++) {
        struct kn_addr peer = {.len = sizeof peer.u};
        ssize_t n = recvfrom(p->fd, in, sizeof in, MSG_DONTWAIT, &peer.u.sa, &peer.len);
        struct path_client *c = n > 0 ? path_client_of(p, &peer) : NULL;
        if (!c)
            break;
        path_carry(p, c, true, in, (size_t)n);
    }
    for (unsigned i = 0; i < known; i++)
        for (int k = 0; k < 64 && polls[i + 1].revents; k++) {
            ssize_t n = recv(p->clients[i].fd, in, sizeof in, MSG_DONTWAIT);
            if (n <= 0)
                break;
            path_carry(p, &p->clients[i], false, in, (size_t)n);
        }
}

static void *path_run(void *arg)
{
    struct path *p = arg;
    while (!atomic_load(&p->stop))
        path_round(p);
    return NULL;
}

static int path_open(struct path *p, const struct kn_addr *to, path_filter filter, void *arg)
{
    struct kn_error err;
    int room = 4 << 20;
    memset(p, 0, sizeof *p);
    p->server = *to;
    p->filter = filter;
    p->arg = arg;
    if (kn_addr_resolve("127.0.0.1", 0, 4, KN_NS_PER_S, &p->at, &err))
        return -1;
    p->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    setsockopt(p->fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    if (bind(p->fd, &p->at.u.sa, p->at.len) || getsockname(p->fd, &p->at.u.sa, &p->at.len))
        return -1;
    return pthread_create(&p->thread, NULL, path_run, p);
}

static void path_close(struct path *p)
{
    atomic_store(&p->stop, true);
    pthread_join(p->thread, NULL);
    close(p->fd);
    for (unsigned i = 0; i < p->n; i++)
        close(p->clients[i].fd);
}

static inline json_t *path_measure(struct path *p, const char *text)
{
    return udp_measure_at(text, "127.0.0.1", kn_addr_port(&p->at), ACCEPTOR_TOKEN);
}

#endif
