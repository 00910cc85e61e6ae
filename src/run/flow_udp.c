/* UDP flows on the client's side: the cookie exchange, the account in parts, and retransmission of both. */
#include "run/flow_udp.h"

#include <errno.h>
#include <linux/sock_diag.h>
#include <poll.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/json.h"
#include "run/account.h"
#include "run/flow.h"
#include "run/inside.h"

#ifndef SO_MEMINFO
#define SO_MEMINFO 55
#endif
#define OPEN_TIMEOUT_NS (5 * KN_NS_PER_S)
#define OPEN_LEAST_NS (1500 * KN_NS_PER_MS) /* a neighbour is asked for again after a second */
#define AGAIN_NS (100 * KN_NS_PER_MS)       /* time until the first retransmission; then it doubles */
#define AGAIN_MAX_NS (800 * KN_NS_PER_MS)
#define FETCH_LOST_NS (5 * KN_NS_PER_S) /* if no part comes for this long, the server is lost */
#define FETCH_STOPPED_NS KN_NS_PER_S    /* the same when the run is being stopped */
#define FETCH_WINDOW 8u                 /* parts asked for at once */

/* ---- sockets ---- */

int kn_udp_timeouts(int fd, uint64_t ns, struct kn_error *err)
{
    struct timeval t = {.tv_sec = (time_t)(ns / KN_NS_PER_S), .tv_usec = (suseconds_t)(ns % KN_NS_PER_S / 1000)};
    if (ns && !t.tv_sec && !t.tv_usec)
        t.tv_usec = 1;
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t) || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t))
        return kn_fail_errno(err, "cannot set the timeouts of a socket");
    return 0;
}

static void set_buffer(int fd, int option, uint64_t size)
{
    int n = size > INT32_MAX / 2 ? INT32_MAX / 2 : (int)size;
    setsockopt(fd, SOL_SOCKET, option, &n, sizeof n); /* the kernel may give less; the caller reads the size back */
}

uint64_t kn_udp_buffers(int fd, const struct kn_spec *spec, bool big)
{
    const uint64_t room = 4u << 20;
    int n = 0;
    socklen_t size = sizeof n;
    if (spec->sndbuf || big)
        set_buffer(fd, SO_SNDBUF, spec->sndbuf ? spec->sndbuf : room);
    if (spec->rcvbuf || big)
        set_buffer(fd, SO_RCVBUF, spec->rcvbuf ? spec->rcvbuf : room);
    getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &n, &size);
    return n > 0 ? (uint64_t)n : 0;
}

bool kn_udp_backlog(int fd, uint32_t *bytes, uint32_t *drops)
{
    uint32_t info[SK_MEMINFO_VARS] = {0};
    socklen_t size = sizeof info;
    if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, info, &size) || size <= SK_MEMINFO_DROPS * sizeof *info)
        return false;
    *bytes = info[SK_MEMINFO_RMEM_ALLOC];
    *drops = info[SK_MEMINFO_DROPS];
    return true;
}

void kn_udp_drops_open(struct kn_udp_drops *d, int fd)
{
    uint32_t bytes;
    d->known = kn_udp_backlog(fd, &bytes, &d->before);
}

void kn_udp_drops_close(const struct kn_udp_drops *d, int fd, struct kn_figures *f)
{
    uint32_t bytes, now;
    if (!d->known || !kn_udp_backlog(fd, &bytes, &now))
        return;
    f->has |= KN_HAS_DROPS;
    f->recv_drops += now - d->before;
}

void kn_udp_nap(uint64_t ns)
{
    struct timespec t = kn_timespec(ns);
    clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
}

void kn_udp_hear_errors(int fd)
{
    const int on = 1;
    setsockopt(fd, IPPROTO_IP, IP_RECVERR, &on,
               sizeof on); /* on IPv6 sockets too: the peer may be a mapped IPv4 address */
    setsockopt(fd, IPPROTO_IPV6, IPV6_RECVERR, &on, sizeof on);
}

void kn_udp_forget_errors(int fd)
{
    uint8_t any;
    for (int i = 0; i < 64 && recv(fd, &any, sizeof any, MSG_ERRQUEUE | MSG_DONTWAIT) >= 0; i++)
        ;
}

ssize_t kn_udp_receive(int fd, uint8_t *buf, size_t size, uint64_t until_ns)
{
    uint64_t now_ns = kn_now_ns(), left_ns = until_ns > now_ns ? until_ns - now_ns : 0;
    struct timespec t = kn_timespec(left_ns);
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int n = ppoll(&p, 1, &t, NULL);
    if (n <= 0)
        return n < 0 && errno != EINTR ? -1 : 0;
    ssize_t got = recv(fd, buf, size, MSG_DONTWAIT);
    return got < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : got;
}

