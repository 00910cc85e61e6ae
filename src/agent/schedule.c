#include "agent/schedule.h"

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "agent/schedule_inside.h"
#include "core/json.h"

#define AHEAD_MAX_NS (3600 * KN_NS_PER_S) /* how far ahead the start may be */
#define END_NS (3 * KN_NS_PER_S)          /* how long a stopped schedule may take to stop its runs */

/* ---- what the table does with a schedule; its lock is held ---- */

static void wake(struct kn_schedule *s)
{
    uint64_t one = 1;
    if (write(s->wake_fd, &one, sizeof one) < 0) /* full: it is awake */
        return;
}

static void schedule_stop(struct kn_lease *lease)
{
    struct kn_schedule *s = (struct kn_schedule *)lease;
    atomic_store(&s->stop, true);
    wake(s);
}

static void schedule_free(struct kn_lease *lease)
{
    struct kn_schedule *s = (struct kn_schedule *)lease;
    if (s->threaded) {
        schedule_stop(lease);
        pthread_join(s->thread, NULL);
    }
    for (size_t i = 0; s->runs && i < s->n_runs; i++)
        json_decref(s->runs[i].result);
    for (size_t i = 0; s->merged && i < s->n_tests; i++)
        kn_hist_free(s->merged[i]);
    if (s->wake_fd >= 0)
        close(s->wake_fd);
    pthread_mutex_destroy(&s->lock);
    free(s->merged);
    free(s->active);
    free(s->tests);
    free(s->peers);
    free(s->runs);
    free(s);
}

static int schedule_start(struct kn_lease *lease, struct kn_error *err)
{
    struct kn_schedule *s = (struct kn_schedule *)lease;
    int failed = pthread_create(&s->thread, NULL, kn_schedule_carry_out, s);
    s->threaded = !failed;
    return failed ? kn_fail_from(err, failed, "cannot start a thread") : 0;
}

static bool schedule_is_over(struct kn_lease *lease)
{
    return atomic_load(&((struct kn_schedule *)lease)->over);
}

static const struct kn_lease_ops ops = {.what = "schedule",
                                        .free = schedule_free,
                                        .start = schedule_start,
                                        .is_over = schedule_is_over,
                                        .stop = schedule_stop};

void kn_schedules_init(struct kn_schedules *schedules, struct kn_shared *shared)
{
    schedules->shared = shared;
    kn_leases_init(&schedules->leases, &ops, NULL, 1, shared->config.orphan_ns);
}

void kn_schedules_fini(struct kn_schedules *schedules)
{
    kn_leases_fini(&schedules->leases);
}

/* ---- answers ---- */

static json_t *results_of(struct kn_schedule *s)
{
    json_t *list = json_array();
    for (size_t i = 0; i < s->n_runs; i++)
        if (s->runs[i].result)
            kn_json_append(list, json_incref(s->runs[i].result));
        else
            kn_json_append(list, json_null());
    return list;
}

static json_t *merged_of(struct kn_schedule *s)
{
    json_t *list = json_array();
    for (size_t i = 0; i < s->n_tests; i++)
        kn_json_append(list, s->merged[i] ? kn_hist_to_json(s->merged[i]) : json_null());
    return list;
}

/* The clock's readings let the client estimate the offset of this agent's clock, with its error, from its own times of
 * request and answer. */
static json_t *describe(struct kn_schedule *s, uint64_t taken_ns, bool results, struct kn_error *err)
{
    unsigned long losses = kn_json_losses();
    const char *state = atomic_load(&s->over) ? "over" : atomic_load(&s->start_ns) ? "running" : "waiting";
    pthread_mutex_lock(&s->lock);
    json_t *out = json_pack("{s:s, s:s, s:I, s:I, s:I}", "id", s->lease.id, "state", state, "done", (json_int_t)s->done,
                            "failed", (json_int_t)s->failed, "total", (json_int_t)s->n_runs);
    if (out && results) {
        kn_json_set(out, "results", results_of(s));
        kn_json_set(out, "merged", merged_of(s));
    }
    pthread_mutex_unlock(&s->lock);
    if (out)
        kn_json_set(out, "clock",
                    json_pack("{s:o, s:o, s:o}", "wall_ns", kn_json_u64(kn_wall_ns()), "taken_ns",
                              kn_json_u64(taken_ns), "answered_ns", kn_json_u64(kn_now_ns())));
    if (!out || !(out = kn_json_whole(out, losses)))
        kn_fail_memory(err);
    return out;
}

