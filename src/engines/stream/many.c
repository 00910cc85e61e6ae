/* Streams over more flows than threads: sockets that never block, epoll, one call a socket in turn, so that all get
 * their share. */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "core/pace.h"
#include "engines/engines.h"
#include "engines/stream/stream.h"
#include "net/io.h"
#include "run/dial.h"
#include "run/flow.h"

struct flow {
    int fd;
    bool watched, dry; /* waits in epoll for room; has sent or received what there was */
    uint64_t left;     /* of what `count` or the rate gave it to send or, of `count`, to receive */
    uint64_t moved;    /* bytes inside the window */
    uint64_t counted;  /* of `count`, and not due yet by the rate */
    struct kn_pace pace;
};

struct many {
    struct kn_worker *w;
    const struct kn_spec *spec;
    struct kn_side side; /* all flows together: the window and the figures */
    struct flow *flows;
    struct kn_source source; /* its bytes are also where what comes is put */
    size_t chunk;
    struct kn_loop loop;
    struct kn_dial *dials;
    unsigned alive;
    bool sends, receives;
    uint64_t sent, base, before_ns;
};

static void forget(struct many *m, struct flow *f)
{
    kn_flow_abandon(m->w, f->fd, m->w->first_flow + (unsigned)(f - m->flows));
    f->fd = -1;
    m->alive--;
    kn_worker_stray(m->w, KN_ENDED_ERROR, kn_now_ns());
}

/* A server that closes is heard of though nothing can be sent: EPOLLRDHUP. */
static uint32_t events_of(const struct many *m, bool room)
{
    return (uint32_t)EPOLLRDHUP | (m->receives ? (uint32_t)EPOLLIN : 0) | (room ? (uint32_t)EPOLLOUT : 0);
}

static void watch(struct many *m, struct flow *f, bool room)
{
    f->watched = room;
    kn_loop_change(&m->loop, f->fd, events_of(m, room), (epoll_data_t){.u32 = (uint32_t)(f - m->flows)});
}

/* What this flow may send now: all it likes, or what is due or counted. */
static uint64_t allowance(struct many *m, struct flow *f, uint64_t now_ns)
{
    if (f->left || f->dry)
        return f->left;
    if (m->spec->rate_bps) {
        if (kn_pace_due_ns(&f->pace) > now_ns)
            return 0;
        kn_pace_take(&f->pace, 1);
        f->left = m->chunk;
        if (m->spec->count && f->counted < m->chunk)
            f->counted += kn_worker_take(m->w, 1) * m->spec->size;
        if (m->spec->count && f->left > f->counted)
            f->left = f->counted;
        f->counted -= m->spec->count ? f->left : 0;
        f->dry = f->left == 0;
    } else if (m->spec->count) {
        f->left = kn_worker_take(m->w, 1) * m->spec->size;
        f->dry = f->left == 0;
    } else {
        f->left = m->chunk;
    }
    return f->left;
}

static void push(struct many *m, struct flow *f, uint64_t now_ns)
{
    uint64_t most = allowance(m, f, now_ns);
    size_t size = m->source.hot ? KN_STREAM_CALL_MAX : most < m->chunk ? (size_t)most : m->chunk;
    if (!most) {
        if (f->watched)
            watch(m, f, false);
        return;
    }
    ssize_t n = kn_source_send(&m->source, f->fd, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        forget(m, f);
        return;
    }
    if (n > 0) {
        f->left -= m->source.hot ? 0 : (uint64_t)n;
        m->sent += (uint64_t)n;
        f->moved += kn_worker_measures(m->w, now_ns) ? (uint64_t)n : 0;
    }
    if (!f->watched)
        watch(m, f, true);
}

static bool counts_what_comes(const struct many *m)
{
    return m->spec->count && !m->sends;
}

/* The next message that this flow has to receive. Without one it is done with, though its server may send on. */
static void expect(struct many *m, struct flow *f)
{
    f->left = kn_worker_take(m->w, 1) * m->spec->size;
    f->dry = f->left == 0;
    if (f->dry)
        kn_loop_remove(&m->loop, f->fd);
}

