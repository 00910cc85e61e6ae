/* ping: ICMP echo. A datagram ICMP socket where the host allows it to this group, a raw one where it does not.
 *
 * The round trip ends with the kernel's stamp of arrival, as ping(8) has it, so that waking up is no part of it. */
#include <errno.h>
#include <netinet/icmp6.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "engines/engines.h"
#include "engines/ping.h"
#include "engines/udp/sequence.h"
#include "run/flow.h"
#include "run/flow_udp.h"
#include "run/payload.h"

#define ICMP_HEAD 8u
#define ROOM 65536u
#define RAW_ICMP_FILTER 1 /* ICMP_FILTER of linux/icmp.h, which netinet's header does not get on with */
#define OUTSTANDING_MAX 65536u
#define EVERY 0 /* its own option */

struct ping {
    struct kn_worker *w;
    const struct kn_spec *spec;
    int fd;
    bool v6, raw, dry, paced;
    uint16_t id;
    uint64_t most, taken;     /* echoes outstanding at once; of `count` */
    int refused;              /* errno of the path's last error, 0 after an answer */
    struct kn_ping_form form; /* of an answer */
    uint8_t *out, *in;
    uint64_t next_ns; /* when the next echo is due, where they are paced */
    struct kn_pending pending;
};

/* ---- the socket ---- */

static void group_range(char *text, size_t size)
{
    FILE *f = fopen("/proc/sys/net/ipv4/ping_group_range", "re");
    snprintf(text, size, "unknown");
    if (f && fgets(text, (int)size, f))
        text[strcspn(text, "\n")] = '\0';
    for (char *c = text; *c; c++)
        if (*c == '\t')
            *c = ' ';
    if (f)
        fclose(f);
}

static int no_socket(int why, struct kn_error *err)
{
    char range[64];
    group_range(range, sizeof range);
    if (why != EACCES && why != EPERM && why != EPROTONOSUPPORT) {
        errno = why;
        return kn_fail_errno(err, "cannot open an ICMP socket");
    }
    return kn_fail(
        err, KN_E_PERMISSION,
        "neither a datagram nor a raw ICMP socket is allowed here: let net.ipv4.ping_group_range (now \"%s\") "
        "include group %u, or give the process CAP_NET_RAW",
        range, (unsigned)getegid());
}

static void hear_answers_only(const struct ping *p)
{
    struct icmp6_filter only6;
    uint32_t only4 = ~(1u << ICMP_ECHOREPLY);
    ICMP6_FILTER_SETBLOCKALL(&only6);
    ICMP6_FILTER_SETPASS(ICMP6_ECHO_REPLY, &only6);
    if (p->v6)
        setsockopt(p->fd, IPPROTO_ICMPV6, ICMP6_FILTER, &only6, sizeof only6);
    else
        setsockopt(p->fd, IPPROTO_RAW, RAW_ICMP_FILTER, &only4, sizeof only4);
}

static int open_socket(struct ping *p, struct kn_error *err)
{
    const int on = 1;
    char text[KN_ADDR_TEXT_MAX];
    struct kn_addr to = p->w->peer;
    int family = to.u.sa.sa_family, protocol = p->v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP;
    p->fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, protocol);
    if (p->fd < 0) {
        p->raw = true;
        p->fd = socket(family, SOCK_RAW | SOCK_CLOEXEC, protocol);
        if (p->fd < 0)
            return no_socket(errno, err);
        hear_answers_only(p);
    }
    if (p->v6)
        to.u.v6.sin6_port = 0;
    else
        to.u.v4.sin_port = 0;
    setsockopt(p->fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on);
    kn_udp_hear_errors(p->fd);
    kn_udp_buffers(p->fd, p->spec, true);
    if (kn_flow_bind(p->w, 0, p->fd) || connect(p->fd, &to.u.sa, to.len))
        return kn_fail_errno(err, "cannot reach %s", kn_addr_host(&to, text, sizeof text));
    return 0;
}

/* ---- an echo ---- */

