/* How to wait for an answer. A blocked receiver costs a wake-up, on some machines 50 µs across CPUs; one that asks
 * again costs a CPU. Auto asks for as long as a wake-up takes, gives the CPU away between two questions, and stops
 * asking where that does not pay. */
#include <errno.h>
#include <sched.h>
#include <sys/socket.h>

#include "engines/flow.h"

#define BUDGET_NS (50 * KN_NS_PER_US)
#define JUDGE_EVERY 256      /* waits */
#define RETRY_EVERY 4096     /* blocked waits before asking is tried again */

void kn_waiter_init(struct kn_waiter *w, enum kn_wait mode)
{
    *w = (struct kn_waiter){.mode = mode, .budget_ns = BUDGET_NS};
}

/* Half of the questions must have been worth it. */
static void judge(struct kn_waiter *w)
{
    if (w->tries < JUDGE_EVERY)
        return;
    if (w->hits * 2 < w->tries)
        w->off = true;
    w->tries = w->hits = 0;
}

static ssize_t ask(struct kn_waiter *w, int fd, void *buf, size_t size, int flags, bool forever)
{
    uint64_t until_ns = 0;
    for (;;) {
        ssize_t n = recv(fd, buf, size, flags | MSG_DONTWAIT);
        if (n >= 0 || errno != EAGAIN)
            return n;
        uint64_t now_ns = kn_now_ns();
        if (!until_ns)
            until_ns = now_ns + w->budget_ns;
        else if (now_ns >= until_ns && !forever)
            return -1;
        sched_yield();
    }
}

ssize_t kn_recv_wait(struct kn_waiter *w, int fd, void *buf, size_t size, int flags)
{
    if (w->mode == KN_WAIT_BLOCK)
        return recv(fd, buf, size, flags);
    if (w->mode == KN_WAIT_SPIN)
        return ask(w, fd, buf, size, flags, true);
    if (w->off) {
        w->blocked++;
        if (++w->tries >= RETRY_EVERY) {
            w->off = false;
            w->tries = w->hits = 0;
        }
        return recv(fd, buf, size, flags);
    }
    w->tries++;
    ssize_t n = ask(w, fd, buf, size, flags, false);
    if (n >= 0 || errno != EAGAIN) {
        w->hits++;
        w->spun++;
    } else {
        w->blocked++;
        n = recv(fd, buf, size, flags);
    }
    judge(w);
    return n;
}
