/* The runs that orchestrators asked for: a table with ids. A run that nobody asks after is stopped, later forgotten. */
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/inside.h"

#define TICK_NS (KN_NS_PER_S / 4)     /* how exactly the limits are kept */
#define KEEP_OVER 4                   /* results that are kept, in multiples of max_runs */
#define END_NS (15 * KN_NS_PER_S)     /* a stopped run has so long to collect what its servers counted */

struct entry {
    struct entry *next;
    char id[KN_RUN_ID_SIZE];
    struct kn_run *run;
    unsigned users;                  /* requests that look at it now */
    bool forgotten, over, failed;
    uint64_t started_ns, asked_ns;   /* asked: the last time that somebody did */
    uint64_t limit_ns;               /* it ends by then, whatever was asked for */
};

struct kn_runs {
    struct kn_agent *agent;
    pthread_mutex_t lock;
    struct entry *all;               /* the newest first */
    bool stopped;
};

struct kn_runs *kn_runs_new(struct kn_agent *agent)
{
    struct kn_runs *runs = calloc(1, sizeof *runs);
    if (runs) {
        runs->agent = agent;
        pthread_mutex_init(&runs->lock, NULL);
    }
    return runs;
}

static bool is_over(struct entry *e)
{
    return e->over || (e->over = kn_run_wait(e->run, 0));
}

static unsigned count_active(struct kn_runs *runs)
{
    unsigned n = 0;
    for (struct entry *e = runs->all; e; e = e->next)
        n += !is_over(e);
    return n;
}

unsigned kn_runs_active(struct kn_runs *runs)
{
    pthread_mutex_lock(&runs->lock);
    unsigned n = count_active(runs);
    pthread_mutex_unlock(&runs->lock);
    return n;
}

/* ---- starting one ---- */

void kn_random_id(char id[KN_RUN_ID_SIZE])
{
    uint8_t random[(KN_RUN_ID_SIZE - 1) / 2];
    randombytes_buf(random, sizeof random);
    sodium_bin2hex(id, KN_RUN_ID_SIZE, random, sizeof random);
}

static int take_host(const json_t *to, struct kn_target *target, struct kn_error *err)
{
    const json_t *host = json_object_get(to, "host"), *port = json_object_get(to, "port");
    json_int_t number = port ? json_integer_value(port) : KN_DEFAULT_PORT;
    if (!json_is_string(host) || json_string_length(host) == 0 || json_string_length(host) >= sizeof target->host)
        return kn_fail(err, KN_E_ARGUMENT, "\"to\" needs a \"host\", as in {\"host\":\"10.0.0.2\",\"port\":7099}");
    if (number < 1 || number > 65535)
        return kn_fail(err, KN_E_ARGUMENT, "\"to\": the port must be a number from 1 to 65535");
    snprintf(target->host, sizeof target->host, "%s", json_string_value(host));
    target->port = (uint16_t)number;
    return 0;
}

static int take_request(struct kn_runs *runs, const json_t *request, struct kn_spec *spec, struct kn_target *target,
                        struct kn_error *err)
{
    const json_t *token = json_object_get(request, "token");
    uint64_t most_ns = runs->agent->config.max_duration_ns;
    if (!json_is_object(json_object_get(request, "spec")))
        return kn_fail(err, KN_E_ARGUMENT,
                       "the request needs a \"spec\", as in {\"spec\":{\"test\":\"tcp_rr\"},\"to\":{…}}");
    if (kn_spec_parse(json_object_get(request, "spec"), spec, err) ||
        take_host(json_object_get(request, "to"), target, err))
        return -1;
    if (spec->duration_ns > most_ns || spec->warmup_ns > most_ns - spec->duration_ns)
        return kn_fail(err, KN_E_ARGUMENT, "a run of %.6g s is longer than this agent allows (%.6g s)",
                       ((double)spec->duration_ns + (double)spec->warmup_ns) / 1e9, (double)most_ns / 1e9);
    if (token && !json_is_string(token))
        return kn_fail(err, KN_E_ARGUMENT, "\"token\" must be text");
    if (token)
        kn_wire_key(json_string_value(token), &target->key);
    else
        target->key = runs->agent->key;
    return 0;
}

