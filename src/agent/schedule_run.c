/* The thread of a schedule: begins each run at its time, ends it with its slot, keeps what it gave. */
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/schedule_inside.h"
#include "core/json.h"

#define SLICE_NS (100 * KN_NS_PER_MS)     /* a stop, and a limit of bytes, are seen within this time */
#define SEVERAL_NS (20 * KN_NS_PER_MS)    /* the same where several go on, of which one is waited for */
#define COLLECT_NS (1 * KN_NS_PER_S)      /* for the servers' reports after the end of a slot */
#define TOLD_NS (20 * KN_NS_PER_MS)       /* a later beginning is said in the result */
#define HISTOGRAMS_MAX ((size_t)16 << 20) /* bytes of one schedule; what is beyond is left out */

/* ---- results ---- */

static void keep(struct kn_schedule *s, struct kn_planned *p, json_t *result)
{
    pthread_mutex_lock(&s->lock);
    p->result = result;
    s->done++;
    s->failed += !json_is_true(json_object_get(result, "ok"));
    pthread_mutex_unlock(&s->lock);
}

static json_t *failure(enum kn_code code, const char *message)
{
    return json_pack("{s:b, s:{s:s, s:s}}", "ok", 0, "error", "code", kn_code_name(code), "message", message);
}

/* "late" is no code of the engines: it says that no packet was sent. */
static json_t *too_late(uint64_t late_ns)
{
    return json_pack(
        "{s:b, s:f, s:{s:s, s:o}}", "ok", 0, "late_s", (double)late_ns / 1e9, "error", "code", "late", "message",
        json_sprintf("not begun: the agent was %.3g s late, so it or its machine was starved", (double)late_ns / 1e9));
}

static void merge(struct kn_schedule *s, const struct kn_planned *p, const json_t *encoded)
{
    struct kn_error ignored;
    struct kn_hist *h = kn_hist_from_json(encoded, &ignored);
    kn_json_note(h); /* a run that is not in the sum is an error */
    pthread_mutex_lock(&s->lock);
    if (h && !s->merged[p->test]) {
        s->merged[p->test] = h;
        h = NULL;
    } else if (h) {
        kn_hist_merge(s->merged[p->test], h);
    }
    pthread_mutex_unlock(&s->lock);
    kn_hist_free(h);
}

static void put_histogram(struct kn_schedule *s, const struct kn_planned *p, const json_t *whole, json_t *result)
{
    const json_t *encoded = json_object_get(whole, "latency_histogram");
    if (!encoded)
        return;
    if (json_is_true(json_object_get(result, "ok")))
        merge(s, p, encoded);
    char *text = s->histograms ? kn_json_text(encoded, JSON_COMPACT) : NULL;
    kn_json_note(text || !s->histograms);
    if (text && strlen(text) <= HISTOGRAMS_MAX - s->kept) {
        s->kept += strlen(text);
        kn_json_set(result, "histogram", json_string(text));
    }
    free(text);
}

/* What a mesh reads of a run's whole result. */
static json_t *digest(struct kn_schedule *s, const struct kn_planned *p, json_t *whole)
{
    static const char *const bulky[] = {"intervals", "memory", "cpu"};
    json_t *result = json_object(), *metrics = json_object_get(whole, "metrics"),
           *flags = json_object_get(whole, "flags");
    unsigned long losses = kn_json_losses();
    for (size_t i = 0; i < sizeof bulky / sizeof *bulky; i++)
        json_object_del(metrics, bulky[i]);
    kn_json_set(result, "ok", json_incref(json_object_get(whole, "ok")));
    kn_json_set(result, "metrics", json_incref(metrics));
    if (json_array_size(flags))
        kn_json_set(result, "flags", json_incref(flags));
    if (json_object_get(whole, "error"))
        kn_json_set(result, "error", json_incref(json_object_get(whole, "error")));
    uint64_t due_ns = atomic_load(&s->start_ns) + p->at_ns;
    if (p->begun_ns > due_ns + TOLD_NS)
        kn_json_set(result, "late_s", json_real((double)(p->begun_ns - due_ns) / 1e9));
    put_histogram(s, p, whole, result);
    result = whole ? kn_json_whole(result, losses) : (json_decref(result), NULL);
    return result ? result : failure(KN_E_MEMORY, "out of memory");
}

static void blame(json_t *result, enum kn_code code, const char *message)
{
    kn_json_set(result, "ok", json_false());
    kn_json_set(result, "error", json_pack("{s:s, s:s}", "code", kn_code_name(code), "message", message));
}

/* ---- one run ---- */

