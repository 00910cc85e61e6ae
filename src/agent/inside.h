/* agent/inside - what the agent's own files share; nobody else includes it.
 *
 * Threads: acceptors (accept.c) decide what a connection is and serve short ones in place; the keeper (keeper.c) holds
 * those that have not said enough yet and keeps the time of all; one thread a flow (flows.c); one for UDP's hellos
 * (udp.c); libmicrohttpd's for control (control.c). Of the locks here none is taken under another. */
#ifndef KN_AGENT_INSIDE_H
#define KN_AGENT_INSIDE_H

#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "agent/agent.h"
#include "core/clock.h"
#include "core/thread.h"

/* What was turned away, by why. The names are in /v1/agent. */
enum kn_refused {
    KN_REFUSED_GARBAGE,      /* neither HTTP nor a hello */
    KN_REFUSED_SILENT,       /* hung up or let the time pass before it said what it is */
    KN_REFUSED_CROWD,        /* dropped to make room: too many that had not said what they are */
    KN_REFUSED_KEY,          /* a hello under another token */
    KN_REFUSED_VERSION,
    KN_REFUSED_HELLO,        /* a hello that says nonsense */
    KN_REFUSED_LIMIT,        /* longer than allowed, or too many flows */
    KN_REFUSED_UDP,          /* datagrams that are no hello */
    KN_REFUSED_COOKIE,       /* hellos with a wrong or old cookie; they get a new one */
    KN_REFUSED_TOKEN,        /* control without the token */
    KN_REFUSED_REQUEST,      /* control that asks for nonsense */
    KN_REFUSED_RUNS,         /* more runs than allowed */
    KN_REFUSED_COUNT
};

struct kn_flows;
struct kn_runs;
struct kn_watches;
struct kn_keeper;
struct kn_acceptors;
struct kn_udp_door;
struct MHD_Daemon;

struct kn_agent {
    struct kn_agent_config config;   /* texts are the agent's own copies */
    struct kn_key key, cookie_key;
    struct kn_server server;
    struct kn_addr at;               /* where it really listens */
    atomic_bool stop;                /* flows end; threads end */
    int asked_event;                 /* readable from the moment it is asked to end */
    int quit_event;                  /* readable once `stop` is set */
    int tcp_fd, udp_fd, unix_fd;
    _Atomic uint64_t refused[KN_REFUSED_COUNT], flows_served;
    atomic_uint controls;            /* connections of control */
    uint64_t started_ns;
    struct kn_flows *flows;
    struct kn_runs *runs;
    struct kn_watches *watches;
    struct kn_keeper *keeper;
    struct kn_acceptors *acceptors;
    struct kn_udp_door *udp;
    struct MHD_Daemon *http;
};

static inline void kn_count_refused(struct kn_agent *agent, enum kn_refused why)
{
    atomic_fetch_add_explicit(&agent->refused[why], 1, memory_order_relaxed);
}
const char *kn_refused_name(enum kn_refused why);
enum kn_refused kn_refused_by(enum kn_code code);   /* a hello's refusal */

/* ---- gate: what is a connection? ---- */
enum kn_gate_state { KN_GATE_NEW, KN_GATE_HELLO, KN_GATE_HTTP, KN_GATE_LINGER };
struct kn_pending {
    int fd;                          /* -1 once it was passed on or closed */
    enum kn_gate_state state;
    uint64_t deadline_ns;
    size_t have;                     /* bytes of the hello in `wire` */
    uint8_t *wire;                   /* kn_hello_size(), from the first byte of a hello on */
};
/* Takes what came. True: it needs to wait for more, and its owner keeps it. */
bool kn_gate_step(struct kn_agent *agent, struct kn_pending *p);
/* A verified hello: a thread for it, or a refusal. True: the refusal lingers, and its owner keeps the socket. */
bool kn_gate_flow(struct kn_agent *agent, struct kn_pending *p, const struct kn_hello *hello, const uint8_t *extra,
                  size_t extra_size);
