/* udp_rr on the agent's side over many flows: sockets that never block. */
#include <errno.h>
#include <string.h>

#include "engines/udp/sequence.h"
#include "engines/udp/udp_rr.h"
#include "net/io.h"
#include "run/desk.h"
#include "run/flow_udp.h"
#include "run/payload.h"

struct flow {
    struct kn_desk_flow desk;
    size_t head;       /* bytes of the number that come and go back */
    uint64_t heard_ns; /* the last time that the client said something */
};

static bool takes(const struct kn_spec *spec)
{
    return !spec->delay_ns;
}

static int begin(struct kn_desk_flow *flow, struct kn_error *err)
{
    struct flow *f = (struct flow *)flow;
    const struct kn_spec *spec = flow->s.spec;
    (void)err;
    f->head = kn_least(kn_least(spec->size, spec->response_size), KN_UDP_SEQ_SIZE);
    f->heard_ns = kn_now_ns();
    kn_udp_buffers(flow->fd, spec, false);
    return 0;
}

/* Behind the requests in the room: what goes back has the number of what came. */
static void answer(struct flow *f)
{
    struct kn_served *s = &f->desk.s;
    uint8_t *in = f->desk.seat->room, *out = in + KN_UDP_RR_ROOM;
    bool measured = in[0] & 1;
    size_t size = (size_t)s->spec->response_size;
    if (measured && !s->opened && !s->open_ns)
        s->open_ns = f->desk.seat->now_ns;
    kn_payload_fill(out, size);
    memcpy(out, in, f->head);
    ssize_t n = kn_send(f->desk.fd, out, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    f->desk.turns++;
    if (!measured)
        return;
    s->figures.send_drops += n < 0;
    s->figures.ops += n >= 0;
    s->figures.rx_bytes += n >= 0 ? s->spec->size : 0;
    s->figures.tx_bytes += n >= 0 ? size : 0;
}

static enum kn_desk_next take(struct flow *f, size_t n)
{
    struct kn_served *s = &f->desk.s;
    const uint8_t *in = f->desk.seat->room;
    size_t size = (size_t)s->spec->size;
    f->heard_ns = f->desk.seat->now_ns;
    enum kn_udp_next next = KN_UDP_IS_TEST;
    if (n != size || !memcmp(in, "KNB", size < 3 ? size : 3))
        next = kn_served_datagram(s, f->desk.fd, in, n);
    if (next == KN_UDP_IS_TEST && n == size)
        answer(f);
    if (!kn_served_moves(s, n + s->spec->response_size))
        return KN_DESK_LIMIT;
    return next == KN_UDP_WANTS_ACCOUNT ? KN_DESK_OVER : KN_DESK_AGAIN;
}

static enum kn_desk_next serve(struct kn_desk_flow *flow, uint32_t events)
{
    struct flow *f = (struct flow *)flow;
    (void)events;
    for (int i = 0; i < KN_DESK_CALLS; i++) {
        ssize_t n = kn_recv(flow->fd, flow->seat->room, KN_UDP_RR_ROOM, MSG_DONTWAIT);
        enum kn_desk_next next = n >= 0 ? take(f, (size_t)n) : KN_DESK_AGAIN;
        if (next != KN_DESK_AGAIN)
            return next;
        if (n >= 0 || errno == EINTR || errno == ECONNREFUSED)
            continue;
        if (errno != EAGAIN)
            return KN_DESK_FAILED;
        return kn_served_forsaken(&flow->s, f->heard_ns, flow->seat->now_ns) ? KN_DESK_OVER : KN_DESK_WAIT;
    }
    return KN_DESK_AGAIN;
}

const struct kn_desk_test kn_udp_rr_desk = {
    .size = sizeof(struct flow), .takes = takes, .begin = begin, .serve = serve};