/* Room in the table: the oldest result that nobody fetched makes way. Called under the lock. */
static struct entry *make_room(struct kn_runs *runs)
{
    struct entry **last = NULL;
    unsigned n = 0;
    for (struct entry **at = &runs->all; *at; at = &(*at)->next, n++)
        if (is_over(*at) && !(*at)->users)
            last = at;
    if (n < runs->agent->config.max_runs * KEEP_OVER || !last)
        return NULL;
    struct entry *old = *last;
    *last = old->next;
    return old;
}

static void entry_free(struct entry *e)
{
    if (e)
        kn_run_free(e->run);
    free(e);
}

/* Whoever asks for a run may give its id, and ask again with the same one where the answer was lost: it is not done twice. */
static int take_id(const json_t *request, char id[KN_RUN_ID_SIZE], struct kn_error *err)
{
    const json_t *given = json_object_get(request, "id");
    const char *text = json_string_value(given);
    if (!given) {
        kn_random_id(id);
        return 0;
    }
    if (!text || strlen(text) != KN_RUN_ID_SIZE - 1 || strspn(text, "0123456789abcdef") != KN_RUN_ID_SIZE - 1)
        return kn_fail(err, KN_E_ARGUMENT, "\"id\" must be %d hexadecimal digits", KN_RUN_ID_SIZE - 1);
    memcpy(id, text, KN_RUN_ID_SIZE);
    return 0;
}

static struct entry *find(const struct kn_runs *runs, const char *id)
{
    struct entry *e = runs->all;
    while (e && strcmp(e->id, id))
        e = e->next;
    return e;
}

/* 1: there is a run of that id. */
static int enter(struct kn_runs *runs, struct entry *e, struct kn_error *err)
{
    int rc = 0;
    struct entry *old = NULL;
    pthread_mutex_lock(&runs->lock);
    unsigned most = runs->agent->config.max_runs;
    if (runs->stopped)
        rc = kn_fail(err, KN_E_REFUSED, "the agent is ending");
    else if (find(runs, e->id))
        rc = 1;
    else if (count_active(runs) >= most)
        rc = kn_fail(err, KN_E_LIMIT, "this agent runs %u measurements at once, and no more", most);
    else if ((rc = kn_run_start(e->run, err)) == 0) {
        old = make_room(runs);
        e->next = runs->all;
        runs->all = e;
    }
    pthread_mutex_unlock(&runs->lock);
    entry_free(old);
    return rc;
}

int kn_runs_start(struct kn_runs *runs, const json_t *request, char id[KN_RUN_ID_SIZE], struct kn_error *err)
{
    struct kn_spec spec;
    struct kn_target target = { .port = 0 };
    if (take_request(runs, request, &spec, &target, err))
        return -1;
    struct entry *e = calloc(1, sizeof *e);
    if (!e)
        return kn_fail_memory(err);
    e->started_ns = e->asked_ns = kn_now_ns();
    e->limit_ns = e->started_ns + runs->agent->config.max_duration_ns + spec.warmup_ns + spec.timeout_ns + KN_NS_PER_S;
    int rc = take_id(request, e->id, err);
    if (rc == 0)
        rc = (e->run = kn_run_new(&spec, &target, err)) ? enter(runs, e, err) : -1;
    memcpy(id, e->id, sizeof e->id);
    if (rc == 0)
        kn_keeper_wake(runs->agent->keeper);
    else
        entry_free(e);
    return rc < 0 ? -1 : 0;
}

/* ---- asking after one ---- */

static struct entry *take(struct kn_runs *runs, const char *id)
{
    pthread_mutex_lock(&runs->lock);
    struct entry *e = runs->all;
    while (e && (e->forgotten || strcmp(e->id, id)))
        e = e->next;
    if (e) {
        e->users++;
        e->asked_ns = kn_now_ns();
    }
    pthread_mutex_unlock(&runs->lock);
    return e;
}

