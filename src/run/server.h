/* run/server - an agent's side of all tests: serves flows whose hello was accepted, until their clients are done.
 *
 * It does not listen: the agent (src/agent) listens, reads hellos and enforces time limits. */
#ifndef KN_RUN_SERVER_H
#define KN_RUN_SERVER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"
#include "net/wire.h"

struct kn_identity {
    char name[64], node[64]; /* pod and node, as told to the agent */
};

struct kn_server_limits {
    uint64_t max_duration_ns, max_bytes; /* of a flow, in either direction; 0: none */
};

struct kn_short_book; /* the counts of short tests over all their connections (run/short.h); one for each agent */
struct kn_replay;     /* the hellos that were accepted (net/replay.h); one for each agent */
struct kn_desk;       /* the threads that serve many flows each (run/desk.h); one for each agent */

/* When the phases of a flow began, for its agent, which limits the time of each; 0: not yet. */
struct kn_flow_clock {
    _Atomic uint64_t started_ns; /* the client began */
    _Atomic uint64_t ended_ns;   /* the test is over; the account follows */
};

struct kn_server {
    const struct kn_registry *tests;
    struct kn_identity me;
    struct kn_server_limits limits;
    struct kn_short_book *book;
    struct kn_replay *replay;    /* NULL: hellos are not checked for age and repetition */
    struct kn_desk *desk;        /* NULL: each flow on its own thread */
    atomic_bool *stop;           /* set: every flow ends soon */
    struct kn_flow_clock *clock; /* of the one flow that is served with this; NULL: not used */
};

/* KN_E_LIMIT if the specification is longer than this server allows; for hellos and for runs. */
int kn_server_allows(const struct kn_server_limits *limits, const struct kn_spec *spec, struct kn_error *err);

/* The same, and whether the hello is fresh and was not accepted before. */
int kn_server_takes(const struct kn_server *server, const struct kn_hello *hello, struct kn_error *err);

/* Serves one TCP flow: welcome, test, trailer. Blocks; the caller owns `fd` and closes it. `extra` are bytes that came
 * after the hello. A flow whose client hangs blocks in recv() or send(): shutdown(fd, SHUT_RDWR) from any thread ends
 * it. The code that sets `stop`, or enforces the time limit, does that: a timer here would cost every operation. */
int kn_serve_tcp(struct kn_server *server, int fd, const struct kn_hello *hello, const uint8_t *extra,
                 size_t extra_size, struct kn_error *err);
/* Whether this hello opens a connection for one transaction (or asks what was counted): then the thread that accepts
 * tries kn_serve_short first. */
bool kn_server_is_short(const struct kn_hello *hello);
/* Serves it in place, without blocking. True: done, the caller closes `fd` at once, before its client does (TIME_WAIT
 * belongs on this side). False: nothing was done; kn_serve_tcp on its own thread takes it (all sizes, blocking). */
bool kn_serve_short(struct kn_server *server, int fd, const struct kn_hello *hello, const uint8_t *extra,
                    size_t extra_size);
/* Serves one UDP flow on a socket that is bound and connected to its client. Blocks. */
int kn_serve_udp(struct kn_server *server, int fd, const struct kn_hello *hello, const struct kn_key *key,
                 struct kn_error *err);

#endif
