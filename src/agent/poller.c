#include "agent/poller.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "core/thread.h"

#define INCOMING_MAX 1024
#define SHED_AT_ONCE 16
/* The head of an HTTP request that came in part stays in the socket, so that poll would say "readable" for ever: looked
 * at again after this time instead. */
#define HTTP_AGAIN_NS (20 * KN_NS_PER_MS)
#define FIXED_FDS 2

void kn_poller_add(struct kn_poller *k, const struct kn_incoming *in)
{
    pthread_mutex_lock(&k->lock);
    bool room = k->n_inbox < k->most;
    if (room)
        k->inbox[k->n_inbox++] = *in;
    pthread_mutex_unlock(&k->lock);
    if (room) {
        kn_shared_wake(k->shared);
    } else {
        struct kn_incoming excess = *in;
        kn_refuse(&k->shared->refused, KN_REFUSED_CROWD);
        kn_incoming_close(&excess);
    }
}

void kn_poller_shed(struct kn_poller *k)
{
    pthread_mutex_lock(&k->lock);
    k->shed = true;
    pthread_mutex_unlock(&k->lock);
    kn_shared_wake(k->shared);
}

/* ---- making room ---- */

static size_t drop(struct kn_poller *k, size_t n, bool refused)
{
    for (size_t i = 0; i < k->n && n; i++) {
        struct kn_incoming *in = &k->all[i];
        if (in->fd < 0 || (in->state == KN_INCOMING_LINGER) != refused)
            continue;
        if (!refused)
            kn_refuse(&k->shared->refused, KN_REFUSED_CROWD);
        kn_incoming_close(in);
        n--;
    }
    return n;
}

static void compact(struct kn_poller *k)
{
    size_t kept = 0;
    for (size_t i = 0; i < k->n; i++)
        if (k->all[i].fd >= 0)
            k->all[kept++] = k->all[i];
    k->n = kept;
}

/* Those that were refused already go first, then those that have waited longest. */
static void take_inbox(struct kn_poller *k)
{
    pthread_mutex_lock(&k->lock);
    size_t over = k->n + k->n_inbox > k->most ? k->n + k->n_inbox - k->most : 0;
    if (k->shed && over < SHED_AT_ONCE)
        over = SHED_AT_ONCE;
    k->shed = false;
    drop(k, drop(k, over, true), false);
    compact(k);
    if (k->n_inbox)
        memcpy(k->all + k->n, k->inbox, k->n_inbox * sizeof *k->inbox);
    k->n += k->n_inbox;
    k->n_inbox = 0;
    pthread_mutex_unlock(&k->lock);
}

/* ---- the thread ---- */

static void step_all(struct kn_poller *k, uint64_t now_ns)
{
    for (size_t i = 0; i < k->n; i++) {
        struct kn_incoming *in = &k->all[i];
        if (kn_gate_step(k->gate, in) && in->deadline_ns <= now_ns) {
            if (in->state != KN_INCOMING_LINGER)
                kn_refuse(&k->shared->refused, KN_REFUSED_SILENT);
            kn_incoming_close(in);
        }
    }
    compact(k);
}

static uint64_t next_deadline(const struct kn_poller *k, uint64_t now_ns)
{
    uint64_t next_ns = UINT64_MAX;
    for (size_t i = 0; i < k->n; i++) {
        uint64_t at = k->all[i].state == KN_INCOMING_HTTP ? now_ns + HTTP_AGAIN_NS : k->all[i].deadline_ns;
        if (at < next_ns)
            next_ns = at;
    }
    return next_ns;
}

static nfds_t fill_polls(struct kn_poller *k)
{
    k->polls[0] = (struct pollfd){.fd = k->shared->wake_event, .events = POLLIN};
    k->polls[1] = (struct pollfd){.fd = k->unix_fd, .events = POLLIN}; /* -1 is passed over */
    for (size_t i = 0; i < k->n; i++)
        k->polls[FIXED_FDS + i] = (struct pollfd){.fd = k->all[i].state == KN_INCOMING_HTTP ? -1 : k->all[i].fd,
                                                  .events = POLLIN};
    return FIXED_FDS + k->n;
}

static void wait_until(struct kn_poller *k, uint64_t until_ns)
{
    struct timespec left, *timeout = NULL;
    if (until_ns != UINT64_MAX) {
        uint64_t now = kn_now_ns(), ns = now < until_ns ? until_ns - now : 0;
        left = kn_timespec(ns);
        timeout = &left;
    }
    nfds_t n = fill_polls(k);
    if (ppoll(k->polls, n, timeout, NULL) <= 0)
        return;
    uint64_t count;
    if (k->polls[0].revents && read(k->shared->wake_event, &count, sizeof count) < 0)
        return;
    int fd = k->polls[1].revents & POLLIN ? accept4(k->unix_fd, NULL, NULL, SOCK_CLOEXEC) : -1;
    if (fd >= 0)
        kn_control_take(k->gate->control, fd);
}

static void *poller_main(void *argument)
{
    struct kn_poller *k = argument;
    while (!kn_stopping(k->shared)) {
        uint64_t now_ns = kn_now_ns();
        take_inbox(k);
        step_all(k, now_ns);
        uint64_t mine_ns = next_deadline(k, now_ns), theirs_ns = k->tick(k->context, now_ns);
        wait_until(k, mine_ns < theirs_ns ? mine_ns : theirs_ns);
    }
    return NULL;
}

/* ---- beginning and end ---- */

/* Not so many that they take all descriptors of the process. */
static size_t how_many(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur / 4 >= INCOMING_MAX)
        return INCOMING_MAX;
    return limit.rlim_cur / 4 < 16 ? 16 : (size_t)(limit.rlim_cur / 4);
}

int kn_poller_start(struct kn_poller *k, struct kn_gate *gate, int unix_fd, kn_tick tick, void *context,
                    struct kn_error *err)
{
    *k = (struct kn_poller){.gate = gate, .shared = gate->shared, .unix_fd = unix_fd, .tick = tick, .context = context};
    k->most = how_many();
    pthread_mutex_init(&k->lock, NULL);
    k->inbox = calloc(k->most, sizeof *k->inbox);
    k->all = calloc(2 * k->most, sizeof *k->all);
    k->polls = calloc(FIXED_FDS + 2 * k->most, sizeof *k->polls);
    if (!k->inbox || !k->all || !k->polls)
        return kn_fail_memory(err);
    if ((errno = kn_thread_start(&k->thread, "knbl-poller", poller_main, k)) != 0)
        return kn_fail_errno(err, "cannot start the agent's poller");
    k->started = true;
    return 0;
}

void kn_poller_stop(struct kn_poller *k)
{
    if (!k->started)
        return;
    kn_shared_wake(k->shared);
    pthread_join(k->thread, NULL);
    k->started = false;
}

void kn_poller_fini(struct kn_poller *k)
{
    if (!k->gate)
        return; /* never started */
    for (size_t i = 0; i < k->n_inbox; i++)
        kn_incoming_close(&k->inbox[i]);
    for (size_t i = 0; i < k->n; i++)
        kn_incoming_close(&k->all[i]);
    pthread_mutex_destroy(&k->lock);
    free(k->inbox);
    free(k->all);
    free(k->polls);
}
