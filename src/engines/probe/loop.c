/* The clock of the probe: what is due is begun, what is over goes into the timeline, in order.
 *
 * An attempt that is due counts from the time when it was due, however late it is sent. Where this thread was kept from
 * running (stopped, throttled by its cgroup, starved, its virtual machine preempted) it notices by its own clock that
 * it woke up late. What fell due meanwhile and is too late to be sent, and what would have had to be answered
 * meanwhile, is blind: nobody can tell what the path did. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>

#include "engines/probe/probe.h"
#include "run/flow_udp.h"

#define EVENTS 128
#define LATE_NS (10 * KN_NS_PER_MS)       /* what is sent later than that after it was due is not sent */
#define STOP_WAIT_NS (500 * KN_NS_PER_MS) /* for answers that are still on their way, after a stop */

/* ---- how an attempt ends ---- */

static bool blind_at(const struct kn_probe *p, uint64_t at_ns)
{
    return p->paused_ns && at_ns >= p->paused_ns;
}

static enum kn_outcome judge(const struct kn_probe *p, const struct kn_attempt *a, enum kn_outcome outcome,
                             uint64_t now_ns)
{
    uint64_t deadline_ns = a->due_ns + p->spec->timeout_ns;
    if ((outcome != KN_PROBE_OK && outcome != KN_PROBE_TIMEOUT) || now_ns <= deadline_ns)
        return outcome;
    return blind_at(p, deadline_ns) ? KN_PROBE_BLIND : KN_PROBE_TIMEOUT;
}

void kn_probe_end(struct kn_probe *p, struct kn_attempt *a, enum kn_outcome outcome, bool connected, uint64_t now_ns)
{
    if (a->step == KN_STEP_DONE)
        return;
    a->step = KN_STEP_DONE;
    a->outcome = (uint8_t)judge(p, a, outcome, now_ns);
    if (outcome != KN_PROBE_OK)
        p->w->backend = 0;
    switch ((enum kn_outcome)a->outcome) {
    case KN_PROBE_OK: kn_worker_end(p->w, KN_ENDED_OK, a->due_ns, now_ns); break;
    case KN_PROBE_TIMEOUT: kn_worker_end(p->w, KN_ENDED_TIMEOUT, a->due_ns, now_ns); break;
    case KN_PROBE_BLIND: break;
    default: kn_worker_end(p->w, connected ? KN_ENDED_ERROR : KN_ENDED_CONNECT, a->due_ns, now_ns);
    }
}

void kn_probe_answered_by(struct kn_probe *p, const char *name)
{
    p->w->backend = kn_backends_number(&p->w->backends, name);
}

enum kn_outcome kn_probe_outcome_of(struct kn_probe *p, int why)
{
    switch (why) {
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
    case EADDRNOTAVAIL:
    case EAGAIN: p->starved = true; return KN_PROBE_BLIND;
    case ECONNREFUSED: return KN_PROBE_REFUSED;
    case ECONNRESET:
    case ECONNABORTED:
    case EPIPE: return KN_PROBE_RESET;
    case ETIMEDOUT: return KN_PROBE_TIMEOUT;
    default: return KN_PROBE_ERROR;
    }
}

/* A wrong token or another version does not get better with time: the run is void. */
enum kn_outcome kn_probe_take_welcome(struct kn_probe *p, const uint8_t *wire, size_t size, bool datagram)
{
    struct kn_welcome w;
    struct kn_error err;
    int failed = datagram ? kn_udp_kind(wire, size) != KN_UDP_WELCOME || kn_udp_welcome_unpack(wire, size, &w, &err)
                          : kn_welcome_unpack(wire, size, &w, &err);
    if (!failed) {
        kn_probe_answered_by(p, w.name);
        return KN_PROBE_OK;
    }
    if (!datagram && (err.code == KN_E_AUTH || err.code == KN_E_VERSION))
        p->refusal = err;
    return KN_PROBE_ERROR;
}

/* ---- a turn of the loop ---- */

static void notice_pause(struct kn_probe *p, uint64_t now_ns)
{
    p->paused_ns = p->wake_ns && now_ns > p->wake_ns + LATE_NS ? p->wake_ns : 0;
}

static void harvest(struct kn_probe *p)
{
    struct epoll_event events[EVENTS];
    int n;
    do {
        n = epoll_wait(p->epoll, events, EVENTS, 0);
        uint64_t now_ns = kn_now_ns();
        for (int i = 0; i < n; i++) {
            uint64_t number = events[i].data.u64;
            if (number == KN_PROBE_SESSION_EVENT)
                kn_session_event(p, events[i].events, now_ns);
            else if (number >= p->head && number < p->next && kn_probe_attempt(p, number)->step != KN_STEP_DONE)
                kn_attempt_event(p, kn_probe_attempt(p, number), events[i].events, now_ns);
        }
    } while (n == EVENTS);
}

