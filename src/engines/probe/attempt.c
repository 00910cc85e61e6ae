/* Independent attempts: each has a socket of its own, so that each is sent where the path leads at that moment. */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engines/probe/probe.h"
#include "net/io.h"
#include "run/flow.h"

/* With `reset` neither a FIN nor TIME_WAIT stays behind: at such rates this host would run out of ports. Where the
 * server has closed first there is none anyway. */
void kn_attempt_close(struct kn_attempt *a, bool reset)
{
    const struct linger now = {.l_onoff = 1, .l_linger = 0};
    if (a->fd < 0)
        return;
    if (reset)
        setsockopt(a->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(a->fd); /* takes it out of epoll too */
    a->fd = -1;
}

static void end(struct kn_probe *p, struct kn_attempt *a, enum kn_outcome outcome, bool reset)
{
    bool connected = a->step == KN_STEP_ASKED;
    kn_attempt_close(a, reset);
    kn_probe_end(p, a, outcome, connected, kn_now_ns());
}

static void fail(struct kn_probe *p, struct kn_attempt *a, int why)
{
    end(p, a, kn_probe_outcome_of(p, why), true);
}

/* ---- answers ---- */

/* 0: more must come. A status line and the end of the head, or as much of it as is looked at. */
static int http_status(const struct kn_attempt *a)
{
    const char *text = (const char *)a->in;
    if (a->have < sizeof a->in && !memmem(text, a->have, "\r\n\r\n", 4))
        return 0;
    if (a->have < 12 || memcmp(text, "HTTP/1.", 7) || text[8] != ' ')
        return -1;
    int status = 0;
    for (int i = 9; i < 12; i++) {
        if (text[i] < '0' || text[i] > '9')
            return -1;
        status = 10 * status + (text[i] - '0');
    }
    return status ? status : -1;
}

static void name_backend(struct kn_probe *p, const struct kn_attempt *a)
{
    const size_t key = strlen(KN_PROBE_BACKEND);
    const char *end = (const char *)a->in + a->have, *at = memmem(a->in, a->have, KN_PROBE_BACKEND, key);
    char name[64];
    if (p->spec->external || !at)
        return;
    at += key;
    size_t n = 0;
    while (at + n < end && at[n] != '\r' && n < sizeof name - 1)
        n++;
    memcpy(name, at, n);
    name[n] = '\0';
    kn_text_clean(name);
    kn_probe_answered_by(p, name);
}

/* True: the attempt is over. An agent that refuses does it with a welcome, whatever it was asked. */
static bool take_http(struct kn_probe *p, struct kn_attempt *a)
{
    int status = http_status(a);
    if (!p->spec->external && a->have >= 4 && !memcmp(a->in, KN_MAGIC, 4))
        return false; /* until it ends */
    if (!status)
        return false;
    if (status >= 200 && status < 400)
        name_backend(p, a);
    end(p, a, status < 0 ? KN_PROBE_ERROR : status < 200 || status >= 400 ? KN_PROBE_STATUS : KN_PROBE_OK, true);
    return true;
}

static void take_end(struct kn_probe *p, struct kn_attempt *a)
{
    if (!p->spec->external && a->have == kn_welcome_size())
        end(p, a, kn_probe_take_welcome(p, a->in, a->have, false), false);
    else
        end(p, a, KN_PROBE_RESET, false);
}

static void receive(struct kn_probe *p, struct kn_attempt *a)
{
    for (;;) {
        size_t room = sizeof a->in - a->have;
        ssize_t n = room ? kn_recv(a->fd, a->in + a->have, room, 0) : -1;
        if (!room) {
            end(p, a, KN_PROBE_ERROR, true);
            return;
        }
        if (n < 0) {
            if (errno != EAGAIN && errno != EINTR)
                fail(p, a, errno);
            return;
        }
        a->have = (uint16_t)(a->have + n);
        if (p->kind == KN_PROBE_UDP) {
            end(p, a, kn_probe_take_welcome(p, a->in, a->have, true), false);
            return;
        }
        if (p->kind == KN_PROBE_HTTP && n && take_http(p, a))
            return;
        if (n == 0) {
            take_end(p, a);
            return;
        }
    }
}

/* ---- steps ---- */

/* True: asked. The request fits into an empty send buffer. */
static bool ask(struct kn_probe *p, struct kn_attempt *a)
{
    ssize_t n = kn_send(a->fd, p->request, p->request_size, MSG_NOSIGNAL);
    if (n < 0) {
        fail(p, a, errno);
        return false;
    }
    a->step = KN_STEP_ASKED;
    if ((size_t)n == p->request_size)
        return true;
    end(p, a, KN_PROBE_ERROR, true);
    return false;
}

static bool connected(struct kn_probe *p, struct kn_attempt *a)
{
    int why = 0;
    socklen_t size = sizeof why;
    if (!getsockopt(a->fd, SOL_SOCKET, SO_ERROR, &why, &size) && !why)
        return true;
    fail(p, a, why ? why : errno);
    return false;
}

void kn_attempt_event(struct kn_probe *p, struct kn_attempt *a, uint32_t events, uint64_t now_ns)
{
    (void)now_ns;
    if (a->step == KN_STEP_CONNECTING) {
        if (!(events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) || !connected(p, a))
            return;
        if (p->spec->external && p->kind == KN_PROBE_CONNECT) {
            end(p, a, KN_PROBE_OK, true);
            return;
        }
        if (!ask(p, a))
            return;
    }
    receive(p, a);
}

void kn_attempt_begin(struct kn_probe *p, struct kn_attempt *a, uint64_t number, uint64_t now_ns)
{
    const struct kn_addr *to = &p->w->peer;
    bool udp = p->kind == KN_PROBE_UDP;
    struct epoll_event e = {.events = udp ? EPOLLIN : EPOLLIN | EPOLLOUT | EPOLLRDHUP | (uint32_t)EPOLLET,
                            .data.u64 = number};
    (void)now_ns;
    a->step = KN_STEP_CONNECTING;
    a->fd = socket(to->u.sa.sa_family, (udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (a->fd >= p->fd_most) {
        kn_attempt_close(a, false);
        errno = EMFILE;
    }
    if (a->fd < 0 || kn_flow_bind(p->w, 0, a->fd) || (connect(a->fd, &to->u.sa, to->len) && errno != EINPROGRESS) ||
        epoll_ctl(p->epoll, EPOLL_CTL_ADD, a->fd, &e))
        fail(p, a, errno);
    else if (udp)
        ask(p, a);
}
