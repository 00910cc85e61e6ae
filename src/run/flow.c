#include "run/flow.h"

#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "net/io.h"
#include "run/account.h"
#include "run/inside.h"

#define OPEN_TIMEOUT_NS (5 * KN_NS_PER_S)
#define CLOSE_IDLE_NS (5 * KN_NS_PER_S)         /* if nothing moves for this long, the server is lost … */
#define CLOSE_IDLE_FLOW_NS (KN_NS_PER_S / 1000) /* … and for each of the worker's flows, which are read in turn */
#define REOPEN_NS (5 * KN_NS_PER_S)             /* how long a server may be away */
#define REOPEN_LEAST_NS KN_NS_PER_MS
#define REOPEN_MOST_NS (100 * KN_NS_PER_MS)

/* ---- flows ---- */

void kn_flow_watch(struct kn_worker *w, unsigned flow, int fd)
{
    struct kn_run *run = w->run;
    pthread_mutex_lock(&run->lock);
    run->fds[w->part->first_flow + flow] = fd;
    if (run->cut) /* too late: every call on this socket must end at once */
        shutdown(fd, SHUT_RDWR);
    pthread_mutex_unlock(&run->lock);
}

void kn_flow_unwatch(struct kn_worker *w, unsigned flow)
{
    pthread_mutex_lock(&w->run->lock);
    w->run->fds[w->part->first_flow + flow] = -1;
    pthread_mutex_unlock(&w->run->lock);
}

void kn_flow_hello(const struct kn_worker *w, unsigned flow, enum kn_hello_kind kind, uint8_t *wire)
{
    struct kn_hello h = {.kind = (uint8_t)kind,
                         .run_id = w->part->id,
                         .flow = flow,
                         .flows = (uint32_t)w->spec->flows,
                         .issued_ns = kn_wall_ns(),
                         .spec = *w->spec};
    /* numbers below `flows` belong to UDP flows, which a test may have too */
    kn_run_nonce(w->run, w->run->spec.flows + atomic_fetch_add(&w->run->opened, 1), h.nonce);
    kn_hello_pack(&h, &w->target->key, wire);
}

static uint64_t open_deadline(const struct kn_worker *w)
{
    return kn_now_ns() + (w->spec->timeout_ns ? w->spec->timeout_ns : OPEN_TIMEOUT_NS);
}

static int greet(struct kn_worker *w, unsigned flow, int fd, uint64_t deadline_ns, struct kn_error *err)
{
    uint8_t hello[kn_hello_size()], answer[kn_welcome_size()];
    struct kn_welcome welcome;
    kn_flow_hello(w, flow, KN_HELLO_FLOW, hello);
    if (kn_write_full(fd, hello, sizeof hello, deadline_ns, err))
        return -1;
    if (kn_read_full(fd, answer, sizeof answer, deadline_ns, err))
        return -1;
    if (kn_welcome_unpack(answer, sizeof answer, &welcome, err))
        return -1;
    w->backend = w->n_flows == 1 ? kn_backends_number(&w->backends, welcome.name) : 0;
    return 0;
}

int kn_flow_open(struct kn_worker *w, unsigned flow, struct kn_error *err)
{
    char text[KN_ADDR_TEXT_MAX];
    uint64_t deadline_ns = open_deadline(w);
    int fd = kn_tcp_connect_begin(kn_flow_source(w), &w->peer, w->spec, err);
    if (fd < 0)
        return -1;
    kn_flow_watch(w, flow, fd); /* from here on a stop ends it */
    if (kn_tcp_connect_end(fd, &w->peer, deadline_ns, err)) {
        kn_flow_abandon(w, fd, flow);
        return -1;
    }
    if (!w->spec->external && greet(w, flow, fd, deadline_ns, err)) {
        kn_error_context(err, "flow %u to %s", flow, kn_addr_text(&w->peer, text, sizeof text));
        kn_flow_abandon(w, fd, flow);
        return -1;
    }
    return fd;
}

int kn_flow_bind(const struct kn_worker *w, unsigned flow, int fd)
{
    return kn_sources_bind(&w->part->sources, flow, fd);
}

const struct kn_addr *kn_flow_source(const struct kn_worker *w)
{
    return w->target->source[0] ? &w->part->sources.at[0] : NULL;
}

int kn_flow_go(int fd, struct kn_error *err)
{
    const uint8_t go = KN_GO;
    return kn_write_full(fd, &go, 1, kn_now_ns() + OPEN_TIMEOUT_NS, err);
}

void kn_flow_abandon(struct kn_worker *w, int fd, unsigned flow)
{
    if (fd < 0)
        return;
    kn_flow_unwatch(w, flow);
    close(fd);
}

/* Keeps the end of the stream: of an endless reverse flow only as much as the trailer can be. */
struct tail {
    uint8_t *bytes;
    size_t n, room;
};

static int tail_add(struct tail *t, const uint8_t *bytes, size_t n, struct kn_error *err)
{
    if (t->n + n > t->room && t->n > KN_TRAILER_MAX) {
        memmove(t->bytes, t->bytes + (t->n - KN_TRAILER_MAX), KN_TRAILER_MAX);
        t->n = KN_TRAILER_MAX;
    }
    if (t->n + n > t->room) {
        size_t room = 2 * (t->n + n);
        uint8_t *more = realloc(t->bytes, room);
        if (!more)
            return kn_fail(err, KN_E_MEMORY, "no memory for a server's account");
        t->bytes = more;
        t->room = room;
    }
    memcpy(t->bytes + t->n, bytes, n);
    t->n += n;
    return 0;
}

