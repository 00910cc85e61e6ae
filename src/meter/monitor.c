/* The monitor: a thread that reads the counters of this node, this network namespace and this cgroup at intervals.
 *
 * A sample is a row of the kernel's counters; figures are computed once, at the end. When there are too many samples,
 * every other one is dropped and the interval doubles, which loses nothing of a counter. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/thread.h"
#include "meter/monitor.h"
#include "meter/observe.h"

#define INTERVAL_NS KN_NS_PER_S             /* the default */
#define INTERVAL_MIN_NS (10 * KN_NS_PER_MS) /* the kernel's step for CPU time */
#define FINE_SAMPLES 240                    /* at most so many at intervals below a second */
#define SAMPLES_MAX 4096                    /* and so many at any interval */

/* ---- the rows ---- */

static void halve(struct kn_monitor_state *m)
{
    for (size_t i = 1; 2 * i < m->n; i++)
        memcpy(kn_monitor_row(m, i), kn_monitor_row(m, 2 * i), m->width * sizeof *m->rows);
    m->n = (m->n + 1) / 2;
    m->interval_ns *= 2;
}

/* Without memory for another row, overwrites the last one. */
static uint64_t *next_row(struct kn_monitor_state *m)
{
    bool fine = m->interval_ns * 2 <= KN_NS_PER_S;
    if (m->n >= (fine ? FINE_SAMPLES : SAMPLES_MAX) + 1)
        halve(m);
    if (m->n == m->room) {
        size_t room = 2 * m->room;
        uint64_t *more = realloc(m->rows, room * m->width * sizeof *more);
        if (!more)
            return kn_monitor_row(m, m->n - 1);
        m->rows = more;
        m->room = room;
    }
    return kn_monitor_row(m, m->n++);
}

static void *monitor_main(void *argument)
{
    struct kn_monitor_state *m = argument;
    uint64_t next_ns = m->started_ns + m->interval_ns;
    pthread_mutex_lock(&m->lock);
    while (!m->stop) {
        struct timespec until = kn_timespec(next_ns);
        if (kn_now_ns() < next_ns) {
            pthread_cond_timedwait(&m->wake, &m->lock, &until);
            continue;
        }
        uint64_t now_ns = kn_now_ns();
        if (now_ns - next_ns > m->gap_ns)
            m->gap_ns = now_ns - next_ns;
        kn_monitor_sample(m, next_row(m));
        next_ns += m->interval_ns;
        now_ns = kn_now_ns();
        /* skip missed samples, and keep samples apart */
        if (next_ns < now_ns + m->interval_ns / 2)
            next_ns = now_ns + m->interval_ns;
    }
    pthread_mutex_unlock(&m->lock);
    return NULL;
}

/* ---- start ---- */

static int start_thread(struct kn_monitor_state *m, struct kn_error *err)
{
    kn_lock_init(&m->lock, &m->wake);
    if ((errno = kn_thread_start(&m->thread, "knbl-monitor", monitor_main, m)) != 0)
        return kn_fail_errno(err, "cannot start the monitor's thread");
    m->running = true;
    return 0;
}

static void end_thread(struct kn_monitor_state *m)
{
    if (!m->running)
        return;
    pthread_mutex_lock(&m->lock);
    m->stop = true;
    pthread_cond_signal(&m->wake);
    pthread_mutex_unlock(&m->lock);
    pthread_join(m->thread, NULL);
    m->running = false;
}

static void monitor_free(void *observer)
{
    struct kn_monitor_state *m = observer;
    end_thread(m);
    for (int i = 0; i < KN_FILES; i++)
        if (m->fds[i] >= 0)
            close(m->fds[i]);
    free(m->rows);
    free(m);
}

void *kn_monitor_start_under(const char *root, const json_t *options, struct kn_error *err)
{
    uint64_t interval_ns = INTERVAL_NS;
    if (kn_json_u64_member(options, "interval_ns", &interval_ns, err)) {
        err->code = KN_E_ARGUMENT;
        return NULL;
    }
    struct kn_monitor_state *m = calloc(1, sizeof *m);
    if (!m)
        return kn_null(kn_fail_memory(err));
    m->root = root;
    m->interval_ns = interval_ns < INTERVAL_MIN_NS ? INTERVAL_MIN_NS : interval_ns;
    kn_clocks_read(&m->clocks);
    kn_monitor_open(m);
    kn_cgroups_find(root, &m->cgroups);
    m->cpus = kn_proc_cpus(kn_monitor_load(m, KN_FILE_STAT), NULL, 0);
    kn_monitor_find_interfaces(m);
    m->width = kn_monitor_interface(m, m->interfaces);
    m->room = 32;
    m->rows = malloc(m->room * m->width * sizeof *m->rows);
    if (m->rows) {
        kn_monitor_sample(m, kn_monitor_row(m, m->n++));
        m->started_ns = kn_monitor_row(m, 0)[KN_COL_AT];
        if (start_thread(m, err) == 0)
            return m;
    } else {
        kn_fail_memory(err);
    }
    monitor_free(m);
    return NULL;
}

static void *monitor_start(const json_t *options, struct kn_error *err)
{
    return kn_monitor_start_under("", options, err);
}

/* Takes a last sample; if less than half an interval has passed, it replaces the one before. */
static json_t *monitor_stop(void *observer)
{
    struct kn_monitor_state *m = observer;
    end_thread(m);
    bool late = m->n > 1 && kn_now_ns() - kn_monitor_row(m, m->n - 1)[KN_COL_AT] < m->interval_ns / 2;
    kn_monitor_sample(m, late ? kn_monitor_row(m, m->n - 1) : next_row(m));
    return kn_monitor_json(m);
}

const struct kn_observer_ops kn_monitor = {"monitor", monitor_start, monitor_stop, monitor_free};