/* ---- the client opens ---- */

struct opening {
    struct kn_worker *w;
    int fd;
    unsigned flow, hellos;
    uint64_t issued_ns;
    bool has_cookie;
    uint8_t cookie[KN_COOKIE_SIZE];
};

/* The queue of this host's interface was full (reported because of IP_RECVERR): the datagram is lost, not refused. */
static bool is_lost(int why)
{
    return why == ENOBUFS || why == ENOMEM;
}

static int say_hello(struct opening *o)
{
    struct kn_run *run = o->w->run;
    struct kn_hello h = {.kind = KN_HELLO_FLOW,
                         .run_id = o->w->part->id,
                         .flow = o->flow,
                         .flows = (uint32_t)o->w->spec->flows,
                         .issued_ns = o->issued_ns,
                         .spec = *o->w->spec};
    uint8_t wire[kn_hello_size()];
    kn_run_nonce(run, o->w->part->first_flow + o->flow, h.nonce);
    memcpy(h.cookie, o->cookie, sizeof h.cookie);
    kn_hello_pack(&h, &o->w->target->key, wire);
    o->hellos++;
    return send(o->fd, wire, sizeof wire, MSG_NOSIGNAL) < 0 && !is_lost(errno) ? -1 : 0;
}

static int cannot_reach(const struct opening *o, int why, struct kn_error *err)
{
    char text[KN_ADDR_TEXT_MAX];
    kn_addr_text(&o->w->peer, text, sizeof text);
    if (why == ECONNREFUSED)
        return kn_fail(err, KN_E_REFUSED,
                       "%s refuses UDP (ICMP port unreachable): no agent there, or a Service without this UDP port or "
                       "without endpoints",
                       text);
    errno = why;
    return kn_fail_errno(err, "cannot reach %s over UDP", text);
}

static int nobody_answered(const struct opening *o, uint64_t waited_ns, struct kn_error *err)
{
    char text[KN_ADDR_TEXT_MAX];
    kn_addr_text(&o->w->peer, text, sizeof text);
    if (o->has_cookie)
        return kn_fail(err, KN_E_TIMEOUT,
                       "%s gave a cookie and then no welcome over UDP within %.1f s: the agent is at its limit, or the "
                       "address it sees changes",
                       text, (double)waited_ns / 1e9);
    return kn_fail(err, KN_E_TIMEOUT,
                   "no answer from %s over UDP within %.1f s (%u hellos): no agent there, one with another token, or a "
                   "firewall, Service or NetworkPolicy that does not pass UDP",
                   text, (double)waited_ns / 1e9, o->hellos);
}

/* 1: welcome; 0: the hello must be sent again at once, with the cookie that came; -1: refused. */
static int take_answer(struct opening *o, const uint8_t *datagram, size_t size, bool *again, struct kn_error *err)
{
    struct kn_welcome welcome;
    switch (kn_udp_kind(datagram, size)) {
    case KN_UDP_RETRY:
        *again = !o->has_cookie || memcmp(o->cookie, datagram + size - KN_COOKIE_SIZE, KN_COOKIE_SIZE) != 0;
        o->has_cookie = !kn_udp_retry_unpack(datagram, size, o->cookie);
        return 0;
    case KN_UDP_WELCOME: return kn_udp_welcome_unpack(datagram, size, &welcome, err) ? -1 : 1;
    default: return 0;
    }
}

static int handshake(struct opening *o, struct kn_error *err)
{
    uint8_t in[KN_UDP_CONTROL_MAX];
    const struct kn_spec *spec = o->w->spec;
    uint64_t begun_ns = kn_now_ns(), again_ns = 0, step_ns = AGAIN_NS;
    uint64_t allowed_ns = spec->timeout_ns ? spec->timeout_ns : OPEN_TIMEOUT_NS;
    uint64_t deadline_ns = begun_ns + (allowed_ns < OPEN_LEAST_NS ? OPEN_LEAST_NS : allowed_ns);
    for (uint64_t now_ns = begun_ns; now_ns < deadline_ns; now_ns = kn_now_ns()) {
        bool again = false;
        if (kn_worker_stopped(o->w))
            return kn_fail(err, KN_E_INTERRUPTED, "stopped while a flow was opened");
        if (now_ns >= again_ns) {
            if (say_hello(o))
                return cannot_reach(o, errno, err);
            again_ns = now_ns + step_ns;
            step_ns *= 2;
        }
        ssize_t n = kn_udp_receive(o->fd, in, sizeof in,
                                   kn_least(kn_least(again_ns, deadline_ns), now_ns + KN_UDP_STOP_POLL_NS));
        if (n < 0 && !is_lost(errno))
            return cannot_reach(o, errno, err);
        int taken = n > 0 ? take_answer(o, in, (size_t)n, &again, err) : 0;
        if (taken)
            return taken > 0 ? 0 : -1;
        if (again) {
            again_ns = 0;
            step_ns = AGAIN_NS;
        }
    }
    return nobody_answered(o, deadline_ns - begun_ns, err);
}

