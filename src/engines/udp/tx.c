/* The sender of a stream of datagrams: as fast as it goes or at a pace, one a call or many by segmentation offload. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdlib.h>

#include "run/payload.h"
#include "engines/udp/ends.h"
#include "net/io.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#define SEGMENTS_MAX 64u /* UDP_MAX_SEGMENTS, of the kernels before 6.9 */
#define REFUSED_MAX \
    100u /* an error comes back for every other datagram at most: more errors than not, by so many … \
                          */
#define REFUSED_NS (2 * KN_NS_PER_S) /* … and for so long: there is nobody any more */
#define SAMPLE_OF 16u /* of so many datagrams two are stamped where that would cost: jitter needs pairs */

static int set_segments(struct kn_udp_tx *tx, struct kn_error *err)
{
    struct sockaddr_storage peer;
    socklen_t peer_size = sizeof peer, mtu_size = sizeof(int);
    int mtu = 0, segment = (int)tx->size;
    bool v6 = !getpeername(tx->fd, (struct sockaddr *)&peer, &peer_size) && peer.ss_family == AF_INET6;
    getsockopt(tx->fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_MTU : IP_MTU, &mtu, &mtu_size);
    int most = mtu - (v6 ? 48 : 28);
    if (mtu && segment > most)
        return kn_fail(err, KN_E_ARGUMENT, "gso: datagrams of %d bytes do not fit the path's MTU of %d (%d bytes do)",
                       segment, mtu, most);
    if (setsockopt(tx->fd, IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof segment))
        return kn_fail_errno(err, "gso: this kernel does not segment UDP");
    tx->segments = (unsigned)kn_least(SEGMENTS_MAX, KN_UDP_MAX / tx->size);
    return 0;
}

int kn_udp_tx_init(struct kn_udp_tx *tx, int fd, const struct kn_spec *spec, struct kn_error *err)
{
    bool paced = kn_spec_open_loop(spec);
    *tx = (struct kn_udp_tx){.fd = fd, .size = spec->size, .segments = 1, .paced = paced};
    tx->stamps = spec->size >= KN_UDP_HEAD_SIZE && !spec->own[KN_UDP_GSO];
    tx->stamp_all = paced || spec->tune == KN_TUNE_PLAIN;
    if (spec->own[KN_UDP_GSO] && set_segments(tx, err))
        return -1;
    tx->buf = kn_payload_new(tx->segments * tx->size);
    return tx->buf ? 0 : kn_fail(err, KN_E_MEMORY, "no memory for datagrams of %zu bytes", tx->size);
}

void kn_udp_tx_fini(struct kn_udp_tx *tx)
{
    free(tx->buf);
    tx->buf = NULL;
}

void kn_udp_tx_start(struct kn_udp_tx *tx, const struct kn_spec *spec, unsigned flow, uint64_t now_ns)
{
    if (spec->rate_per_1000s)
        kn_pace_init(&tx->pace, spec->rate_per_1000s, now_ns, flow, (unsigned)spec->flows);
    else if (spec->rate_bps)
        kn_pace_init_bits(&tx->pace, spec->rate_bps, spec->size, now_ns, flow, (unsigned)spec->flows);
}

void kn_udp_tx_measure(struct kn_udp_tx *tx)
{
    tx->measured = true;
    tx->seq = tx->sent = tx->drops = tx->errors = 0;
}

static void fill(struct kn_udp_tx *tx, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        kn_udp_head_put(tx->buf + i * tx->size, tx->size, tx->seq + i, tx->measured);
    if (tx->stamps) {
        uint64_t stamp = tx->stamp_all || tx->seq % SAMPLE_OF < 2 ? htole64(kn_now_ns()) : 0;
        memcpy(tx->buf + KN_UDP_SEQ_SIZE, &stamp, sizeof stamp);
    }
}

/* What routers and the other host say about datagrams that went before. True: they have said it for too long. */
static bool is_refused(struct kn_udp_tx *tx)
{
    uint64_t now_ns = kn_now_ns();
    kn_udp_forget_errors(tx->fd);
    tx->errors++;
    if (!tx->refused)
        tx->refused_ns = now_ns;
    tx->refused += 2;
    return tx->refused > REFUSED_MAX && now_ns - tx->refused_ns > REFUSED_NS;
}

/* A call failed: 1 where the datagrams are gone (this host dropped them), 0 where they may be tried later, -1 in the
 * end. */
static int take_failure(struct kn_udp_tx *tx, unsigned n, int why, struct kn_error *err)
{
    switch (why) {
    case EINTR:
    case EAGAIN: return 0;
    case ENOBUFS: /* the queue of this host's interface (heard of because of IP_RECVERR), or no memory for the socket */
    case ENOMEM:
    case EPERM: /* this host's own firewall */ tx->drops += n; return 1;
    case ECONNREFUSED:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EHOSTDOWN:
    case ENETDOWN:
    case EPROTO:
    case EMSGSIZE:
        if (!is_refused(tx))
            return 0;
    }
    errno = why;
    return kn_fail_errno(err, "cannot send datagrams any more");
}

int kn_udp_tx_burst(struct kn_udp_tx *tx, unsigned n, struct kn_error *err)
{
    unsigned done = 0;
    while (done < n) {
        unsigned now = (unsigned)kn_least(n - done, tx->segments);
        fill(tx, now);
        if (kn_send(tx->fd, tx->buf, now * tx->size, MSG_NOSIGNAL) >= 0) {
            tx->seq += now;
            tx->sent += now;
            tx->refused -= tx->refused > 0;
            done += now;
            continue;
        }
        int gone = take_failure(tx, now, errno, err);
        if (gone < 0)
            return -1;
        if (!gone)
            break;
        done += now;
    }
    if (tx->paced)
        kn_pace_take(&tx->pace, done);
    return (int)done;
}

void kn_udp_tx_count(const struct kn_udp_tx *tx, struct kn_figures *f)
{
    if (!tx->measured)
        return;
    f->tx_packets += tx->sent;
    f->tx_bytes += tx->sent * tx->size;
    f->send_drops += tx->drops;
    f->errors += tx->errors;
}
