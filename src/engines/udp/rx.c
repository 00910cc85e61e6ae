/* The receiver of a stream of datagrams: loss, order, duplicates, jitter, and who lost what.
 *
 * A receiver that sleeps until each datagram makes its sender pay for a wake-up a datagram. One that naps instead, for
 * a time in which its buffer does not come near to being full, lets the sender go and finds a batch when it looks
 * again. Jitter is reckoned from the kernel's stamps of arrival, so that batches do not blur it. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <time.h>

#include "engines/udp/ends.h"
#include "net/io.h"

#ifndef UDP_GRO
#define UDP_GRO 104
#endif
#define ROOM 65536u
#define BUDGET 512u /* datagrams before the caller looks at the clock */
#define NAP_LEAST_NS (5 * KN_NS_PER_US)
#define IDLE_ROUNDS 8u /* so many naps for nothing: it waits for the next datagram instead */
#define SAMPLE_OF 16u
#define STAMPS_SETTLE_NS (2 * KN_NS_PER_MS) /* the kernel takes its time to begin */

static void set_stamps(struct kn_udp_rx *rx, bool wanted)
{
    const int on = wanted;
    rx->stamped = !setsockopt(rx->fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on) && wanted;
}

int kn_udp_rx_init(struct kn_udp_rx *rx, int fd, const struct kn_spec *spec, struct kn_error *err)
{
    const int on = 1;
    memset(rx, 0, sizeof *rx);
    rx->fd = fd;
    rx->size = spec->size;
    rx->naps = spec->tune == KN_TUNE_AUTO;
    rx->samples = kn_udp_samples_jitter(spec);
    rx->nap_ns = KN_UDP_NAP_MOST_NS / 2;
    rx->batch = 1;
    rx->ordered = kn_seq_tells_order(kn_udp_seq_bits(rx->size));
    kn_seq_init(&rx->seq, kn_udp_seq_bits(rx->size));
    setsockopt(fd, SOL_SOCKET, SO_RXQ_OVFL, &on, sizeof on);
    if (spec->own[KN_UDP_GSO])
        rx->gro = !setsockopt(fd, IPPROTO_UDP, UDP_GRO, &on, sizeof on);
    else if (rx->size >= KN_UDP_HEAD_SIZE)
        set_stamps(rx, true);
    rx->room = kn_udp_buffers(fd, spec, rx->naps || spec->own[KN_UDP_GSO]);
    if (rx->naps)
        prctl(PR_SET_TIMERSLACK, 1000ul, 0ul, 0ul, 0ul); /* of this thread; the default of 50 µs would double a nap */
    rx->buf = malloc(ROOM);
    return rx->buf ? 0 : kn_fail(err, KN_E_MEMORY, "no memory to receive datagrams");
}

void kn_udp_rx_fini(struct kn_udp_rx *rx)
{
    free(rx->buf);
    rx->buf = NULL;
}

/* ---- one datagram ---- */

static inline bool may_be_control(const struct kn_udp_rx *rx, const uint8_t *datagram, size_t size)
{
    return size != rx->size && !(rx->gro && size > rx->size) ? true : size > 3 && !memcmp(datagram, "KNB", 3);
}

/* The first measured datagram: `number` of them came before it and were lost. What the socket dropped between the last
 * datagram of the warm-up and this one counts as far as it can be theirs. */
static inline void note_drops(struct kn_udp_rx *rx, uint32_t drops, uint64_t number)
{
    if (!rx->drops_known) {
        uint64_t missed = rx->gro && rx->batch ? number / rx->batch : number;
        rx->drops_before = drops - (uint32_t)kn_least(drops - rx->drops_before, missed);
        rx->drops_known = true;
        rx->stamps_turn_ns = rx->stamped ? rx->stamps_turn_ns : 0; /* however short the run, jitter is looked at */
    }
}

