/* engines/run - what a run is made of, for engine.c, flow.c and result*.c alone.
 *
 * Three kinds of thread touch it: the workers, the controller that keeps the time, and whoever holds the handle. The
 * lock guards everything that is not atomic and not a worker's own; it is never held while something blocks. */
#ifndef KN_ENGINES_RUN_H
#define KN_ENGINES_RUN_H

#include <pthread.h>

#include "engines/flow.h"

struct kn_slot {
    struct kn_worker w;         /* first: a worker is its slot */
    pthread_t thread;
    bool started, ready, done;
    bool loop_over;             /* measures no more; may still be collecting */
    bool failed;
    struct kn_error err;
};

/* One backend that answered, all its flows together. */
struct kn_server_report {
    char name[64], node[64], address[64];
    struct kn_figures figures;
    unsigned flows;
    json_t *cpu;                /* of its cgroup and node, as kn_cpu_between has it: the report of its longest flow */
    uint64_t cpu_window_ns;
};

struct kn_run {
    struct kn_spec spec;
    struct kn_target target;
    const struct kn_test_ops *ops;
    struct kn_addr peer;
    uint64_t id;
    uint8_t nonce[KN_NONCE_SIZE];

    unsigned n_slots;
    struct kn_slot **slots;
    pthread_t controller;
    bool controller_started, joined;

    atomic_bool stop;           /* no further operation */
    atomic_bool asked_to_stop;  /* from outside, as opposed to the end of time or a failure */
    _Atomic uint64_t left;      /* of `count` */
    _Atomic uint64_t first;     /* kn_worker_first: the value plus one; 0: none yet */
    _Atomic uint64_t transactions; _Atomic unsigned closing;    /* tcp_crr: of all workers; how many have ended their loops */
    _Atomic int phase;          /* enum kn_phase */
    _Atomic uint64_t start_ns, open_ns, end_ns, over_ns; /* of the window; for progress */

    pthread_mutex_t lock;
    pthread_cond_t changed;     /* CLOCK_MONOTONIC */
    int *fds;                   /* by flow; -1: none */
    bool over;
    bool failed;                /* the first error that made the run void */
    bool cut;                   /* sockets were shut down under a worker that hung */
    struct kn_error err;
    json_t *chosen, *flags;
    struct kn_server_report *servers;
    unsigned n_servers;
    struct kn_cpu_reading cpu_open, cpu_close;
    unsigned cpus_seen;         /* CPUs that workers were seen on, a bit each (the first 32) */
};

static inline struct kn_slot *kn_slot_of(struct kn_worker *w) { return (struct kn_slot *)w; }

void kn_run_flag(struct kn_run *run, const char *flag);                     /* takes the lock */
void kn_run_chosen(struct kn_run *run, const char *key, const char *text);  /* the lock is held */
int kn_run_add_report(struct kn_run *run, const json_t *report, struct kn_error *err);

#endif