static int queued(int fd)
{
    int n = 0;
    return ioctl(fd, SIOCOUTQ, &n) ? 0 : n;
}

/* Whether anything came on any of the worker's flows: the accounts are read in turn, and come in any order. */
static bool others_move(struct kn_worker *w)
{
    struct epoll_event events[64];
    bool any = false;
    int n = w->watched ? 64 : 0;
    while (n == 64) {
        n = epoll_wait(w->watched, events, 64, 0);
        any = any || n > 0;
    }
    return any;
}

/* Waits for input as long as bytes move in either direction, because a slow path may take long to drain what was sent,
 * or a server long to end thousands of flows. The deadline also holds for a server that keeps sending slowly. */
static int wait_readable(struct kn_worker *w, int fd, struct kn_error *err)
{
    uint64_t idle_since_ns = kn_now_ns(), idle_ns = CLOSE_IDLE_NS + w->n_flows * CLOSE_IDLE_FLOW_NS;
    int last = queued(fd), n = -1;
    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        uint64_t now_ns = kn_now_ns();
        int left = queued(fd);
        if (left != last || (n == 0 && others_move(w)))
            idle_since_ns = now_ns;
        last = left;
        if (!kn_worker_collects(w, now_ns))
            return kn_fail(err, KN_E_LOST, "the server's account did not come in time");
        if (now_ns - idle_since_ns > idle_ns)
            return kn_fail(err, KN_E_LOST, "the server's account did not come: nothing moved for %u s",
                           (unsigned)(idle_ns / KN_NS_PER_S));
        n = poll(&p, 1, 100);
        if (n > 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return kn_fail_errno(err, "poll");
    }
}

static int read_to_end(struct kn_worker *w, int fd, struct tail *t, struct kn_error *err)
{
    uint8_t buf[16384];
    for (;;) {
        if (wait_readable(w, fd, err))
            return -1;
        ssize_t n = recv(fd, buf, sizeof buf, MSG_DONTWAIT);
        if (n == 0)
            return 0;
        if (n < 0 && errno != EINTR && errno != EAGAIN)
            return kn_fail(err, KN_E_LOST, "the server hung up before its account: %s", strerror(errno));
        if (n > 0 && tail_add(t, buf, (size_t)n, err))
            return -1;
    }
}

static json_t *take_trailer(const struct tail *t, struct kn_error *err)
{
    if (t->n < KN_TRAILER_FOOT)
        return kn_null(kn_fail(err, KN_E_LOST, "the server closed the flow without its account"));
    int64_t length = kn_trailer_length(t->bytes + t->n - KN_TRAILER_FOOT, err);
    if (length < 0)
        return NULL;
    if ((uint64_t)length > t->n)
        return kn_null(kn_fail(err, KN_E_PROTOCOL, "the server's account is cut short"));
    return kn_trailer_unpack(t->bytes + t->n - (size_t)length, (size_t)length, err);
}

json_t *kn_flow_account(struct kn_worker *w, int fd, const uint8_t *tail, size_t tail_size, struct kn_error *err)
{
    struct tail t = {0};
    int failed = (tail_size && tail_add(&t, tail, tail_size, err)) || read_to_end(w, fd, &t, err);
    json_t *account = failed ? NULL : take_trailer(&t, err);
    free(t.bytes);
    return account;
}

int kn_flow_close(struct kn_worker *w, int fd, unsigned flow, const uint8_t *tail, size_t tail_size,
                  struct kn_error *err)
{
    char text[KN_ADDR_TEXT_MAX];
    int failed = 0;
    kn_worker_cpu_close(w);
    kn_tcp_info_add(fd, &w->figures);
    if (!w->spec->external) {
        shutdown(fd, SHUT_WR);
        json_t *account = kn_flow_account(w, fd, tail, tail_size, err);
        failed = !account || kn_run_account(w, account, err);
        json_decref(account);
        if (failed)
            kn_error_context(err, "flow %u to %s", flow, kn_addr_text(&w->peer, text, sizeof text));
    }
    kn_flow_abandon(w, fd, flow);
    return failed ? -1 : 0;
}

int kn_flow_reopen(struct kn_worker *w, unsigned flow, int fd, struct kn_error *err)
{
    struct kn_error why = {.message = ""};
    uint64_t from_ns = kn_now_ns(), give_up_ns = from_ns + REOPEN_NS, pause_ns = REOPEN_LEAST_NS;
    kn_flow_abandon(w, fd, flow);
    for (uint64_t now_ns = from_ns; !kn_worker_over(w, now_ns); now_ns = kn_now_ns()) {
        if (now_ns >= give_up_ns && kn_worker_lost(w, &why))
            break;
        fd = kn_flow_open(w, flow, &why);
        if (fd >= 0 && !kn_flow_go(fd, &why)) {
            if (now_ns >= give_up_ns)
                kn_worker_found(w);
            return fd;
        }
        kn_flow_abandon(w, fd, flow);
        if (kn_worker_stopped(w))
            break;
        kn_worker_stray(w, KN_ENDED_CONNECT, now_ns);
        kn_worker_sleep(w, kn_now_ns() + pause_ns);
        pause_ns = 2 * pause_ns < REOPEN_MOST_NS ? 2 * pause_ns : REOPEN_MOST_NS;
    }
    if (kn_worker_stopped(w))
        return kn_fail(err, KN_E_INTERRUPTED, "stopped");
    if (!*why.message)
        return KN_FLOW_OVER;
    return kn_fail(err, KN_E_LOST,
                   "the server closed the flow in the middle of the run and could not be reached again: %s",
                   why.message);
}
