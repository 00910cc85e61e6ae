#include "agent/agent.h"

#include <poll.h>
#include <stdlib.h>

#include "agent/accept.h"
#include "agent/control.h"
#include "agent/poller.h"
#include "agent/sockets.h"
#include "agent/udp.h"

/* The parts, each of which knows those above it only. */
struct kn_agent {
    struct kn_shared shared;
    struct kn_sockets sockets;
    struct kn_flows flows;
    struct kn_runs runs;
    struct kn_watches watches;
    struct kn_schedules schedules;
    struct kn_control control;
    struct kn_gate gate;
    struct kn_poller poller;
    struct kn_udp_listener udp;
    struct kn_acceptors *acceptors;
};

/* ---- beginning ---- */

static uint64_t earlier(uint64_t a_ns, uint64_t b_ns)
{
    return a_ns < b_ns ? a_ns : b_ns;
}

static uint64_t tick(void *context, uint64_t now_ns)
{
    struct kn_agent *agent = context;
    uint64_t next_ns = kn_flows_tick(&agent->flows, now_ns);
    next_ns = earlier(next_ns, kn_leases_tick(&agent->runs.leases, now_ns));
    next_ns = earlier(next_ns, kn_leases_tick(&agent->watches.leases, now_ns));
    next_ns = earlier(next_ns, kn_leases_tick(&agent->schedules.leases, now_ns));
    bool busy = kn_flows_active(&agent->flows) > 0 || kn_leases_active(&agent->schedules.leases) > 0;
    return earlier(next_ns, kn_shared_idle_tick(&agent->shared, busy, now_ns));
}

static int start_parts(struct kn_agent *agent, struct kn_error *err)
{
    struct kn_shared *shared = &agent->shared;
    kn_flows_init(&agent->flows, shared);
    kn_runs_init(&agent->runs, shared);
    kn_watches_init(&agent->watches, shared);
    kn_schedules_init(&agent->schedules, shared);
    struct kn_api api = {shared, &agent->runs, &agent->watches, &agent->schedules, &agent->flows};
    agent->gate = (struct kn_gate){shared, &agent->flows, &agent->control};
    if (kn_control_start(&agent->control, &api, err) ||
        kn_poller_start(&agent->poller, &agent->gate, agent->sockets.unix_fd, tick, agent, err))
        return -1;
    kn_udp_listener_init(&agent->udp, shared, &agent->flows, &agent->sockets.udp, &agent->sockets.at);
    if (kn_udp_listener_start(&agent->udp, err))
        return -1;
    agent->acceptors = kn_acceptors_new(&agent->gate, &agent->poller, agent->sockets.tcp_fd, err);
    return agent->acceptors ? 0 : -1;
}

struct kn_agent *kn_agent_new(const struct kn_agent_config *config, struct kn_error *err)
{
    struct kn_agent *agent = calloc(1, sizeof *agent);
    if (!agent)
        return kn_null(kn_fail_memory(err));
    agent->sockets = (struct kn_sockets){.tcp_fd = -1, .unix_fd = -1, .udp = {.fd = -1}};
    if (kn_shared_init(&agent->shared, config, err) ||
        kn_sockets_open(&agent->sockets, &config->listen, agent->shared.config.unix_path, err) ||
        start_parts(agent, err)) {
        kn_agent_free(agent);
        return NULL;
    }
    return agent;
}

uint16_t kn_agent_port(const struct kn_agent *agent)
{
    return kn_addr_port(&agent->sockets.at);
}

/* ---- end ---- */

void kn_agent_stop(struct kn_agent *agent)
{
    kn_shared_ask_to_end(&agent->shared);
}

void kn_agent_wait(struct kn_agent *agent)
{
    struct pollfd p = {.fd = agent->shared.asked_event, .events = POLLIN};
    while (poll(&p, 1, -1) < 0 && errno == EINTR)
        ;
}

bool kn_agent_was_idle(const struct kn_agent *agent)
{
    return atomic_load(&agent->shared.was_idle);
}

/* Threads first, from those that bring work to those that do it. Runs and flows are all told to stop before the first
 * is waited for. */
static void end_threads(struct kn_agent *agent)
{
    kn_shared_stop(&agent->shared);
    kn_acceptors_free(agent->acceptors);
    kn_udp_listener_stop(&agent->udp);
    if (agent->runs.shared)
        kn_leases_close(&agent->runs.leases);
    if (agent->schedules.shared)
        kn_leases_close(&agent->schedules.leases);
    if (agent->flows.shared)
        kn_flows_stop(&agent->flows);
    kn_poller_stop(&agent->poller);
    kn_control_stop(&agent->control);
}

void kn_agent_free(struct kn_agent *agent)
{
    if (!agent)
        return;
    end_threads(agent);
    kn_runs_fini(&agent->runs);
    kn_watches_fini(&agent->watches);
    kn_schedules_fini(&agent->schedules);
    kn_flows_fini(&agent->flows);
    kn_poller_fini(&agent->poller);
    kn_sockets_fini(&agent->sockets);
    kn_shared_fini(&agent->shared);
    free(agent);
}