/* RFC 1071. */
static uint16_t checksum(const uint8_t *bytes, size_t n)
{
    uint32_t sum = 0;
    for (size_t i = 0; i + 1 < n; i += 2) {
        uint16_t word;
        memcpy(&word, bytes + i, sizeof word);
        sum += word;
        sum = (sum & 0xffff) + (sum >> 16);
    }
    if (n % 2) {
        uint16_t word = 0;
        memcpy(&word, bytes + n - 1, 1);
        sum += word;
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return (uint16_t)~sum;
}

static void put_16(uint8_t *at, uint16_t v)
{
    at[0] = (uint8_t)(v >> 8);
    at[1] = (uint8_t)v;
}

static void build(struct ping *p, uint64_t seq)
{
    uint64_t number = htole64(seq);
    size_t size = ICMP_HEAD + p->spec->size;
    p->out[0] = p->v6 ? ICMP6_ECHO_REQUEST : ICMP_ECHO;
    p->out[1] = p->out[2] = p->out[3] = 0;
    put_16(p->out + 4, p->id); /* the kernel puts its own on a datagram socket */
    put_16(p->out + 6, (uint16_t)seq);
    memcpy(p->out + ICMP_HEAD, p->form.mark, KN_PING_MARK);
    memcpy(p->out + ICMP_HEAD + KN_PING_MARK, &number, sizeof number);
    if (p->raw && !p->v6) { /* the others are the kernel's matter */
        uint16_t sum = checksum(p->out, size);
        memcpy(p->out + 2, &sum, sizeof sum);
    }
}

bool kn_ping_answer(const struct kn_ping_form *form, const uint8_t *packet, size_t n, uint64_t *seq)
{
    const uint8_t *at = packet;
    if (form->ip_head) {
        size_t head = n ? (size_t)(at[0] & 15) * 4 : 0;
        if (n < head)
            return false;
        at += head;
        n -= head;
    }
    if (n != ICMP_HEAD + form->size || at[0] != form->type || memcmp(at + ICMP_HEAD, form->mark, KN_PING_MARK) != 0)
        return false;
    memcpy(seq, at + ICMP_HEAD + KN_PING_MARK, sizeof *seq);
    *seq = le64toh(*seq);
    return true;
}

/* ---- counting ---- */

static bool in_window(const struct ping *p, const struct kn_request *q)
{
    return q->sent_ns >= p->w->open_ns && q->sent_ns < p->w->end_ns;
}

static void count_loss(struct ping *p, const struct kn_request *q, enum kn_ended how, uint64_t ended_ns)
{
    if (in_window(p, q)) {
        p->w->figures.tx_packets++;
        p->w->figures.lost++;
    }
    kn_worker_end(p->w, how, q->sent_ns, ended_ns);
}

static void take_answer(struct ping *p, size_t n, uint64_t came_ns)
{
    struct kn_figures *f = &p->w->figures;
    struct kn_request q;
    uint64_t seq;
    if (!kn_ping_answer(&p->form, p->in, n, &seq))
        return;
    switch (kn_pending_answer(&p->pending, seq, &q)) {
    case KN_ANSWER_RIGHT:
        p->refused = 0;
        if (came_ns > q.sent_ns + p->spec->timeout_ns) { /* it had timed out already, though nobody had looked */
            count_loss(p, &q, KN_ENDED_TIMEOUT, came_ns);
            f->late += kn_worker_measures(p->w, came_ns);
            break;
        }
        if (in_window(p, &q)) {
            f->tx_packets++;
            f->rx_packets++;
        }
        kn_worker_end(p->w, KN_ENDED_OK, q.sent_ns, came_ns);
        break;
    case KN_ANSWER_DUPLICATE: f->duplicated += kn_worker_measures(p->w, came_ns); break;
    case KN_ANSWER_LATE: f->late += kn_worker_measures(p->w, came_ns); break;
    case KN_ANSWER_STRANGE: kn_worker_stray(p->w, KN_ENDED_ERROR, came_ns);
    }
}

static void expire(struct ping *p, uint64_t now_ns)
{
    struct kn_request q;
    while (p->pending.waiting && now_ns >= p->spec->timeout_ns &&
           kn_pending_expire(&p->pending, now_ns - p->spec->timeout_ns, &q))
        count_loss(p, &q, KN_ENDED_TIMEOUT, q.sent_ns + p->spec->timeout_ns);
}

static int take_failure(struct ping *p, int why, struct kn_error *err)
{
    struct kn_request q;
    uint64_t now_ns = kn_now_ns();
    if (why == EAGAIN || why == EINTR)
        return 0;
    kn_udp_forget_errors(p->fd);
    if (why == EMSGSIZE)
        return kn_fail(err, KN_E_ARGUMENT, "an echo of %llu bytes does not fit", (unsigned long long)p->spec->size);
    if (why == ENOBUFS || why == EPERM) {
        p->w->figures.send_drops += kn_worker_measures(p->w, now_ns);
        return 0;
    }
    if (kn_pending_expire(&p->pending, now_ns, &q)) /* the oldest is the one that it speaks of */
        count_loss(p, &q, KN_ENDED_ERROR, now_ns);
    p->refused = why;
    kn_udp_nap(KN_NS_PER_MS);
    return 0;
}

/* ---- the loop ---- */

static int send_echo(struct ping *p, uint64_t now_ns, struct kn_error *err)
{
    uint64_t seq = kn_pending_send(&p->pending, now_ns, now_ns);
    build(p, seq);
    if (send(p->fd, p->out, ICMP_HEAD + p->spec->size, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
        return 0;
    int why = errno;
    kn_pending_cancel(&p->pending, seq);
    kn_worker_drop(p->w, 1);
    return take_failure(p, why, err);
}

static uint64_t due_ns(const struct ping *p, uint64_t now_ns)
{
    if (p->dry || p->pending.waiting >= p->most)
        return UINT64_MAX;
    return p->paced ? p->next_ns : now_ns;
}

static int issue(struct ping *p, uint64_t now_ns, struct kn_error *err)
{
    if (due_ns(p, now_ns) > now_ns)
        return 0;
    if (!kn_worker_take(p->w, 1)) {
        p->dry = true;
        return 0;
    }
    p->taken += now_ns >= p->w->open_ns;
    p->dry = p->spec->count && p->taken >= p->spec->count;
    if (p->paced) /* one echo each time; after a stall none in a burst */
        p->next_ns += ((now_ns - p->next_ns) / p->spec->own[EVERY] + 1) * p->spec->own[EVERY];
    return send_echo(p, now_ns, err);
}

/* How far the wall clock is from the monotonic one; read again where something came between the two. */
static uint64_t wall_offset_ns(void)
{
    for (int i = 0;; i++) {
        uint64_t before_ns = kn_now_ns(), wall_ns = kn_wall_ns();
        if (kn_now_ns() - before_ns < KN_NS_PER_US || i == 8)
            return wall_ns - before_ns;
    }
}

/* The kernel's stamp is of the wall clock. Where that was set meanwhile, the stamp says nothing. */
static uint64_t arrival_ns(struct msghdr *m, uint64_t now_ns)
{
    struct timespec t;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SO_TIMESTAMPNS)
            continue;
        memcpy(&t, CMSG_DATA(c), sizeof t);
        uint64_t came_ns = (uint64_t)t.tv_sec * KN_NS_PER_S + (uint64_t)t.tv_nsec - wall_offset_ns();
        if (came_ns <= now_ns && now_ns - came_ns < 100 * KN_NS_PER_MS)
            return came_ns;
    }
    return now_ns;
}

static int receive(struct ping *p, uint64_t until_ns, struct kn_error *err)
{
    uint64_t now_ns = kn_now_ns(), left_ns = until_ns > now_ns ? until_ns - now_ns : 0;
    struct timespec t = kn_timespec(left_ns);
    struct pollfd poll_one = {.fd = p->fd, .events = POLLIN};
    if (ppoll(&poll_one, 1, &t, NULL) <= 0)
        return 0;
    for (;;) {
        union {
            char bytes[128];
            struct cmsghdr align;
        } control;
        struct iovec iov = {.iov_base = p->in, .iov_len = ROOM};
        struct msghdr m = {
            .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
        ssize_t n = recvmsg(p->fd, &m, MSG_DONTWAIT);
        if (n <= 0)
            return n < 0 ? take_failure(p, errno, err) : 0;
        take_answer(p, (size_t)n, arrival_ns(&m, kn_now_ns()));
    }
}

static int step(struct ping *p, struct kn_error *err)
{
    uint64_t now_ns = kn_now_ns(), until_ns;
    if (issue(p, now_ns, err))
        return -1;
    until_ns = kn_least(due_ns(p, now_ns), now_ns + KN_UDP_STOP_POLL_NS);
    if (p->pending.waiting)
        until_ns = kn_least(until_ns, kn_pending_oldest_ns(&p->pending) + p->spec->timeout_ns);
    if (p->w->end_ns > now_ns)
        until_ns = kn_least(until_ns, p->w->end_ns);
    if (receive(p, until_ns, err))
        return -1;
    expire(p, kn_now_ns());
    return 0;
}

static int measure(struct ping *p, struct kn_error *err)
{
    struct kn_worker *w = p->w;
    if (kn_worker_ready(w, err))
        return -1;
    p->next_ns = w->start_ns;
    while (!kn_worker_over(w, kn_now_ns()) && !(p->dry && !p->pending.waiting))
        if (step(p, err))
            return -1;
    kn_worker_cpu_close(w);
    p->dry = true;
    while (p->pending.waiting && !kn_worker_stopped(w)) /* what is on its way is answered or lost */
        if (step(p, err))
            return -1;
    return 0;
}

/* Where no echo came back, what routers said about it is the reason. */
static int judge(const struct ping *p, struct kn_error *err)
{
    char text[KN_ADDR_TEXT_MAX];
    if (p->w->figures.rx_packets || !p->refused || kn_worker_stopped(p->w))
        return 0;
    errno = p->refused;
    return kn_fail_errno(err, "no echo from %s", kn_addr_host(&p->w->peer, text, sizeof text));
}

static int ping_init(struct ping *p, struct kn_worker *w, struct kn_error *err)
{
    const struct kn_spec *spec = w->spec;
    *p = (struct ping){
        .w = w, .spec = spec, .fd = -1, .v6 = w->peer.u.sa.sa_family == AF_INET6, .paced = spec->own[EVERY] > 0};
    p->most = p->paced ? kn_least(spec->timeout_ns / spec->own[EVERY] + 2, OUTSTANDING_MAX) : 1;
    p->out = kn_payload_new(ICMP_HEAD + spec->size);
    p->in = malloc(ROOM);
    if (!p->out || !p->in)
        return kn_fail(err, KN_E_MEMORY, "no memory for an echo of %llu bytes", (unsigned long long)spec->size);
    if (getrandom(p->form.mark, sizeof p->form.mark, 0) < 0 || getrandom(&p->id, sizeof p->id, 0) < 0)
        return kn_fail_errno(err, "no random numbers");
    if (kn_pending_init(&p->pending, 63, p->most, err) || open_socket(p, err))
        return -1;
    p->form.type = p->v6 ? ICMP6_ECHO_REPLY : ICMP_ECHOREPLY;
    p->form.ip_head = p->raw && !p->v6;
    p->form.size = spec->size;
    w->rx_size = spec->size;
    kn_worker_chosen(w, "socket", "%s", p->raw ? "raw" : "datagram");
    return 0;
}

static int run_client(struct kn_worker *w, struct kn_error *err)
{
    struct ping p;
    prctl(PR_SET_TIMERSLACK, 1ul, 0ul, 0ul, 0ul);
    w->figures.has |= KN_HAS_LATENCY | KN_HAS_LOSS;
    int failed = ping_init(&p, w, err) || measure(&p, err) || judge(&p, err);
    kn_pending_fini(&p.pending);
    free(p.out);
    free(p.in);
    if (p.fd >= 0)
        close(p.fd);
    return failed ? -1 : 0;
}

/* ---- the test ---- */

static const char *const columns[] = {KN_LATENCY_COLUMNS, NULL}, *const compared[] = {"mean", "loss", NULL};
static const struct kn_spec_option own[] = {
    [EVERY] = KN_NUMBER("every", KN_KIND_DURATION, KN_AT(own[EVERY]), 0, 3600 * KN_NS_PER_S,
                        "time from one echo to the next, also called interval; 0 is as soon as one is answered"),
    {.name = NULL},
};
static const struct kn_preset presets[] = {
    {offsetof(struct kn_spec, size), 56},
    {offsetof(struct kn_spec, timeout_ns), KN_NS_PER_S},
    {offsetof(struct kn_spec, own[EVERY]), 200 * KN_NS_PER_MS},
    {0, 0},
};
static const struct kn_limit limits[] = {{offsetof(struct kn_spec, size), KN_PING_MARK + 8, KN_UDP_MAX}, {0, 0, 0}};
static const struct kn_alias aliases[] = {{"interval", "every"}, {NULL, NULL}}; /* as ping -i */

const struct kn_test kn_ping = {
    .name = "ping",
    .help = "ICMP echo: round trip and loss (ping)",
    .transport = KN_ICMP,
    .shape = KN_ECHO,
    .rate = KN_RATE_NONE,
    .warmup = KN_WARMUP_NONE,
    .headline = "mean",
    .columns = columns,
    .compared = compared,
    .options = KN_HAS(DURATION) | KN_HAS(WARMUP) | KN_HAS(COUNT) | KN_HAS(SIZE) | KN_HAS(IP) | KN_HAS(TIMEOUT),
    .own = own,
    .presets = presets,
    .limits = limits,
    .aliases = aliases,
    .client = run_client,
};
