/* tcp_crr with several connections at a time on one thread: sockets that never block it, and epoll.
 *
 * Six or seven calls a transaction: socket, connect, epoll_ctl, send, recv (twice where the end comes later), close.
 * What an event says already is not asked again. */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engines/crr/crr.h"
#include "net/io.h"
#include "run/loop.h"

#define LOOK_NS (50 * KN_NS_PER_MS) /* between two looks at what waits for too long */

enum step { IDLE, CONNECTING, SENDING, RECEIVING };

struct flow {
    int fd;
    enum step step;
    struct kn_crr_times times;
    uint64_t done; /* bytes of the request, then of the response */
};

struct many {
    struct kn_crr *c;
    struct kn_worker *w;
    struct flow *flows;
    unsigned *idle; /* flows without a connection: n_idle of them */
    struct kn_loop loop;
    unsigned n_idle;
    bool dry; /* nothing more to begin */
    uint64_t looked_ns;
};

static unsigned busy(const struct many *m)
{
    return m->w->n_flows - m->n_idle;
}

static void finish(struct many *m, struct flow *f)
{
    int why = errno;
    kn_crr_close(m->c, f->fd); /* takes it out of epoll too */
    f->step = IDLE;
    m->idle[m->n_idle++] = (unsigned)(f - m->flows);
    errno = why;
}

static int fail(struct many *m, struct flow *f, struct kn_error *err)
{
    finish(m, f);
    return kn_crr_failed(m->c, &f->times, kn_now_ns(), err);
}

static int begin(struct many *m, struct flow *f, uint64_t at_ns, struct kn_error *err)
{
    f->times = (struct kn_crr_times){.begun_ns = at_ns, .tried_ns = kn_crr_tried(m->c, at_ns)};
    f->fd = kn_crr_socket(m->c, SOCK_NONBLOCK);
    if (f->fd < 0)
        return kn_crr_failed(m->c, &f->times, kn_now_ns(), err);
    f->done = 0;
    f->step = CONNECTING;
    m->n_idle--; /* it was the last of them */
    bool refused = connect(f->fd, &m->w->peer.u.sa, m->w->peer.len) && errno != EINPROGRESS;
    if (refused || kn_loop_add(&m->loop, f->fd, KN_LOOP_ALL, (epoll_data_t){.u32 = (uint32_t)(f - m->flows)}))
        return fail(m, f, err);
    return 0;
}

/* Idle flows begin: all in a closed loop, else as many as are due. */
static int begin_all(struct many *m, uint64_t now_ns, struct kn_error *err)
{
    struct kn_pace *pace = &m->c->pace;
    for (unsigned left = m->n_idle; left && !m->dry; left--) { /* one that fails at once has its next turn later */
        uint64_t at_ns = pace->per ? kn_pace_due_ns(pace) : now_ns;
        if (at_ns > now_ns)
            break;
        if (at_ns >= m->w->end_ns || kn_worker_over(m->w, now_ns) || !kn_worker_take(m->w, 1)) {
            m->dry = true;
            break;
        }
        if (pace->per)
            kn_pace_take(pace, 1);
        if (begin(m, &m->flows[m->idle[m->n_idle - 1]], at_ns, err))
            return -1;
    }
    return 0;
}

/* 1: that step is done, 0: not yet, -1: failed. */
static int connected(struct flow *f, uint32_t events)
{
    if (!(events & (EPOLLOUT | EPOLLERR | EPOLLHUP)))
        return 0;
    if ((events & (EPOLLERR | EPOLLHUP)) && (errno = kn_socket_error(f->fd)))
        return -1;
    f->times.connected_ns = kn_now_ns();
    return 1;
}

static int send_more(const struct many *m, struct flow *f)
{
    while (f->done < m->c->request_size) {
        ssize_t n = kn_send(f->fd, m->c->request + f->done, m->c->request_size - f->done, MSG_NOSIGNAL);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR ? 0 : -1;
        f->done += (uint64_t)n;
    }
    f->done = 0;
    return 1;
}

/* The end that an event reported is behind all that was there to be read: who has read less than there was room for has
 * seen it. */
