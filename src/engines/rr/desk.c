/* tcp_rr and tcp_lat on the agent's side over many flows: sockets that never block. */
#include <errno.h>

#include "engines/rr/rr.h"
#include "net/io.h"
#include "run/desk.h"
#include "run/payload.h"

struct flow {
    struct kn_desk_flow desk;
    uint64_t have;    /* bytes of a request that is not whole yet */
    uint64_t owed;    /* bytes of responses that have not gone out yet */
    uint64_t delayed; /* requests whose answer waits for its time, due_ns for the first */
    uint64_t due_ns;
};

/* 1 sent, 0 not all of it, -1 it cannot be. */
static int flush(struct flow *f)
{
    while (f->owed) {
        size_t size = f->owed < KN_PAYLOAD_SIZE ? (size_t)f->owed : KN_PAYLOAD_SIZE;
        ssize_t n = kn_send(f->desk.fd, kn_payload(), size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN)
            return 0;
        if (n < 0 && errno != EINTR)
            return -1;
        f->owed -= n > 0 ? (uint64_t)n : 0;
    }
    return 1;
}

static void delay(struct flow *f, uint64_t n)
{
    if (!f->delayed)
        f->due_ns = kn_now_ns() + f->desk.s.spec->delay_ns; /* the turn may have begun before it came */
    f->delayed += n;
    kn_desk_wake(&f->desk, f->due_ns);
}

/* One after the other, as a thread would answer them. */
static void end_delays(struct flow *f)
{
    const struct kn_spec *spec = f->desk.s.spec;
    for (; f->delayed && f->due_ns <= f->desk.seat->now_ns; f->delayed--) {
        f->owed += spec->response_size;
        f->due_ns += spec->delay_ns;
    }
    if (f->delayed)
        kn_desk_wake(&f->desk, f->due_ns);
}

/* False: more than the agent allows. */
static bool take(struct flow *f, uint64_t n)
{
    const struct kn_spec *spec = f->desk.s.spec;
    struct kn_figures *figures = &f->desk.s.figures;
    f->have += n;
    uint64_t requests = f->have < spec->size ? 0 : f->have == spec->size ? 1 : f->have / spec->size;
    f->have -= requests * spec->size;
    f->desk.turns++;
    if (spec->delay_ns && requests)
        delay(f, requests);
    else
        f->owed += requests * spec->response_size;
    if (!kn_served_moves(&f->desk.s, n + requests * spec->response_size))
        return false;
    if (!kn_desk_measures(&f->desk))
        return true;
    figures->ops += requests;
    figures->rx_bytes += n;
    figures->tx_bytes += requests * spec->response_size;
    return true;
}

/* Nothing is read before what is owed is sent: a client that reads nothing gets nothing more to read. */
static enum kn_desk_next serve(struct kn_desk_flow *flow, uint32_t events)
{
    struct flow *f = (struct flow *)flow;
    end_delays(f);
    int sent = flush(f);
    for (int i = 0; i < KN_DESK_CALLS && sent > 0; i++) {
        ssize_t n = kn_recv(flow->fd, flow->seat->room, KN_DESK_ROOM, MSG_DONTWAIT);
        if (n == 0)
            return f->delayed ? KN_DESK_WAIT : KN_DESK_OVER;
        if (n < 0)
            return errno == EAGAIN || errno == EINTR ? KN_DESK_WAIT : KN_DESK_FAILED;
        if (!take(f, (uint64_t)n))
            return KN_DESK_LIMIT;
        sent = f->owed ? flush(f) : 1;
        if (sent > 0 && (size_t)n < KN_DESK_ROOM && !(events & KN_LOOP_ENDS))
            return KN_DESK_WAIT;
    }
    return sent < 0 ? KN_DESK_FAILED : sent ? KN_DESK_AGAIN : KN_DESK_WAIT;
}

const struct kn_desk_test kn_rr_desk = {.size = sizeof(struct flow), .serve = serve};
