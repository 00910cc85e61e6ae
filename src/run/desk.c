/* The threads of the desks, and the turns of their flows. */
#include "run/desk.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/thread.h"
#include "run/desk_inside.h"

/* On Linux the end of a connection is a separate event (EPOLLRDHUP); on gVisor it may go unnoticed behind the data
 * before it. So flows are checked from time to time: all of them if nothing happens, otherwise those whose time is
 * over. */
#define SWEEP_NS (100 * KN_NS_PER_MS)
#define SWEEP_EACH_NS (2 * KN_NS_PER_US) /* added for each flow */

/* ---- lists ---- */

static void list(struct desk *d, struct kn_desk_place *p)
{
    p->prev = NULL;
    p->next = d->places;
    if (d->places)
        d->places->prev = p;
    d->places = p;
    d->n++;
}

static void unlist(struct desk *d, struct kn_desk_place *p)
{
    if (p->prev)
        p->prev->next = p->next;
    else
        d->places = p->next;
    if (p->next)
        p->next->prev = p->prev;
    d->n--;
}

static void forget_time(struct desk *d, struct kn_desk_place *p)
{
    if (!p->wake_ns)
        return;
    if (p->sooner)
        p->sooner->later = p->later;
    else
        d->soonest = p->later;
    if (p->later)
        p->later->sooner = p->sooner;
    else
        d->latest = p->sooner;
    p->wake_ns = 0;
}

/* Searches from the end of the list, because flows of a run wait equally long and the newest is the latest. */
void kn_desk_wake(struct kn_desk_flow *flow, uint64_t at_ns)
{
    struct kn_desk_place *p = flow->place, *before;
    struct desk *d = p->desk;
    forget_time(d, p);
    if (!at_ns)
        return;
    for (before = d->latest; before && before->wake_ns > at_ns; before = before->sooner)
        ;
    p->wake_ns = at_ns;
    p->sooner = before;
    p->later = before ? before->later : d->soonest;
    if (p->later)
        p->later->sooner = p;
    else
        d->latest = p;
    if (before)
        before->later = p;
    else
        d->soonest = p;
}

/* While a run that asks for CPUs has flows here, the thread is pinned to these CPUs. With several such runs, the last
 * one wins. */
static void pin(struct desk *d, const struct kn_spec *spec)
{
    struct kn_error ignored;
    if (!*spec->server_cpus)
        return;
    if (!d->pinned++)
        sched_getaffinity(0, sizeof d->free, &d->free);
    kn_served_pin(spec, &ignored); /* impossible CPUs were refused before the welcome */
}

static void unpin(struct desk *d, const struct kn_spec *spec)
{
    if (*spec->server_cpus && !--d->pinned)
        sched_setaffinity(0, sizeof d->free, &d->free);
}

/* Only the desk's own thread registers a socket: an event then never refers to a flow that is not in its list. */
static void take_arrivals(struct desk *d)
{
    struct kn_desk_place *p = atomic_exchange_explicit(&d->arrivals, NULL, memory_order_acquire);
    while (p) {
        struct kn_desk_place *next = p->next;
        list(d, p);
        pin(d, p->flow->s.spec);
        d->spinning[kn_loop_wait_of(p->flow->s.spec)] += p->state == KN_AT_TEST; /* UDP */
        if (kn_loop_add(&d->loop, p->flow->fd, KN_LOOP_ALL, (epoll_data_t){.ptr = p}))
            p->deadline_ns = 0; /* the kernel is out of memory */
        p = next;
    }
}

/* ---- turns ---- */

static void drop_from_again(struct desk *d, struct kn_desk_place *p)
{
    if (!p->goes_on)
        return;
    struct kn_desk_place **at = &d->again;
    while (*at != p)
        at = &(*at)->again;
    *at = p->again;
}

static void leave(struct desk *d, struct kn_desk_place *p, const struct kn_error *err)
{
    struct kn_desk *all = d->all;
    struct kn_desk_flow *flow = p->flow;
    kn_desk_conclude(d, p);
    forget_time(d, p);
    drop_from_again(d, p);
    unlist(d, p);
    unpin(d, flow->s.spec);
    close(flow->fd); /* takes it out of epoll too */
    kn_desk_flow_free(all, flow);
    atomic_fetch_sub(&all->active, 1);
    all->over(all->context, err && err->code ? err : NULL);
}

