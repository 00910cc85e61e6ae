#include "agent/udp.h"

#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/admit.h"
#include "core/thread.h"
#include "run/served.h"
#include "run/short.h"

/* `known`: `to` is the very address that was written to, and not the one for all of them. */
struct arrival {
    struct kn_addr from, to;
    bool known;
    size_t size;
};

/* ---- receiving with the address that was written to, answering from it ---- */

union packet_info {
    struct in_pktinfo v4;
    struct in6_pktinfo v6;
};

static void take_destination(struct kn_udp_listener *l, struct msghdr *m, struct arrival *a)
{
    a->to = l->at; /* the port, and the family */
    a->known = false;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
        union packet_info info;
        if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO && !kn_addr_is_v6(&a->to)) {
            memcpy(&info.v4, CMSG_DATA(c), sizeof info.v4);
            a->to.u.v4.sin_addr = info.v4.ipi_spec_dst;
            a->known = true;
        } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO && kn_addr_is_v6(&a->to)) {
            memcpy(&info.v6, CMSG_DATA(c), sizeof info.v6);
            a->to.u.v6.sin6_addr = info.v6.ipi6_addr;
            a->known = true;
            if (IN6_IS_ADDR_LINKLOCAL(&info.v6.ipi6_addr))
                a->to.u.v6.sin6_scope_id = info.v6.ipi6_ifindex;
        }
    }
}

static bool receive(struct kn_udp_listener *l, int fd, struct arrival *a)
{
    union {
        char bytes[CMSG_SPACE(sizeof(union packet_info))];
        struct cmsghdr align;
    } control;
    struct iovec part = {l->buffer, sizeof l->buffer};
    struct msghdr m = {.msg_name = &a->from.u,
                       .msg_namelen = sizeof a->from.u,
                       .msg_iov = &part,
                       .msg_iovlen = 1,
                       .msg_control = &control,
                       .msg_controllen = sizeof control};
    ssize_t n = recvmsg(fd, &m, MSG_DONTWAIT);
    if (n < 0)
        return false;
    a->from.len = m.msg_namelen;
    a->size = m.msg_flags & MSG_TRUNC ? 0 : (size_t)n;
    take_destination(l, &m, a);
    return true;
}

static void put_info(struct msghdr *m, int level, int type, const void *info, size_t size)
{
    struct cmsghdr *c = CMSG_FIRSTHDR(m);
    *c = (struct cmsghdr){.cmsg_level = level, .cmsg_type = type, .cmsg_len = CMSG_LEN(size)};
    memcpy(CMSG_DATA(c), info, size);
    m->msg_controllen = CMSG_SPACE(size);
}