static int open_socket(struct kn_worker *w, unsigned flow, struct kn_error *err)
{
    char text[KN_ADDR_TEXT_MAX];
    int fd = socket(w->peer.u.sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return kn_fail_errno(err, "cannot open a UDP socket");
    kn_udp_hear_errors(fd);
    if (kn_flow_bind(w, flow, fd) || connect(fd, &w->peer.u.sa, w->peer.len)) {
        kn_fail_errno(err, "cannot reach %s over UDP", kn_addr_text(&w->peer, text, sizeof text));
        close(fd);
        return -1;
    }
    return fd;
}

/* A datagram larger than the MTU is sent in fragments: each costs time, and losing one loses the whole datagram. */
static void see_fragments(struct kn_worker *w, int fd)
{
    bool v6 = w->peer.u.sa.sa_family == AF_INET6;
    int mtu = 0;
    socklen_t n = sizeof mtu;
    uint64_t size = w->spec->size, headers = v6 ? 40 + 8 : 20 + 8;
    if (w->spec->response_size > size)
        size = w->spec->response_size;
    if (!getsockopt(fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_MTU : IP_MTU, &mtu, &n) && mtu > 0 &&
        size + headers > (uint64_t)mtu)
        kn_worker_flag(w, "fragmented");
}

int kn_flow_open_udp(struct kn_worker *w, unsigned flow, struct kn_error *err)
{
    struct opening o = {.w = w, .flow = flow, .issued_ns = kn_wall_ns(), .fd = open_socket(w, flow, err)};
    if (o.fd < 0)
        return -1;
    kn_udp_buffers(o.fd, w->spec, w->spec->tune == KN_TUNE_AUTO);
    kn_flow_watch(w, flow, o.fd);
    if (handshake(&o, err)) {
        kn_flow_abandon(w, o.fd, flow);
        return -1;
    }
    see_fragments(w, o.fd);
    return o.fd;
}

/* ---- the client fetches the account ---- */

struct parts {
    uint8_t *bytes;
    bool *have;
    uint32_t total, n, got, first; /* parts; `first` is the first missing one */
    bool sized;
};

size_t kn_udp_order(const struct kn_worker *w, unsigned flow, enum kn_udp_kind kind, uint64_t sent, uint32_t offset,
                    uint8_t *wire)
{
    struct kn_udp_order order = {.run_id = w->part->id,
                                 .sent = sent,
                                 .flow = flow,
                                 .offset = offset,
                                 .number = atomic_fetch_add(&w->run->orders, 1) + 1};
    kn_run_nonce(w->run, w->part->first_flow + flow, order.nonce);
    return kn_udp_order_pack(kind, &order, &w->target->key, wire);
}

static void ask(const struct kn_worker *w, int fd, unsigned flow, uint64_t sent, uint32_t offset)
{
    uint8_t wire[KN_UDP_ORDER_SIZE];
    size_t n = kn_udp_order(w, flow, KN_UDP_FETCH, sent, offset, wire);
    send(fd, wire, n, MSG_NOSIGNAL | MSG_DONTWAIT); /* if it is lost or refused, it is sent again */
}

void kn_udp_announce(const struct kn_worker *w, int fd, unsigned flow, uint64_t sent)
{
    ask(w, fd, flow, sent, 0);
}

static void ask_missing(const struct kn_worker *w, int fd, unsigned flow, uint64_t sent, const struct parts *p)
{
    if (!p->sized)
        ask(w, fd, flow, sent, 0);
    for (uint32_t i = p->first; i < p->n && i < p->first + FETCH_WINDOW; i++)
        if (!p->have[i])
            ask(w, fd, flow, sent, i * KN_UDP_PART);
}

/* 1: the datagram was a missing part. */
static int take_part(struct parts *p, const uint8_t *datagram, size_t size, struct kn_error *err)
{
    uint32_t total, offset;
    const uint8_t *bytes;
    size_t n;
    if (kn_udp_part_unpack(datagram, size, &total, &offset, &bytes, &n))
        return 0;
    if (!p->sized) {
        p->total = total;
        p->n = (total + KN_UDP_PART - 1) / KN_UDP_PART;
        p->bytes = malloc(total + 1u);
        p->have = calloc(p->n + 1u, sizeof *p->have);
        if (!p->bytes || !p->have)
            return kn_fail(err, KN_E_MEMORY, "no memory for a server's account of %u bytes", total);
        p->sized = true;
    }
    uint32_t i = offset / KN_UDP_PART, left = p->total - kn_least(offset, p->total) > 0 ? p->total - offset : 0;
    if (total != p->total || offset % KN_UDP_PART || i >= p->n || n != kn_least(left, KN_UDP_PART) || p->have[i])
        return 0;
    memcpy(p->bytes + offset, bytes, n);
    p->have[i] = true;
    p->got++;
    while (p->first < p->n && p->have[p->first])
        p->first++;
    return 1;
}

static int server_lost(const struct kn_worker *w, const struct parts *p, uint64_t waited_ns, struct kn_error *err)
{
    char text[KN_ADDR_TEXT_MAX];
    unsigned ms = (unsigned)(waited_ns / KN_NS_PER_MS);
    kn_addr_text(&w->peer, text, sizeof text);
    if (!p->sized)
        return kn_fail(err, KN_E_LOST, "%s answered before, but did not send its account within %u ms", text, ms);
    return kn_fail(err, KN_E_LOST, "%s sent %u of its account's %u parts, then nothing for %u ms", text, p->got, p->n,
                   ms);
}

static int fetch_parts(struct kn_worker *w, int fd, unsigned flow, uint64_t sent, const struct kn_udp_other *other,
                       struct parts *p, struct kn_error *err)
{
    static const size_t room = 65536;
    uint8_t *in = malloc(room);
    uint64_t now_ns = kn_now_ns(), progress_ns = now_ns, again_ns = 0, step_ns = AGAIN_NS;
    uint32_t asked_to = 0;
    int failed = in ? 0 : kn_fail(err, KN_E_MEMORY, "no memory to receive an account");
    for (; !failed && !(p->sized && p->got == p->n); now_ns = kn_now_ns()) {
        if (now_ns - progress_ns > (kn_worker_stopped(w) ? FETCH_STOPPED_NS : FETCH_LOST_NS)) {
            failed = server_lost(w, p, now_ns - progress_ns, err);
            break;
        }
        if (now_ns >= again_ns || (p->sized && p->first >= asked_to)) { /* it is time, or all parts asked for came */
            ask_missing(w, fd, flow, sent, p);
            asked_to = p->first + FETCH_WINDOW;
            again_ns = now_ns + step_ns;
            step_ns = kn_least(2 * step_ns, AGAIN_MAX_NS);
        }
        ssize_t n = kn_udp_receive(fd, in, room, kn_least(again_ns, now_ns + KN_UDP_STOP_POLL_NS));
        if (n > 0 && kn_udp_kind(in, (size_t)n) == KN_UDP_PART_OF) {
            int taken = take_part(p, in, (size_t)n, err);
            failed = taken < 0 ? -1 : 0;
            if (taken > 0) {
                progress_ns = kn_now_ns();
                step_ns = AGAIN_NS;
                again_ns = progress_ns + step_ns;
            }
        } else if (n > 0 && other) {
            other->take(other->arg, in, (size_t)n);
        } else if (n < 0 && errno == ECONNREFUSED && again_ns < progress_ns + AGAIN_NS) {
            again_ns = progress_ns + AGAIN_NS; /* an ICMP message proves nothing; asking again soon does */
        }
    }
    free(in);
    return failed;
}

json_t *kn_udp_fetch(struct kn_worker *w, int fd, unsigned flow, uint64_t sent, const struct kn_udp_other *other,
                     struct kn_error *err)
{
    struct parts p = {0};
    json_t *account = NULL;
    json_error_t why;
    if (!fetch_parts(w, fd, flow, sent, other, &p, err)) {
        ask(w, fd, flow, sent, KN_UDP_FETCHED_ALL);
        account = kn_json_load((const char *)p.bytes, p.total, 0, &why);
        if (!account)
            kn_json_invalid(&why, KN_E_PROTOCOL, "the server's account", err);
    }
    free(p.bytes);
    free(p.have);
    return account;
}

int kn_flow_close_udp(struct kn_worker *w, int fd, unsigned flow, uint64_t sent, struct kn_error *err)
{
    kn_worker_cpu_close(w);
    json_t *account = kn_udp_fetch(w, fd, flow, sent, NULL, err);
    int failed = account ? kn_run_account(w, account, err) : -1;
    json_decref(account);
    if (failed)
        kn_error_context(err, "flow %u", flow);
    kn_flow_abandon(w, fd, flow);
    return failed;
}
