/* The sockets of a DNS client: datagrams go out and come in by the batch; a TCP connection is opened when it is first
 * needed, and again when its server has closed it. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engines/dns/dns.h"
#include "net/io.h"
#include "run/flow.h"
#include "run/flow_udp.h"

#define EVENTS 64
#define MESSAGE_MAX 65535u
#define IN_ROOM (2u + MESSAGE_MAX)
#define FRAME 2u /* the length before a message over TCP */

struct kn_dns_batch {
    struct mmsghdr out[KN_DNS_BATCH], in[KN_DNS_BATCH];
    struct iovec out_iov[KN_DNS_BATCH], in_iov[KN_DNS_BATCH];
    uint8_t queries[KN_DNS_BATCH][KN_DNS_QUERY_MAX];
    uint8_t answers[KN_DNS_BATCH][MESSAGE_MAX + 1u];
    unsigned n, flow;         /* of `out`: all go by one flow */
    unsigned *dirty, n_dirty; /* flows with bytes for TCP */
    unsigned failed;          /* sends and receives in a row */
};

/* ---- UDP ---- */

/* ICMP says that nobody listens, or there is no route: of the flow's lookups none is answered by this socket now. */
static void udp_failed(struct kn_dns_client *c, unsigned flow, int why)
{
    uint64_t now_ns = kn_now_ns();
    if (why == EAGAIN || why == EINTR)
        return;
    if (why == ENOBUFS || why == ENOMEM || why == EPERM) { /* this host's queue or firewall: a retry, or a timeout */
        c->w->figures.send_drops += kn_worker_measures(c->w, now_ns);
        return;
    }
    kn_udp_forget_errors(c->flows[flow].fd);
    kn_dns_lost(c, flow, false, KN_ENDED_CONNECT, false, now_ns);
    if (c->batch->failed++)
        kn_udp_nap(KN_NS_PER_MS);
}

static void udp_flush(struct kn_dns_client *c)
{
    struct kn_dns_batch *b = c->batch;
    unsigned n = b->n;
    b->n = 0; /* a failure ends lookups, and none of that sends */
    for (unsigned at = 0; at < n;) {
        int sent = sendmmsg(c->flows[b->flow].fd, b->out + at, n - at, MSG_NOSIGNAL);
        if (sent > 0) {
            at += (unsigned)sent;
            continue;
        }
        if (errno != EINTR)
            at++;
        udp_failed(c, b->flow, errno);
    }
}

static void udp_put(struct kn_dns_client *c, unsigned flow, const uint8_t *query, size_t size)
{
    struct kn_dns_batch *b = c->batch;
    if (b->n && (b->flow != flow || b->n == KN_DNS_BATCH))
        udp_flush(c);
    memcpy(b->queries[b->n], query, size);
    b->out_iov[b->n].iov_len = size;
    b->flow = flow;
    b->n++;
}

static void udp_receive(struct kn_dns_client *c, unsigned flow)
{
    struct kn_dns_batch *b = c->batch;
    int n = recvmmsg(c->flows[flow].fd, b->in, KN_DNS_BATCH, MSG_DONTWAIT, NULL);
    uint64_t now_ns = kn_now_ns();
    if (n < 0) {
        int why = errno;
        kn_udp_forget_errors(c->flows[flow].fd); /* or the socket stays ready for ever */
        udp_failed(c, flow, why);
        return;
    }
    for (int i = 0; i < n; i++)
        kn_dns_take(c, flow, false, b->answers[i], b->in[i].msg_len, now_ns);
    b->failed = 0;
}

/* ---- TCP ---- */

static void tcp_close(struct kn_dns_tcp *t)
{
    if (t->fd >= 0)
        close(t->fd);
    t->fd = -1;
    t->in_n = t->out_n = 0;
    t->connected = t->answered = false;
}

/* What was asked on a connection that had answered is asked again on a new one: servers close theirs as they like
 * (RFC 7766, 6.2.4). */
