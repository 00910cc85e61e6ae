/* How to wait for an answer. A blocked receiver costs a wake-up, on some machines 50 µs across CPUs; one that asks
 * again costs a CPU. Auto asks for as long as a wake-up takes, after a moment gives the CPU away between two questions, and stops
 * asking where that does not pay: where answers take longer, or where a neighbour wants the CPU (a yield then lasts as
 * long as the scheduler likes, milliseconds). */
#include <errno.h>
#include <sched.h>
#include <sys/socket.h>

#include "engines/flow.h"

#define BUDGET_NS (50 * KN_NS_PER_US)
#define JUDGE_EVERY 64       /* waits */
#define SLOW_MOST 4          /* of these, yields that took more than the budget */
#define EAGER_NS (20 * KN_NS_PER_US) /* a yield may give the CPU away for long: answers of another CPU come before it is tried */
#define EAGER_JUDGE 16       /* waits; most of them in vain: the other side shares this CPU, and can answer only after a yield */
#define RETRY_FIRST 64       /* blocked waits before asking is tried again; doubled each time that it did not pay */
#define RETRY_MOST (1u << 17)

void kn_waiter_init(struct kn_waiter *w, enum kn_wait mode)
{
    *w = (struct kn_waiter){.mode = mode, .budget_ns = BUDGET_NS, .retry = RETRY_FIRST,
                             .eager_ns = EAGER_NS, .eager_retry = RETRY_FIRST};
}

/* Half of the questions must have been worth it. */
static void judge(struct kn_waiter *w)
{
    bool poor = w->slow >= SLOW_MOST;
    if (w->tries < JUDGE_EVERY && !poor)
        return;
    poor = poor || w->hits * 2 < w->tries;
    w->off = poor;
    if (!poor)
        w->retry = RETRY_FIRST;
    else if (w->retry < RETRY_MOST)
        w->retry *= 2;
    w->tries = w->hits = w->slow = 0;
}

static void judge_eager(struct kn_waiter *w, bool yielded)
{
    w->eager_tries++;
    w->eager_late += yielded;
    if (w->eager_ns && w->eager_tries >= EAGER_JUDGE) {
        bool vain = w->eager_late * 2 > w->eager_tries;
        w->eager_ns = vain ? 0 : EAGER_NS;
        w->eager_retry = !vain ? RETRY_FIRST : w->eager_retry < RETRY_MOST ? w->eager_retry * 2 : RETRY_MOST;
        w->eager_tries = w->eager_late = 0;
    } else if (!w->eager_ns && w->eager_tries >= w->eager_retry) {
        w->eager_ns = EAGER_NS;
        w->eager_tries = w->eager_late = 0;
    }
}

/* An answer that comes in time is a hit; one that was there when a long yield was over is not. */
static ssize_t ask(struct kn_waiter *w, int fd, void *buf, size_t size, int flags)
{
    uint64_t since_ns = 0, now_ns;
    bool yielded = false;
    for (;;) {
        ssize_t n = kn_recv(fd, buf, size, flags | MSG_DONTWAIT);
        bool empty = n < 0 && errno == EAGAIN;
        if (!empty)
            judge_eager(w, yielded);
        if (!empty && !since_ns) {
            w->hits++;
            return n;
        }
        now_ns = kn_now_ns();
        if (!since_ns)
            since_ns = now_ns;
        bool late = now_ns - since_ns >= w->budget_ns;
        if (late && now_ns - since_ns >= 2 * w->budget_ns)
            w->slow++;
        if (!empty) {
            w->hits += !late;
            return n;
        }
        if (late)
            return -1;
        if (now_ns - since_ns < w->eager_ns)
            continue;
        sched_yield();
        yielded = true;
    }
}

static ssize_t ask_forever(int fd, void *buf, size_t size, int flags)
{
    for (;;) {
        ssize_t n = kn_recv(fd, buf, size, flags | MSG_DONTWAIT);
        if (n >= 0 || errno != EAGAIN)
            return n;
        sched_yield();
    }
}

ssize_t kn_recv_wait(struct kn_waiter *w, int fd, void *buf, size_t size, int flags)
{
    if (w->mode == KN_WAIT_BLOCK)
        return kn_recv(fd, buf, size, flags);
    if (w->mode == KN_WAIT_SPIN)
        return ask_forever(fd, buf, size, flags);
    w->tries++;
    if (w->off) {
        if (w->tries >= w->retry) {
            w->off = false;
            w->tries = 0;
        }
        w->blocked++;
        return kn_recv(fd, buf, size, flags);
    }
    ssize_t n = ask(w, fd, buf, size, flags);
    int why = errno;
    judge(w);
    if (n >= 0 || why != EAGAIN) {
        w->spun++;
        errno = why;
        return n;
    }
    w->blocked++;
    return kn_recv(fd, buf, size, flags);
}