/* `came_ns`: the kernel's stamp, 0 where there is none. */
static inline void take_one(struct kn_udp_rx *rx, const uint8_t *datagram, size_t size, uint64_t came_ns,
                            uint32_t drops)
{
    bool measured;
    uint64_t stamp = 0;
    if (size != rx->size) {
        rx->malformed++;
        return;
    }
    uint64_t low = kn_udp_head_get(datagram, size, &measured);
    if (!measured) {
        rx->drops_before = rx->drops_known ? rx->drops_before : drops;
        return;
    }
    rx->received++;
    note_drops(rx, drops, low);
    if (rx->ordered && kn_seq_take(&rx->seq, low) == KN_SEQ_DUPLICATE)
        return;
    if (came_ns)
        memcpy(&stamp, datagram + KN_UDP_SEQ_SIZE, sizeof stamp);
    if (stamp)
        kn_jitter_add(&rx->jitter, le64toh(stamp), came_ns);
    else
        kn_jitter_break(&rx->jitter);
}

static void take_all(struct kn_udp_rx *rx, const uint8_t *datagrams, size_t size, size_t segment, uint32_t drops)
{
    if (size / segment > rx->batch)
        rx->batch = size / segment;
    for (size_t at = 0; at < size; at += segment)
        take_one(rx, datagrams + at, kn_least(segment, size - at), 0, drops);
}

void kn_udp_rx_take(struct kn_udp_rx *rx, const uint8_t *datagrams, size_t size)
{
    take_all(rx, datagrams, size, rx->size, rx->drops_before);
}

/* ---- what is there ---- */

struct extras {
    uint64_t came_ns;
    uint32_t drops;
    size_t segment;
};

static void read_extras(struct msghdr *m, struct extras *x)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_TIMESTAMPNS) {
            struct timespec t;
            memcpy(&t, CMSG_DATA(c), sizeof t);
            x->came_ns = (uint64_t)t.tv_sec * KN_NS_PER_S + (uint64_t)t.tv_nsec;
        } else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_RXQ_OVFL) {
            memcpy(&x->drops, CMSG_DATA(c), sizeof x->drops);
        } else if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO) {
            int segment;
            memcpy(&segment, CMSG_DATA(c), sizeof segment);
            x->segment = segment > 0 ? (size_t)segment : 0;
        }
    }
}

static ssize_t receive_with_extras(struct kn_udp_rx *rx, int flags, struct extras *x)
{
    union {
        char bytes[128];
        struct cmsghdr align;
    } control;
    struct iovec iov = {.iov_base = rx->buf, .iov_len = ROOM};
    struct msghdr m = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    ssize_t n = recvmsg(rx->fd, &m, flags);
    if (n >= 0)
        read_extras(&m, x);
    return n;
}

/* Stamps cost, at both ends and even where nobody reads them: where they are sampled, the kernel is asked for them a
 * tenth of the time. */
static void turn_stamps(struct kn_udp_rx *rx)
{
    uint64_t now_ns = kn_now_ns();
    if (now_ns >= rx->stamps_turn_ns) {
        set_stamps(rx, !rx->stamped);
        rx->stamps_from_ns = now_ns + STAMPS_SETTLE_NS;
        rx->stamps_turn_ns = now_ns + (rx->stamped ? KN_UDP_STAMPED_NS : KN_UDP_STAMPS_EVERY_NS - KN_UDP_STAMPED_NS);
    }
    rx->settled = rx->stamped && now_ns >= rx->stamps_from_ns;
}

/* The sender stamps two of sixteen then, and the rest comes the short way. Before the first that is measured all come
 * the long way, so that what was dropped before it is known. */
static inline bool wants_extras(const struct kn_udp_rx *rx)
{
    if (rx->gro || !rx->drops_known)
        return true;
    return rx->samples ? rx->settled && rx->seq.next % SAMPLE_OF < 2 : rx->stamped;
}

enum kn_rx_next kn_udp_rx_drain(struct kn_udp_rx *rx, bool block)
{
    int flags = block ? 0 : MSG_DONTWAIT;
    for (unsigned i = 0; i < (block ? 1 : BUDGET); i++) {
        struct extras x = {0};
        bool wants = wants_extras(rx);
        ssize_t n = wants ? receive_with_extras(rx, flags, &x) : kn_recv(rx->fd, rx->buf, ROOM, flags);
        if (n <= 0) {
            if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return i ? KN_RX_SOME : KN_RX_NONE;
            if (n < 0 && errno != EBADF && errno != ENOTCONN) /* an ICMP message about what was sent before */
                continue;
            return KN_RX_CLOSED;
        }
        if (may_be_control(rx, rx->buf, (size_t)n)) {
            rx->control = rx->buf;
            rx->control_size = (size_t)n;
            return KN_RX_CONTROL;
        }
        if (x.segment)
            take_all(rx, rx->buf, (size_t)n, x.segment, x.drops);
        else
            take_one(rx, rx->buf, (size_t)n, x.came_ns, x.drops);
    }
    return KN_RX_SOME;
}

