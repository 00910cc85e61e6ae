/* engines - the tests themselves, both sides of each.
 *
 * A run is a client's side of one measurement: it connects, warms up, measures, collects what the servers report in
 * band, and gives one result. It is made of worker threads (min(flows, allowed CPUs)), each with figures of its own; a
 * controller thread keeps the time. The server's side serves one accepted flow on a thread of its own.
 *
 * Nothing here prints, exits or knows Lua. Network outcomes (refused, reset, timed out) during a run are counters; only
 * what makes the run void is an error. A run in which nothing arrived is KN_E_NO_DATA, never a figure of 0.
 *
 * This header is for the floors above; engines/flow.h is for the tests' own files. */
#ifndef KN_ENGINES_ENGINE_H
#define KN_ENGINES_ENGINE_H

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"
#include "core/spec.h"
#include "net/addr.h"
#include "net/wire.h"

struct kn_target {
    char host[256];        /* name or address; resolved by the run */
    uint16_t port;
    struct kn_key key;     /* of the agents; not used where spec.external or ping */
};

enum kn_phase { KN_PHASE_NEW, KN_PHASE_CONNECT, KN_PHASE_WARMUP, KN_PHASE_MEASURE, KN_PHASE_COLLECT, KN_PHASE_DONE, KN_PHASE_FAILED };

struct kn_progress { enum kn_phase phase; uint64_t elapsed_ns, total_ns; uint64_t ops, bytes; /* since the window opened */ };

struct kn_run;
struct kn_run *kn_run_new(const struct kn_spec *spec, const struct kn_target *target, struct kn_error *err);
int kn_run_start(struct kn_run *run, struct kn_error *err);      /* starts the threads and returns */
void kn_run_stop(struct kn_run *run);                            /* ends it now, from any thread; what was measured is kept */
void kn_run_progress(struct kn_run *run, struct kn_progress *out);
bool kn_run_wait(struct kn_run *run, uint64_t timeout_ns);       /* true: over, one way or the other */
/* Once over: {"ok":true,"metrics":{…the contract's names…},"params":{…},"chosen":{…},"flags":[…],"servers":[{"name","node","address"}…],
 * "latency_histogram":{…}} or {"ok":false,"error":{"code","message"}, and what was measured until then}. New reference. */
json_t *kn_run_result(struct kn_run *run);
void kn_run_free(struct kn_run *run);                            /* stops and joins first */

/* ---- the server's side ---- */

struct kn_identity { char name[64], node[64]; };                 /* pod and node, as told to the agent */

struct kn_server_limits { uint64_t max_duration_ns, max_bytes; };

/* What a server keeps between the connections of tcp_crr, per run id. Opaque; one an agent. */
struct kn_crr_ledger;
struct kn_crr_ledger *kn_crr_ledger_new(void);
void kn_crr_ledger_free(struct kn_crr_ledger *ledger);

/* The threads that serve all keep-alive flows of http together; they start with the first. Opaque; one an agent, freed once no flow is left. */
struct kn_http_desk;
struct kn_http_desk *kn_http_desk_new(void);
void kn_http_desk_free(struct kn_http_desk *desk);

struct kn_server {
    struct kn_identity me;
    struct kn_server_limits limits;
    struct kn_crr_ledger *crr;
    struct kn_http_desk *http; /* NULL: each flow on its own thread */
    atomic_bool *stop;         /* set: every flow ends soon */
};

/* Serves one TCP flow whose hello was taken: welcome, test, trailer. Blocks; the caller owns `fd` and closes it.
 * `extra` are bytes that came after the hello. A flow whose client hangs blocks in recv() or send(): shutdown(fd, SHUT_RDWR)
 * from any thread ends it (so does who sets `stop`, and who counts the time: there is no timer here that would cost each operation). */
int kn_serve_tcp(struct kn_server *server, int fd, const struct kn_hello *hello, const uint8_t *extra, size_t extra_size, struct kn_error *err);
/* tcp_crr, http without keep-alive and KN_HELLO_STATS are short: the thread that accepts serves them in place, without blocking. True: was one, and is
 * served: the caller closes `fd` at once, before its client does (TIME_WAIT belongs on this side). `extra` came after the
 * hello and was read already. False: nothing was done; kn_serve_tcp on a thread of its own takes it (all sizes, blocking). */
bool kn_serve_short(struct kn_server *server, int fd, const struct kn_hello *hello, const uint8_t *extra, size_t extra_size);
/* Serves one UDP flow on a socket that is bound and connected to its client. Blocks. */
int kn_serve_udp(struct kn_server *server, int fd, const struct kn_hello *hello, const struct kn_key *key, struct kn_error *err);

#endif
