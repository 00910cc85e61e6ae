#include "run/dial.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/io.h"
#include "run/flow.h"

#define OPEN_TIMEOUT_NS (5 * KN_NS_PER_S)
#define AT_ONCE 128 /* flows that are opened at the same time; few enough for any listener's queue */

/* ---- one flow ---- */

static void drop_hello(struct kn_dial *d)
{
    free(d->hello);
    d->hello = NULL;
}

void kn_dial_end(struct kn_worker *w, unsigned flow, struct kn_dial *d)
{
    drop_hello(d);
    kn_flow_abandon(w, d->fd, flow);
    d->fd = -1;
    d->step = KN_DIAL_IDLE;
}

static int fail(struct kn_worker *w, unsigned flow, struct kn_dial *d, struct kn_error *err)
{
    char text[KN_ADDR_TEXT_MAX];
    kn_error_context(err, "flow %u to %s", flow, kn_addr_text(&w->peer, text, sizeof text));
    kn_dial_end(w, flow, d);
    return -1;
}

static int no_socket(const struct kn_worker *w, struct kn_error *err)
{
    if (errno == EMFILE || errno == ENFILE)
        return kn_fail(err, KN_E_LIMIT, "flows %llu need more open files than this process may have (ulimit -n)",
                       (unsigned long long)w->spec->flows);
    return kn_fail_errno(err, "socket");
}