/* ---- waiting ---- */

static uint32_t read_backlog(struct kn_udp_rx *rx)
{
    uint32_t bytes = 0;
    kn_udp_backlog(rx->fd, &bytes, &rx->drops_now);
    return bytes;
}

/* The next nap is shorter where this one let the buffer fill beyond a quarter, a little longer where it was far from
 * that. */
static void adapt(struct kn_udp_rx *rx)
{
    uint32_t backlog = read_backlog(rx);
    if (backlog > rx->room / 4)
        rx->nap_ns = rx->nap_ns / 2 > NAP_LEAST_NS ? rx->nap_ns / 2 : NAP_LEAST_NS;
    else if (backlog < rx->room / 8)
        rx->nap_ns = kn_least(rx->nap_ns + rx->nap_ns / 8, KN_UDP_NAP_MOST_NS);
}

static void wait_for_any(struct kn_udp_rx *rx, unsigned n)
{
    struct pollfd *p = calloc(n, sizeof *p);
    if (!p)
        return;
    for (unsigned i = 0; i < n; i++)
        p[i] = (struct pollfd){.fd = rx[i].fd, .events = POLLIN};
    poll(p, n, (int)(KN_UDP_STOP_POLL_NS / KN_NS_PER_MS));
    free(p);
}

void kn_udp_rx_rest(struct kn_udp_rx *rx, unsigned n, bool got)
{
    rx->idle = got ? 0 : rx->idle + 1;
    for (unsigned i = 0; i < n && rx->samples; i++)
        turn_stamps(&rx[i]);
    if (rx->naps && rx->idle < IDLE_ROUNDS) {
        kn_udp_nap(rx->nap_ns);
        for (unsigned i = 0; i < n; i++)
            adapt(&rx[i]);
        for (unsigned i = 1; i < n; i++)
            rx->nap_ns = kn_least(rx->nap_ns, rx[i].nap_ns);
    } else if (!kn_udp_rx_blocks(rx, n) && !got) {
        wait_for_any(rx, n);
    }
}

/* ---- the sums ---- */

void kn_udp_rx_account(struct kn_udp_rx *rx, struct kn_figures *f, uint64_t now_ns, uint64_t open_ns)
{
    uint64_t unique = kn_udp_rx_unique(rx), n = unique - rx->accounted;
    if (!n)
        return;
    if (!rx->first_ns)
        rx->first_ns = now_ns;
    rx->last_ns = now_ns;
    rx->accounted = unique;
    kn_figures_add(f, now_ns > open_ns ? now_ns - open_ns : 0, n * rx->size, n);
}

void kn_udp_rx_count(struct kn_udp_rx *rx, uint64_t sent, struct kn_figures *f)
{
    uint64_t unique = kn_udp_rx_unique(rx), lost = sent > unique ? sent - unique : 0;
    read_backlog(rx);
    f->has |= KN_HAS_LOSS | (rx->ordered ? KN_HAS_ORDER : 0u);
    f->ops += unique;
    f->rx_packets += unique;
    f->rx_bytes += unique * rx->size;
    f->lost += lost;
    f->reordered += rx->seq.reordered;
    f->duplicated += rx->seq.duplicated;
    f->errors += rx->malformed;
    if (rx->drops_known) /* the kernel counts what it queues: with coalescing a whole batch is one */
        f->recv_drops += kn_least((uint64_t)(rx->drops_now - rx->drops_before) * (rx->gro ? rx->batch : 1), lost);
    if (rx->jitter.n) {
        f->has |= KN_HAS_JITTER;
        f->jitter_ns = (f->jitter_ns * f->jitter_n + rx->jitter.value_ns) / (f->jitter_n + 1);
        f->jitter_n++;
    }
}
