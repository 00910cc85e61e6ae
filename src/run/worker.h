/* run/worker - a thread that drives some flows of a run: its window, its share of a count, and what it counts.
 *
 * A test's client function runs on it and goes through four steps: open its flows (run/flow.h, run/flow_udp.h),
 * kn_worker_ready, the measured loop until kn_worker_over, close its flows. */
#ifndef KN_RUN_WORKER_H
#define KN_RUN_WORKER_H

#include <stdatomic.h>

#include "core/clock.h"
#include "core/figures.h"
#include "core/pace.h"
#include "core/spec.h"
#include "net/addr.h"
#include "run/backends.h"
#include "run/run.h"

struct kn_worker {
    struct kn_run *run;
    struct kn_part *part;           /* the run's only one, or that of this worker's target: run/part.h */
    const struct kn_spec *spec;     /* of its part; so are the numbers of workers and flows */
    const atomic_bool *stop;        /* the run's; read by kn_worker_stopped */
    unsigned index, n_workers;      /* which one this is, of how many */
    unsigned first_flow, n_flows;   /* the flows that are this worker's: first_flow … first_flow + n_flows - 1 */
    struct kn_addr peer;            /* resolved target */
    const struct kn_target *target; /* as the user named it */
    struct kn_figures figures;      /* only this thread writes it */
    /* The window, valid after kn_worker_ready. Work done before open_ns is warm-up. */
    uint64_t start_ns, open_ns, end_ns; /* end_ns is UINT64_MAX if `count` limits the run */
    uint64_t untracked;                 /* `count`: operations taken in the warm-up, which do not count */
    uint64_t tx_size, rx_size;          /* bytes of an operation; from the specification unless the test sets them */
    uint64_t cpu_open_ns;               /* this thread's CPU time when the window opened; 0: not open yet */
    bool cpu_closed, loop_over;
    int watched;                        /* the epoll of all its flows' sockets, for edges only; 0: none */
    uint64_t collect_by_ns, stop_by_ns; /* deadlines for collecting; 0: not begun, not stopped */
    _Atomic uint64_t begun_ns;          /* start of an operation that blocks without a timeout: the run ends it
                                           after spec.timeout_ns; 0: none */
    struct kn_backends *backends;       /* which agents answered; NULL: not known */
    unsigned backend;                   /* which one answers the operations that end now; 0: not known */
    void *own;                          /* what the test keeps for its metrics(); freed with the run by own_free */
    void (*own_free)(void *own);
    _Atomic uint64_t live_ops, live_bytes; /* for progress; kn_worker_end stores them from time to time */
};

/* Waits until all workers' flows are open; fills the window. Nothing is sent here: the test's own first byte
 * (kn_flow_go on TCP) tells its server. -1: the run is being stopped. */
int kn_worker_ready(struct kn_worker *w, struct kn_error *err);
static inline bool kn_worker_stopped(const struct kn_worker *w) /* cheap enough for every operation */
{
    return atomic_load_explicit(w->stop, memory_order_relaxed);
}
static inline bool kn_worker_over(const struct kn_worker *w, uint64_t now_ns)
{
    return now_ns >= w->end_ns || kn_worker_stopped(w);
}
/* For `count`: takes up to `n` of the operations that are left for all workers; returns 0 if none is left. Without a
 * count, and in the warm-up, returns `n`. Each operation must end with kn_worker_end, or kn_worker_drop if it was not
 * begun. */
uint64_t kn_worker_take(struct kn_worker *w, uint64_t n);
void kn_worker_drop(struct kn_worker *w, uint64_t n);
/* Returns the value that the first worker of this target passed here, which the others compare theirs with. */
uint64_t kn_worker_first(struct kn_worker *w, uint64_t value);

/* How an operation ended. Exactly one applies: an error is not also a timeout. */
enum kn_ended {
    KN_ENDED_OK,      /* an operation; counted as LATE if it took longer than spec.timeout_ns */
    KN_ENDED_LATE,    /* answered after its timeout: a timeout, and its latency is kept */
    KN_ENDED_TIMEOUT, /* never answered: a timeout, and the waiting time is its latency */
    KN_ENDED_ERROR,   /* failed after it was begun: reset, invalid answer, closed connection */
    KN_ENDED_CONNECT  /* no connection: refused, unreachable, or not opened in time */
};
/* The only writer of operations, errors, timeouts and connect errors. An operation counts if it ended inside the
 * window, a failure if it began inside. So nothing of the warm-up counts, and a request sent in time fails in time. */
void kn_worker_end(struct kn_worker *w, enum kn_ended how, uint64_t begun_ns, uint64_t ended_ns);
/* Counts a failure without an operation: unexpected bytes (ERROR), or a flow that could not be opened again during the
 * run (CONNECT). */
void kn_worker_stray(struct kn_worker *w, enum kn_ended how, uint64_t at_ns);
/* With several targets: its flows were never opened, and the run goes on without them. They are connect errors. */
void kn_worker_unopened(struct kn_worker *w);
/* A connect that is over, or given up: flags one of a second or more that was under way before or in the window, even
 * if it ended later and is no figure. */
void kn_worker_connecting(struct kn_worker *w, uint64_t begun_ns, uint64_t now_ns);
/* Whether an event at `at_ns` is inside the window. */
static inline bool kn_worker_measures(const struct kn_worker *w, uint64_t at_ns)
{
    return at_ns >= w->open_ns && at_ns <= w->end_ns && w->open_ns;
}

/* The target cannot be reached any more. True: nor can any other of the run, so the worker fails with `why`; else it
 * goes on, and counts its failures. */
bool kn_worker_lost(struct kn_worker *w, const struct kn_error *why);
void kn_worker_found(struct kn_worker *w); /* it can be reached again */

/* After the loop: whether the servers' accounts are still awaited. One deadline for all flows of the worker; a run that
 * is stopped waits half a second more. */
bool kn_worker_collects(struct kn_worker *w, uint64_t now_ns);

/* Adds an entry to the result's "chosen" (what was calibrated) or "flags"; once for each run. */
void kn_worker_chosen(struct kn_worker *w, const char *key, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void kn_worker_flag(struct kn_worker *w, const char *flag);
/* How a loop over the worker's flows waits (kn_loop_wait_of); in the result where that is not what was asked for. */
enum kn_wait kn_worker_wait(struct kn_worker *w);
/* CPU of this thread at the edges of the window (idempotent both): kn_worker_end opens by itself; the test calls close
 * where its measured loop ends. Close also sets figures.window_ns and tells the run that this worker has finished. */
void kn_worker_cpu_open(struct kn_worker *w);
void kn_worker_cpu_close(struct kn_worker *w);

/* Paces operations at this worker's share of the rate. Without a rate `pace` stays as it is. */
void kn_worker_pace(const struct kn_worker *w, struct kn_pace *pace);
/* Sleeps until then; false if the run was stopped. With `wait` auto and spin it polls at the end, to be on time. */
bool kn_worker_sleep(const struct kn_worker *w, uint64_t until_ns);
/* Sleeps until a request is due; false if the window ended first or the run was stopped. */
bool kn_worker_await(const struct kn_worker *w, uint64_t due_ns);

#endif