static void pull(struct many *m, struct flow *f)
{
    struct kn_side *a = &m->side;
    size_t room = KN_STREAM_CHUNK_MAX / 16;
    if (counts_what_comes(m) && f->left < room)
        room = (size_t)f->left;
    ssize_t n = kn_recv(f->fd, m->source.buf, room, MSG_DONTWAIT);
    uint64_t now_ns = kn_now_ns();
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        forget(m, f);
        return;
    }
    if (counts_what_comes(m) && (f->left -= (uint64_t)n) == 0)
        expect(m, f);
    uint64_t in = now_ns < a->open_ns ? 0 : kn_stream_share(a, (uint64_t)n, m->before_ns, now_ns);
    m->before_ns = now_ns;
    if (!in)
        return;
    a->f->rx_bytes += in;
    f->moved += in;
    kn_figures_add(a->f, (now_ns < a->end_ns ? now_ns : a->end_ns - 1) - a->open_ns, in, 0);
}

static bool tick(struct many *m, uint64_t now_ns)
{
    struct kn_side *a = &m->side;
    if (now_ns >= a->open_ns && !a->opened) {
        kn_side_open(a);
        m->base = m->sent;
    }
    if (a->opened) {
        if (m->sends)
            a->f->tx_bytes = m->sent - m->base;
        atomic_store_explicit(&m->w->live_bytes, m->sends ? a->f->tx_bytes : a->f->rx_bytes, memory_order_relaxed);
    }
    bool left = !m->spec->count;
    for (unsigned i = 0; i < m->w->n_flows && !left; i++)
        left = m->flows[i].fd >= 0 && !m->flows[i].dry;
    return left && m->alive && !kn_worker_over(m->w, now_ns);
}

static uint64_t wake_at(const struct many *m, uint64_t now_ns)
{
    uint64_t until_ns = now_ns + KN_LOOP_STEP_NS;
    for (unsigned i = 0; m->spec->rate_bps && i < m->w->n_flows; i++)
        if (m->flows[i].fd >= 0 && !m->flows[i].left && !m->flows[i].dry &&
            kn_pace_due_ns(&m->flows[i].pace) < until_ns)
            until_ns = kn_pace_due_ns(&m->flows[i].pace);
    return m->w->end_ns < until_ns ? m->w->end_ns : until_ns;
}

static void take_event(struct many *m, struct flow *f, uint32_t events, uint64_t now_ns)
{
    if (f->fd >= 0 && m->receives && (events & ~(uint32_t)EPOLLOUT))
        pull(m, f);
    if (f->fd >= 0 && !m->receives && (events & EPOLLRDHUP))
        forget(m, f);
    if (f->fd >= 0 && m->sends && (events & (EPOLLOUT | EPOLLERR | EPOLLHUP)))
        push(m, f, now_ns);
}

static void loop(struct many *m)
{
    uint64_t now_ns = m->before_ns = kn_now_ns();
    while (tick(m, now_ns)) {
        for (unsigned i = 0; m->spec->rate_bps && i < m->w->n_flows; i++)
            if (m->flows[i].fd >= 0 && !m->flows[i].watched && m->sends)
                push(m, &m->flows[i], now_ns);
        unsigned n = kn_loop_wait(&m->loop, now_ns, wake_at(m, now_ns));
        now_ns = kn_now_ns();
        for (unsigned i = 0; i < n; i++)
            take_event(m, &m->flows[m->loop.events[i].data.u32], m->loop.events[i].events, now_ns);
    }
    kn_side_close(&m->side);
    kn_worker_cpu_close(m->w);
}

/* ---- opening and closing ---- */