int kn_dial_begin(struct kn_worker *w, const struct kn_loop *l, unsigned flow, epoll_data_t data, struct kn_dial *d,
                  struct kn_error *err)
{
    const struct kn_addr *to = &w->peer;
    *d = (struct kn_dial){.step = KN_DIAL_CONNECT};
    d->deadline_ns = kn_now_ns() + (w->spec->timeout_ns ? w->spec->timeout_ns : OPEN_TIMEOUT_NS);
    d->fd = socket(to->u.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (d->fd < 0)
        return no_socket(w, err);
    kn_flow_watch(w, flow, d->fd);
    if (!(d->hello = malloc(kn_hello_size()))) {
        kn_fail_memory(err);
        return fail(w, flow, d, err);
    }
    kn_flow_hello(w, flow, KN_HELLO_FLOW, d->hello);
    if (kn_flow_bind(w, flow, d->fd)) {
        kn_fail_errno(err, "bind");
        return fail(w, flow, d, err);
    }
    if (kn_tcp_options(d->fd, w->spec, err))
        return fail(w, flow, d, err);
    if ((connect(d->fd, &to->u.sa, to->len) && errno != EINPROGRESS) || kn_loop_add(l, d->fd, KN_LOOP_ALL, data)) {
        if (errno == EADDRNOTAVAIL)
            kn_fail(
                err, KN_E_LIMIT,
                "no local port is free: connections of earlier runs hold theirs for a minute (TIME_WAIT); wait, add "
                "addresses, or set net.ipv4.tcp_tw_reuse=1");
        else
            kn_fail_errno(err, "connect");
        return fail(w, flow, d, err);
    }
    return 0;
}

/* On a socket that is still connecting, send() returns EAGAIN, or the error of the connect. */
static int push_hello(struct kn_dial *d, struct kn_error *err)
{
    size_t size = kn_hello_size();
    ssize_t n = send(d->fd, d->hello + d->done, size - d->done, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n < 0)
        return kn_fail_errno(err, d->step == KN_DIAL_CONNECT ? "connect" : "send");
    d->done = (uint16_t)(d->done + n);
    d->step = KN_DIAL_HELLO;
    if (d->done < size)
        return 0;
    drop_hello(d);
    return 1;
}

static int pull_welcome(struct kn_worker *w, struct kn_dial *d, struct kn_error *err)
{
    uint8_t wire[kn_welcome_size()];
    struct kn_welcome welcome;
    ssize_t n = recv(d->fd, wire, sizeof wire, MSG_PEEK | MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n < 0)
        return kn_fail_errno(err, "recv");
    if (n == 0)
        return kn_fail(err, KN_E_PROTOCOL, "hung up instead of answering the hello");
    if ((size_t)n < sizeof wire)
        return 0;
    recv(d->fd, wire, sizeof wire, MSG_DONTWAIT);
    if (kn_welcome_unpack(wire, sizeof wire, &welcome, err))
        return -1;
    d->backend = kn_backends_number(&w->backends, welcome.name);
    return 1;
}

int kn_dial_step(struct kn_worker *w, unsigned flow, struct kn_dial *d, uint64_t now_ns, struct kn_error *err)
{
    int done = 1;
    if (d->step == KN_DIAL_CONNECT || d->step == KN_DIAL_HELLO) {
        done = push_hello(d, err);
        if (done > 0)
            d->step = KN_DIAL_WELCOME;
    }
    if (done > 0 && d->step == KN_DIAL_WELCOME)
        done = pull_welcome(w, d, err);
    if (done == 0 && now_ns >= d->deadline_ns)
        done = kn_fail(err, KN_E_TIMEOUT,
                       d->step == KN_DIAL_CONNECT ? "connect: no answer in time" : "no answer to the hello in time");
    if (done < 0)
        return fail(w, flow, d, err);
    if (done > 0)
        d->step = KN_DIAL_OPEN;
    return done;
}

/* ---- all flows of a worker ---- */

struct kn_dial *kn_dials_new(unsigned n)
{
    struct kn_dial *dials = calloc(n, sizeof *dials);
    for (unsigned i = 0; dials && i < n; i++)
        dials[i].fd = -1;
    return dials;
}

void kn_dials_free(struct kn_worker *w, struct kn_dial *dials)
{
    for (unsigned i = 0; dials && i < w->n_flows; i++)
        kn_dial_end(w, w->first_flow + i, &dials[i]);
    free(dials);
}

static int step_events(struct kn_worker *w, struct kn_loop *l, struct kn_dial *dials, unsigned *open,
                       struct kn_error *err)
{
    uint64_t now_ns = kn_now_ns();
    unsigned n = kn_loop_wait(l, now_ns, UINT64_MAX);
    for (unsigned i = 0; i < n; i++) {
        unsigned k = l->events[i].data.u32;
        if (dials[k].step == KN_DIAL_OPEN)
            continue;
        int done = kn_dial_step(w, w->first_flow + k, &dials[k], now_ns, err);
        if (done < 0)
            return -1;
        *open += (unsigned)done;
    }
    return 0;
}

static int step_late(struct kn_worker *w, struct kn_dial *dials, unsigned begun, unsigned *open, struct kn_error *err)
{
    uint64_t now_ns = kn_now_ns();
    for (unsigned k = 0; k < begun; k++) {
        if (dials[k].step == KN_DIAL_OPEN || now_ns < dials[k].deadline_ns)
            continue;
        int done = kn_dial_step(w, w->first_flow + k, &dials[k], now_ns, err);
        if (done < 0)
            return -1;
        *open += (unsigned)done;
    }
    return 0;
}

int kn_dial_all(struct kn_worker *w, struct kn_loop *l, struct kn_dial *dials, struct kn_error *err)
{
    unsigned begun = 0, open = 0;
    uint64_t looked_ns = kn_now_ns();
    while (open < w->n_flows) {
        if (kn_worker_stopped(w))
            return kn_fail(err, KN_E_INTERRUPTED, "stopped before it began");
        for (; begun < w->n_flows && begun - open < AT_ONCE; begun++)
            if (kn_dial_begin(w, l, w->first_flow + begun, (epoll_data_t){.u32 = begun}, &dials[begun], err))
                return -1;
        if (step_events(w, l, dials, &open, err))
            return -1;
        if (kn_now_ns() - looked_ns < KN_LOOP_STEP_NS)
            continue;
        looked_ns = kn_now_ns();
        if (step_late(w, dials, begun, &open, err))
            return -1;
    }
    return 0;
}
