/* Attempts on one connection that is kept, as a client with a connection pool makes them. A request is the number of
 * its attempt, and the answer brings it back. A connection on which an answer has not come in time is given up, as one
 * that was reset: what was asked on it has failed, and what is due next goes over a new one. */
#include <endian.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engines/probe/probe.h"
#include "net/io.h"
#include "run/flow.h"

static void hang_up(struct kn_probe *p)
{
    const struct linger now = {.l_onoff = 1, .l_linger = 0};
    if (p->session.fd >= 0) {
        setsockopt(p->session.fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
        close(p->session.fd);
    }
    p->session.fd = -1;
    p->session.connected = p->session.ready = false;
    p->session.have = 0;
}

/* What was asked on the connection, or waits for it, has ended with it. */
static void lose(struct kn_probe *p, enum kn_outcome outcome, bool waiting_too, uint64_t now_ns)
{
    hang_up(p);
    for (uint64_t i = p->head; i < p->next; i++) {
        struct kn_attempt *a = kn_probe_attempt(p, i);
        if (a->step == KN_STEP_ASKED || (waiting_too && a->step == KN_STEP_WAITING))
            kn_probe_end(p, a, outcome, a->step == KN_STEP_ASKED, now_ns);
    }
}

static void dial(struct kn_probe *p, uint64_t now_ns)
{
    const int on = 1;
    const struct kn_addr *to = &p->w->peer;
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | (uint32_t)EPOLLET,
                            .data.u64 = KN_PROBE_SESSION_EVENT};
    p->session.begun_ns = now_ns;
    p->session.fd = socket(to->u.sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (p->session.fd < 0 || setsockopt(p->session.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) ||
        kn_flow_bind(p->w, 0, p->session.fd) || (connect(p->session.fd, &to->u.sa, to->len) && errno != EINPROGRESS) ||
        epoll_ctl(p->epoll, EPOLL_CTL_ADD, p->session.fd, &e))
        lose(p, kn_probe_outcome_of(p, errno), true, now_ns);
}

/* ---- requests ---- */

static bool say(struct kn_probe *p, const void *bytes, size_t size, uint64_t now_ns)
{
    ssize_t n = kn_send(p->session.fd, bytes, size, MSG_NOSIGNAL);
    if (n == (ssize_t)size)
        return true;
    if (n >= 0 || errno != EAGAIN) /* a part of a message cannot be taken back */
        lose(p, n >= 0 ? KN_PROBE_ERROR : kn_probe_outcome_of(p, errno), false, now_ns);
    return false;
}

static void ask_all(struct kn_probe *p, uint64_t now_ns)
{
    if (p->session.sent < p->head)
        p->session.sent = p->head;
    for (; p->session.sent < p->next; p->session.sent++) {
        struct kn_attempt *a = kn_probe_attempt(p, p->session.sent);
        uint64_t number = htole64(p->session.sent);
        if (a->step != KN_STEP_WAITING)
            continue;
        if (!say(p, &number, sizeof number, now_ns))
            return; /* later, or on another connection */
        a->step = KN_STEP_ASKED;
    }
}

void kn_session_begin(struct kn_probe *p, uint64_t now_ns)
{
    if (p->session.ready)
        ask_all(p, now_ns);
    for (uint64_t i = p->next; p->session.fd < 0 && i-- > p->head;)
        if (kn_probe_attempt(p, i)->step == KN_STEP_WAITING)
            dial(p, now_ns);
}

void kn_session_timed_out(struct kn_probe *p, uint64_t number, uint64_t now_ns)
{
    struct kn_attempt *a = kn_probe_attempt(p, number);
    bool asked = a->step == KN_STEP_ASKED, blind = p->paused_ns && a->due_ns + p->spec->timeout_ns >= p->paused_ns;
    kn_probe_end(p, a, KN_PROBE_TIMEOUT, asked, now_ns);
    if (blind)
        return;
    if (asked)
        lose(p, KN_PROBE_TIMEOUT, false, now_ns);
    else if (p->session.fd >= 0 && !p->session.ready && now_ns - p->session.begun_ns >= p->spec->timeout_ns)
        hang_up(p);
}

/* ---- answers ---- */

static bool connected(struct kn_probe *p, uint64_t now_ns)
{
    int why = 0;
    socklen_t size = sizeof why;
    uint8_t hello[kn_hello_size()];
    if (getsockopt(p->session.fd, SOL_SOCKET, SO_ERROR, &why, &size) || why) {
        lose(p, kn_probe_outcome_of(p, why ? why : errno), true, now_ns);
        return false;
    }
    p->session.connected = true;
    kn_flow_hello(p->w, p->w->first_flow, KN_HELLO_FLOW, hello); /* each is taken once */
    return say(p, hello, sizeof hello, now_ns);
}

static bool take_welcome(struct kn_probe *p, uint64_t now_ns)
{
    const uint8_t go = KN_GO;
    struct kn_welcome w;
    struct kn_error err;
    if (kn_welcome_unpack(p->session.in, kn_welcome_size(), &w, &err)) {
        kn_probe_take_welcome(p, p->session.in, kn_welcome_size(), false); /* which keeps the reason */
        lose(p, KN_PROBE_ERROR, true, now_ns);
        return false;
    }
    memcpy(p->session.name, w.name, sizeof p->session.name);
    p->session.have = 0;
    p->session.ready = true;
    p->tally->reconnects += p->session.ever;
    p->session.ever = true;
    if (!say(p, &go, 1, now_ns))
        return false;
    ask_all(p, now_ns);
    return true;
}

static void take_answers(struct kn_probe *p, uint64_t now_ns)
{
    size_t at = 0;
    for (; p->session.have - at >= KN_PROBE_MESSAGE; at += KN_PROBE_MESSAGE) {
        uint64_t number;
        memcpy(&number, p->session.in + at, sizeof number);
        number = le64toh(number);
        struct kn_attempt *a = kn_probe_attempt(p, number);
        if (number < p->head || number >= p->next || a->step != KN_STEP_ASKED)
            continue;
        kn_probe_answered_by(p, p->session.name);
        kn_probe_end(p, a, KN_PROBE_OK, true, now_ns);
    }
    p->session.have -= at;
    memmove(p->session.in, p->session.in + at, p->session.have);
}

static void receive(struct kn_probe *p, uint64_t now_ns)
{
    while (p->session.fd >= 0) {
        size_t want = p->session.ready ? sizeof p->session.in : kn_welcome_size();
        ssize_t n = kn_recv(p->session.fd, p->session.in + p->session.have, want - p->session.have, 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0) {
            lose(p, n ? kn_probe_outcome_of(p, errno) : KN_PROBE_RESET, !p->session.ready, now_ns);
            return;
        }
        p->session.have += (size_t)n;
        if (p->session.ready)
            take_answers(p, now_ns);
        else if (p->session.have == want && !take_welcome(p, now_ns))
            return;
    }
}

void kn_session_event(struct kn_probe *p, uint32_t events, uint64_t now_ns)
{
    if (p->session.fd < 0)
        return;
    if (!p->session.connected && (!(events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) || !connected(p, now_ns)))
        return;
    receive(p, now_ns);
    if (p->session.ready)
        ask_all(p, now_ns);
}

/* The account is no condition of the figures: the server may be gone by now. */
void kn_session_close(struct kn_probe *p)
{
    struct kn_error ignored;
    int fd = p->session.fd;
    if (fd < 0)
        return;
    if (!p->session.ready) {
        hang_up(p);
        return;
    }
    p->session.fd = -1;
    kn_flow_close(p->w, fd, p->w->first_flow, p->session.in, p->session.have, &ignored);
}
