/* run/inside - what a run is made of, for the files of this floor alone.
 *
 * Three kinds of thread use it: the workers, the controller that keeps the time, and the caller that holds the handle.
 * The lock guards everything that is neither atomic nor owned by one worker. Never held during a blocking call. */
#ifndef KN_RUN_INSIDE_H
#define KN_RUN_INSIDE_H

#include <pthread.h>

#include "meter/meter.h"
#include "run/part.h"
#include "run/worker.h"

struct kn_slot {
    struct kn_worker w; /* first: a worker is its slot */
    pthread_t thread;
    bool started, ready, done;
    bool loop_over; /* has stopped measuring; may still collect accounts */
    bool failed;
    struct kn_error err;
};

/* One backend that answered, all its flows together. */
struct kn_server_account {
    char name[64], node[64], address[64];
    struct kn_figures figures;
    unsigned flows;
    json_t *cpu; /* of its cgroup and node, from kn_cpu_between, in its longest flow */
    uint64_t cpu_window_ns;
};

struct kn_run {
    struct kn_spec spec;
    struct kn_part *parts; /* one for each target */
    unsigned n_parts;
    uint8_t nonce[KN_NONCE_SIZE];    /* the last bytes number the hellos: kn_run_nonce */
    _Atomic uint64_t opened, orders; /* counters: the next numbers */

    unsigned n_slots;
    struct kn_slot **slots;
    pthread_t controller;
    bool controller_started, joined;

    atomic_bool stop;          /* no further operation */
    atomic_bool asked_to_stop; /* by the caller, not by the end of the duration or a failure */
    _Atomic int phase;         /* enum kn_phase */
    _Atomic uint64_t start_ns, open_ns, end_ns, over_ns; /* of the window; for progress */

    pthread_mutex_t lock;
    pthread_cond_t changed; /* CLOCK_MONOTONIC */
    int *fds;               /* by flow, from the first part's to the last's; -1: none */
    bool over;
    bool failed; /* err is the first error that made the run fail */
    bool cut;    /* sockets were shut down because a worker hung */
    struct kn_error err;
    json_t *chosen, *flags;
    struct kn_server_account *servers;
    unsigned n_servers;
    struct kn_cpu_reading cpu_open, cpu_close;
};

static inline struct kn_slot *kn_slot_of(struct kn_worker *w)
{
    return (struct kn_slot *)w;
}

/* run.c: what any thread of the run may do. */
void kn_run_fail(struct kn_run *run, const struct kn_error *err);          /* keeps the first error, and halts */
void kn_run_flag(struct kn_run *run, const char *flag);                    /* takes the lock */
void kn_run_chosen(struct kn_run *run, const char *key, const char *text); /* the lock is held */
/* The run's nonce with a number in it, so that each hello has a different one. */
void kn_run_nonce(const struct kn_run *run, uint64_t number, uint8_t nonce[KN_NONCE_SIZE]);
/* controller.c: the thread that keeps the time of the run that `arg` is. */
void *kn_run_control(void *arg);

#endif
