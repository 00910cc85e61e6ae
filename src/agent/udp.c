/* UDP's door: one socket where hellos come. A hello without a good cookie gets a retry, which is shorter; one with it
 * gets a socket of its own, bound to the address that it came to and connected to its sender. All else is counted,
 * never answered. */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/inside.h"

#define DATAGRAM_MAX 2048

struct kn_udp_door { struct kn_agent *agent; pthread_t thread; uint8_t buffer[DATAGRAM_MAX]; };

/* `known`: `to` is the very address that was written to, and not the one for all of them. */
struct arrival { struct kn_addr from, to; bool known; size_t size; };

/* ---- receiving with the address that was written to, answering from it ---- */

union packet_info { struct in_pktinfo v4; struct in6_pktinfo v6; };

static void take_destination(struct kn_udp_door *door, struct msghdr *m, struct arrival *a)
{
    a->to = door->agent->at; /* the port, and the family */
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

static bool receive(struct kn_udp_door *door, int fd, struct arrival *a)
{
    union { char bytes[CMSG_SPACE(sizeof(union packet_info))]; struct cmsghdr align; } control;
    struct iovec part = { door->buffer, sizeof door->buffer };
    struct msghdr m = { .msg_name = &a->from.u, .msg_namelen = sizeof a->from.u, .msg_iov = &part, .msg_iovlen = 1,
                        .msg_control = &control, .msg_controllen = sizeof control };
    ssize_t n = recvmsg(fd, &m, MSG_DONTWAIT);
    if (n < 0)
        return false;
    a->from.len = m.msg_namelen;
    a->size = m.msg_flags & MSG_TRUNC ? 0 : (size_t)n;
    take_destination(door, &m, a);
    return true;
}

static void put_info(struct msghdr *m, int level, int type, const void *info, size_t size)
{
    struct cmsghdr *c = CMSG_FIRSTHDR(m);
    *c = (struct cmsghdr){ .cmsg_level = level, .cmsg_type = type, .cmsg_len = CMSG_LEN(size) };
    memcpy(CMSG_DATA(c), info, size);
    m->msg_controllen = CMSG_SPACE(size);
}

/* From the very address that was asked, or the client would not know the answer as one. */
static void answer(struct kn_udp_door *door, const struct arrival *a, uint8_t *wire, size_t size)
{
    union { char bytes[CMSG_SPACE(sizeof(union packet_info))]; struct cmsghdr align; } control;
    struct kn_addr to = a->from;
    struct iovec part = { wire, size };
    struct msghdr m = { .msg_name = &to.u, .msg_namelen = to.len, .msg_iov = &part, .msg_iovlen = 1,
                        .msg_control = &control, .msg_controllen = sizeof control };
    memset(&control, 0, sizeof control);
    if (kn_addr_is_v6(&a->to)) {
        struct in6_pktinfo info = { .ipi6_addr = a->to.u.v6.sin6_addr, .ipi6_ifindex = a->to.u.v6.sin6_scope_id };
        put_info(&m, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof info);
    } else {
        struct in_pktinfo info = { .ipi_spec_dst = a->to.u.v4.sin_addr };
        put_info(&m, IPPROTO_IP, IP_PKTINFO, &info, sizeof info);
    }
    if (!a->known)
        m.msg_control = NULL, m.msg_controllen = 0;
    sendmsg(door->agent->udp_fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void refuse(struct kn_udp_door *door, const struct arrival *a, const struct kn_error *why)
{
    struct kn_welcome w;
    uint8_t wire[512];
    kn_count_refused(door->agent, kn_refused_by(why->code));
    kn_gate_refusal(door->agent, why, &w);
    answer(door, a, wire, kn_udp_welcome_pack(&w, wire));
}

/* ---- a flow's own socket ---- */

/* Mapped addresses as what they are: an IPv4 flow over an IPv6 socket would pay 0.4 us a datagram for the translation. */
static void unmap(struct kn_addr *a)
{
    struct kn_addr v4 = { .u.v4 = { .sin_family = AF_INET, .sin_port = a->u.v6.sin6_port }, .len = sizeof v4.u.v4 };
    memcpy(&v4.u.v4.sin_addr, &a->u.v6.sin6_addr.s6_addr[12], sizeof v4.u.v4.sin_addr); /* of [::] too, which is 0.0.0.0 */
    *a = v4;
}

static bool is_ipv4_over_ipv6(const struct arrival *a)
{
    const struct in6_addr *to = &a->to.u.v6.sin6_addr;
    return kn_addr_is_v6(&a->from) && IN6_IS_ADDR_V4MAPPED(&a->from.u.v6.sin6_addr) && kn_addr_is_v6(&a->to) &&
           (IN6_IS_ADDR_V4MAPPED(to) || IN6_IS_ADDR_UNSPECIFIED(to));
}

static struct kn_addr mapped(const struct kn_addr *a)
{
    struct kn_addr v6 = { .u.v6 = { .sin6_family = AF_INET6, .sin6_port = a->u.v4.sin_port }, .len = sizeof v6.u.v6 };
    v6.u.v6.sin6_addr.s6_addr[10] = v6.u.v6.sin6_addr.s6_addr[11] = 0xff;
    memcpy(&v6.u.v6.sin6_addr.s6_addr[12], &a->u.v4.sin_addr, sizeof a->u.v4.sin_addr);
    return v6;
}

static int connected_socket(const struct arrival *a)
{
    int on = 1;
    struct kn_addr to = a->to, from = a->from;
    if (is_ipv4_over_ipv6(a)) {
        unmap(&to);
        unmap(&from);
    }
    int fd = socket(to.u.sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    /* not SO_REUSEPORT: kernels before 5.4 spread a group's datagrams over its connected sockets too */
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) || bind(fd, &to.u.sa, to.len) ||
        connect(fd, &from.u.sa, from.len)) {
        close(fd);
        return -1;
    }
    return fd;
}

static void take_datagram(struct kn_udp_door *door, const struct arrival *a);

/* Between bind and connect the new socket was the best match for anybody's datagrams: those of others go the usual way,
 * and what its own peer sent again is dropped (the welcome is still to come). */
static void rescue_strays(struct kn_udp_door *door, int fd, const struct arrival *own)
{
    struct arrival stray;
    for (int i = 0; i < 256 && receive(door, fd, &stray); i++) {
        stray.to = own->to;
        if (kn_addr_is_v6(&own->from) && !kn_addr_is_v6(&stray.from))
            stray.from = mapped(&stray.from);
        stray.known = own->known;
        if (!kn_addr_equal(&stray.from, &own->from))
            take_datagram(door, &stray);
    }
}

static void take_hello(struct kn_udp_door *door, const struct arrival *a, const struct kn_hello *hello)
{
    struct kn_error err;
    if (kn_gate_check(door->agent, hello, true, &err)) {
        refuse(door, a, &err);
        return;
    }
    if (kn_flows_has_udp(door->agent->flows, &a->from, hello)) /* sent again before the flow's socket was connected */
        return;
    int fd = connected_socket(a);
    if (fd < 0)
        return; /* it will be sent again */
    rescue_strays(door, fd, a);
    if (kn_flows_start(door->agent->flows, fd, hello, &a->from, NULL, 0, &err)) {
        close(fd);
        refuse(door, a, &err);
    }
}

/* ---- the door ---- */

static void send_retry(struct kn_udp_door *door, const struct arrival *a)
{
    uint8_t cookie[KN_COOKIE_SIZE], wire[128];
    kn_cookie_make(&door->agent->cookie_key, &a->from.u, a->from.len, kn_now_ns(), cookie);
    size_t size = kn_udp_retry_pack(cookie, wire);
    if (size <= a->size)
        answer(door, a, wire, size);
}

static bool is_zero(const uint8_t *bytes, size_t n)
{
    uint8_t any = 0;
    for (size_t i = 0; i < n; i++)
        any |= bytes[i];
    return !any;
}

/* The cookie comes before all else: until the sender is known to be where it says, it gets no more than a retry. With a
 * cookie even a wrong key or version is told. */
static void take_datagram(struct kn_udp_door *door, const struct arrival *a)
{
    struct kn_agent *agent = door->agent;
    struct kn_hello hello;
    struct kn_error err;
    const uint8_t *cookie = kn_hello_cookie(door->buffer, a->size);
    if (!cookie) {
        kn_count_refused(agent, KN_REFUSED_UDP);
    } else if (kn_cookie_check(&agent->cookie_key, &a->from.u, a->from.len, kn_now_ns(), cookie)) {
        if (!is_zero(cookie, KN_COOKIE_SIZE))
            kn_count_refused(agent, KN_REFUSED_COOKIE);
        send_retry(door, a);
    } else {
        int rc = kn_hello_unpack(door->buffer, a->size, &agent->key, &hello, &err);
        if (rc > 0 || (rc == 0 && a->size != kn_hello_size()))
            kn_count_refused(agent, KN_REFUSED_UDP);
        else if (rc < 0)
            refuse(door, a, &err);
        else
            take_hello(door, a, &hello);
    }
}

static void *door_main(void *argument)
{
    struct kn_udp_door *door = argument;
    struct kn_agent *agent = door->agent;
    struct pollfd polls[2] = { { .fd = agent->udp_fd, .events = POLLIN },
                               { .fd = agent->quit_event, .events = POLLIN } };
    while (!atomic_load(&agent->stop)) {
        struct arrival a;
        poll(polls, 2, -1);
        while (!atomic_load(&agent->stop) && receive(door, agent->udp_fd, &a))
            take_datagram(door, &a);
    }
    return NULL;
}

/* ---- beginning and end ---- */

struct kn_udp_door *kn_udp_door_new(struct kn_agent *agent, struct kn_error *err)
{
    struct kn_udp_door *door = calloc(1, sizeof *door);
    if (!door) {
        kn_fail_memory(err);
        return NULL;
    }
    door->agent = agent;
    if ((errno = kn_thread_start(&door->thread, "knbl-udp", door_main, door)) != 0) {
        kn_fail_errno(err, "no thread for the agent");
        free(door);
        return NULL;
    }
    return door;
}

/* `agent->stop` is set, and quit_event can be read. */
void kn_udp_door_free(struct kn_udp_door *door)
{
    if (!door)
        return;
    pthread_join(door->thread, NULL);
    free(door);
}
