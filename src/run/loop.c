#include "run/loop.h"

#include <sched.h>
#include <unistd.h>

#include "net/io.h"

int kn_loop_init(struct kn_loop *l, enum kn_wait wait, const atomic_bool *stop, struct kn_error *err)
{
    l->wait = wait;
    l->stop = stop;
    l->spin = (struct kn_spin){0};
    l->ep = epoll_create1(EPOLL_CLOEXEC);
    return l->ep < 0 ? kn_fail_errno(err, "epoll_create1") : 0;
}

void kn_loop_fini(struct kn_loop *l)
{
    if (l->ep >= 0)
        close(l->ep);
    l->ep = -1;
}

int kn_loop_add(const struct kn_loop *l, int fd, uint32_t events, epoll_data_t data)
{
    struct epoll_event e = {.events = events, .data = data};
    return epoll_ctl(l->ep, EPOLL_CTL_ADD, fd, &e);
}

int kn_loop_change(const struct kn_loop *l, int fd, uint32_t events, epoll_data_t data)
{
    struct epoll_event e = {.events = events, .data = data};
    return epoll_ctl(l->ep, EPOLL_CTL_MOD, fd, &e);
}

void kn_loop_remove(const struct kn_loop *l, int fd)
{
    epoll_ctl(l->ep, EPOLL_CTL_DEL, fd, NULL);
}

static int ask(struct kn_loop *l)
{
    return epoll_wait(l->ep, l->events, KN_LOOP_EVENTS, 0);
}

/* Yields the CPU between two polls. */
static int spin(struct kn_loop *l, uint64_t until_ns)
{
    uint64_t from_ns = 0, now_ns = 0, give_up_ns = until_ns;
    int n;
    while (!(n = ask(l))) {
        now_ns = kn_now_ns();
        if (!from_ns) {
            from_ns = now_ns;
            if (l->wait == KN_WAIT_AUTO && now_ns + KN_SPIN_NS < until_ns)
                give_up_ns = now_ns + KN_SPIN_NS;
        }
        if (now_ns >= give_up_ns || atomic_load_explicit(l->stop, memory_order_relaxed))
            break;
        sched_yield();
    }
    if (l->wait == KN_WAIT_AUTO)
        kn_spin_done(&l->spin, n != 0, now_ns - from_ns);
    return n;
}

unsigned kn_loop_wait(struct kn_loop *l, uint64_t now_ns, uint64_t until_ns)
{
    int n = 0;
    if (until_ns > now_ns + KN_LOOP_STEP_NS)
        until_ns = now_ns + KN_LOOP_STEP_NS;
    bool spins = l->wait == KN_WAIT_SPIN || (l->wait == KN_WAIT_AUTO && kn_spin_wanted(&l->spin));
    if (spins) {
        n = spin(l, until_ns);
        now_ns = n ? now_ns : kn_now_ns();
    }
    if (!n && !(spins && now_ns >= until_ns))
        n = kn_epoll_wait(l->ep, l->events, KN_LOOP_EVENTS, until_ns > now_ns ? until_ns - now_ns : 0);
    return n > 0 ? (unsigned)n : 0;
}
