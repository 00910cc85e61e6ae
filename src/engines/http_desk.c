/* The desks: threads that serve many flows each. The flow's own thread sleeps until its flow is over, and then
 * reports. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "engines/http_serve.h"

#define DESKS_MAX 8
#define EVENTS 256
#define STACK_SIZE (128u << 10)
/* Under Linux the end of a connection is an event of its own (EPOLLRDHUP); gVisor's may hide behind the data before it.
 * So flows whose time is over, or all where nothing happens, are looked at again after this. */
#define SWEEP_NS (100 * KN_NS_PER_MS)
#define SAME_READING_NS (20 * KN_NS_PER_MS)  /* windows of a run open together: one reading of the node will do */

struct desk {
    struct kn_http_desk *all;
    pthread_t thread;
    bool started;
    int ep;
    uint64_t served;             /* replies to its flows; its thread's alone */
    uint64_t swept_ns;
    struct guest *_Atomic guests; /* put at the front by any thread, taken out by its own */
};

/* A flow at a desk. */
struct guest {
    struct kn_http_flow flow;
    struct desk *desk;
    struct guest *next;
    pthread_cond_t left;
    bool is_over;
    uint64_t cpu_ns, desk_served, own_served; /* of the desk and of the flow, where the window opened */
};

struct kn_http_desk {
    pthread_mutex_t lock;
    unsigned n, next;
    int quit;                    /* readable: all desks end */
    struct kn_cpu_reading last;
    struct desk desks[DESKS_MAX];
};

/* ---- windows ---- */

static void read_node(struct kn_http_desk *all, struct kn_cpu_reading *r)
{
    uint64_t now_ns = kn_now_ns();
    pthread_mutex_lock(&all->lock);
    if (!all->last.at_ns || now_ns > all->last.at_ns + SAME_READING_NS)
        kn_cpu_read(&all->last);
    *r = all->last;
    pthread_mutex_unlock(&all->lock);
}

static void open_window(struct guest *g)
{
    struct kn_served *s = g->flow.s;
    s->opened = true;
    s->figures.has |= KN_HAS_CPU;
    g->cpu_ns = kn_thread_cpu_ns();
    g->desk_served = g->desk->served;
    g->own_served = g->flow.served;
    read_node(g->desk->all, &s->at_open);
}

/* A desk's CPU time belongs to its flows by the replies that each got. */
static void close_window(struct guest *g, uint64_t now_ns)
{
    struct kn_served *s = g->flow.s;
    uint64_t all = g->desk->served - g->desk_served, own = g->flow.served - g->own_served;
    uint64_t end_ns = now_ns < s->end_ns ? now_ns : s->end_ns;
    s->closed = true;
    if (all)
        s->figures.cpu_ns += (uint64_t)((double)(kn_thread_cpu_ns() - g->cpu_ns) * (double)own / (double)all);
    s->figures.window_ns = end_ns > s->open_ns ? end_ns - s->open_ns : 0;
    read_node(g->desk->all, &s->at_close);
}

/* What kn_served_tick does for a flow that has a thread. */
static void tick(struct guest *g, bool over)
{
    const struct kn_served *s = g->flow.s;
    uint64_t now_ns = kn_now_ns();
    if (!s->opened && now_ns >= s->open_ns)
        open_window(g);
    if (s->opened && !s->closed && (over || now_ns >= s->end_ns))
        close_window(g, now_ns);
}

/* ---- a desk's thread ---- */

/* The lock is held. */
static void unlink_guest(struct guest *g)
{
    struct guest *at = g->desk->guests;
    if (at == g) {
        g->desk->guests = g->next;
        return;
    }
    while (at->next != g)
        at = at->next;
    at->next = g->next;
}

static void leave(struct guest *g)
{
    struct kn_http_desk *all = g->desk->all;
    tick(g, true);
    epoll_ctl(g->desk->ep, EPOLL_CTL_DEL, g->flow.fd, NULL);
    pthread_mutex_lock(&all->lock);
    unlink_guest(g);
    g->is_over = true;
    pthread_cond_signal(&g->left);
    pthread_mutex_unlock(&all->lock);
}

static void attend(struct desk *d, struct guest *g, uint32_t events)
{
    uint64_t before = g->flow.served;
    tick(g, false);
    bool stays = kn_http_flow_serve(&g->flow, MSG_DONTWAIT, events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR));
    d->served += g->flow.served - before;
    if (!stays)
        leave(g);
}

