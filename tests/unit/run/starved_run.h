/* Runs whose memory runs out at the n-th allocation, on the client's side or in the server in this process. */
#ifndef KN_TESTS_STARVED_RUN_H
#define KN_TESTS_STARVED_RUN_H

#include "../core/starved.h"
#include "core/clock.h"
#include "engines/engines.h"
#include "run/run.h"

#define STARVED_PATIENCE_NS (60 * KN_NS_PER_S) /* a machine that is busy may let nothing through in so short a run */

static inline const char *starved_member(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

/* A result is an error that says why, or has all its parts. */
static void starved_check(const char *text, const json_t *result)
{
    static const char *const parts[] = {"metrics", "params", "chosen", "flags", "servers"};
    const json_t *error = json_object_get(result, "error");
    if (!result || (error && *starved_member(error, "code") && *starved_member(error, "message")))
        return;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (!json_is_true(json_object_get(result, "ok")) || !json_object_get(result, parts[i]) ||
            !json_object_size(json_object_get(result, "metrics")))
            starved_fail("%s: %s is missing in %s", text, parts[i], json_dumps(result, JSON_COMPACT));
}

/* NULL: no memory for the run. */
static json_t *starved_result(const char *text, const struct kn_spec *spec, const struct kn_target *targets, unsigned n)
{
    struct kn_error err = {0};
    json_t *result = NULL;
    struct kn_run *run = kn_run_new_to(spec, targets, n, &err);
    if (run && !kn_run_start(run, &err)) {
        if (!kn_run_wait(run, 60 * KN_NS_PER_S))
            starved_fail("%s: the run does not end", text);
        result = kn_run_result(run);
    } else if (err.code == KN_OK || !*err.message) {
        starved_fail("%s: no run, and no error", text);
    }
    kn_run_free(run);
    return result;
}

/* Of `step` allocations one; with so many targets. */
static inline void starved_runs_to(long step, const char *text, const struct kn_target *targets, unsigned n_targets)
{
    struct kn_spec spec;
    struct kn_error err;
    json_t *json = json_loads(text, 0, NULL), *result = NULL;
    if (kn_spec_parse(json, &kn_engines, &spec, &err))
        fail_msg("%s: %s", text, err.message);
    json_decref(json);
    STARVED_BY(n, step)
    {
        json_decref(result);
        starved_begin(n);
        result = starved_result(text, &spec, targets, n_targets);
        starved_end();
        starved_check(text, result);
    }
    for (uint64_t until = kn_now_ns() + STARVED_PATIENCE_NS;
         !json_is_true(json_object_get(result, "ok")) && kn_now_ns() < until;) {
        json_decref(result);
        result = starved_result(text, &spec, targets, n_targets);
    }
    if (!json_is_true(json_object_get(result, "ok"))) /* what failed before did no lasting damage */
        fail_msg("%s: %s", text, json_dumps(result, JSON_INDENT(1)));
    json_decref(result);
}

static inline void starved_runs_by(long step, const char *text, const struct kn_target *target)
{
    starved_runs_to(step, text, target, 1);
}

static inline void starved_runs(const char *text, const struct kn_target *target)
{
    starved_runs_by(STARVED_STEP, text, target);
}

#endif
