#include "run/backends.h"

#include <stdlib.h>
#include <string.h>

#include "core/json.h"

unsigned kn_backends_number(struct kn_backends **backends, const char *name)
{
    struct kn_backends *b = *backends ? *backends : calloc(1, sizeof *b);
    unsigned i = 0;
    *backends = b;
    while (b && i < b->n && strcmp(b->of[i].name, name))
        i++;
    if (!b || i == KN_BACKENDS_MAX)
        return 0;
    if (i < b->n)
        return i + 1;
    if (!(b->of[i].latency = kn_hist_new()))
        return 0;
    strncpy(b->of[i].name, name, sizeof b->of[i].name - 1);
    return ++b->n;
}

void kn_backends_count(struct kn_backends *b, unsigned number, uint64_t latency_ns)
{
    if (!b || !number || number > b->n)
        return;
    b->of[number - 1].ops++;
    kn_hist_record(b->of[number - 1].latency, latency_ns);
}

void kn_backends_merge(struct kn_backends **into, const struct kn_backends *from)
{
    for (unsigned i = 0; from && i < from->n; i++) {
        unsigned number = kn_backends_number(into, from->of[i].name);
        if (!number) {
            kn_json_note(*into && (*into)->n == KN_BACKENDS_MAX); /* or there is no memory */
            continue;
        }
        (*into)->of[number - 1].ops += from->of[i].ops;
        kn_hist_merge((*into)->of[number - 1].latency, from->of[i].latency);
    }
}

void kn_backends_free(struct kn_backends *b)
{
    for (unsigned i = 0; b && i < b->n; i++)
        kn_hist_free(b->of[i].latency);
    free(b);
}

json_t *kn_backends_to_json(const struct kn_backends *b)
{
    json_t *json = b && b->n ? json_object() : NULL;
    uint64_t all = 0;
    kn_json_note(json || !b || !b->n);
    for (unsigned i = 0; json && i < b->n; i++)
        all += b->of[i].ops;
    for (unsigned i = 0; json && i < b->n; i++) {
        const struct kn_backend *one = &b->of[i];
        json_t *figures = json_pack("{s:I}", "ops", (json_int_t)one->ops);
        if (one->ops) {
            kn_json_set(figures, "share", json_real((double)one->ops / (double)all));
            kn_json_set(figures, "p50", json_integer((json_int_t)kn_hist_percentile(one->latency, 50)));
            kn_json_set(figures, "p99", json_integer((json_int_t)kn_hist_percentile(one->latency, 99)));
        }
        kn_json_set(json, one->name, figures);
    }
    return json;
}
