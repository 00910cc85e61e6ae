/* The keeper: one thread that holds connections which have not said enough yet, and keeps the time of flows, runs. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "agent/inside.h"

#define PENDING_MAX 1024
#define SHED_AT_ONCE 16
/* The head of an HTTP request that came in part stays in the socket, so that poll would say "readable" for ever: looked
 * at again after this time instead. */
#define HTTP_AGAIN_NS (20 * KN_NS_PER_MS)
#define FIXED_FDS 2

struct kn_keeper {
    struct kn_agent *agent;
    pthread_t thread;
    int event;
    size_t most;
    pthread_mutex_t lock;            /* over the inbox */
    struct kn_pending *inbox;
    size_t n_inbox;
    bool shed;
    struct kn_pending *all;          /* the thread's own, oldest first */
    struct pollfd *polls;
    size_t n;
};

void kn_keeper_wake(struct kn_keeper *keeper)
{
    uint64_t one = 1;
    if (write(keeper->event, &one, sizeof one) < 0) /* full: it is awake anyhow */
        return;
}

void kn_keeper_add(struct kn_keeper *keeper, const struct kn_pending *p)
{
    pthread_mutex_lock(&keeper->lock);
    bool room = keeper->n_inbox < keeper->most;
    if (room)
        keeper->inbox[keeper->n_inbox++] = *p;
    pthread_mutex_unlock(&keeper->lock);
    if (room) {
        kn_keeper_wake(keeper);
    } else {
        struct kn_pending excess = *p;
        kn_count_refused(keeper->agent, KN_REFUSED_CROWD);
        kn_gate_close(&excess);
    }
}

void kn_keeper_shed(struct kn_keeper *keeper)
{
    pthread_mutex_lock(&keeper->lock);
    keeper->shed = true;
    pthread_mutex_unlock(&keeper->lock);
    kn_keeper_wake(keeper);
}

/* ---- the thread ---- */

/* Who has waited longest without saying anything goes first. */
static void drop_oldest(struct kn_keeper *k, size_t n)
{
    for (size_t i = 0; i < n && i < k->n; i++) {
        kn_count_refused(k->agent, KN_REFUSED_CROWD);
        kn_gate_close(&k->all[i]);
    }
}

static void compact(struct kn_keeper *k)
{
    size_t kept = 0;
    for (size_t i = 0; i < k->n; i++)
        if (k->all[i].fd >= 0)
            k->all[kept++] = k->all[i];
    k->n = kept;
}

static void take_inbox(struct kn_keeper *k)
{
    pthread_mutex_lock(&k->lock);
    size_t over = k->n + k->n_inbox > k->most ? k->n + k->n_inbox - k->most : 0;
    if (k->shed && over < SHED_AT_ONCE)
        over = SHED_AT_ONCE;
    k->shed = false;
    drop_oldest(k, over);
    compact(k);
    if (k->n_inbox)
        memcpy(k->all + k->n, k->inbox, k->n_inbox * sizeof *k->inbox);
    k->n += k->n_inbox;
    k->n_inbox = 0;
    pthread_mutex_unlock(&k->lock);
}

static void step_all(struct kn_keeper *k, uint64_t now_ns)
{
    for (size_t i = 0; i < k->n; i++) {
        struct kn_pending *p = &k->all[i];
        if (kn_gate_step(k->agent, p) && p->deadline_ns <= now_ns) {
            if (p->state != KN_GATE_LINGER)
                kn_count_refused(k->agent, KN_REFUSED_SILENT);
            kn_gate_close(p);
        }
    }
    compact(k);
}

static uint64_t next_deadline(const struct kn_keeper *k, uint64_t now_ns)
{
    uint64_t next_ns = UINT64_MAX;
    for (size_t i = 0; i < k->n; i++) {
        uint64_t at = k->all[i].state == KN_GATE_HTTP ? now_ns + HTTP_AGAIN_NS : k->all[i].deadline_ns;
        if (at < next_ns)
            next_ns = at;
    }
    return next_ns;
}

