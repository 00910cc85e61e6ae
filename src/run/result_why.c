/* Why a run that went through measured nothing: how its operations ended, and where to look. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/units.h"
#include "run/result.h"

struct words {
    char *text;
    size_t size, used;
    bool any; /* something was counted: a comma comes next */
};

static __attribute__((format(printf, 2, 3))) void add(struct words *w, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(w->text + w->used, w->size - w->used, format, args);
    va_end(args);
    w->used += n < 0 ? 0 : (size_t)n < w->size - w->used ? (size_t)n : w->size - w->used - 1;
}

static void count(struct words *w, uint64_t n, const char *how)
{
    if (n)
        add(w, "%s%" PRIu64 " %s", w->any ? ", " : "", n, how);
    w->any |= n > 0;
}

/* A probe's attempts, of all its outages. */
static bool count_attempts(struct words *w, const json_t *outages)
{
    static const char *const how[][2] = {{"refused", "were refused"},
                                         {"reset", "were reset or closed"},
                                         {"status", "got a status other than 2xx and 3xx"},
                                         {"error", "failed"}};
    uint64_t n[sizeof how / sizeof *how] = {0};
    for (size_t i = 0; i < sizeof how / sizeof *how; i++) {
        for (size_t k = 0; k < json_array_size(outages); k++)
            n[i] += (uint64_t)json_integer_value(json_object_get(json_array_get(outages, k), how[i][0]));
        count(w, n[i], how[i][1]);
    }
    return n[0];
}

static void add_blind(struct words *w, const json_t *metrics)
{
    double blind_s = json_number_value(json_object_get(metrics, "blind"));
    if (blind_s > 0)
        add(w, ", and for %.3g s the prober itself did not run (blind)", blind_s);
}

static void add_rcodes(struct words *w, const json_t *rcodes)
{
    const char *code, *before = " (response code ";
    json_t *n;
    json_object_foreach((json_t *)(uintptr_t)rcodes, code, n)
    {
        if (!strcmp(code, "NOERROR") || !strcmp(code, "NXDOMAIN"))
            continue;
        add(w, "%s%s", before, code);
        before = ", ";
    }
    add(w, *before == ',' ? ")" : "");
}

static bool count_failures(struct words *w, const struct kn_view *v, const json_t *metrics)
{
    const json_t *rcodes = json_object_get(json_object_get(metrics, "lookup"), "rcodes");
    count(w, v->client.connect_errors, "found no server (refused, or no route)");
    count(w, v->client.errors, json_object_size(rcodes) ? "failed" : "failed (reset, closed, or an invalid answer)");
    if (v->client.errors)
        add_rcodes(w, rcodes);
    return v->client.connect_errors;
}

void kn_result_why(char *text, size_t size, const struct kn_view *v, const json_t *metrics)
{
    char how[80], timeout[32];
    struct words w = {.text = text, .size = size};
    const json_t *outages = json_object_get(metrics, "outages");
    kn_format_duration(timeout, sizeof timeout, (double)v->spec->timeout_ns, true);
    snprintf(how, sizeof how, "had no answer in %s (timeout)", timeout);
    add(&w, "no operation succeeded: ");
    count(&w, v->client.timeouts, how);
    bool nobody_listens = outages ? count_attempts(&w, outages) : count_failures(&w, v, metrics);
    add_blind(&w, metrics);
    if (nobody_listens)
        add(&w, ": check that a server listens on that address and port");
    else if (v->client.timeouts)
        add(&w, ": look at what lies between (firewall, policy, MTU), and whether the timeout is long enough");
}
