/* tcp_crr with several connections at a time on one thread: sockets that never block it, and epoll. */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engines/crr_client.h"

#define EVENTS 64
#define SLEEP_MAX_NS (50 * KN_NS_PER_MS)

enum step { IDLE, CONNECTING, SENDING, RECEIVING };

struct flow {
    int fd;
    enum step step;
    uint64_t begun_ns, connected_ns;
    uint64_t done;                   /* bytes of the request, then of the response */
};

struct many {
    struct kn_crr *c;
    struct kn_worker *w;
    struct flow *flows;
    int epoll;
    unsigned busy;
    bool dry;                        /* nothing more to begin */
    uint64_t looked_ns;
};

static void finish(struct many *m, struct flow *f)
{
    int why = errno;
    kn_flow_unwatch(m->w, m->w->first_flow + (unsigned)(f - m->flows));
    close(f->fd); /* takes it out of epoll too */
    f->step = IDLE;
    m->busy--;
    errno = why;
}

static int fail(struct many *m, struct flow *f, struct kn_error *err)
{
    bool connected = f->step > CONNECTING;
    finish(m, f);
    return kn_crr_failed(m->c, connected, f->begun_ns, kn_now_ns(), err);
}

static int begin(struct many *m, struct flow *f, uint64_t at_ns, struct kn_error *err)
{
    f->fd = kn_crr_socket(m->c, SOCK_NONBLOCK);
    if (f->fd < 0)
        return kn_crr_failed(m->c, false, at_ns, kn_now_ns(), err);
    f->begun_ns = at_ns;
    f->done = 0;
    f->step = CONNECTING;
    m->busy++;
    kn_flow_watch(m->w, m->w->first_flow + (unsigned)(f - m->flows), f->fd);
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | (uint32_t)EPOLLET, .data.u32 = (uint32_t)(f - m->flows)};
    bool refused = connect(f->fd, &m->w->peer.u.sa, m->w->peer.len) && errno != EINPROGRESS;
    if (refused || epoll_ctl(m->epoll, EPOLL_CTL_ADD, f->fd, &e))
        return fail(m, f, err);
    return 0;
}

/* Idle flows begin: all in a closed loop, else as many as are due. */
static int begin_all(struct many *m, uint64_t now_ns, struct kn_error *err)
{
    struct kn_pace *pace = &m->c->pace;
    for (unsigned i = 0; i < m->w->n_flows && !m->dry; i++) {
        uint64_t at_ns = pace->per ? kn_pace_due_ns(pace) : now_ns;
        if (m->flows[i].step != IDLE)
            continue;
        if (at_ns > now_ns)
            break;
        if (at_ns >= m->w->end_ns || kn_worker_over(m->w, now_ns) || !kn_worker_take(m->w, 1)) {
            m->dry = true;
            break;
        }
        if (pace->per)
            kn_pace_take(pace, 1);
        if (begin(m, &m->flows[i], at_ns, err))
            return -1;
    }
    return 0;
}

/* 1: that step is done, 0: not yet, -1: failed. */
static int connected(struct flow *f)
{
    int failure = 0;
    socklen_t size = sizeof failure;
    if (getsockopt(f->fd, SOL_SOCKET, SO_ERROR, &failure, &size) || failure) {
        errno = failure ? failure : errno;
        return -1;
    }
    f->connected_ns = kn_now_ns();
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

static int receive_more(const struct many *m, struct flow *f)
{
    for (;;) {
        ssize_t n = kn_recv(f->fd, m->c->response, KN_CRR_CHUNK, 0);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR ? 0 : -1;
        f->done += (uint64_t)n;
        if (n == 0 || f->done > m->c->spec->response_size)
            return f->done == m->c->spec->response_size ? 1 : -1;
    }
}

static int step_on(struct many *m, struct flow *f, uint32_t events, struct kn_error *err)
{
    int done = 1;
    if (f->step == CONNECTING) {
        done = events & (EPOLLOUT | EPOLLERR | EPOLLHUP) ? connected(f) : 0;
        if (done > 0)
            f->step = SENDING;
    }
    if (done > 0 && f->step == SENDING) {
        done = send_more(m, f);
        if (done > 0)
            f->step = RECEIVING;
    }
    if (done > 0 && f->step == RECEIVING)
        done = receive_more(m, f);
    if (done < 0)
        return fail(m, f, err);
    if (done > 0) {
        finish(m, f);
        kn_crr_done(m->c, f->begun_ns, f->connected_ns, kn_now_ns());
    }
    return 0;
}

static int end_stuck(struct many *m, uint64_t now_ns, struct kn_error *err)
{
    if (now_ns - m->looked_ns < SLEEP_MAX_NS)
        return 0;
    m->looked_ns = now_ns;
    for (unsigned i = 0; i < m->w->n_flows; i++) {
        struct flow *f = &m->flows[i];
        errno = ETIMEDOUT;
        if (f->step != IDLE && now_ns > f->begun_ns && now_ns - f->begun_ns > m->c->spec->timeout_ns && fail(m, f, err))
            return -1;
    }
    return 0;
}

static uint64_t sleep_ns(const struct many *m, uint64_t now_ns)
{
    uint64_t until_ns = now_ns + SLEEP_MAX_NS;
    const struct kn_pace *pace = &m->c->pace;
    if (pace->per && !m->dry && m->busy < m->w->n_flows && kn_pace_due_ns(pace) < until_ns)
        until_ns = kn_pace_due_ns(pace);
    if (m->w->end_ns > now_ns && m->w->end_ns < until_ns)
        until_ns = m->w->end_ns;
    return until_ns > now_ns ? until_ns - now_ns : 0;
}

/* What is under way at the end is awaited, so that both sides count alike. */
static int loop(struct many *m, struct kn_error *err)
{
    struct epoll_event events[EVENTS];
    uint64_t now_ns = kn_now_ns();
    while (!kn_worker_stopped(m->w) && (!m->dry || m->busy)) {
        m->dry = m->dry || kn_worker_over(m->w, now_ns);
        if (begin_all(m, now_ns, err) || end_stuck(m, now_ns, err))
            return -1;
        uint64_t for_ns = sleep_ns(m, now_ns);
        struct timespec t = {.tv_nsec = (long)for_ns};
        int n = m->dry && !m->busy ? 0 : epoll_pwait2(m->epoll, events, EVENTS, &t, NULL);
        for (int i = 0; i < n; i++) {
            struct flow *f = &m->flows[events[i].data.u32];
            if (f->step != IDLE && step_on(m, f, events[i].events, err))
                return -1;
        }
        now_ns = kn_now_ns();
    }
    return 0;
}

int kn_crr_many(struct kn_crr *c, struct kn_error *err)
{
    struct many m = {.c = c, .w = c->w};
    int failed = -1;
    m.epoll = epoll_create1(EPOLL_CLOEXEC);
    m.flows = calloc(c->w->n_flows, sizeof *m.flows);
    if (m.epoll < 0)
        kn_fail_errno(err, "cannot wait for many flows");
    else if (!m.flows)
        kn_fail(err, KN_E_MEMORY, "no memory for %u flows", c->w->n_flows);
    else
        failed = loop(&m, err);
    for (unsigned i = 0; m.flows && i < c->w->n_flows; i++)
        if (m.flows[i].step != IDLE)
            finish(&m, &m.flows[i]);
    if (m.epoll >= 0)
        close(m.epoll);
    free(m.flows);
    return failed;
}
