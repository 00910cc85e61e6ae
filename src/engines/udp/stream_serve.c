/* udp_stream on the agent's side: receives, or in reverse sends as it is steered. */
#include "engines/udp/ends.h"
#include "net/io.h"
#include "run/served.h"

#define STRAGGLERS_NS (50 * KN_NS_PER_MS) /* what was sent before the fetch and comes after it */
#define STEERED_NS KN_NS_PER_S            /* how long a server sends without being told */

/* ---- the server receives ---- */

/* True: the client is done, and all that it sent is here, or will not come. */
static bool take_control(struct kn_served *s, struct kn_udp_rx *rx, uint64_t now_ns, uint64_t *until_ns)
{
    enum kn_udp_next next = kn_served_datagram(s, rx->fd, rx->control, rx->control_size);
    if (next == KN_UDP_IS_TEST)
        kn_udp_rx_take(rx, rx->control, rx->control_size);
    if (next == KN_UDP_WANTS_ACCOUNT && *until_ns == UINT64_MAX)
        *until_ns = now_ns + STRAGGLERS_NS;
    return *until_ns != UINT64_MAX && kn_udp_rx_unique(rx) >= s->measured_sent;
}

static int serve_receiver(struct kn_served *s, struct kn_udp_rx *rx)
{
    uint64_t heard_ns = kn_now_ns(), until_ns = UINT64_MAX;
    for (;;) {
        enum kn_rx_next next = kn_udp_rx_drain(rx, kn_udp_rx_blocks(rx, 1));
        uint64_t now_ns = kn_now_ns();
        if (rx->received && !s->opened) {
            s->open_ns = now_ns;
            kn_served_open(s);
        }
        bool done = next == KN_RX_CONTROL && take_control(s, rx, now_ns, &until_ns);
        kn_udp_rx_account(rx, &s->figures, now_ns, s->open_ns);
        if (next != KN_RX_NONE)
            heard_ns = now_ns;
        if (done || now_ns >= until_ns || next == KN_RX_CLOSED || kn_served_stopped(s))
            return 0;
        if (kn_served_forsaken(s, heard_ns, now_ns) || kn_served_exceeds(s, kn_udp_rx_unique(rx) * rx->size))
            return 0;
        kn_udp_rx_rest(rx, 1, next != KN_RX_NONE);
    }
}

static int serve_forward(struct kn_served *s, int fd, struct kn_error *err)
{
    struct kn_udp_rx rx;
    if (kn_udp_rx_init(&rx, fd, s->spec, err))
        return -1;
    int failed = serve_receiver(s, &rx);
    kn_served_close(s, rx.last_ns);
    kn_udp_rx_count(&rx, s->measured_sent, &s->figures);
    kn_udp_rx_fini(&rx);
    return failed;
}

/* ---- the server sends ---- */

/* Takes what the client says, without waiting or for `wait_ns`. True: it wants the report, or is gone. */
static bool heed(struct kn_served *s, int fd, uint64_t now_ns, uint64_t wait_ns)
{
    uint8_t in[KN_UDP_CONTROL_MAX];
    ssize_t n = wait_ns ? kn_udp_receive(fd, in, sizeof in, now_ns + wait_ns)
                        : kn_recv(fd, in, sizeof in, MSG_DONTWAIT);
    if (n > 0)
        return kn_served_datagram(s, fd, in, (size_t)n) == KN_UDP_WANTS_ACCOUNT;
    return kn_served_forsaken(s, s->steered_ns, now_ns);
}

static void follow(struct kn_served *s, struct kn_udp_tx *tx, uint64_t now_ns)
{
    if (s->phase >= KN_UDP_WARMUP && !s->start_ns) {
        s->start_ns = now_ns;
        kn_udp_tx_start(tx, s->spec, s->hello->flow, now_ns);
    }
    if (s->phase == KN_UDP_MEASURE && !tx->measured) {
        kn_udp_tx_measure(tx);
        s->open_ns = now_ns;
        kn_served_open(s);
    }
    if (s->phase >= KN_UDP_END)
        kn_served_close(s, now_ns);
}

static uint64_t share_of_count(const struct kn_served *s)
{
    const struct kn_spec *spec = s->spec;
    return spec->count ? spec->count / spec->flows + (s->hello->flow < spec->count % spec->flows) : UINT64_MAX;
}

static bool may_send(const struct kn_served *s, const struct kn_udp_tx *tx, uint64_t now_ns)
{
    bool steered = s->phase >= KN_UDP_WARMUP && s->phase < KN_UDP_END && now_ns < s->steered_ns + STEERED_NS;
    return steered && !kn_served_exceeds(s, tx->sent * tx->size) && (!tx->measured || tx->sent < share_of_count(s));
}

static int serve_sender(struct kn_served *s, struct kn_udp_tx *tx, struct kn_error *err)
{
    s->steered_ns = kn_now_ns();
    for (;;) {
        uint64_t now_ns = kn_now_ns(), wait_ns = KN_UDP_STOP_POLL_NS;
        unsigned n = 0;
        follow(s, tx, now_ns);
        if (may_send(s, tx, now_ns)) {
            n = kn_udp_tx_due(tx, now_ns);
            uint64_t due_ns = kn_udp_tx_due_ns(tx);
            wait_ns = n || due_ns <= now_ns ? 0 : kn_least(wait_ns, due_ns - now_ns);
        }
        if (heed(s, tx->fd, now_ns, wait_ns) || kn_served_stopped(s))
            return 0;
        if (tx->measured)
            n = (unsigned)kn_least(n, share_of_count(s) - tx->sent);
        if (n && kn_udp_tx_burst(tx, n, err) < 0)
            return -1;
    }
}

static int serve_reverse(struct kn_served *s, int fd, struct kn_error *err)
{
    struct kn_udp_tx tx;
    kn_udp_sharpen_timers();
    kn_udp_hear_errors(fd);
    kn_udp_buffers(fd, s->spec, s->spec->tune == KN_TUNE_AUTO);
    if (kn_udp_tx_init(&tx, fd, s->spec, err))
        return -1;
    int failed = serve_sender(s, &tx, err);
    kn_served_close(s, kn_now_ns());
    kn_udp_tx_count(&tx, &s->figures);
    kn_udp_tx_fini(&tx);
    return failed;
}

int kn_udp_stream_serve(struct kn_served *s, int fd, struct kn_error *err)
{
    return s->spec->reverse ? serve_reverse(s, fd, err) : serve_forward(s, fd, err);
}
