/* agent/schedule_inside - what the files of agent/schedule share: reading a request, carrying it out. */
#ifndef KN_AGENT_SCHEDULE_INSIDE_H
#define KN_AGENT_SCHEDULE_INSIDE_H

#include <pthread.h>
#include <stdatomic.h>

#include "agent/schedule.h"
#include "core/hist.h"
#include "run/run.h"

#define KN_SCHEDULE_LATE_NS (250 * KN_NS_PER_MS) /* a run may begin and end so much later, or a quarter of its slot */

struct kn_planned {
    uint64_t at_ns, for_ns; /* its slot, counted from the start */
    unsigned test, peer;
    struct kn_run *run; /* while it runs */
    uint64_t begun_ns, stopped_ns;
    bool too_much;  /* moved more bytes than the agent allows */
    json_t *result; /* NULL: it was not made, or is not over */
};

struct kn_schedule {
    struct kn_lease lease;
    struct kn_shared *shared;
    struct kn_spec *tests;
    struct kn_target *peers;
    struct kn_planned *runs; /* in the order of their time */
    size_t n_tests, n_peers, n_runs;
    bool histograms;         /* each run's own, beside the merged ones */
    struct kn_hist **merged; /* of all runs of each test; NULL until there is one */
    size_t kept;             /* bytes of histograms in the results */
    unsigned *active;        /* the runs that go on, by number: at most max_runs */
    size_t n_active, next;   /* next: the first that has not begun */
    pthread_t thread;
    bool threaded;
    int wake_fd;
    _Atomic uint64_t start_ns; /* 0: not known yet */
    atomic_bool stop, over;
    pthread_mutex_t lock; /* of the results and of what follows */
    size_t done, failed;
};

/* ---- schedule_read.c ---- */
/* Fills `s` from a request. What it has allocated until an error, kn_schedule_free releases. */
int kn_schedule_read(struct kn_schedule *s, const json_t *request, struct kn_error *err);

/* ---- schedule_run.c ---- */
void *kn_schedule_carry_out(void *schedule); /* a thread */

static inline uint64_t kn_schedule_slack_ns(const struct kn_planned *p)
{
    return p->for_ns / 4 > KN_SCHEDULE_LATE_NS ? p->for_ns / 4 : KN_SCHEDULE_LATE_NS;
}

#endif