/* Whoever lets go last of a forgotten run frees it. */
static void give_back(struct kn_runs *runs, struct entry *e, bool forget)
{
    pthread_mutex_lock(&runs->lock);
    e->users--;
    e->asked_ns = kn_now_ns();
    e->forgotten |= forget;
    struct entry **at = &runs->all;
    bool last = e->forgotten && e->users == 0;
    while (last && *at != e)
        at = &(*at)->next;
    if (last)
        *at = e->next;
    pthread_mutex_unlock(&runs->lock);
    if (last)
        entry_free(e);
}

static const char *phase_name(enum kn_phase phase)
{
    static const char *const names[] = { "new", "connect", "warmup", "measure", "collect", "done", "failed" };
    return (unsigned)phase < sizeof names / sizeof *names ? names[phase] : "new";
}

static json_t *describe(struct entry *e, bool over)
{
    struct kn_progress p;
    kn_run_progress(e->run, &p);
    json_t *result = over ? kn_run_result(e->run) : NULL;
    bool ok = json_is_true(json_object_get(result, "ok"));
    const char *how = !over ? "running" : ok ? "done" : "failed";
    json_t *out = json_pack("{s:s, s:s, s:{s:s, s:f, s:f, s:I, s:I}}", "id", e->id, "state", how, "progress", "phase",
                            phase_name(p.phase), "elapsed_s", (double)p.elapsed_ns / 1e9, "total_s",
                            (double)p.total_ns / 1e9, "ops", (json_int_t)p.ops, "bytes", (json_int_t)p.bytes);
    if (out && result)
        json_object_set_new(out, "result", result);
    else
        json_decref(result);
    return out;
}

json_t *kn_runs_report(struct kn_runs *runs, const char *id, uint64_t wait_ns, bool end)
{
    struct entry *e = take(runs, id);
    if (!e)
        return NULL;
    if (end)
        kn_run_stop(e->run);
    bool over = kn_run_wait(e->run, end ? END_NS : wait_ns);
    json_t *out = describe(e, over);
    give_back(runs, e, end && over);
    return out;
}

/* ---- time ---- */

/* What nobody asked after for long enough is taken out of the table. Called under the lock. */
static struct entry *take_orphans(struct kn_runs *runs, uint64_t now_ns)
{
    struct entry *out = NULL;
    uint64_t orphan_ns = runs->agent->config.orphan_ns;
    for (struct entry **at = &runs->all; *at;) {
        struct entry *e = *at;
        uint64_t silent_ns = now_ns > e->asked_ns && !e->users ? now_ns - e->asked_ns : 0;
        bool over = is_over(e);
        if (!over && (silent_ns > orphan_ns || now_ns > e->limit_ns))
            kn_run_stop(e->run);
        if (over && silent_ns > 2 * orphan_ns && !e->users) {
            *at = e->next;
            e->next = out;
            out = e;
        } else {
            at = &e->next;
        }
    }
    return out;
}

static void free_list(struct entry *list)
{
    while (list) {
        struct entry *e = list;
        list = e->next;
        entry_free(e);
    }
}

uint64_t kn_runs_tick(struct kn_runs *runs, uint64_t now_ns)
{
    pthread_mutex_lock(&runs->lock);
    struct entry *orphans = take_orphans(runs, now_ns);
    bool any = runs->all != NULL;
    pthread_mutex_unlock(&runs->lock);
    free_list(orphans);
    return any ? now_ns + TICK_NS : UINT64_MAX;
}

void kn_runs_stop(struct kn_runs *runs)
{
    pthread_mutex_lock(&runs->lock);
    runs->stopped = true;
    for (struct entry *e = runs->all; e; e = e->next)
        kn_run_stop(e->run);
    pthread_mutex_unlock(&runs->lock);
}

/* Nobody uses them any more. */
void kn_runs_free(struct kn_runs *runs)
{
    if (!runs)
        return;
    free_list(runs->all);
    pthread_mutex_destroy(&runs->lock);
    free(runs);
}
