/* engines/probe - attempts at fixed times, each with an outcome of its own: what the files of the test share.
 *
 * loop.c keeps the due times and the ring of attempts; attempt.c makes independent attempts, session.c those on a
 * connection that is kept; timeline.c keeps what became of them; serve.c is the agent's side. */
#ifndef KN_ENGINES_PROBE_H
#define KN_ENGINES_PROBE_H

#include "core/pace.h"
#include "engines/probe/timeline.h"
#include "net/wire.h"
#include "run/server.h"
#include "run/worker.h"

enum kn_probe_kind { KN_PROBE_CONNECT, KN_PROBE_SESSION, KN_PROBE_UDP, KN_PROBE_HTTP };
enum { KN_PROBE_KIND };                /* its own options */
enum { KN_PROBE_PATH, KN_PROBE_HOST }; /* its own texts */

static inline enum kn_probe_kind kn_probe_kind(const struct kn_spec *spec)
{
    return (enum kn_probe_kind)spec->own[KN_PROBE_KIND];
}

#define KN_PROBE_MESSAGE 8u               /* bytes of a session's request and response: the number of the attempt */
#define KN_PROBE_HEAD_MAX 512u            /* bytes of an answer that are looked at */
#define KN_PROBE_REQUEST_MAX 512u         /* bytes of an HTTP request */
#define KN_PROBE_OUTSTANDING 65536u       /* attempts that may wait for their answers at once */
#define KN_PROBE_BACKEND "Knbl-Backend: " /* the agent's name in its HTTP answer */

/* What is kept for the result. The worker owns it. */
struct kn_probe_tally {
    struct kn_timeline timeline;
    uint64_t reconnects;
};

enum kn_probe_step { KN_STEP_IDLE, KN_STEP_WAITING, KN_STEP_CONNECTING, KN_STEP_ASKED, KN_STEP_DONE };

struct kn_attempt {
    uint64_t due_ns;
    int fd;
    uint8_t step, outcome;
    uint16_t have; /* bytes of the answer */
    uint8_t in[KN_PROBE_HEAD_MAX];
};

struct kn_probe {
    struct kn_worker *w;
    const struct kn_spec *spec;
    enum kn_probe_kind kind;
    struct kn_probe_tally *tally;
    struct kn_pace pace;
    struct kn_attempt *ring; /* by number */
    uint64_t mask;
    uint64_t head, next; /* the oldest that is not in the timeline; the next that will be due */
    uint64_t expired;    /* all before it are done: the oldest that may still time out */
    int epoll;
    uint64_t wake_ns;    /* when the loop wanted to wake up; 0: not yet */
    uint64_t paused_ns;  /* since when it did not run, where it woke up late; 0: it did not */
    uint64_t stopped_ns; /* when a stop was seen */
    int fd_most;         /* descriptors from there on are left to others: to the agent's control, say */
    bool starved;        /* this host had no socket or no port for an attempt */
    uint8_t *request;
    size_t request_size, hello_size;
    struct kn_error refusal; /* an agent's, which makes the run void; code 0: none */
    struct {
        int fd; /* -1: none */
        bool connected, ready, ever;
        uint64_t begun_ns; /* since when it connects */
        uint64_t sent;     /* no attempt before it waits to be sent */
        char name[64];     /* of who answers */
        uint8_t in[KN_PROBE_HEAD_MAX];
        size_t have;
    } session;
};

static inline struct kn_attempt *kn_probe_attempt(struct kn_probe *p, uint64_t number)
{
    return &p->ring[number & p->mask];
}

/* loop.c: an attempt is over: counts it once. `connected`: it had got so far as a connection. */
void kn_probe_end(struct kn_probe *p, struct kn_attempt *a, enum kn_outcome outcome, bool connected, uint64_t now_ns);
void kn_probe_answered_by(struct kn_probe *p, const char *name);
/* Whether an error is this host's own want of sockets, ports or memory, and no answer of the path; else what it says of
 * the path. */
enum kn_outcome kn_probe_outcome_of(struct kn_probe *p, int why);
/* An agent's answer, whole. KN_PROBE_OK and its name is counted, or what else it is. */
enum kn_outcome kn_probe_take_welcome(struct kn_probe *p, const uint8_t *wire, size_t size, bool datagram);
int kn_probe_loop(struct kn_probe *p, struct kn_error *err);

/* attempt.c: kinds connect, udp and http. */
void kn_attempt_begin(struct kn_probe *p, struct kn_attempt *a, uint64_t number, uint64_t now_ns);
void kn_attempt_event(struct kn_probe *p, struct kn_attempt *a, uint32_t events, uint64_t now_ns);
void kn_attempt_close(struct kn_attempt *a, bool reset);

/* session.c */
#define KN_PROBE_SESSION_EVENT UINT64_MAX
void kn_session_begin(struct kn_probe *p, uint64_t now_ns); /* sends what waits, connects if it must */
void kn_session_event(struct kn_probe *p, uint32_t events, uint64_t now_ns);
void kn_session_timed_out(struct kn_probe *p, uint64_t number, uint64_t now_ns); /* an attempt had no answer */
void kn_session_close(struct kn_probe *p);                                       /* takes the server's account along */

/* serve.c */
bool kn_probe_serve_short(struct kn_server *server, int fd, const struct kn_hello *hello, const uint8_t *extra,
                          size_t extra_size);
int kn_probe_serve_once(struct kn_server *server, int fd, const struct kn_hello *hello, const uint8_t *extra,
                        size_t extra_size, struct kn_error *err);
struct kn_served;
int kn_probe_serve(struct kn_served *s, int fd, struct kn_error *err);

#endif
