/* Streams on the agent's side over many flows: sockets that never block, a few calls a flow in turn, so that all get
 * their share. */
#include <errno.h>

#include "core/pace.h"
#include "engines/engines.h"
#include "engines/stream/stream.h"
#include "net/io.h"
#include "run/desk.h"
#include "run/payload.h"

#define CALLS 4
#define CHUNK_MAX (1u << 20)

struct flow {
    struct kn_desk_flow desk;
    size_t chunk;                   /* of what is sent at once */
    uint64_t sent, left, before_ns; /* left: of the chunk under way; before_ns: of the last look at what came */
    struct kn_pace pace;
    bool sends;
};

/* What sends a file or without copying has a thread of its own: nothing waits for room there without one. */
static bool takes(const struct kn_spec *spec)
{
    bool plain = spec->test != &kn_tcp_sendfile && !spec->own[KN_STREAM_ZEROCOPY];
    return plain || !(spec->reverse || spec->bidir);
}

static void *share(const struct kn_spec *spec)
{
    return kn_payload_new(spec->size < CHUNK_MAX ? (size_t)spec->size : CHUNK_MAX);
}

static int begin(struct kn_desk_flow *flow, struct kn_error *err)
{
    struct flow *f = (struct flow *)flow;
    const struct kn_spec *spec = flow->s.spec;
    (void)err;
    f->sends = spec->reverse || spec->bidir;
    f->chunk = spec->size < CHUNK_MAX ? (size_t)spec->size : CHUNK_MAX;
    f->before_ns = flow->seat->now_ns;
    if (spec->rate_bps) {
        f->chunk = kn_stream_piece(spec, f->chunk);
        kn_pace_init_bits(&f->pace, spec->rate_bps, f->chunk, flow->s.start_ns, flow->s.hello->flow,
                          (unsigned)spec->flows);
    }
    if (f->sends)
        kn_stream_bound_queue(spec, flow->fd);
    return 0;
}

/* ---- sending ---- */

/* A server that sends cannot know how much of `count` its flow has; all of it is enough. */
static bool sent_all(const struct flow *f)
{
    const struct kn_spec *spec = f->desk.s.spec;
    return f->desk.seat->now_ns >= f->desk.s.end_ns || (spec->count && f->sent / spec->size >= spec->count);
}

/* Whether there is something to send now. */
static bool may_send(struct flow *f)
{
    if (f->left)
        return true;
    if (f->pace.per && kn_pace_due_ns(&f->pace) > f->desk.seat->now_ns) {
        kn_desk_wake(&f->desk, kn_pace_due_ns(&f->pace));
        return false;
    }
    if (f->pace.per)
        kn_pace_take(&f->pace, 1);
    f->left = f->chunk;
    return true;
}

static enum kn_desk_next send_some(struct flow *f)
{
    for (int i = 0; i < CALLS; i++) {
        if (!may_send(f))
            return KN_DESK_WAIT;
        ssize_t n = kn_send(f->desk.fd, f->desk.shared, (size_t)f->left, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR ? KN_DESK_WAIT : KN_DESK_FAILED;
        f->sent += (uint64_t)n;
        f->left -= (uint64_t)n;
        f->desk.turns++;
        if (!kn_served_moves(&f->desk.s, (uint64_t)n))
            return KN_DESK_LIMIT;
        if (kn_desk_measures(&f->desk))
            f->desk.s.figures.tx_bytes += (uint64_t)n;
    }
    return KN_DESK_AGAIN;
}

/* ---- receiving ---- */

static void count(struct flow *f, uint64_t n)
{
    const struct kn_served *s = &f->desk.s;
    const struct kn_side window = {.open_ns = s->open_ns, .end_ns = s->end_ns};
    uint64_t now_ns = f->desk.seat->now_ns, in = kn_stream_share(&window, n, f->before_ns, now_ns);
    f->before_ns = now_ns;
    f->desk.turns++;
    f->desk.s.figures.rx_bytes += in;
    if (in)
        kn_desk_series(&f->desk, in, 0);
}

static enum kn_desk_next over(struct flow *f)
{
    const struct kn_spec *spec = f->desk.s.spec;
    struct kn_figures *figures = &f->desk.s.figures;
    if (spec->test == &kn_tcp_bw || spec->count)
        figures->ops += figures->rx_bytes / spec->size;
    return KN_DESK_OVER;
}

static enum kn_desk_next receive_some(struct flow *f, uint32_t events)
{
    for (int i = 0; i < CALLS; i++) {
        ssize_t n = kn_recv(f->desk.fd, f->desk.seat->room, KN_DESK_ROOM, MSG_DONTWAIT);
        if (n == 0)
            return over(f);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR ? KN_DESK_WAIT : KN_DESK_FAILED;
        if (!kn_served_moves(&f->desk.s, (uint64_t)n))
            return KN_DESK_LIMIT;
        count(f, (uint64_t)n);
        if ((size_t)n < KN_DESK_ROOM && !(events & KN_LOOP_ENDS))
            return KN_DESK_WAIT;
    }
    return KN_DESK_AGAIN;
}

static enum kn_desk_next serve(struct kn_desk_flow *flow, uint32_t events)
{
    struct flow *f = (struct flow *)flow;
    enum kn_desk_next sent = KN_DESK_WAIT;
    if (f->sends && sent_all(f))
        f->sends = false;
    if (f->sends)
        sent = send_some(f);
    if (sent == KN_DESK_FAILED || sent == KN_DESK_LIMIT)
        return sent;
    enum kn_desk_next received = receive_some(f, events);
    return received == KN_DESK_WAIT ? sent : received;
}

const struct kn_desk_test kn_stream_desk = {
    .size = sizeof(struct flow), .takes = takes, .share = share, .begin = begin, .serve = serve};