/* From the very address that was asked, or the client would not know the answer as one. */
static void answer(struct kn_udp_listener *l, const struct arrival *a, uint8_t *wire, size_t size)
{
    union {
        char bytes[CMSG_SPACE(sizeof(union packet_info))];
        struct cmsghdr align;
    } control;
    struct kn_addr to = a->from;
    struct iovec part = {wire, size};
    struct msghdr m = {.msg_name = &to.u,
                       .msg_namelen = to.len,
                       .msg_iov = &part,
                       .msg_iovlen = 1,
                       .msg_control = &control,
                       .msg_controllen = sizeof control};
    memset(&control, 0, sizeof control);
    if (kn_addr_is_v6(&a->to)) {
        struct in6_pktinfo info = {.ipi6_addr = a->to.u.v6.sin6_addr, .ipi6_ifindex = a->to.u.v6.sin6_scope_id};
        put_info(&m, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof info);
    } else {
        struct in_pktinfo info = {.ipi_spec_dst = a->to.u.v4.sin_addr};
        put_info(&m, IPPROTO_IP, IP_PKTINFO, &info, sizeof info);
    }
    if (!a->known)
        m.msg_control = NULL, m.msg_controllen = 0;
    sendmsg(l->socket->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void refuse(struct kn_udp_listener *l, const struct arrival *a, const struct kn_error *why)
{
    struct kn_welcome w;
    uint8_t wire[512];
    kn_admit_refusal(l->shared, why, &w);
    answer(l, a, wire, kn_udp_welcome_pack(&w, wire));
}

/* ---- a flow's own socket ---- */

/* Mapped addresses as what they are: an IPv4 flow over an IPv6 socket would pay 0.4 us a datagram for the translation.
 */
static void unmap(struct kn_addr *a)
{
    struct kn_addr v4 = kn_addr_any(false, kn_addr_port(a));
    memcpy(&v4.u.v4.sin_addr, &a->u.v6.sin6_addr.s6_addr[12],
           sizeof v4.u.v4.sin_addr); /* of [::] too, which is 0.0.0.0 */
    *a = v4;
}

static bool is_ipv4_over_ipv6(const struct arrival *a)
{
    const struct in6_addr *to = &a->to.u.v6.sin6_addr;
    return kn_addr_is_mapped(&a->from) && kn_addr_is_v6(&a->to) &&
           (IN6_IS_ADDR_V4MAPPED(to) || IN6_IS_ADDR_UNSPECIFIED(to));
}

static struct kn_addr mapped(const struct kn_addr *a)
{
    struct kn_addr v6 = kn_addr_any(true, kn_addr_port(a));
    v6.u.v6.sin6_addr.s6_addr[10] = v6.u.v6.sin6_addr.s6_addr[11] = 0xff;
    memcpy(&v6.u.v6.sin6_addr.s6_addr[12], &a->u.v4.sin_addr, sizeof a->u.v4.sin_addr);
    return v6;
}

static int connected_socket(struct kn_udp_listener *l, const struct arrival *a)
{
    struct kn_addr to = a->to, from = a->from;
    if (is_ipv4_over_ipv6(a)) {
        unmap(&to);
        unmap(&from);
    }
    return kn_udp_socket_flow(l->socket, &to, &from);
}

static void take_datagram(struct kn_udp_listener *l, const struct arrival *a);

/* Between bind and connect the new socket was the best match for every client's datagrams: those of others go the usual
 * way, and what its own peer sent again is dropped (the welcome is still to come). */
static void rescue_strays(struct kn_udp_listener *l, int fd, const struct arrival *own)
{
    struct arrival stray;
    for (int i = 0; i < 256 && receive(l, fd, &stray); i++) {
        stray.to = own->to;
        if (kn_addr_is_v6(&own->from) && !kn_addr_is_v6(&stray.from))
            stray.from = mapped(&stray.from);
        stray.known = own->known;
        if (!kn_addr_equal(&stray.from, &own->from))
            take_datagram(l, &stray);
    }
}

static void take_hello(struct kn_udp_listener *l, const struct arrival *a, const struct kn_hello *hello)
{
    struct kn_error err;
    if (kn_admit_hello(l->shared, hello, true, &err)) {
        refuse(l, a, &err);
        return;
    }
    if (kn_flows_has_udp(l->flows, &a->from, hello)) /* sent again before the flow's socket was connected */
        return;
    int fd = connected_socket(l, a);
    if (fd < 0)
        return; /* it will be sent again */
    rescue_strays(l, fd, a);
    if (kn_flows_start(l->flows, fd, hello, &a->from, NULL, 0, &err)) {
        close(fd);
        refuse(l, a, &err);
    }
}

/* ---- datagrams ---- */

static void send_retry(struct kn_udp_listener *l, const struct arrival *a)
{
    uint8_t cookie[KN_COOKIE_SIZE], wire[128];
    kn_cookie_make(&l->shared->cookie_key, &a->from.u, a->from.len, kn_now_ns(), cookie);
    size_t size = kn_udp_retry_pack(cookie, wire);
    if (size <= a->size)
        answer(l, a, wire, size);
}

/* A transaction in one datagram each way, for a hello that is fresh and has the right hash. The answer is shorter, so
 * that no cookie is needed: a sender that lies about its address gets nobody more bytes than it sent. */
static bool serve_short(struct kn_udp_listener *l, const struct arrival *a)
{
    struct kn_server *server = &l->shared->server;
    struct kn_hello hello;
    struct kn_welcome w;
    struct kn_error err;
    uint8_t wire[512];
    if (a->size != kn_hello_size() ||
        kn_hello_unpack(l->buffer, a->size, &l->shared->key, server->tests, &hello, &err) ||
        !kn_server_is_short(&hello) || kn_admit_hello(l->shared, &hello, true, &err) ||
        kn_server_takes(server, &hello, &err))
        return false;
    kn_welcome_fill(server, -1, &w);
    size_t size = kn_udp_welcome_pack(&w, wire);
    if (size <= a->size && kn_short_note(server, &hello, a->size, size))
        answer(l, a, wire, size);
    return true;
}

static bool is_zero(const uint8_t *bytes, size_t n)
{
    uint8_t any = 0;
    for (size_t i = 0; i < n; i++)
        any |= bytes[i];
    return !any;
}

/* The cookie comes before all else: until the sender is known to be where it says, it gets a retry only. With a cookie
 * even a wrong key or version is told. */
static void take_datagram(struct kn_udp_listener *l, const struct arrival *a)
{
    struct kn_shared *shared = l->shared;
    struct kn_hello hello;
    struct kn_error err;
    const uint8_t *cookie = kn_hello_cookie(l->buffer, a->size);
    if (!cookie) {
        kn_refuse(&shared->refused, KN_REFUSED_UDP);
    } else if (kn_cookie_check(&shared->cookie_key, &a->from.u, a->from.len, kn_now_ns(), cookie)) {
        bool bad = !is_zero(cookie, KN_COOKIE_SIZE);
        if (bad)
            kn_refuse(&shared->refused, KN_REFUSED_COOKIE);
        if (bad || !serve_short(l, a))
            send_retry(l, a);
    } else {
        int rc = kn_hello_unpack(l->buffer, a->size, &shared->key, shared->server.tests, &hello, &err);
        if (rc > 0 || (rc == 0 && a->size != kn_hello_size()))
            kn_refuse(&shared->refused, KN_REFUSED_UDP);
        else if (rc < 0)
            refuse(l, a, &err);
        else
            take_hello(l, a, &hello);
    }
}

bool kn_udp_listener_step(struct kn_udp_listener *l)
{
    struct arrival a;
    bool any = receive(l, l->socket->fd, &a);
    if (any)
        take_datagram(l, &a);
    return any;
}

/* ---- the thread ---- */

static void *listener_main(void *argument)
{
    struct kn_udp_listener *l = argument;
    struct pollfd polls[2] = {{.fd = l->socket->fd, .events = POLLIN}, {.fd = l->shared->quit_event, .events = POLLIN}};
    while (!kn_stopping(l->shared)) {
        poll(polls, 2, -1);
        while (!kn_stopping(l->shared) && kn_udp_listener_step(l))
            ;
    }
    return NULL;
}

void kn_udp_listener_init(struct kn_udp_listener *l, struct kn_shared *shared, struct kn_flows *flows,
                          struct kn_udp_socket *socket, const struct kn_addr *at)
{
    *l = (struct kn_udp_listener){.shared = shared, .flows = flows, .socket = socket, .at = *at};
}

int kn_udp_listener_start(struct kn_udp_listener *l, struct kn_error *err)
{
    if ((errno = kn_thread_start(&l->thread, "knbl-udp", listener_main, l)) != 0)
        return kn_fail_errno(err, "cannot start the agent's UDP thread");
    l->started = true;
    return 0;
}

void kn_udp_listener_stop(struct kn_udp_listener *l)
{
    if (l->started)
        pthread_join(l->thread, NULL);
    l->started = false;
}
