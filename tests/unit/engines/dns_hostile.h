/* A DNS server that answers as the first label of the name says, over UDP and TCP on one port of loopback. */
#ifndef TESTS_DNS_HOSTILE_H
#define TESTS_DNS_HOSTILE_H

#include "loopback.h"

#include <poll.h>

#include "engines/dns/message.h"

struct hostile {
    int udp, tcp;
    uint16_t port;
    pthread_t thread;
    atomic_bool stop;
    atomic_uint queries, connections;
};

struct reply {
    uint8_t bytes[65536];
    size_t n;
};

static void add(struct reply *r, const void *bytes, size_t n)
{
    memcpy(r->bytes + r->n, bytes, n);
    r->n += n;
}

static void add_16(struct reply *r, unsigned v)
{
    const uint8_t bytes[] = {(uint8_t)(v >> 8), (uint8_t)v};
    add(r, bytes, 2);
}

/* A record of the name at `owner` in the message. */
static void add_record(struct reply *r, unsigned owner, unsigned type, const void *data, size_t n)
{
    add_16(r, 0xc000 | owner);
    add_16(r, type);
    add_16(r, 1);
    add_16(r, 0);
    add_16(r, 60);
    add_16(r, (unsigned)n);
    add(r, data, n);
    r->bytes[7]++;
}

static void add_address(struct reply *r, uint8_t last)
{
    const uint8_t address[] = {192, 0, 2, last};
    add_record(r, 12, KN_DNS_A, address, 4);
}

/* The question, turned into an answer without records. */
static void begin(struct reply *r, const uint8_t *query, size_t n)
{
    r->n = 0;
    add(r, query, n);
    r->bytes[2] |= 0x80;
    r->bytes[7] = 0;
}

/* Aliases: each of the `n` names the next; the last names the first where it is a circle, else has an address. */
static void add_chain(struct reply *r, unsigned n, bool circle)
{
    unsigned owner = 12;
    for (unsigned i = 0; i < n; i++) {
        const uint8_t next[] = {2, (uint8_t)('a' + i / 26), (uint8_t)('a' + i % 26), 0}, first[] = {0xc0, 12};
        bool last = i + 1 == n;
        unsigned data = (unsigned)r->n + 12;
        if (last && circle)
            add_record(r, owner, KN_DNS_CNAME, first, sizeof first);
        else
            add_record(r, owner, KN_DNS_CNAME, next, sizeof next);
        owner = data;
    }
    if (!circle)
        add_record(r, owner, KN_DNS_A, "\1\2\3\4", 4);
}

static bool is(const uint8_t *query, const char *label)
{
    return query[12] == strlen(label) && !memcmp(query + 13, label, query[12]);
}

/* What a well-formed answer has wrong. */
static void spoil(struct reply *r, const uint8_t *query)
{
    const uint8_t itself[] = {0xc0, (uint8_t)r->n};
    if (is(query, "wrongid"))
        r->bytes[0] ^= 0x5a, r->bytes[1] ^= 0xff;
    else if (is(query, "question"))
        r->bytes[14] = 'X';
    else if (is(query, "servfail"))
        r->bytes[3] = KN_DNS_SERVFAIL;
    else if (is(query, "refused"))
        r->bytes[3] = 5;
    else if (is(query, "query"))
        r->bytes[2] &= 0x7f;
    else if (is(query, "cut"))
        r->n -= 3;
    else if (is(query, "counts"))
        r->bytes[6] = r->bytes[7] = 0xff;
    else if (is(query, "pointer"))
        add(r, itself, 2), r->bytes[7]++;
}

static void answer(struct hostile *h, struct reply *r, const uint8_t *query, size_t n, bool tcp)
{
    unsigned number = atomic_fetch_add(&h->queries, 1);
    begin(r, query, n);
    if (is(query, "garbage")) {
        memset(r->bytes + 2, 0xff, 60);
        r->n = 62;
    } else if (is(query, "short")) {
        r->n = 3;
    } else if (is(query, "circle")) {
        add_chain(r, 3, true);
    } else if (is(query, "endless")) {
        add_chain(r, 200, false);
    } else if (is(query, "aliases")) {
        add_chain(r, 10, false);
    } else if (is(query, "big")) {
        for (unsigned i = 0; i < 200; i++)
            add_address(r, (uint8_t)i);
    } else if (is(query, "differ")) {
        add_address(r, (uint8_t)(number % 2));
    } else if (is(query, "mixed")) { /* the same two, in either order */
        add_address(r, (uint8_t)(1 + number % 2));
        add_address(r, (uint8_t)(2 - number % 2));
    } else if (is(query, "truncated") && !tcp) {
        r->bytes[2] |= 2;
    } else {
        add_address(r, 1);
    }
    spoil(r, query);
}

static void serve_udp(struct hostile *h)
{
    static struct reply r; /* one server at a time */
    uint8_t query[512];
    struct sockaddr_in from;
    socklen_t size = sizeof from;
    ssize_t n = recvfrom(h->udp, query, sizeof query, 0, (struct sockaddr *)&from, &size);
    if (n < 17 || is(query, "silent"))
        return;
    answer(h, &r, query, (size_t)n, false);
    for (int i = 0; i < (is(query, "twice") ? 2 : 1); i++)
        sendto(h->udp, r.bytes, r.n, 0, (struct sockaddr *)&from, size);
}

static bool read_all(int fd, uint8_t *bytes, size_t size)
{
    return recv(fd, bytes, size, MSG_WAITALL) == (ssize_t)size;
}

/* A connection for up to three queries, as servers have it that close theirs early. */
static void serve_tcp(struct hostile *h)
{
    static struct reply r;
    uint8_t frame[2], query[512];
    const struct timeval wait = {.tv_usec = 300000};
    int fd = accept(h->tcp, NULL, NULL);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    atomic_fetch_add(&h->connections, 1);
    for (unsigned i = 0; i < 3 && read_all(fd, frame, 2); i++) {
        size_t n = (size_t)frame[0] << 8 | frame[1];
        if (n > sizeof query || !read_all(fd, query, n) || is(query, "hangup"))
            break;
        answer(h, &r, query, n, true);
        frame[0] = (uint8_t)(r.n >> 8);
        frame[1] = (uint8_t)r.n;
        if (send(fd, frame, 2, MSG_NOSIGNAL | MSG_MORE) < 0 || send(fd, r.bytes, r.n, MSG_NOSIGNAL) < 0)
            break;
    }
    close(fd);
}

static void *hostile_run(void *arg)
{
    struct hostile *h = arg;
    while (!atomic_load(&h->stop)) {
        struct pollfd p[] = {{.fd = h->udp, .events = POLLIN}, {.fd = h->tcp, .events = POLLIN}};
        poll(p, 2, 20);
        if (p[0].revents)
            serve_udp(h);
        if (p[1].revents)
            serve_tcp(h);
    }
    return NULL;
}

static void hostile_start(struct hostile *h)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    memset(h, 0, sizeof *h);
    h->tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    h->udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(h->tcp, (struct sockaddr *)&at, size), 0);
    assert_int_equal(getsockname(h->tcp, (struct sockaddr *)&at, &size), 0);
    assert_int_equal(bind(h->udp, (struct sockaddr *)&at, size), 0);
    assert_int_equal(listen(h->tcp, 16), 0);
    h->port = ntohs(at.sin_port);
    assert_int_equal(pthread_create(&h->thread, NULL, hostile_run, h), 0);
}

static void hostile_stop(struct hostile *h)
{
    atomic_store(&h->stop, true);
    pthread_join(h->thread, NULL);
    close(h->udp);
    close(h->tcp);
}

#endif
