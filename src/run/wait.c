/* How to wait for an answer. A blocked receiver costs a wake-up, on some machines 50 µs across CPUs; a polling one
 * costs a CPU. Auto polls for as long as a wake-up takes, and after a moment yields the CPU between two polls. It stops
 * polling if that does not pay: if answers take longer, or if another thread wants the CPU (then a yield lasts as long
 * as the scheduler decides, up to milliseconds). */
#include <errno.h>
#include <sched.h>
#include <sys/socket.h>

#include "run/wait.h"

#include "core/clock.h"
#include "net/io.h"

#define EAGER_NS \
    (20 * KN_NS_PER_US) /* before the first yield, which may take long; answers from another CPU come earlier */
#define EAGER_JUDGE 16  /* waits; if most fail, the other side shares this CPU and can answer only after a yield */

void kn_waiter_init(struct kn_waiter *w, enum kn_wait mode)
{
    *w = (struct kn_waiter){
        .mode = mode, .budget_ns = KN_SPIN_NS, .eager_ns = EAGER_NS, .eager_retry = KN_SPIN_PENALTY};
}

static void judge_eager(struct kn_waiter *w, bool yielded)
{
    w->eager_tries++;
    w->eager_late += yielded;
    if (w->eager_ns && w->eager_tries >= EAGER_JUDGE) {
        bool vain = w->eager_late * 2 > w->eager_tries;
        w->eager_ns = vain ? 0 : EAGER_NS;
        w->eager_retry = !vain                                   ? KN_SPIN_PENALTY
                         : w->eager_retry < KN_SPIN_PENALTY_MOST ? w->eager_retry * 2
                                                                 : KN_SPIN_PENALTY_MOST;
        w->eager_tries = w->eager_late = 0;
    } else if (!w->eager_ns && w->eager_tries >= w->eager_retry) {
        w->eager_ns = EAGER_NS;
        w->eager_tries = w->eager_late = 0;
    }
}

/* An answer in time is a hit; one that was there only after a long yield is not. */
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
            kn_spin_done(&w->spin, true, 0);
            return n;
        }
        now_ns = kn_now_ns();
        if (!since_ns)
            since_ns = now_ns;
        bool late = now_ns - since_ns >= w->budget_ns;
        if (!empty || late) {
            int why = errno;
            kn_spin_done(&w->spin, !empty, now_ns - since_ns);
            errno = why;
            return n;
        }
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
    if (kn_spin_wanted(&w->spin)) {
        ssize_t n = ask(w, fd, buf, size, flags);
        if (n >= 0 || errno != EAGAIN) {
            w->spun++;
            return n;
        }
    }
    w->blocked++;
    return kn_recv(fd, buf, size, flags);
}