static void sweep(struct desk *d, bool all)
{
    uint64_t now_ns = kn_now_ns();
    if (now_ns < d->swept_ns + SWEEP_NS)
        return;
    d->swept_ns = now_ns;
    for (struct guest *g = d->guests, *next; g; g = next) {
        next = g->next;
        if (all || now_ns >= g->flow.s->end_ns)
            attend(d, g, EPOLLRDHUP);
    }
}

static void *desk_main(void *arg)
{
    struct desk *d = arg;
    struct epoll_event events[EVENTS];
    for (;;) {
        int n = epoll_wait(d->ep, events, EVENTS, d->guests ? (int)(SWEEP_NS / KN_NS_PER_MS) : -1);
        for (int i = 0; i < n; i++) {
            if (!events[i].data.ptr)
                return NULL;
            attend(d, events[i].data.ptr, events[i].events);
        }
        sweep(d, n == 0);
    }
}

/* With its first flow. The lock is held. */
static int start(struct desk *d, struct kn_error *err)
{
    pthread_attr_t attr;
    struct epoll_event quit = {.events = EPOLLIN};
    if (d->started)
        return 0;
    if (epoll_ctl(d->ep, EPOLL_CTL_ADD, d->all->quit, &quit) && errno != EEXIST)
        return kn_fail_errno(err, "epoll_ctl");
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_SIZE);
    int failed = pthread_create(&d->thread, &attr, desk_main, d);
    pthread_attr_destroy(&attr);
    d->started = !failed;
    return failed ? kn_fail_from(err, failed, "no thread to serve http") : 0;
}

/* ---- a flow ---- */

static struct desk *seat(struct kn_http_desk *all, struct kn_error *err)
{
    pthread_mutex_lock(&all->lock);
    struct desk *d = &all->desks[all->next++ % all->n];
    int failed = start(d, err);
    pthread_mutex_unlock(&all->lock);
    return failed ? NULL : d;
}

static int stay(struct guest *g, struct kn_error *err)
{
    struct kn_http_desk *all = g->desk->all;
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data = {.ptr = g}};
    pthread_mutex_lock(&all->lock);
    if (epoll_ctl(g->desk->ep, EPOLL_CTL_ADD, g->flow.fd, &e)) {
        pthread_mutex_unlock(&all->lock);
        return kn_fail_errno(err, "epoll_ctl");
    }
    g->next = g->desk->guests;
    g->desk->guests = g;
    while (!g->is_over)
        pthread_cond_wait(&g->left, &all->lock);
    pthread_mutex_unlock(&all->lock);
    return g->flow.failed ? kn_http_broke_off(err) : 0;
}

int kn_http_desk_serve(struct kn_http_desk *desk, struct kn_served *s, int fd, struct kn_error *err)
{
    struct guest *g = calloc(1, sizeof *g);
    if (!g)
        return kn_fail(err, KN_E_MEMORY, "no memory for a flow");
    kn_http_flow_init(&g->flow, s, fd);
    g->flow.at_desk = true;
    pthread_cond_init(&g->left, NULL);
    g->desk = seat(desk, err);
    int failed = !g->desk || stay(g, err);
    pthread_cond_destroy(&g->left);
    free(g);
    return failed ? -1 : 0;
}

/* ---- all of them ---- */

struct kn_http_desk *kn_http_desk_new(void)
{
    struct kn_http_desk *all = calloc(1, sizeof *all);
    if (!all)
        return NULL;
    unsigned n = kn_cpus_allowed() / 2; /* the other half is for who asks */
    all->n = n < 1 ? 1 : n > DESKS_MAX ? DESKS_MAX : n;
    pthread_mutex_init(&all->lock, NULL);
    all->quit = eventfd(0, EFD_CLOEXEC);
    bool good = all->quit >= 0;
    for (unsigned i = 0; i < all->n; i++) {
        all->desks[i].all = all;
        all->desks[i].ep = epoll_create1(EPOLL_CLOEXEC);
        good = good && all->desks[i].ep >= 0;
    }
    if (good)
        return all;
    kn_http_desk_free(all);
    return NULL;
}

void kn_http_desk_free(struct kn_http_desk *all)
{
    if (!all)
        return;
    if (all->quit >= 0)
        eventfd_write(all->quit, 1);
    for (unsigned i = 0; i < all->n; i++) {
        if (all->desks[i].started)
            pthread_join(all->desks[i].thread, NULL);
        if (all->desks[i].ep >= 0)
            close(all->desks[i].ep);
    }
    if (all->quit >= 0)
        close(all->quit);
    pthread_mutex_destroy(&all->lock);
    free(all);
}