static void expire(struct kn_probe *p, uint64_t now_ns)
{
    for (; p->expired < p->next; p->expired++) {
        struct kn_attempt *a = kn_probe_attempt(p, p->expired);
        if (a->step == KN_STEP_DONE)
            continue;
        if (now_ns <= a->due_ns + p->spec->timeout_ns)
            return;
        if (p->kind == KN_PROBE_SESSION) {
            kn_session_timed_out(p, p->expired, now_ns);
            continue;
        }
        bool connected = a->step == KN_STEP_ASKED;
        kn_attempt_close(a, true);
        kn_probe_end(p, a, KN_PROBE_TIMEOUT, connected, now_ns);
    }
}

static int commit(struct kn_probe *p, struct kn_error *err)
{
    for (; p->head < p->next && kn_probe_attempt(p, p->head)->step == KN_STEP_DONE; p->head++)
        if (kn_timeline_add(&p->tally->timeline, (enum kn_outcome)kn_probe_attempt(p, p->head)->outcome, err))
            return -1;
    if (p->expired < p->head)
        p->expired = p->head;
    return 0;
}

static bool is_due(const struct kn_probe *p, uint64_t now_ns)
{
    uint64_t due_ns = kn_pace_due_ns(&p->pace);
    return due_ns <= now_ns && due_ns < p->w->end_ns && !p->stopped_ns && p->next - p->head <= p->mask;
}

static void begin_due(struct kn_probe *p)
{
    uint64_t now_ns = kn_now_ns();
    for (; is_due(p, now_ns); now_ns = kn_now_ns()) {
        struct kn_attempt *a = kn_probe_attempt(p, p->next);
        a->due_ns = kn_pace_due_ns(&p->pace);
        a->fd = -1;
        a->step = KN_STEP_WAITING;
        a->have = 0;
        kn_pace_take(&p->pace, 1);
        if (now_ns - a->due_ns > LATE_NS)
            kn_probe_end(p, a, KN_PROBE_BLIND, false, now_ns);
        else if (p->kind != KN_PROBE_SESSION)
            kn_attempt_begin(p, a, p->next, now_ns);
        p->next++;
    }
    if (p->kind == KN_PROBE_SESSION)
        kn_session_begin(p, now_ns);
}

static uint64_t next_ns(const struct kn_probe *p, uint64_t now_ns)
{
    uint64_t until_ns = now_ns + KN_UDP_STOP_POLL_NS, due_ns = kn_pace_due_ns(&p->pace);
    if (due_ns < p->w->end_ns && !p->stopped_ns)
        until_ns = kn_least(until_ns, due_ns);
    if (p->w->end_ns > now_ns)
        until_ns = kn_least(until_ns, p->w->end_ns);
    if (p->expired < p->next)
        until_ns = kn_least(until_ns, p->ring[p->expired & p->mask].due_ns + p->spec->timeout_ns + 1);
    return until_ns;
}

static void sleep_until(struct kn_probe *p, uint64_t until_ns)
{
    struct pollfd one = {.fd = p->epoll, .events = POLLIN};
    uint64_t now_ns = kn_now_ns();
    struct timespec t = kn_timespec(until_ns > now_ns ? until_ns - now_ns : 0);
    ppoll(&one, 1, &t, NULL);
    p->wake_ns = until_ns;
}

static bool is_over(struct kn_probe *p, uint64_t now_ns)
{
    bool all = p->head == p->next;
    if (kn_worker_stopped(p->w) && !p->stopped_ns)
        p->stopped_ns = now_ns;
    if (p->stopped_ns || (now_ns >= p->w->end_ns && kn_pace_due_ns(&p->pace) >= p->w->end_ns))
        kn_worker_cpu_close(p->w);
    else
        return false;
    return all || (p->stopped_ns && now_ns >= p->stopped_ns + STOP_WAIT_NS);
}

int kn_probe_loop(struct kn_probe *p, struct kn_error *err)
{
    for (uint64_t now_ns = kn_now_ns(); !is_over(p, now_ns); now_ns = kn_now_ns()) {
        notice_pause(p, now_ns);
        harvest(p);
        expire(p, kn_now_ns());
        if (commit(p, err))
            return -1;
        if (p->refusal.code) {
            *err = p->refusal;
            return -1;
        }
        begin_due(p);
        if (commit(p, err)) /* what failed at once, or was too late */
            return -1;
        sleep_until(p, next_ns(p, kn_now_ns()));
    }
    return kn_timeline_end(&p->tally->timeline, err);
}
