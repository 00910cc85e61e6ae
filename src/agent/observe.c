/* The observations that orchestrators asked for: a table with ids. One that nobody asks after is ended and forgotten. */
#include <stdlib.h>
#include <string.h>

#include "agent/inside.h"
#include "meter/observe.h"

#define TICK_NS (KN_NS_PER_S / 4)     /* how exactly the limits are kept */
#define LONGER_NS (120 * KN_NS_PER_S) /* than a run may be: it begins before the run and ends after it */

struct watch {
    struct watch *next;
    char id[KN_RUN_ID_SIZE];
    struct kn_observation *observation;
    uint64_t asked_ns, limit_ns;
};

struct kn_watches {
    struct kn_agent *agent;
    pthread_mutex_t lock;
    struct watch *all;
    unsigned n;
};

struct kn_watches *kn_watches_new(struct kn_agent *agent)
{
    struct kn_watches *watches = calloc(1, sizeof *watches);
    if (watches) {
        watches->agent = agent;
        pthread_mutex_init(&watches->lock, NULL);
    }
    return watches;
}

static void watch_free(struct watch *w)
{
    kn_observation_free(w->observation);
    free(w);
}

static void free_list(struct watch *list)
{
    while (list) {
        struct watch *w = list;
        list = w->next;
        watch_free(w);
    }
}

unsigned kn_watches_active(struct kn_watches *watches)
{
    pthread_mutex_lock(&watches->lock);
    unsigned n = watches->n;
    pthread_mutex_unlock(&watches->lock);
    return n;
}

/* ---- by request ---- */

static int enter(struct kn_watches *watches, struct watch *w, struct kn_error *err)
{
    unsigned most = watches->agent->config.max_runs;
    pthread_mutex_lock(&watches->lock);
    bool room = watches->n < most;
    if (room) {
        w->next = watches->all;
        watches->all = w;
        watches->n++;
    }
    pthread_mutex_unlock(&watches->lock);
    return room ? 0 : kn_fail(err, KN_E_LIMIT, "this agent makes %u observations at once, and no more", most);
}

int kn_watches_start(struct kn_watches *watches, const json_t *request, char id[KN_RUN_ID_SIZE], struct kn_error *err)
{
    struct watch *w = calloc(1, sizeof *w);
    if (!w)
        return kn_fail_memory(err);
    kn_random_id(w->id);
    w->asked_ns = kn_now_ns();
    w->limit_ns = w->asked_ns + watches->agent->config.max_duration_ns + LONGER_NS;
    w->observation = kn_observation_new(request, err);
    memcpy(id, w->id, sizeof w->id);
    if (!w->observation || enter(watches, w, err)) {
        watch_free(w);
        return -1;
    }
    kn_keeper_wake(watches->agent->keeper);
    return 0;
}

/* Where the one of that id stands in the list. Called under the lock. */
static struct watch **find(struct kn_watches *watches, const char *id)
{
    struct watch **at = &watches->all;
    while (*at && strcmp((*at)->id, id))
        at = &(*at)->next;
    return *at ? at : NULL;
}

static struct watch *take_out(struct kn_watches *watches, struct watch **at)
{
    struct watch *w = *at;
    *at = w->next;
    w->next = NULL;
    watches->n--;
    return w;
}

bool kn_watches_keep(struct kn_watches *watches, const char *id)
{
    pthread_mutex_lock(&watches->lock);
    struct watch **at = find(watches, id);
    if (at)
        (*at)->asked_ns = kn_now_ns();
    pthread_mutex_unlock(&watches->lock);
    return at != NULL;
}

json_t *kn_watches_stop(struct kn_watches *watches, const char *id)
{
    pthread_mutex_lock(&watches->lock);
    struct watch **at = find(watches, id), *w = at ? take_out(watches, at) : NULL;
    pthread_mutex_unlock(&watches->lock);
    if (!w)
        return NULL;
    json_t *out = kn_observation_stop(w->observation);
    watch_free(w);
    return out;
}

/* ---- by time ---- */

uint64_t kn_watches_tick(struct kn_watches *watches, uint64_t now_ns)
{
    struct watch *over = NULL;
    uint64_t orphan_ns = watches->agent->config.orphan_ns;
    pthread_mutex_lock(&watches->lock);
    for (struct watch **at = &watches->all; *at;) {
        if (now_ns <= (*at)->limit_ns && now_ns <= (*at)->asked_ns + orphan_ns) {
            at = &(*at)->next;
            continue;
        }
        struct watch *w = take_out(watches, at);
        w->next = over;
        over = w;
    }
    bool any = watches->all != NULL;
    pthread_mutex_unlock(&watches->lock);
    free_list(over);
    return any ? now_ns + TICK_NS : UINT64_MAX;
}

/* Nobody uses them any more. */
void kn_watches_free(struct kn_watches *watches)
{
    if (!watches)
        return;
    free_list(watches->all);
    pthread_mutex_destroy(&watches->lock);
    free(watches);
}