static int receive_more(const struct many *m, struct flow *f, uint32_t events)
{
    const bool ended = (events & KN_LOOP_ENDS) == EPOLLRDHUP;
    const uint64_t whole = m->c->spec->response_size;
    for (;;) {
        ssize_t n = kn_recv(f->fd, m->c->response, KN_CRR_CHUNK, 0);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR ? 0 : -1;
        f->done += (uint64_t)n;
        if (n == 0 || f->done > whole || (ended && n < KN_CRR_CHUNK))
            return f->done == whole ? 1 : -1;
    }
}

static int step_on(struct many *m, struct flow *f, uint32_t events, struct kn_error *err)
{
    int done = 1;
    if (f->step == CONNECTING) {
        done = connected(f, events);
        if (done > 0)
            f->step = SENDING;
    }
    if (f->step == SENDING) {
        done = send_more(m, f);
        if (done > 0)
            f->step = RECEIVING;
        if (done > 0 && !(events & (EPOLLIN | KN_LOOP_ENDS)))
            done = 0; /* the response is an event of its own */
    }
    if (done > 0 && f->step == RECEIVING)
        done = receive_more(m, f, events);
    if (done < 0)
        return fail(m, f, err);
    if (done > 0) {
        finish(m, f);
        kn_crr_done(m->c, &f->times, kn_now_ns());
    }
    return 0;
}

static int end_stuck(struct many *m, uint64_t now_ns, struct kn_error *err)
{
    if (now_ns - m->looked_ns < LOOK_NS)
        return 0;
    m->looked_ns = now_ns;
    for (unsigned i = 0; i < m->w->n_flows; i++) {
        struct flow *f = &m->flows[i];
        errno = ETIMEDOUT;
        if (f->step != IDLE && now_ns > f->times.begun_ns && now_ns - f->times.begun_ns > m->c->spec->timeout_ns &&
            fail(m, f, err))
            return -1;
    }
    return 0;
}

static uint64_t wake_at(const struct many *m, uint64_t now_ns)
{
    uint64_t until_ns = now_ns + LOOK_NS;
    const struct kn_pace *pace = &m->c->pace;
    if (pace->per && !m->dry && m->n_idle && kn_pace_due_ns(pace) < until_ns)
        until_ns = kn_pace_due_ns(pace);
    if (m->w->end_ns > now_ns && m->w->end_ns < until_ns)
        until_ns = m->w->end_ns;
    return until_ns;
}

/* What is under way at the end is awaited, so that both sides count alike. */
static int loop(struct many *m, struct kn_error *err)
{
    uint64_t now_ns = kn_now_ns();
    while (!kn_worker_stopped(m->w) && (!m->dry || busy(m))) {
        m->dry = m->dry || kn_worker_over(m->w, now_ns);
        if (begin_all(m, now_ns, err) || end_stuck(m, now_ns, err))
            return -1;
        unsigned n = m->dry && !busy(m) ? 0 : kn_loop_wait(&m->loop, now_ns, wake_at(m, now_ns));
        for (unsigned i = 0; i < n; i++) {
            struct flow *f = &m->flows[m->loop.events[i].data.u32];
            if (f->step != IDLE && step_on(m, f, m->loop.events[i].events, err))
                return -1;
        }
        now_ns = kn_now_ns();
    }
    return 0;
}

int kn_crr_many(struct kn_crr *c, struct kn_error *err)
{
    struct many m = {.c = c, .w = c->w, .loop = {.ep = -1}};
    int failed = -1;
    m.flows = calloc(c->w->n_flows, sizeof *m.flows);
    m.idle = calloc(c->w->n_flows, sizeof *m.idle);
    for (; m.idle && m.n_idle < c->w->n_flows; m.n_idle++)
        m.idle[m.n_idle] = c->w->n_flows - 1 - m.n_idle;
    if (!m.flows || !m.idle)
        kn_fail(err, KN_E_MEMORY, "out of memory for %u flows", c->w->n_flows);
    else if (!kn_loop_init(&m.loop, kn_worker_wait(c->w), c->w->stop, err))
        failed = loop(&m, err);
    for (unsigned i = 0; m.flows && m.idle && i < c->w->n_flows; i++)
        if (m.flows[i].step != IDLE)
            finish(&m, &m.flows[i]);
    kn_loop_fini(&m.loop);
    free(m.flows);
    free(m.idle);
    return failed;
}
