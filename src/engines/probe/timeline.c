#include "engines/probe/timeline.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"

static const struct {
    char letter;
    const char *name;
} outcomes[KN_PROBE_OUTCOMES] = {
    [KN_PROBE_OK] = {'o', "ok"},       [KN_PROBE_TIMEOUT] = {'t', "timeout"}, [KN_PROBE_REFUSED] = {'r', "refused"},
    [KN_PROBE_RESET] = {'x', "reset"}, [KN_PROBE_ERROR] = {'e', "error"},     [KN_PROBE_STATUS] = {'h', "status"},
    [KN_PROBE_BLIND] = {'b', "blind"},
};

char kn_outcome_letter(enum kn_outcome outcome)
{
    return outcomes[outcome].letter;
}

/* ---- the text ---- */

static int make_room(struct kn_timeline *t, size_t more, struct kn_error *err)
{
    if (t->length + more <= t->room)
        return 0;
    size_t room = 2 * t->room + 256;
    char *text = realloc(t->text, room);
    if (!text)
        return kn_fail(err, KN_E_MEMORY, "no memory for a timeline of %zu bytes", room);
    t->text = text;
    t->room = room;
    return 0;
}

static int write_run(struct kn_timeline *t, struct kn_error *err)
{
    char run[24];
    if (!t->run || t->cut)
        return 0;
    int n = snprintf(run, sizeof run, "%" PRIu64 "%c", t->run, outcomes[t->last].letter);
    t->run = 0;
    if (t->length + (size_t)n > KN_TIMELINE_MAX) {
        t->cut = true;
        return 0;
    }
    if (make_room(t, (size_t)n + 1, err))
        return -1;
    memcpy(t->text + t->length, run, (size_t)n + 1);
    t->length += (size_t)n;
    return 0;
}

/* ---- outages ---- */

static int list_outage(struct kn_timeline *t, struct kn_error *err)
{
    if (t->listed == KN_OUTAGES_MAX)
        return 0;
    if (t->listed == t->outages_room) {
        size_t room = 2 * t->outages_room + 8;
        struct kn_outage *more = realloc(t->outages, room * sizeof *more);
        if (!more)
            return kn_fail(err, KN_E_MEMORY, "no memory for %zu outages", room);
        t->outages = more;
        t->outages_room = room;
    }
    t->outages[t->listed++] = t->now;
    return 0;
}

static int end_outage(struct kn_timeline *t, struct kn_error *err)
{
    if (!t->now.n)
        return 0;
    t->outage_count++;
    t->outage_n += t->now.n;
    if (t->now.n > t->outage_longest)
        t->outage_longest = t->now.n;
    int failed = list_outage(t, err);
    t->now = (struct kn_outage){0};
    return failed;
}

/* ---- attempts ---- */

int kn_timeline_add(struct kn_timeline *t, enum kn_outcome outcome, struct kn_error *err)
{
    bool failed = outcome != KN_PROBE_OK && outcome != KN_PROBE_BLIND;
    if (t->run && outcome != t->last && write_run(t, err))
        return -1;
    if (!failed && end_outage(t, err))
        return -1;
    if (failed && !t->now.n)
        t->now.from = t->n;
    if (failed) {
        t->now.n++;
        t->now.of[outcome]++;
    }
    t->last = outcome;
    t->run++;
    t->of[outcome]++;
    t->n++;
    return 0;
}

int kn_timeline_end(struct kn_timeline *t, struct kn_error *err)
{
    return write_run(t, err) || end_outage(t, err) ? -1 : 0;
}

void kn_timeline_fini(struct kn_timeline *t)
{
    free(t->text);
    free(t->outages);
    *t = (struct kn_timeline){0};
}

/* ---- figures ---- */

static json_t *outage_to_json(const struct kn_outage *o, double step_s)
{
    json_t *one = json_pack("{s:f, s:f, s:I}", "from", (double)o->from * step_s, "to",
                            (double)(o->from + o->n) * step_s, "attempts", (json_int_t)o->n);
    for (int i = 0; i < KN_PROBE_OUTCOMES; i++)
        if (o->of[i])
            kn_json_set(one, outcomes[i].name, json_integer((json_int_t)o->of[i]));
    return one;
}

void kn_timeline_put(const struct kn_timeline *t, double step_s, json_t *m)
{
    json_t *list = json_array();
    for (size_t i = 0; i < t->listed; i++)
        kn_json_append(list, outage_to_json(&t->outages[i], step_s));
    kn_json_set(m, "attempts", json_integer((json_int_t)t->n));
    kn_json_set(m, "outages", list);
    kn_json_set(m, "outage_count", json_integer((json_int_t)t->outage_count));
    kn_json_set(m, "outage_total", json_real((double)t->outage_n * step_s));
    kn_json_set(m, "outage_longest", json_real((double)t->outage_longest * step_s));
    kn_json_set(m, "blind", json_real((double)t->of[KN_PROBE_BLIND] * step_s));
    kn_json_set(m, "refused", json_integer((json_int_t)t->of[KN_PROBE_REFUSED]));
    kn_json_set(m, "resets", json_integer((json_int_t)t->of[KN_PROBE_RESET]));
    json_t *line = json_pack("{s:f, s:s}", "step", step_s, "runs", t->text ? t->text : "");
    if (t->cut)
        kn_json_set(line, "cut", json_true());
    kn_json_set(m, "timeline", line);
}