static void tcp_lost(struct kn_dns_client *c, unsigned flow)
{
    struct kn_dns_tcp *t = &c->flows[flow].tcp;
    bool again = t->answered && !kn_worker_stopped(c->w);
    enum kn_ended how = t->connected ? KN_ENDED_ERROR : KN_ENDED_CONNECT;
    uint64_t now_ns = kn_now_ns();
    tcp_close(t);
    if (again)
        c->w->figures.own[KN_DNS_RECONNECTS] += kn_worker_measures(c->w, now_ns);
    else
        kn_udp_nap(KN_NS_PER_MS); /* a server that refuses all is not asked without a pause */
    kn_dns_lost(c, flow, true, how, again, now_ns);
}

static bool tcp_open(struct kn_dns_client *c, unsigned flow)
{
    const int on = 1;
    const struct kn_addr *to = &c->w->peer;
    struct kn_dns_tcp *t = &c->flows[flow].tcp;
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.u32 = flow << 1 | 1};
    if (!t->in && !(t->in = malloc(IN_ROOM)))
        return false;
    t->fd = socket(to->u.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (t->fd < 0)
        return false;
    setsockopt(t->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (epoll_ctl(c->epoll, EPOLL_CTL_ADD, t->fd, &e))
        return false;
    if (kn_flow_bind(c->w, c->w->first_flow + flow, t->fd))
        return false;
    return !connect(t->fd, &to->u.sa, to->len) || errno == EINPROGRESS;
}

static void tcp_put(struct kn_dns_client *c, unsigned flow, const uint8_t *query, size_t size)
{
    struct kn_dns_tcp *t = &c->flows[flow].tcp;
    if (t->out_n + FRAME + size > t->out_room) {
        size_t room = 2 * t->out_room + 4096;
        uint8_t *more = realloc(t->out, room);
        if (!more)
            return; /* never sent: it times out */
        t->out = more;
        t->out_room = room;
    }
    if (!t->out_n)
        c->batch->dirty[c->batch->n_dirty++] = flow;
    t->out[t->out_n] = (uint8_t)(size >> 8);
    t->out[t->out_n + 1] = (uint8_t)size;
    memcpy(t->out + t->out_n + FRAME, query, size);
    t->out_n += FRAME + size;
}

/* False: the connection is gone. */
static bool tcp_flush(struct kn_dns_client *c, unsigned flow)
{
    struct kn_dns_tcp *t = &c->flows[flow].tcp;
    if (t->fd < 0 && t->out_n && !tcp_open(c, flow))
        return false;
    if (!t->connected || !t->out_n)
        return true;
    ssize_t n = send(t->fd, t->out, t->out_n, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    memmove(t->out, t->out + n, t->out_n - (size_t)n);
    t->out_n -= (size_t)n;
    return true;
}

/* Whole messages of what has come; false: what came is no DNS. */
static bool tcp_take(struct kn_dns_client *c, unsigned flow)
{
    struct kn_dns_tcp *t = &c->flows[flow].tcp;
    uint64_t now_ns = kn_now_ns();
    size_t at = 0;
    while (t->in_n - at >= FRAME) {
        size_t size = (size_t)t->in[at] << 8 | t->in[at + 1];
        if (t->in_n - at < FRAME + size)
            break;
        if (!kn_dns_take(c, flow, true, t->in + at + FRAME, size, now_ns))
            return false;
        t->answered = true;
        at += FRAME + size;
    }
    memmove(t->in, t->in + at, t->in_n - at);
    t->in_n -= at;
    return true;
}

static bool tcp_receive(struct kn_dns_client *c, unsigned flow)
{
    struct kn_dns_tcp *t = &c->flows[flow].tcp;
    for (;;) {
        ssize_t n = recv(t->fd, t->in + t->in_n, IN_ROOM - t->in_n, MSG_DONTWAIT);
        if (n <= 0)
            return n < 0 && (errno == EAGAIN || errno == EINTR);
        t->in_n += (size_t)n;
        if (!tcp_take(c, flow)) {
            t->answered = false; /* not again */
            return false;
        }
    }
}

static void tcp_event(struct kn_dns_client *c, unsigned flow, uint32_t events)
{
    struct kn_dns_tcp *t = &c->flows[flow].tcp;
    int why = 0;
    if (t->fd < 0)
        return;
    if (!t->connected && (events & (EPOLLOUT | EPOLLERR | EPOLLHUP))) {
        why = kn_socket_error(t->fd);
        t->connected = !why && (events & EPOLLOUT);
    }
    if (why || (t->connected && (!tcp_receive(c, flow) || !tcp_flush(c, flow))))
        tcp_lost(c, flow);
}

/* ---- both ---- */

void kn_dns_put(struct kn_dns_client *c, unsigned flow, bool tcp, const uint8_t *query, size_t size)
{
    if (tcp)
        tcp_put(c, flow, query, size);
    else
        udp_put(c, flow, query, size);
}

void kn_dns_flush(struct kn_dns_client *c)
{
    struct kn_dns_batch *b = c->batch;
    if (b->n)
        udp_flush(c);
    unsigned n = b->n_dirty;
    b->n_dirty = 0;
    for (unsigned i = 0; i < n; i++) {
        unsigned flow = b->dirty[i];
        if (!tcp_flush(c, flow))
            tcp_lost(c, flow);
    }
}

void kn_dns_receive(struct kn_dns_client *c, uint64_t until_ns)
{
    struct epoll_event events[EVENTS];
    uint64_t now_ns = kn_now_ns();
    int n = kn_epoll_wait(c->epoll, events, EVENTS, until_ns > now_ns ? until_ns - now_ns : 0);
    for (int i = 0; i < n; i++) {
        unsigned flow = events[i].data.u32 >> 1;
        if (events[i].data.u32 & 1)
            tcp_event(c, flow, events[i].events);
        else
            udp_receive(c, flow);
    }
}

static int open_udp(struct kn_dns_client *c, unsigned flow, struct kn_error *err)
{
    char text[KN_ADDR_TEXT_MAX];
    const struct kn_addr *to = &c->w->peer;
    struct epoll_event e = {.events = EPOLLIN | EPOLLERR, .data.u32 = flow << 1};
    int fd = socket(to->u.sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return kn_fail_errno(err, "cannot open a UDP socket");
    c->flows[flow].fd = fd;
    kn_flow_watch(c->w, c->w->first_flow + flow, fd);
    kn_udp_hear_errors(fd);
    kn_udp_buffers(fd, c->spec, true);
    if (kn_flow_bind(c->w, c->w->first_flow + flow, fd) || connect(fd, &to->u.sa, to->len))
        return kn_fail_errno(err, "cannot reach %s over UDP", kn_addr_text(to, text, sizeof text));
    return epoll_ctl(c->epoll, EPOLL_CTL_ADD, fd, &e) ? kn_fail_errno(err, "cannot wait for flow %u", flow) : 0;
}

int kn_dns_conns_init(struct kn_dns_client *c, struct kn_error *err)
{
    struct kn_dns_batch *b = c->batch = calloc(1, sizeof *c->batch);
    if (!b || !(b->dirty = calloc(4 * (size_t)c->n, sizeof *b->dirty)))
        return kn_fail_memory(err);
    for (unsigned i = 0; i < KN_DNS_BATCH; i++) {
        b->out_iov[i].iov_base = b->queries[i];
        b->in_iov[i] = (struct iovec){b->answers[i], sizeof b->answers[i]};
        b->out[i].msg_hdr = (struct msghdr){.msg_iov = &b->out_iov[i], .msg_iovlen = 1};
        b->in[i].msg_hdr = (struct msghdr){.msg_iov = &b->in_iov[i], .msg_iovlen = 1};
    }
    c->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (c->epoll < 0)
        return kn_fail_errno(err, "epoll");
    for (unsigned i = 0; i < c->n; i++)
        if (open_udp(c, i, err))
            return -1;
    return 0;
}

void kn_dns_conns_fini(struct kn_dns_client *c)
{
    for (unsigned i = 0; c->flows && i < c->n; i++) {
        kn_flow_abandon(c->w, c->flows[i].fd, c->w->first_flow + i);
        tcp_close(&c->flows[i].tcp);
        free(c->flows[i].tcp.in);
        free(c->flows[i].tcp.out);
    }
    if (c->epoll >= 0)
        close(c->epoll);
    if (c->batch)
        free(c->batch->dirty);
    free(c->batch);
}
