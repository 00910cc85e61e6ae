#include "agent/flows.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/thread.h"
#include "run/desk.h"

#define TICK_NS (KN_NS_PER_S / 4)       /* the precision of the times below */
#define OPENING_NS (90 * KN_NS_PER_S)   /* until the client begins: it opens all flows of a run first */
#define SILENCE_NS (15 * KN_NS_PER_S)   /* the same over UDP, where a silent flow ends sooner */
#define LATE_NS (2 * KN_NS_PER_S)       /* after the end of the run: the last operation is on its way … */
#define LATE_MOST_NS (10 * KN_NS_PER_S) /* … for as long as it may take, but no longer than this */
#define REPORT_NS (15 * KN_NS_PER_S)    /* from the end of the test until the client has the report */

struct kn_flow {
    struct kn_flow *next;
    struct kn_flows *flows;
    pthread_t thread;
    int fd; /* -1 once closed; changes under the lock only */
    bool udp;
    struct kn_addr peer;
    uint64_t opened_ns;
    atomic_bool stop;
    struct kn_flow_clock clock;
    struct kn_server server;
    struct kn_hello hello;
    size_t extra_size;
    uint8_t extra[];
};

void kn_flows_init(struct kn_flows *flows, struct kn_shared *shared)
{
    *flows = (struct kn_flows){.shared = shared};
    pthread_mutex_init(&flows->lock, NULL);
}

void kn_flows_fini(struct kn_flows *flows)
{
    if (flows->shared)
        pthread_mutex_destroy(&flows->lock);
}

/* ---- a flow's thread ---- */

static void unlink_flow(struct kn_flows *flows, struct kn_flow *f)
{
    struct kn_flow **at = &flows->active;
    while (*at != f)
        at = &(*at)->next;
    *at = f->next;
    flows->n_active--;
}

/* What the server keeps between short connections outlives this flow, so they get the server that does too. */
static int serve(struct kn_flow *f, struct kn_error *err)
{
    struct kn_shared *shared = f->flows->shared;
    struct kn_server *server = kn_server_is_short(&f->hello) ? &shared->server : &f->server;
    return f->udp ? kn_serve_udp(server, f->fd, &f->hello, &shared->key, err)
                  : kn_serve_tcp(server, f->fd, &f->hello, f->extra, f->extra_size, err);
}

static void *flow_main(void *argument)
{
    struct kn_flow *f = argument;
    struct kn_flows *flows = f->flows;
    struct kn_shared *shared = flows->shared;
    struct kn_error err = {.code = KN_OK};
    int rc = serve(f, &err);
    if (rc == 0)
        atomic_fetch_add_explicit(&shared->flows_served, 1, memory_order_relaxed);
    else if (err.code == KN_E_LIMIT)
        kn_refuse(&shared->refused, KN_REFUSED_LIMIT);
    kn_shared_heard(shared, kn_now_ns());
    pthread_mutex_lock(&flows->lock);
    close(f->fd);
    f->fd = -1;
    unlink_flow(flows, f);
    f->next = flows->ended;
    flows->ended = f;
    pthread_mutex_unlock(&flows->lock);
    kn_shared_wake(shared);
    return NULL;
}

/* ---- starting one ---- */

static struct kn_flow *flow_new(struct kn_flows *flows, int fd, const struct kn_hello *hello,
                                const struct kn_addr *peer, const uint8_t *extra, size_t extra_size)
{
    struct kn_flow *f = calloc(1, sizeof *f + extra_size);
    if (!f)
        return NULL;
    f->flows = flows;
    f->fd = fd;
    f->hello = *hello;
    f->opened_ns = kn_now_ns();
    f->server = flows->shared->server;
    f->server.stop = &f->stop;
    f->server.clock = &f->clock;
    f->udp = peer != NULL;
    if (peer)
        f->peer = *peer;
    f->extra_size = extra_size;
    if (extra_size)
        memcpy(f->extra, extra, extra_size);
    return f;
}

static int start_thread(struct kn_flows *flows, int fd, const struct kn_hello *hello, const struct kn_addr *peer,
                        const uint8_t *extra, size_t extra_size, struct kn_error *err)
{
    int rc = 0;
    struct kn_flow *f = flow_new(flows, fd, hello, peer, extra, extra_size);
    if (!f)
        return kn_fail_memory(err);
    kn_shared_heard(flows->shared, f->opened_ns);
    /* the thread must find itself in the list, and its handle must be there before it is joined */
    pthread_mutex_lock(&flows->lock);
    if (atomic_load(&flows->shared->stop))
        rc = kn_fail(err, KN_E_REFUSED, "the agent is shutting down");
    else if (flows->n_active >= KN_AGENT_THREADS_MAX)
        rc = kn_fail(err, KN_E_LIMIT, "flow limit reached (%u with a thread each)", KN_AGENT_THREADS_MAX);
    else if ((errno = kn_thread_start(&f->thread, "knbl-flow", flow_main, f)) != 0)
        rc = kn_fail_errno(err, "cannot start a thread for a flow");
    if (rc == 0) {
        f->next = flows->active;
        flows->active = f;
        flows->n_active++;
    }
    pthread_mutex_unlock(&flows->lock);
    if (rc)
        free(f);
    else
        kn_shared_wake(flows->shared); /* its time runs */
    return rc;
}

