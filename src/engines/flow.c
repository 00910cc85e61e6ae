/* What the tests share on the client's side: flows from hello to report, the worker's window and counters. */
#include "engines/flow.h"

#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sched.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "engines/run.h"

#define OPEN_TIMEOUT_NS (5 * KN_NS_PER_S)
#define CLOSE_IDLE_NS (5 * KN_NS_PER_S)   /* nothing moved for so long: the server is lost */
#define CLOSE_TOTAL_NS (60 * KN_NS_PER_S)

/* ---- flows ---- */

void kn_flow_watch(struct kn_worker *w, unsigned flow, int fd)
{
    struct kn_run *run = w->run;
    pthread_mutex_lock(&run->lock);
    run->fds[flow] = fd;
    if (run->cut) /* too late: whatever it does on this socket ends at once */
        shutdown(fd, SHUT_RDWR);
    pthread_mutex_unlock(&run->lock);
}

void kn_flow_unwatch(struct kn_worker *w, unsigned flow)
{
    pthread_mutex_lock(&w->run->lock);
    w->run->fds[flow] = -1;
    pthread_mutex_unlock(&w->run->lock);
}

void kn_flow_hello(const struct kn_worker *w, unsigned flow, enum kn_hello_kind kind, uint8_t *wire)
{
    struct kn_hello h = {.kind = (uint8_t)kind, .run_id = w->run->id, .flow = flow, .flows = (uint32_t)w->spec->flows, .spec = *w->spec};
    memcpy(h.nonce, w->run->nonce, sizeof h.nonce);
    kn_hello_pack(&h, &w->run->target.key, wire);
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
    return kn_welcome_unpack(answer, sizeof answer, &welcome, err);
}