static void begin(struct kn_schedule *s, struct kn_planned *p, uint64_t now_ns)
{
    struct kn_error err;
    uint64_t due_ns = atomic_load(&s->start_ns) + p->at_ns, late_ns = now_ns > due_ns ? now_ns - due_ns : 0;
    if (late_ns > kn_schedule_slack_ns(p)) {
        keep(s, p, too_late(late_ns));
        return;
    }
    if (s->n_active == s->shared->config.max_runs) { /* those of earlier slots hang */
        keep(s, p, failure(KN_E_LIMIT, "not begun: earlier runs have not ended"));
        return;
    }
    p->begun_ns = now_ns;
    p->run = kn_run_new(&s->tests[p->test], &s->peers[p->peer], &err);
    if (p->run && kn_run_start(p->run, &err) == 0) {
        s->active[s->n_active++] = (unsigned)(p - s->runs);
        return;
    }
    kn_run_free(p->run);
    p->run = NULL;
    keep(s, p, failure(err.code, err.message));
}

static void finish(struct kn_schedule *s, struct kn_planned *p)
{
    json_t *whole = kn_run_result(p->run);
    if (!p->result) {
        json_t *result = digest(s, p, whole);
        if (p->too_much)
            blame(result, KN_E_LIMIT, "stopped by the agent: the run moved more bytes than it allows");
        keep(s, p, result);
    }
    json_decref(whole);
    kn_run_free(p->run);
    p->run = NULL;
}

/* True: it is over. One that does not end with its slot is stopped; one that hangs even so is no longer waited for. */
static bool look_at(struct kn_schedule *s, struct kn_planned *p, uint64_t now_ns)
{
    if (kn_run_wait(p->run, 0)) {
        finish(s, p);
        return true;
    }
    struct kn_progress progress;
    kn_run_progress(p->run, &progress);
    uint64_t most = s->shared->config.max_bytes;
    uint64_t end_ns = atomic_load(&s->start_ns) + p->at_ns + p->for_ns + kn_schedule_slack_ns(p);
    bool too_much = most && progress.bytes > most;
    if (!p->stopped_ns && (too_much || now_ns >= end_ns || atomic_load(&s->stop))) {
        p->too_much = too_much;
        p->stopped_ns = now_ns;
        kn_run_stop(p->run);
    } else if (p->stopped_ns && now_ns > p->stopped_ns + COLLECT_NS && !p->result) {
        keep(s, p, failure(KN_E_TIMEOUT, "the run did not end with its slot"));
    }
    return false;
}

/* ---- all of them ---- */

static void look_at_all(struct kn_schedule *s, uint64_t now_ns)
{
    for (size_t i = 0; i < s->n_active;)
        if (look_at(s, &s->runs[s->active[i]], now_ns))
            s->active[i] = s->active[--s->n_active];
        else
            i++;
}

/* Until that time (0: without end), or until somebody wants something. */
static void doze(struct kn_schedule *s, uint64_t until_ns)
{
    uint64_t now_ns = kn_now_ns(), token;
    struct timespec left = kn_timespec(until_ns > now_ns ? until_ns - now_ns : 0);
    struct pollfd p = {.fd = s->wake_fd, .events = POLLIN};
    if (ppoll(&p, 1, until_ns ? &left : NULL, NULL) > 0 && read(s->wake_fd, &token, sizeof token) < 0)
        return;
}

/* Until the next run is due, or something may be over. */
static void rest(struct kn_schedule *s)
{
    uint64_t now_ns = kn_now_ns();
    uint64_t due_ns = s->next < s->n_runs ? atomic_load(&s->start_ns) + s->runs[s->next].at_ns : UINT64_MAX;
    uint64_t slice_ns = s->n_active > 1 ? SEVERAL_NS : SLICE_NS;
    if (due_ns <= now_ns || (!s->n_active && due_ns == UINT64_MAX))
        return;
    if (s->n_active == 0)
        doze(s, due_ns);
    else
        kn_run_wait(s->runs[s->active[0]].run, due_ns - now_ns < slice_ns ? due_ns - now_ns : slice_ns);
}

void *kn_schedule_carry_out(void *schedule)
{
    struct kn_schedule *s = schedule;
    while (!atomic_load(&s->stop) && !atomic_load(&s->start_ns))
        doze(s, 0);
    while (s->n_active || (s->next < s->n_runs && !atomic_load(&s->stop))) {
        uint64_t now_ns = kn_now_ns();
        while (s->next < s->n_runs && !atomic_load(&s->stop) &&
               atomic_load(&s->start_ns) + s->runs[s->next].at_ns <= now_ns)
            begin(s, &s->runs[s->next++], now_ns);
        look_at_all(s, now_ns);
        if (s->n_active || !atomic_load(&s->stop))
            rest(s);
    }
    atomic_store(&s->over, true);
    kn_shared_heard(s->shared, kn_now_ns());
    return NULL;
}