static void attend(struct desk *d, struct kn_desk_place *p, uint32_t events)
{
    struct kn_error err = {.code = KN_OK};
    if (!kn_desk_attend(d, p, events, &err))
        leave(d, p, &err);
}

static void end_late(struct desk *d, struct kn_desk_place *p)
{
    struct kn_error err;
    kn_fail(&err, KN_E_TIMEOUT,
            p->state == KN_AT_GO ? "a client opened a flow and never began" : "a client did not end in time");
    leave(d, p, &err);
}

static void sweep(struct desk *d, bool all)
{
    uint64_t now_ns = d->seat.now_ns;
    if (now_ns < d->swept_ns + SWEEP_NS + d->n * SWEEP_EACH_NS)
        return;
    d->swept_ns = now_ns;
    for (struct kn_desk_place *p = d->places, *next; p; p = next) {
        next = p->next;
        if (now_ns >= p->deadline_ns)
            end_late(d, p);
        else if (all || p->udp || now_ns >= p->flow->s.end_ns)
            attend(d, p, p->udp ? 0 : EPOLLRDHUP);
    }
}

static void serve_due(struct desk *d)
{
    while (d->soonest && d->soonest->wake_ns <= d->seat.now_ns) {
        struct kn_desk_place *p = d->soonest;
        forget_time(d, p);
        attend(d, p, 0);
    }
}

/* Serves flows that had more to do in the last turn. If they still have, they go into the list of the next turn. */
static void serve_again(struct desk *d)
{
    struct kn_desk_place *all = d->again;
    d->again = NULL;
    while (all) {
        struct kn_desk_place *p = all;
        all = p->again;
        p->goes_on = false;
        attend(d, p, 0);
    }
}

static unsigned wait_for_events(struct desk *d)
{
    uint64_t until_ns = d->soonest ? d->soonest->wake_ns : UINT64_MAX;
    if (!d->places) { /* no flows: waits until one arrives */
        int n = epoll_wait(d->loop.ep, d->loop.events, KN_LOOP_EVENTS, -1);
        return n > 0 ? (unsigned)n : 0;
    }
    if (d->again) {
        int n = epoll_wait(d->loop.ep, d->loop.events, KN_LOOP_EVENTS, 0);
        return n > 0 ? (unsigned)n : 0;
    }
    d->loop.wait = d->spinning[KN_WAIT_SPIN] ? KN_WAIT_SPIN : d->spinning[KN_WAIT_AUTO] ? KN_WAIT_AUTO : KN_WAIT_BLOCK;
    return kn_loop_wait(&d->loop, d->seat.now_ns, until_ns);
}

static void *desk_main(void *argument)
{
    struct desk *d = argument;
    d->seat.now_ns = kn_now_ns();
    while (!atomic_load_explicit(&d->all->stop, memory_order_relaxed)) {
        unsigned n = wait_for_events(d);
        d->seat.now_ns = kn_now_ns();
        take_arrivals(d);
        for (unsigned i = 0; i < n; i++) {
            if (i + 1 < n) /* the state of thousands of flows does not fit a cache */
                __builtin_prefetch(d->loop.events[i + 1].data.ptr);
            if (d->loop.events[i].data.ptr)
                attend(d, d->loop.events[i].data.ptr, d->loop.events[i].events);
        }
        serve_due(d);
        serve_again(d);
        sweep(d, n == 0);
    }
    take_arrivals(d);
    struct kn_error err;
    kn_fail(&err, KN_E_INTERRUPTED, "the agent is shutting down");
    while (d->places)
        leave(d, d->places, &err);
    return NULL;
}

/* ---- adding a flow ---- */

/* Starts the thread with its first flow. The lock is held. */
static int start(struct desk *d, struct kn_error *err)
{
    if (atomic_load(&d->all->stop))
        return kn_fail(err, KN_E_REFUSED, "the agent is shutting down");
    if (d->started)
        return 0;
    if (!d->seat.room && !(d->seat.room = malloc(KN_DESK_ROOM)))
        return kn_fail_memory(err);
    if (kn_loop_add(&d->loop, d->call, EPOLLIN | EPOLLET, (epoll_data_t){.ptr = NULL}) && errno != EEXIST)
        return kn_fail_errno(err, "epoll_ctl");
    int failed = kn_thread_start(&d->thread, "knbl-desk", desk_main, d);
    d->started = !failed;
    return failed ? kn_fail_from(err, failed, "cannot start a thread for flows") : 0;
}

