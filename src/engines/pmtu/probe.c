/* Datagrams that may not be fragmented: their form, their sockets, and the agent that answers them. */
#include <endian.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include <linux/errqueue.h>

#include "engines/pmtu/pmtu.h"
#include "run/flow_udp.h"
#include "run/payload.h"

#define MARK_0 'p'
#define MARK_1 'm'

/* ---- messages ---- */

void kn_pmtu_pack(const struct kn_pmtu_message *m, uint8_t wire[KN_PMTU_HEAD])
{
    const uint32_t numbers[] = {htole32(m->number), htole32(m->size), htole32(m->mtu)};
    const uint8_t head[] = {MARK_0, MARK_1, (uint8_t)m->kind, 0};
    memcpy(wire, head, sizeof head);
    memcpy(wire + sizeof head, numbers, sizeof numbers);
}

int kn_pmtu_unpack(const uint8_t *wire, size_t size, struct kn_pmtu_message *m)
{
    uint32_t numbers[3];
    if (size < KN_PMTU_HEAD || wire[0] != MARK_0 || wire[1] != MARK_1 || wire[2] < KN_PMTU_PROBE ||
        wire[2] > KN_PMTU_REPORTED)
        return -1;
    memcpy(numbers, wire + 4, sizeof numbers);
    *m = (struct kn_pmtu_message){(enum kn_pmtu_kind)wire[2], le32toh(numbers[0]), le32toh(numbers[1]),
                                  le32toh(numbers[2])};
    return 0;
}

/* ---- sockets ---- */

/* PROBE and not DO: the kernel must not refuse what it learned of this path before, the interface alone limits. Both
 * levels, since the peer of an IPv6 socket may be a mapped IPv4 address. */
int kn_pmtu_prepare(int fd, struct kn_error *err)
{
    const int probe4 = IP_PMTUDISC_PROBE, probe6 = IPV6_PMTUDISC_PROBE;
    int failed4 = setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &probe4, sizeof probe4);
    int failed6 = setsockopt(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, &probe6, sizeof probe6);
    if (failed4 && failed6)
        return kn_fail_errno(err, "cannot forbid fragmentation (IP_MTU_DISCOVER)");
    kn_udp_hear_errors(fd);
    return 0;
}

static void take_error(const struct sock_extended_err *e, struct kn_pmtu_said *said)
{
    if (e->ee_errno != EMSGSIZE || !e->ee_info) /* old routers report no size */
        return;
    if (e->ee_origin == SO_EE_ORIGIN_LOCAL)
        said->local = e->ee_info;
    else if (!said->reported || e->ee_info < said->reported)
        said->reported = e->ee_info;
}

void kn_pmtu_hear(int fd, struct kn_pmtu_said *said)
{
    for (int i = 0; i < 64; i++) {
        union {
            char bytes[512];
            struct cmsghdr align;
        } control;
        struct msghdr m = {.msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
        if (recvmsg(fd, &m, MSG_ERRQUEUE | MSG_DONTWAIT) < 0)
            return;
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
            struct sock_extended_err e;
            bool is_error = (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_RECVERR) ||
                            (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_RECVERR);
            if (!is_error || c->cmsg_len < CMSG_LEN(sizeof e))
                continue;
            memcpy(&e, CMSG_DATA(c), sizeof e);
            take_error(&e, said);
        }
    }
}

bool kn_pmtu_send(int fd, const uint8_t *bytes, size_t size, struct kn_pmtu_said *said)
{
    for (int tries = 0; tries < 4; tries++) { /* an error of a datagram before is returned in place of sending */
        kn_pmtu_hear(fd, said);
        if (send(fd, bytes, size, MSG_NOSIGNAL) >= 0)
            return true;
        said->local = 0;
        kn_pmtu_hear(fd, said);
        if (said->local)
            return false;
    }
    return false;
}

/* ---- the agent's side ---- */

struct answering {
    struct kn_served *s;
    int fd;
    uint8_t *in, *out;
    uint32_t reported; /* what the client was told */
};

static void say(const struct answering *a, enum kn_pmtu_kind kind, const struct kn_pmtu_message *about, uint32_t mtu)
{
    uint8_t wire[KN_PMTU_HEAD];
    kn_pmtu_pack(&(struct kn_pmtu_message){kind, about->number, about->size, mtu}, wire);
    send(a->fd, wire, sizeof wire, MSG_NOSIGNAL | MSG_DONTWAIT); /* lost or refused: the client asks again */
}

/* An ICMP message may come at any time after the datagram that it speaks of. */
static void pass_on_reports(struct answering *a)
{
    struct kn_pmtu_said said = {0};
    kn_pmtu_hear(a->fd, &said);
    if (said.reported)
        a->reported = said.reported;
    if (said.reported)
        say(a, KN_PMTU_REPORTED, &(struct kn_pmtu_message){0}, a->reported);
}

static void send_back(struct answering *a, const struct kn_pmtu_message *asked)
{
    struct kn_pmtu_said said = {0};
    kn_pmtu_pack(&(struct kn_pmtu_message){KN_PMTU_BACK, asked->number, asked->size, 0}, a->out);
    if (!kn_pmtu_send(a->fd, a->out, asked->size, &said) && said.local)
        say(a, KN_PMTU_LOCAL, asked, said.local);
    if (said.reported)
        say(a, KN_PMTU_REPORTED, asked, said.reported);
}

/* False: more bytes than this agent allows. */
static bool answer(struct answering *a, size_t size)
{
    struct kn_pmtu_message m;
    if (kn_pmtu_unpack(a->in, size, &m))
        return true;
    if (m.kind == KN_PMTU_PROBE) {
        if (!kn_served_moves(a->s, size + KN_PMTU_HEAD))
            return false;
        say(a, KN_PMTU_PASSED, &m, 0);
    } else if (m.kind == KN_PMTU_ASK && m.size >= KN_PMTU_HEAD && m.size <= KN_PMTU_MOST) {
        if (!kn_served_moves(a->s, size + m.size))
            return false;
        send_back(a, &m);
    }
    a->s->figures.ops++;
    return true;
}

static void serve_all(struct answering *a)
{
    uint64_t heard_ns = kn_now_ns();
    while (!kn_served_stopped(a->s) && !kn_served_forsaken(a->s, heard_ns, kn_now_ns())) {
        ssize_t n = kn_udp_receive(a->fd, a->in, KN_PMTU_MOST, kn_now_ns() + KN_UDP_STOP_POLL_NS);
        pass_on_reports(a);
        if (n <= 0)
            continue;
        heard_ns = kn_now_ns();
        enum kn_udp_next next = kn_served_datagram(a->s, a->fd, a->in, (size_t)n);
        if (next == KN_UDP_WANTS_ACCOUNT || (next == KN_UDP_IS_TEST && !answer(a, (size_t)n)))
            return;
    }
}

int kn_pmtu_serve_udp(struct kn_served *s, int fd, struct kn_error *err)
{
    struct answering a = {.s = s, .fd = fd, .in = malloc(KN_PMTU_MOST), .out = kn_payload_new(KN_PMTU_MOST)};
    int failed = a.in && a.out ? kn_pmtu_prepare(fd, err) : kn_fail_memory(err);
    kn_served_start(s, kn_now_ns());
    kn_served_open(s);
    if (!failed)
        serve_all(&a);
    free(a.in);
    free(a.out);
    return failed;
}
