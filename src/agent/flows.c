/* The flows that this agent serves: a thread each, a time for each, joined when they are over. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/inside.h"

/* Over the time that was asked for: all flows of a run are opened before any begins, and the report comes after. */
#define SLACK_NS (90 * KN_NS_PER_S)

struct flow {
    struct flow *next;
    struct kn_agent *agent;
    pthread_t thread;
    int fd;                  /* -1 once closed; changes under the lock only */
    bool udp;
    struct kn_addr peer;
    uint64_t deadline_ns;
    struct kn_hello hello;
    size_t extra_size;
    uint8_t extra[];
};

struct kn_flows {
    struct kn_agent *agent;
    pthread_mutex_t lock;
    struct flow *active, *ended;
    unsigned n_active;
};

struct kn_flows *kn_flows_new(struct kn_agent *agent)
{
    struct kn_flows *flows = calloc(1, sizeof *flows);
    if (flows) {
        flows->agent = agent;
        pthread_mutex_init(&flows->lock, NULL);
    }
    return flows;
}

/* ---- a flow's thread ---- */

static void unlink_flow(struct kn_flows *flows, struct flow *f)
{
    struct flow **at = &flows->active;
    while (*at != f)
        at = &(*at)->next;
    *at = f->next;
    flows->n_active--;
}

static void *flow_main(void *argument)
{
    struct flow *f = argument;
    struct kn_agent *agent = f->agent;
    struct kn_flows *flows = agent->flows;
    struct kn_error err = { .code = KN_OK };
    int rc = f->udp ? kn_serve_udp(&agent->server, f->fd, &f->hello, &agent->key, &err)
                    : kn_serve_tcp(&agent->server, f->fd, &f->hello, f->extra, f->extra_size, &err);
    if (rc == 0)
        atomic_fetch_add_explicit(&agent->flows_served, 1, memory_order_relaxed);
    else if (err.code == KN_E_LIMIT)
        kn_count_refused(agent, KN_REFUSED_LIMIT);
    pthread_mutex_lock(&flows->lock);
    close(f->fd);
    f->fd = -1;
    unlink_flow(flows, f);
    f->next = flows->ended;
    flows->ended = f;
    pthread_mutex_unlock(&flows->lock);
    kn_keeper_wake(agent->keeper);
    return NULL;
}

static uint64_t deadline_of(const struct kn_agent *agent, const struct kn_spec *spec)
{
    uint64_t asked = spec->duration_ns ? spec->duration_ns : agent->config.max_duration_ns;
    return kn_now_ns() + asked + spec->warmup_ns + SLACK_NS;
}

static struct flow *flow_new(struct kn_agent *agent, int fd, const struct kn_hello *hello, const struct kn_addr *peer,
                             const uint8_t *extra, size_t extra_size)
{
    struct flow *f = calloc(1, sizeof *f + extra_size);
    if (!f)
        return NULL;
    f->agent = agent;
    f->fd = fd;
    f->hello = *hello;
    f->deadline_ns = deadline_of(agent, &hello->spec);
    f->udp = peer != NULL;
    if (peer)
        f->peer = *peer;
    f->extra_size = extra_size;
    if (extra_size)
        memcpy(f->extra, extra, extra_size);
    return f;
}

int kn_flows_start(struct kn_flows *flows, int fd, const struct kn_hello *hello, const struct kn_addr *peer,
                   const uint8_t *extra, size_t extra_size, struct kn_error *err)
{
    int rc = 0;
    struct flow *f = flow_new(flows->agent, fd, hello, peer, extra, extra_size);
    if (!f)
        return kn_fail_memory(err);
    /* the thread must find itself in the list, and its handle must be there before anybody joins it */
    pthread_mutex_lock(&flows->lock);
    if (atomic_load(&flows->agent->stop))
        rc = kn_fail(err, KN_E_REFUSED, "the agent is ending");
    else if (flows->n_active >= KN_AGENT_FLOWS_MAX)
        rc = kn_fail(err, KN_E_LIMIT, "this agent serves %u flows at once, and no more", KN_AGENT_FLOWS_MAX);
    else if ((errno = kn_thread_start(&f->thread, "knbl-flow", flow_main, f)) != 0)
        rc = kn_fail_errno(err, "no thread for a flow");
    if (rc == 0) {
        f->next = flows->active;
        flows->active = f;
        flows->n_active++;
    }
    pthread_mutex_unlock(&flows->lock);
    if (rc)
        free(f);
    return rc;
}

/* ---- looking after them ---- */

bool kn_flows_has_udp(struct kn_flows *flows, const struct kn_addr *peer, const struct kn_hello *hello)
{
    bool found = false;
    pthread_mutex_lock(&flows->lock);
    for (struct flow *f = flows->active; f && !found; f = f->next)
        found =
            f->udp && f->hello.run_id == hello->run_id && f->hello.flow == hello->flow && kn_addr_equal(&f->peer, peer);
    pthread_mutex_unlock(&flows->lock);
    return found;
}

unsigned kn_flows_active(struct kn_flows *flows)
{
    pthread_mutex_lock(&flows->lock);
    unsigned n = flows->n_active;
    pthread_mutex_unlock(&flows->lock);
    return n;
}

static void join_ended(struct flow *ended)
{
    while (ended) {
        struct flow *f = ended;
        ended = f->next;
        pthread_join(f->thread, NULL);
        free(f);
    }
}

uint64_t kn_flows_tick(struct kn_flows *flows, uint64_t now_ns)
{
    uint64_t next_ns = UINT64_MAX;
    pthread_mutex_lock(&flows->lock);
    for (struct flow *f = flows->active; f; f = f->next) {
        if (f->deadline_ns <= now_ns) { /* its thread wakes, finds the end and returns; once more should it not */
            shutdown(f->fd, SHUT_RDWR);
            f->deadline_ns = now_ns + KN_NS_PER_S;
        }
        if (f->deadline_ns < next_ns)
            next_ns = f->deadline_ns;
    }
    struct flow *ended = flows->ended;
    flows->ended = NULL;
    pthread_mutex_unlock(&flows->lock);
    join_ended(ended);
    return next_ns;
}

void kn_flows_stop(struct kn_flows *flows)
{
    for (;;) {
        pthread_mutex_lock(&flows->lock);
        for (struct flow *f = flows->active; f; f = f->next)
            shutdown(f->fd, SHUT_RDWR);
        unsigned left = flows->n_active;
        struct flow *ended = flows->ended;
        flows->ended = NULL;
        pthread_mutex_unlock(&flows->lock);
        join_ended(ended);
        if (!left)
            return;
        kn_sleep_until_ns(kn_now_ns() + KN_NS_PER_MS);
    }
}

void kn_flows_free(struct kn_flows *flows)
{
    if (!flows)
        return;
    pthread_mutex_destroy(&flows->lock);
    free(flows);
}