static int open_flows(struct many *m, struct kn_error *err)
{
    if (kn_dial_all(m->w, &m->loop, m->dials, err))
        return -1;
    for (unsigned i = 0; i < m->w->n_flows; i++) {
        m->flows[i].fd = m->dials[i].fd;
        m->dials[i].fd = -1;
        m->alive++;
        unsigned unsent = m->sends ? kn_stream_bound_queue(m->spec, m->flows[i].fd) : 0;
        if (unsent)
            kn_worker_chosen(m->w, "unsent", "at most %u", unsent);
        watch(m, &m->flows[i], m->sends);
    }
    return 0;
}

static int make_source(struct many *m, struct kn_error *err)
{
    m->chunk = m->spec->size < KN_STREAM_CHUNK_MAX ? (size_t)m->spec->size : KN_STREAM_CHUNK_MAX;
    if (m->spec->rate_bps)
        m->chunk = kn_stream_piece(m->spec, m->chunk);
    m->source.hot = kn_stream_tunes(m->spec) && kn_stream_free_size(m->spec) && m->spec->test != &kn_tcp_sendfile;
    if (m->source.hot && m->sends)
        kn_worker_chosen(m->w, "write", "%u of the same 16 KiB", KN_STREAM_CALL_MAX);
    m->flows = calloc(m->w->n_flows, sizeof *m->flows);
    m->dials = kn_dials_new(m->w->n_flows);
    if (!m->flows || !m->dials)
        return kn_fail(err, KN_E_MEMORY, "out of memory for %u flows", m->w->n_flows);
    for (unsigned i = 0; i < m->w->n_flows; i++)
        m->flows[i].fd = -1;
    if (kn_loop_init(&m->loop, KN_WAIT_BLOCK, m->w->stop, err))
        return -1;
    return kn_source_init(&m->source, m->spec, KN_STREAM_CHUNK_MAX, m->chunk, err);
}

static int run(struct many *m, struct kn_error *err)
{
    struct kn_worker *w = m->w;
    int failed = 0;
    if (make_source(m, err) || open_flows(m, err) || kn_worker_ready(w, err))
        return -1;
    m->side = kn_side_of(w, -1);
    for (unsigned i = 0; i < w->n_flows; i++) {
        if (m->spec->rate_bps)
            kn_pace_init_bits(&m->flows[i].pace, m->spec->rate_bps, m->chunk, w->start_ns, w->first_flow + i,
                              (unsigned)m->spec->flows);
        if (counts_what_comes(m))
            expect(m, &m->flows[i]);
        if (kn_flow_go(m->flows[i].fd, err))
            return -1;
    }
    loop(m);
    if (!m->alive)
        return kn_fail(err, KN_E_LOST, "the server closed every flow in the middle of the run");
    if (m->receives && (m->spec->test == &kn_tcp_bw || m->spec->count))
        w->figures.ops += w->figures.rx_bytes / m->spec->size;
    for (unsigned i = 0; i < w->n_flows; i++) {
        int fd = m->flows[i].fd;
        kn_figures_flow(&w->figures, m->flows[i].moved);
        m->flows[i].fd = -1;
        if (fd >= 0 && !failed)
            failed = kn_flow_close(w, fd, w->first_flow + i, NULL, 0, err);
        else if (fd >= 0)
            kn_flow_abandon(w, fd, w->first_flow + i);
    }
    return failed;
}

int kn_stream_many(struct kn_worker *w, struct kn_error *err)
{
    struct many m = {.w = w,
                     .spec = w->spec,
                     .source = {.file = -1},
                     .loop = {.ep = -1},
                     .sends = !w->spec->reverse,
                     .receives = w->spec->reverse || w->spec->bidir};
    sigset_t before;
    kn_sigpipe_block(&before);
    int failed = run(&m, err);
    kn_sigpipe_restore(&before);
    for (unsigned i = 0; m.flows && i < w->n_flows; i++)
        if (m.flows[i].fd >= 0)
            kn_flow_abandon(w, m.flows[i].fd, w->first_flow + i);
    kn_source_fini(&m.source);
    kn_dials_free(w, m.dials);
    kn_loop_fini(&m.loop);
    free(m.flows);
    return failed;
}
