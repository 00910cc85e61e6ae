/* engines/udp_ends - the sender and the receiver of a stream of datagrams; which of them is the server is the test's
 * matter. */
#ifndef KN_ENGINES_UDP_ENDS_H
#define KN_ENGINES_UDP_ENDS_H

#include <sys/prctl.h>

#include "core/pace.h"
#include "core/figures.h"
#include "core/spec.h"
#include "engines/udp/sequence.h"
#include "run/flow_udp.h"

#define KN_UDP_GSO 0     /* udp_stream's own option */
#define KN_UDP_BURST 32u /* datagrams between two looks at the clock */

/* In reverse the client steers its server through these. */
enum kn_udp_phase { KN_UDP_WARMUP = 1, KN_UDP_MEASURE, KN_UDP_END };

/* The agent's side. */
int kn_udp_stream_serve(struct kn_served *s, int fd, struct kn_error *err);

static inline void kn_udp_sharpen_timers(void)
{
    prctl(PR_SET_TIMERSLACK, 1000ul, 0ul, 0ul, 0ul);
}

/* ---- the sender ---- */

struct kn_udp_tx {
    int fd;
    size_t size;
    unsigned segments; /* datagrams a call: more than 1 with segmentation offload */
    uint8_t *buf;
    bool measured, stamp_all, stamps, paced;
    uint64_t seq;
    struct kn_pace pace;
    /* since it was told to measure */
    uint64_t sent, drops, errors;
    unsigned refused;    /* two for an error of the path, one less for a datagram that went */
    uint64_t refused_ns; /* since when */
};
int kn_udp_tx_init(struct kn_udp_tx *tx, int fd, const struct kn_spec *spec, struct kn_error *err);
void kn_udp_tx_fini(struct kn_udp_tx *tx);
void kn_udp_tx_start(struct kn_udp_tx *tx, const struct kn_spec *spec, unsigned flow,
                     uint64_t now_ns); /* its pace begins */
void kn_udp_tx_measure(struct kn_udp_tx *tx);
/* How many datagrams may go now; at its own pace up to a call's worth or a burst. */
static inline unsigned kn_udp_tx_due(const struct kn_udp_tx *tx, uint64_t now_ns)
{
    unsigned most = tx->segments > 1 ? tx->segments : KN_UDP_BURST;
    return tx->paced ? (unsigned)kn_least(kn_pace_backlog(&tx->pace, now_ns), most) : most;
}
static inline uint64_t kn_udp_tx_due_ns(const struct kn_udp_tx *tx)
{
    return tx->paced ? kn_pace_due_ns(&tx->pace) : 0;
}
/* Sends `n`; returns how many went or were dropped by this host (fewer where the socket is full for long), -1 where it
 * makes no sense any more. */
int kn_udp_tx_burst(struct kn_udp_tx *tx, unsigned n, struct kn_error *err);
void kn_udp_tx_count(const struct kn_udp_tx *tx, struct kn_figures *f); /* adds what was measured */

/* ---- the receiver ---- */

#define KN_UDP_NAP_MOST_NS (200 * KN_NS_PER_US)
#define KN_UDP_STAMPED_NS (10 * KN_NS_PER_MS)       /* jitter is looked at for so long … */
#define KN_UDP_STAMPS_EVERY_NS (100 * KN_NS_PER_MS) /* … of these, where that would cost too much to do it always */
static inline bool kn_udp_samples_jitter(const struct kn_spec *spec)
{
    return spec->tune == KN_TUNE_AUTO && !kn_spec_open_loop(spec) && !spec->own[KN_UDP_GSO] &&
           spec->size >= KN_UDP_HEAD_SIZE;
}

enum kn_rx_next { KN_RX_NONE, KN_RX_SOME, KN_RX_CONTROL, KN_RX_CLOSED };

struct kn_udp_rx {
    int fd;
    size_t size;
    bool naps, gro, ordered;
    bool samples, stamped, settled; /* stamps are asked for at times; now; for a while */
    uint64_t stamps_turn_ns, stamps_from_ns;
    uint8_t *buf;
    const uint8_t *control; /* after KN_RX_CONTROL: what may be control; else give it to kn_udp_rx_take */
    size_t control_size;
    uint64_t room;  /* of the socket's buffer, as the kernel counts */
    uint64_t batch; /* the most datagrams that came coalesced */
    /* measured datagrams */
    struct kn_seq seq;
    struct kn_jitter jitter;
    uint64_t received, malformed, accounted;
    uint64_t first_ns, last_ns;
    bool drops_known;
    uint32_t drops_before, drops_now;
    uint64_t nap_ns;
    unsigned idle;
};
int kn_udp_rx_init(struct kn_udp_rx *rx, int fd, const struct kn_spec *spec, struct kn_error *err);
void kn_udp_rx_fini(struct kn_udp_rx *rx);
/* Receives what is there, up to a budget. `block`: waits for the first (the socket's timeout ends it). */
enum kn_rx_next kn_udp_rx_drain(struct kn_udp_rx *rx, bool block);
void kn_udp_rx_take(struct kn_udp_rx *rx, const uint8_t *datagrams, size_t size);
/* Waits before the next round over `n` receivers; `got`: the last round brought something. */
void kn_udp_rx_rest(struct kn_udp_rx *rx, unsigned n, bool got);
/* Whether one round may block in the socket itself. */
static inline bool kn_udp_rx_blocks(const struct kn_udp_rx *rx, unsigned n)
{
    return n == 1 && !rx->naps;
}
static inline uint64_t kn_udp_rx_unique(const struct kn_udp_rx *rx)
{
    return rx->ordered ? rx->seq.unique : rx->received;
}
/* What came since the last call goes into the time series. */
void kn_udp_rx_account(struct kn_udp_rx *rx, struct kn_figures *f, uint64_t now_ns, uint64_t open_ns);
void kn_udp_rx_count(struct kn_udp_rx *rx, uint64_t sent, struct kn_figures *f); /* adds what was measured */

#endif