int kn_flow_open(struct kn_worker *w, unsigned flow, struct kn_error *err)
{
    char text[KN_ADDR_TEXT_MAX];
    uint64_t deadline_ns = open_deadline(w);
    int fd = kn_tcp_connect(&w->peer, w->spec, deadline_ns, err);
    if (fd < 0)
        return -1;
    kn_flow_watch(w, flow, fd);
    if (!w->spec->external && greet(w, flow, fd, deadline_ns, err)) {
        kn_error_context(err, "flow %u to %s", flow, kn_addr_text(&w->peer, text, sizeof text));
        kn_flow_abandon(w, fd, flow);
        return -1;
    }
    return fd;
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

int kn_flow_report(struct kn_worker *w, const json_t *report, struct kn_error *err)
{
    return kn_run_add_report(w->run, report, err);
}

/* The end of the stream as it was read: of an endless reverse flow only what can be the trailer is kept. */
struct tail { uint8_t *bytes; size_t n, room; };

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
            return kn_fail(err, KN_E_MEMORY, "no memory for a server's report");
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

/* Waits for input while anything moves in either direction: a slow path may take its time to drain what was sent. */
static int wait_readable(int fd, uint64_t give_up_ns, struct kn_error *err)
{
    uint64_t idle_since_ns = kn_now_ns();
    int last = queued(fd);
    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int n = poll(&p, 1, 100);
        if (n > 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return kn_fail_errno(err, "poll");
        uint64_t now_ns = kn_now_ns();
        int left = queued(fd);
        if (left != last)
            idle_since_ns = now_ns;
        last = left;
        if (now_ns > give_up_ns || now_ns - idle_since_ns > CLOSE_IDLE_NS)
            return kn_fail(err, KN_E_LOST, "the server's report did not come");
    }
}

static int read_to_end(int fd, struct tail *t, struct kn_error *err)
{
    uint8_t buf[16384];
    uint64_t give_up_ns = kn_now_ns() + CLOSE_TOTAL_NS;
    for (;;) {
        if (wait_readable(fd, give_up_ns, err))
            return -1;
        ssize_t n = recv(fd, buf, sizeof buf, MSG_DONTWAIT);
        if (n == 0)
            return 0;
        if (n < 0 && errno != EINTR && errno != EAGAIN)
            return kn_fail(err, KN_E_LOST, "the server hung up before its report: %s", strerror(errno));
        if (n > 0 && tail_add(t, buf, (size_t)n, err))
            return -1;
    }
}

static int take_trailer(struct kn_worker *w, const struct tail *t, struct kn_error *err)
{
    if (t->n < KN_TRAILER_FOOT)
        return kn_fail(err, KN_E_LOST, "the server closed the flow without its report");
    int64_t length = kn_trailer_length(t->bytes + t->n - KN_TRAILER_FOOT, err);
    if (length < 0)
        return -1;
    if ((uint64_t)length > t->n)
        return kn_fail(err, KN_E_PROTOCOL, "the server's report is cut short");
    json_t *report = kn_trailer_unpack(t->bytes + t->n - (size_t)length, (size_t)length, err);
    if (!report)
        return -1;
    int failed = kn_run_add_report(w->run, report, err);
    json_decref(report);
    return failed;
}

int kn_flow_close(struct kn_worker *w, int fd, unsigned flow, const uint8_t *tail, size_t tail_size, struct kn_error *err)
{
    char text[KN_ADDR_TEXT_MAX];
    struct tail t = {0};
    kn_worker_cpu_close(w);
    kn_tcp_info_add(fd, &w->figures);
    int failed = tail_size ? tail_add(&t, tail, tail_size, err) : 0;
    if (!failed && !w->spec->external) {
        shutdown(fd, SHUT_WR);
        failed = read_to_end(fd, &t, err) || take_trailer(w, &t, err);
        if (failed)
            kn_error_context(err, "flow %u to %s", flow, kn_addr_text(&w->peer, text, sizeof text));
    }
    free(t.bytes);
    kn_flow_abandon(w, fd, flow);
    return failed ? -1 : 0;
}

/* ---- the worker ---- */

int kn_worker_ready(struct kn_worker *w, struct kn_error *err)
{
    struct kn_run *run = w->run;
    struct kn_slot *slot = kn_slot_of(w);
    pthread_mutex_lock(&run->lock);
    slot->ready = true;
    pthread_cond_broadcast(&run->changed);
    while (!atomic_load(&run->start_ns) && !atomic_load(&run->stop))
        pthread_cond_wait(&run->changed, &run->lock);
    w->start_ns = atomic_load(&run->start_ns);
    w->open_ns = atomic_load(&run->open_ns);
    w->end_ns = atomic_load(&run->end_ns);
    pthread_mutex_unlock(&run->lock);
    if (!w->start_ns)
        return kn_fail(err, KN_E_INTERRUPTED, "stopped before it began");
    return 0;
}

uint64_t kn_worker_take(struct kn_worker *w, uint64_t n)
{
    if (!w->spec->count)
        return n;
    if (!w->cpu_open_ns && w->spec->warmup_ns && kn_now_ns() < w->open_ns) {
        w->untracked += n;
        return n;
    }
    uint64_t left = atomic_load_explicit(&w->run->left, memory_order_relaxed), take;
    do {
        take = left < n ? left : n;
    } while (take && !atomic_compare_exchange_weak(&w->run->left, &left, left - take));
    return take;
}

void kn_worker_drop(struct kn_worker *w, uint64_t n)
{
    w->untracked -= n < w->untracked ? n : w->untracked;
}

uint64_t kn_worker_first(struct kn_worker *w, uint64_t value)
{
    uint64_t first = atomic_load_explicit(&w->run->first, memory_order_relaxed);
    if (!first && atomic_compare_exchange_strong(&w->run->first, &first, value + 1))
        return value;
    return first - 1;
}

void kn_worker_op(struct kn_worker *w, uint64_t now_ns, uint64_t latency_ns, uint64_t tx_bytes, uint64_t rx_bytes)
{
    struct kn_figures *f = &w->figures;
    if (w->untracked) { /* begun in the warm-up of a run that counts */
        w->untracked--;
        return;
    }
    if (now_ns < w->open_ns || now_ns > w->end_ns)
        return;
    if (!w->cpu_open_ns)
        kn_worker_cpu_open(w);
    f->tx_bytes += tx_bytes;
    f->rx_bytes += rx_bytes;
    if (f->has & KN_HAS_LATENCY)
        kn_hist_record(f->latency, latency_ns);
    f->ops++;
    kn_figures_add(f, now_ns - w->open_ns, rx_bytes, 1);
    atomic_store_explicit(&w->live_ops, f->ops, memory_order_relaxed);
    atomic_store_explicit(&w->live_bytes, f->rx_bytes, memory_order_relaxed);
}

bool kn_worker_late(struct kn_worker *w, uint64_t now_ns, uint64_t took_ns, uint64_t latency_ns)
{
    if (!w->spec->timeout_ns || took_ns <= w->spec->timeout_ns)
        return false;
    kn_worker_drop(w, 1);
    if (!w->untracked && now_ns >= w->open_ns && now_ns <= w->end_ns) {
        w->figures.timeouts++;
        kn_hist_record(w->figures.latency, latency_ns);
    }
    return true;
}

void kn_worker_chosen(struct kn_worker *w, const char *key, const char *format, ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    pthread_mutex_lock(&w->run->lock);
    kn_run_chosen(w->run, key, text);
    pthread_mutex_unlock(&w->run->lock);
}

void kn_worker_flag(struct kn_worker *w, const char *flag)
{
    kn_run_flag(w->run, flag);
}

void kn_worker_cpu_open(struct kn_worker *w)
{
    if (w->cpu_open_ns)
        return;
    w->cpu_open_ns = kn_thread_cpu_ns();
    w->figures.has |= KN_HAS_CPU;
}

static void note_cpu(struct kn_run *run)
{
    int cpu = sched_getcpu();
    if (cpu >= 0 && cpu < 32)
        run->cpus_seen |= 1u << cpu;
}

void kn_worker_cpu_close(struct kn_worker *w)
{
    if (w->cpu_closed)
        return;
    w->cpu_closed = true;
    uint64_t now_ns = kn_now_ns(), end_ns = now_ns < w->end_ns ? now_ns : w->end_ns;
    if (w->cpu_open_ns)
        w->figures.cpu_ns += kn_thread_cpu_ns() - w->cpu_open_ns;
    if (w->open_ns && end_ns > w->open_ns)
        w->figures.window_ns = end_ns - w->open_ns;
    pthread_mutex_lock(&w->run->lock);
    note_cpu(w->run);
    kn_slot_of(w)->loop_over = true;
    pthread_cond_broadcast(&w->run->changed);
    pthread_mutex_unlock(&w->run->lock);
}