static nfds_t fill_polls(struct kn_keeper *k)
{
    k->polls[0] = (struct pollfd){ .fd = k->event, .events = POLLIN };
    k->polls[1] = (struct pollfd){ .fd = k->agent->unix_fd, .events = POLLIN }; /* -1 is passed over */
    for (size_t i = 0; i < k->n; i++)
        k->polls[FIXED_FDS + i] =
            (struct pollfd){ .fd = k->all[i].state == KN_GATE_HTTP ? -1 : k->all[i].fd, .events = POLLIN };
    return FIXED_FDS + k->n;
}

static void wait_until(struct kn_keeper *k, uint64_t until_ns)
{
    struct timespec left, *timeout = NULL;
    if (until_ns != UINT64_MAX) {
        uint64_t now = kn_now_ns(), ns = now < until_ns ? until_ns - now : 0;
        left = (struct timespec){ .tv_sec = (time_t)(ns / KN_NS_PER_S), .tv_nsec = (long)(ns % KN_NS_PER_S) };
        timeout = &left;
    }
    nfds_t n = fill_polls(k);
    if (ppoll(k->polls, n, timeout, NULL) <= 0)
        return;
    uint64_t count;
    if (k->polls[0].revents && read(k->event, &count, sizeof count) < 0)
        return;
    /* the Unix socket is for control only, and whoever can open it got past the file's mode */
    int fd = k->polls[1].revents & POLLIN ? accept4(k->agent->unix_fd, NULL, NULL, SOCK_CLOEXEC) : -1;
    if (fd >= 0)
        kn_control_take(k->agent, fd);
}

static uint64_t earlier(uint64_t a_ns, uint64_t b_ns)
{
    return a_ns < b_ns ? a_ns : b_ns;
}

static void *keeper_main(void *argument)
{
    struct kn_keeper *k = argument;
    while (!atomic_load(&k->agent->stop)) {
        uint64_t now_ns = kn_now_ns();
        take_inbox(k);
        step_all(k, now_ns);
        uint64_t next_ns = next_deadline(k, now_ns);
        next_ns = earlier(next_ns, kn_flows_tick(k->agent->flows, now_ns));
        next_ns = earlier(next_ns, kn_runs_tick(k->agent->runs, now_ns));
        next_ns = earlier(next_ns, kn_watches_tick(k->agent->watches, now_ns));
        wait_until(k, next_ns);
    }
    return NULL;
}

/* ---- beginning and end ---- */

/* Not so many that they take all descriptors of the process. */
static size_t how_many(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur / 4 >= PENDING_MAX)
        return PENDING_MAX;
    return limit.rlim_cur / 4 < 16 ? 16 : (size_t)(limit.rlim_cur / 4);
}

static void release(struct kn_keeper *k)
{
    for (size_t i = 0; i < k->n_inbox; i++)
        kn_gate_close(&k->inbox[i]);
    for (size_t i = 0; i < k->n; i++)
        kn_gate_close(&k->all[i]);
    if (k->event >= 0)
        close(k->event);
    pthread_mutex_destroy(&k->lock);
    free(k->inbox);
    free(k->all);
    free(k->polls);
    free(k);
}

struct kn_keeper *kn_keeper_new(struct kn_agent *agent, struct kn_error *err)
{
    struct kn_keeper *k = calloc(1, sizeof *k);
    if (!k) {
        kn_fail_memory(err);
        return NULL;
    }
    k->agent = agent;
    k->most = how_many();
    pthread_mutex_init(&k->lock, NULL);
    k->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    k->inbox = calloc(k->most, sizeof *k->inbox);
    k->all = calloc(2 * k->most, sizeof *k->all);
    k->polls = calloc(FIXED_FDS + 2 * k->most, sizeof *k->polls);
    agent->keeper = k; /* its thread and the flows' reach it there */
    if (k->event < 0)
        kn_fail_errno(err, "eventfd");
    else if (!k->inbox || !k->all || !k->polls)
        kn_fail_memory(err);
    else if ((errno = kn_thread_start(&k->thread, "knbl-keeper", keeper_main, k)) != 0)
        kn_fail_errno(err, "no thread for the agent");
    else
        return k;
    agent->keeper = NULL;
    release(k);
    return NULL;
}

/* `agent->stop` is set. */
void kn_keeper_stop(struct kn_keeper *keeper)
{
    if (!keeper)
        return;
    kn_keeper_wake(keeper);
    pthread_join(keeper->thread, NULL);
}

void kn_keeper_free(struct kn_keeper *keeper)
{
    if (keeper)
        release(keeper);
}