json_t *kn_schedules_add(struct kn_schedules *schedules, const json_t *request, struct kn_error *err)
{
    uint64_t taken_ns = kn_now_ns();
    char id[KN_ID_SIZE];
    struct kn_schedule *s = calloc(1, sizeof *s);
    if (!s)
        return kn_null(kn_fail_memory(err));
    s->shared = schedules->shared;
    pthread_mutex_init(&s->lock, NULL);
    s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int rc = s->wake_fd < 0 ? kn_fail_errno(err, "eventfd") : kn_schedule_read(s, request, err);
    memcpy(id, s->lease.id, KN_ID_SIZE);
    s->lease.limit_ns = taken_ns + AHEAD_MAX_NS + 2 * s->shared->config.max_duration_ns;
    if (rc == 0)
        rc = kn_leases_add(&schedules->leases, &s->lease, err);
    if (rc) /* 1: it is there already */
        schedule_free(&s->lease);
    else
        kn_shared_wake(schedules->shared);
    struct kn_schedule *kept = rc < 0 ? NULL : (struct kn_schedule *)kn_leases_take(&schedules->leases, id, err);
    if (!kept)
        return rc < 0 ? NULL : (kn_fail(err, KN_E_LOST, "the schedule is gone"), NULL);
    json_t *out = describe(kept, taken_ns, false, err);
    kn_leases_give_back(&schedules->leases, &kept->lease, false);
    return out;
}

/* The start time is set once, because runs that have begun cannot be moved. */
static int set_start(struct kn_schedule *s, const json_t *request, uint64_t now_ns, struct kn_error *err)
{
    uint64_t at_ns = 0, none = 0;
    if (kn_json_u64_get(json_object_get(request, "at_ns"), &at_ns) || at_ns == 0 || at_ns > now_ns + AHEAD_MAX_NS)
        return kn_fail(err, KN_E_ARGUMENT,
                       "\"at_ns\" must be a time of this agent's clock (\"clock\" in each answer), at most %d s ahead",
                       (int)(AHEAD_MAX_NS / KN_NS_PER_S));
    if (!atomic_compare_exchange_strong(&s->start_ns, &none, at_ns) && none != at_ns)
        return kn_fail(err, KN_E_REFUSED, "the schedule already has a start time");
    wake(s);
    return 0;
}

json_t *kn_schedules_start(struct kn_schedules *schedules, const char *id, const json_t *request, struct kn_error *err)
{
    uint64_t taken_ns = kn_now_ns();
    struct kn_schedule *s = (struct kn_schedule *)kn_leases_take(&schedules->leases, id, err);
    if (!s)
        return kn_null(kn_fail(err, KN_E_LOST, "no such schedule: it was deleted, or it expired"));
    json_t *out = set_start(s, request, taken_ns, err) ? NULL : describe(s, taken_ns, false, err);
    kn_leases_give_back(&schedules->leases, &s->lease, false);
    return out;
}

static void await_end(struct kn_schedule *s)
{
    uint64_t until_ns = kn_now_ns() + END_NS;
    while (!atomic_load(&s->over) && kn_now_ns() < until_ns)
        kn_sleep_until_ns(kn_now_ns() + 5 * KN_NS_PER_MS);
}

/* A deleted schedule is kept for a while, so that a client that lost the answer can ask again. */
json_t *kn_schedules_report(struct kn_schedules *schedules, const char *id, bool end, struct kn_error *err)
{
    uint64_t taken_ns = kn_now_ns();
    struct kn_schedule *s = (struct kn_schedule *)kn_leases_take(&schedules->leases, id, err);
    if (!s)
        return NULL;
    if (end) {
        schedule_stop(&s->lease);
        await_end(s);
    }
    json_t *out = describe(s, taken_ns, end, err);
    kn_leases_give_back(&schedules->leases, &s->lease, false);
    return out;
}