bool kn_gate_refuse(struct kn_agent *agent, struct kn_pending *p, const struct kn_error *why);
void kn_gate_close(struct kn_pending *p);
int kn_gate_check(const struct kn_agent *agent, const struct kn_hello *hello, bool udp, struct kn_error *err);
void kn_gate_refusal(const struct kn_agent *agent, const struct kn_error *why, struct kn_welcome *w);

/* ---- the parts; each new starts its thread, each free ends and joins it ---- */
struct kn_acceptors *kn_acceptors_new(struct kn_agent *agent, struct kn_error *err);
void kn_acceptors_free(struct kn_acceptors *all);

struct kn_keeper *kn_keeper_new(struct kn_agent *agent, struct kn_error *err);
void kn_keeper_add(struct kn_keeper *keeper, const struct kn_pending *p); /* takes it over */
void kn_keeper_shed(struct kn_keeper *keeper);                            /* out of descriptors: the oldest go */
void kn_keeper_wake(struct kn_keeper *keeper);
void kn_keeper_stop(struct kn_keeper *keeper);                            /* joins its thread; it can still be woken */
void kn_keeper_free(struct kn_keeper *keeper);

struct kn_udp_door *kn_udp_door_new(struct kn_agent *agent, struct kn_error *err);
void kn_udp_door_free(struct kn_udp_door *door);

/* A thread for a flow. It takes the socket; where it fails the socket stays the caller's. `peer`: UDP alone. */
struct kn_flows *kn_flows_new(struct kn_agent *agent);
int kn_flows_start(struct kn_flows *flows, int fd, const struct kn_hello *hello, const struct kn_addr *peer,
                   const uint8_t *extra, size_t extra_size, struct kn_error *err);
bool kn_flows_has_udp(struct kn_flows *flows, const struct kn_addr *peer, const struct kn_hello *hello);
unsigned kn_flows_active(struct kn_flows *flows);
uint64_t kn_flows_tick(struct kn_flows *flows, uint64_t now_ns); /* ends the overdue, joins the ended; when next */
void kn_flows_stop(struct kn_flows *flows);                      /* `agent->stop` is set: ends and joins them all */
void kn_flows_free(struct kn_flows *flows);

#define KN_RUN_ID_SIZE 17
void kn_random_id(char id[KN_RUN_ID_SIZE]);

/* ---- runs: what this agent measures as a client ---- */
struct kn_runs *kn_runs_new(struct kn_agent *agent);
/* `request`: the body of POST /v1/runs. The id of the new run goes to `id`. */
int kn_runs_start(struct kn_runs *runs, const json_t *request, char id[KN_RUN_ID_SIZE], struct kn_error *err);
/* What GET answers, after up to wait_ns; NULL: no such run. `end`: stop it first, and forget it afterwards. */
json_t *kn_runs_report(struct kn_runs *runs, const char *id, uint64_t wait_ns, bool end);
unsigned kn_runs_active(struct kn_runs *runs);
uint64_t kn_runs_tick(struct kn_runs *runs, uint64_t now_ns);
void kn_runs_stop(struct kn_runs *runs);                           /* all of them; none can be started afterwards */
void kn_runs_free(struct kn_runs *runs);

/* ---- observations: what this agent watches while others measure ---- */
struct kn_watches *kn_watches_new(struct kn_agent *agent);
int kn_watches_start(struct kn_watches *watches, const json_t *request, char id[KN_RUN_ID_SIZE], struct kn_error *err);
bool kn_watches_keep(struct kn_watches *watches, const char *id);     /* somebody still wants it; false: no such one */
json_t *kn_watches_stop(struct kn_watches *watches, const char *id);  /* what was seen; NULL: no such one */
unsigned kn_watches_active(struct kn_watches *watches);
uint64_t kn_watches_tick(struct kn_watches *watches, uint64_t now_ns);
void kn_watches_free(struct kn_watches *watches);

/* ---- control ---- */
struct MHD_Daemon *kn_control_new(struct kn_agent *agent, struct kn_error *err);
void kn_control_take(struct kn_agent *agent, int fd);              /* takes the socket */
void kn_control_free(struct MHD_Daemon *http);                     /* ends every connection */
json_t *kn_environment(void);
json_t *kn_meter_json(void);

#endif