int kn_flows_start(struct kn_flows *flows, int fd, const struct kn_hello *hello, const struct kn_addr *peer,
                   const uint8_t *extra, size_t extra_size, struct kn_error *err)
{
    struct kn_shared *shared = flows->shared;
    struct kn_desk *desk = shared->server.desk;
    if (extra_size || kn_server_is_short(hello) || !kn_desk_takes(desk, hello))
        return start_thread(flows, fd, hello, peer, extra, extra_size, err);
    kn_shared_heard(shared, kn_now_ns());
    if (kn_desk_active(desk) >= KN_AGENT_FLOWS_MAX)
        return kn_fail(err, KN_E_LIMIT, "flow limit reached (%u)", KN_AGENT_FLOWS_MAX);
    return kn_desk_add(desk, &shared->server, fd, hello, peer, &shared->key, err);
}

/* ---- looking after them ---- */

bool kn_flows_has_udp(struct kn_flows *flows, const struct kn_addr *peer, const struct kn_hello *hello)
{
    bool found = false;
    pthread_mutex_lock(&flows->lock);
    for (struct kn_flow *f = flows->active; f && !found; f = f->next)
        found = f->udp && f->hello.run_id == hello->run_id && f->hello.flow == hello->flow &&
                kn_addr_equal(&f->peer, peer);
    pthread_mutex_unlock(&flows->lock);
    return found || kn_desk_has_udp(flows->shared->server.desk, peer, hello);
}

unsigned kn_flows_active(struct kn_flows *flows)
{
    pthread_mutex_lock(&flows->lock);
    unsigned n = flows->n_active;
    pthread_mutex_unlock(&flows->lock);
    return n + kn_desk_active(flows->shared->server.desk);
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* A run by count has no duration of its own: it may take as long as the longest. */
static uint64_t deadline_of(const struct kn_flow *f)
{
    const struct kn_spec *spec = &f->hello.spec;
    uint64_t started_ns = atomic_load_explicit(&f->clock.started_ns, memory_order_relaxed);
    uint64_t ended_ns = atomic_load_explicit(&f->clock.ended_ns, memory_order_relaxed);
    if (ended_ns)
        return ended_ns + REPORT_NS;
    if (!started_ns)
        return f->opened_ns + (f->udp ? SILENCE_NS + spec->warmup_ns : OPENING_NS);
    uint64_t run_ns = spec->duration_ns ? spec->duration_ns : f->flows->shared->config.max_duration_ns;
    return started_ns + spec->warmup_ns + run_ns + LATE_NS + least(spec->timeout_ns + spec->delay_ns, LATE_MOST_NS);
}

/* Its thread wakes, sees the end and returns. A flow that is over already does not mind. */
static void end_flow(struct kn_flow *f)
{
    atomic_store(&f->stop, true);
    shutdown(f->fd, SHUT_RDWR);
}

static void join_ended(struct kn_flow *ended)
{
    while (ended) {
        struct kn_flow *f = ended;
        ended = f->next;
        pthread_join(f->thread, NULL);
        free(f);
    }
}

uint64_t kn_flows_tick(struct kn_flows *flows, uint64_t now_ns)
{
    pthread_mutex_lock(&flows->lock);
    for (struct kn_flow *f = flows->active; f; f = f->next)
        if (deadline_of(f) <= now_ns)
            end_flow(f);
    struct kn_flow *ended = flows->ended;
    bool any = flows->active != NULL;
    flows->ended = NULL;
    pthread_mutex_unlock(&flows->lock);
    join_ended(ended);
    return any ? now_ns + TICK_NS : UINT64_MAX;
}

void kn_flows_stop(struct kn_flows *flows)
{
    kn_desk_stop(flows->shared->server.desk);
    for (;;) {
        pthread_mutex_lock(&flows->lock);
        for (struct kn_flow *f = flows->active; f; f = f->next)
            end_flow(f);
        unsigned left = flows->n_active;
        struct kn_flow *ended = flows->ended;
        flows->ended = NULL;
        pthread_mutex_unlock(&flows->lock);
        join_ended(ended);
        if (!left)
            return;
        kn_sleep_until_ns(kn_now_ns() + KN_NS_PER_MS);
    }
}