/* The loops get flows in turn. A client that limits its own threads gets the same number here: more would only take the
 * CPUs from it if both are on one machine. */
unsigned kn_desk_loops(const struct kn_desk *all, const struct kn_spec *spec)
{
    return spec->threads && spec->threads < all->n ? (unsigned)spec->threads : all->n;
}

static struct desk *seat(struct kn_desk *all, const struct kn_hello *hello, struct kn_error *err)
{
    unsigned own = hello->flow % kn_desk_loops(all, &hello->spec);
    pthread_mutex_lock(&all->lock);
    struct desk *d = &all->desks[(hello->run_id % all->n + own) % all->n];
    int failed = start(d, err);
    pthread_mutex_unlock(&all->lock);
    return failed ? NULL : d;
}

static void hand_over(struct desk *d, struct kn_desk_flow *flow)
{
    struct kn_desk_place *p = flow->place;
    p->desk = d;
    flow->seat = &d->seat;
    atomic_fetch_add(&d->all->active, 1);
    struct kn_desk_place *head = atomic_load_explicit(&d->arrivals, memory_order_relaxed);
    do {
        p->next = head;
    } while (
        !atomic_compare_exchange_weak_explicit(&d->arrivals, &head, p, memory_order_release, memory_order_relaxed));
    if (!head) /* otherwise the thread has been woken already */
        eventfd_write(d->call, 1);
}

int kn_desk_add(struct kn_desk *all, struct kn_server *server, int fd, const struct kn_hello *hello,
                const struct kn_addr *peer, const struct kn_key *key, struct kn_error *err)
{
    struct desk *d = kn_server_takes(server, hello, err) ? NULL : seat(all, hello, err);
    struct kn_desk_flow *flow = d ? kn_desk_flow_new(all, server, fd, hello, peer, key, err) : NULL;
    if (!flow)
        return -1;
    if (kn_desk_welcome(flow, err)) {
        kn_desk_flow_free(all, flow);
        return -1;
    }
    hand_over(d, flow);
    return 0;
}

unsigned kn_desk_active(const struct kn_desk *all)
{
    return atomic_load(&all->active);
}

bool kn_desk_takes(const struct kn_desk *all, const struct kn_hello *hello)
{
    const struct kn_desk_test *test = hello->spec.test->desk;
    return all && test && hello->kind == KN_HELLO_FLOW && hello->flows > all->n &&
           (!test->takes || test->takes(&hello->spec));
}

/* ---- all of them ---- */

struct kn_desk *kn_desk_new(void (*over)(void *context, const struct kn_error *err), void *context)
{
    struct kn_desk *all = calloc(1, sizeof *all);
    struct kn_error ignored;
    if (!all)
        return NULL;
    unsigned n = kn_cpus_allowed();
    all->n = n > KN_DESKS_MAX ? KN_DESKS_MAX : n;
    all->over = over;
    all->context = context;
    pthread_mutex_init(&all->lock, NULL);
    bool good = true;
    for (unsigned i = 0; i < all->n; i++) {
        struct desk *d = &all->desks[i];
        d->all = all;
        d->index = i;
        d->call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        good = !kn_loop_init(&d->loop, KN_WAIT_BLOCK, &all->stop, &ignored) && d->call >= 0 && good;
    }
    if (good)
        return all;
    kn_desk_free(all);
    return NULL;
}

void kn_desk_stop(struct kn_desk *all)
{
    if (!all)
        return;
    pthread_mutex_lock(&all->lock);
    atomic_store(&all->stop, true);
    pthread_mutex_unlock(&all->lock);
    for (unsigned i = 0; i < all->n; i++) {
        struct desk *d = &all->desks[i];
        if (!d->started)
            continue;
        eventfd_write(d->call, 1);
        pthread_join(d->thread, NULL);
        d->started = false;
    }
}

void kn_desk_free(struct kn_desk *all)
{
    if (!all)
        return;
    kn_desk_stop(all);
    for (unsigned i = 0; i < all->n; i++) {
        kn_loop_fini(&all->desks[i].loop);
        if (all->desks[i].call >= 0)
            close(all->desks[i].call);
        free(all->desks[i].seat.room);
    }
    pthread_mutex_destroy(&all->lock);
    free(all);
}
