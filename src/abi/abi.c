/* abi - runs and agents behind handles. */
#include "abi/abi.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "agent/agent.h"
#include "core/clock.h"
#include "core/hist.h"
#include "core/json.h"
#include "engines/engines.h"
#include "run/run.h"

int knbl_fail_(knbl_error *out, const struct kn_error *err)
{
    if (!out)
        return -1;
    knbl_error full = {.size = out->size, .sys_errno = err->sys_errno};
    strncpy(full.code, kn_code_name(err->code), sizeof full.code - 1);
    memcpy(full.message, err->message, sizeof full.message);
    full.message[sizeof full.message - 1] = '\0';
    memcpy(out, &full, out->size < sizeof full ? out->size : sizeof full);
    return -1;
}

void knbl_take_(void *into, size_t room, const void *from, uint32_t size)
{
    memset(into, 0, room);
    memcpy(into, from, size < room ? size : room);
}

json_t *knbl_parse_(const char *text, struct kn_error *err)
{
    json_error_t e;
    json_t *json = text ? kn_json_load(text, strlen(text), JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &e) : NULL;
    if (!json)
        kn_fail(err, KN_E_ARGUMENT, "not JSON: %s", text ? e.text : "NULL");
    return json;
}

char *knbl_text_(json_t *owned, const struct kn_error *err, knbl_error *out)
{
    char *text = owned ? kn_json_text(owned, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15)) : NULL;
    struct kn_error memory;
    if (!owned)
        knbl_fail_(out, err);
    else if (!text && kn_fail(&memory, KN_E_MEMORY, "out of memory"))
        knbl_fail_(out, &memory);
    json_decref(owned);
    return text;
}

/* ---- runs ------------------------------------------------------------------------------------ */

#define STOP_NS (30 * KN_NS_PER_S) /* timeout for a stopped run, which still fetches the servers' accounts */

struct knbl_run {
    struct kn_run *run;
    atomic_bool stopped;
};

static int take_spec(const char *spec_json, struct kn_spec *spec, struct kn_error *err)
{
    json_t *json = knbl_parse_(spec_json, err);
    int rc = json ? kn_spec_parse(json, &kn_engines, spec, err) : -1;
    json_decref(json);
    return rc;
}

/* Optional; "" if it is NULL. */
static int take_text(const char *text, char *out, size_t size, const char *what, struct kn_error *err)
{
    if (text && strlen(text) >= size)
        return kn_fail(err, KN_E_ARGUMENT, "the target's %s must have at most %zu bytes", what, size - 1);
    memcpy(out, text ? text : "", text ? strlen(text) + 1 : 1);
    return 0;
}

static int take_target(const knbl_target *target, struct kn_target *out, struct kn_error *err)
{
    knbl_target t = {0};
    if (target)
        knbl_take_(&t, sizeof t, target, target->size);
    if (!t.host || !*t.host || strlen(t.host) >= sizeof out->host)
        return kn_fail(err, KN_E_ARGUMENT, "the target's host must have 1 to %zu characters", sizeof out->host - 1);
    *out = (struct kn_target){.port = t.port, .share = t.share};
    memcpy(out->host, t.host, strlen(t.host) + 1);
    if (take_text(t.ca, out->ca, sizeof out->ca, "ca", err) ||
        take_text(t.source, out->source, sizeof out->source, "source", err) ||
        take_text(t.name, out->name, sizeof out->name, "name", err))
        return -1;
    if (t.token)
        kn_wire_key(t.token, &out->key);
    return 0;
}

KNBL_API char *knbl_check(const char *spec_json, knbl_error *error)
{
    struct kn_spec spec;
    struct kn_error err = {0};
    return knbl_text_(take_spec(spec_json, &spec, &err) < 0 ? NULL : kn_spec_to_json(&spec), &err, error);
}

static struct kn_run *start(const char *spec_json, const knbl_target *const *targets, uint32_t n, struct kn_error *err)
{
    struct kn_spec spec;
    struct kn_run *run = NULL;
    if (take_spec(spec_json, &spec, err) < 0)
        return NULL;
    if (n < 1 || n > KN_TARGETS_MAX)
        return kn_null(kn_fail(err, KN_E_ARGUMENT, "n must be from 1 to %u targets, got %u", KN_TARGETS_MAX, n));
    struct kn_target *to = calloc(n, sizeof *to);
    int failed = to ? 0 : kn_fail_memory(err);
    for (uint32_t i = 0; i < n && !failed; i++)
        failed = take_target(targets[i], &to[i], err);
    if (!failed)
        run = kn_run_new_to(&spec, to, n, err);
    free(to);
    if (!run || kn_run_start(run, err) == 0)
        return run;
    kn_run_free(run);
    return NULL;
}

KNBL_API knbl_run *knbl_run_start_to(const char *spec_json, const knbl_target *const *targets, uint32_t n,
                                     knbl_error *error)
{
    struct kn_error err = {0};
    knbl_run *run = calloc(1, sizeof *run);
    if (!run)
        kn_fail(&err, KN_E_MEMORY, "out of memory");
    else if ((run->run = start(spec_json, targets, n, &err)))
        return run;
    knbl_run_free(run);
    knbl_fail_(error, &err);
    return NULL;
}

KNBL_API knbl_run *knbl_run_start(const char *spec_json, const knbl_target *target, knbl_error *error)
{
    return knbl_run_start_to(spec_json, &target, 1, error);
}

KNBL_API int32_t knbl_run_wait(knbl_run *run, uint64_t timeout_ns)
{
    return kn_run_wait(run->run, timeout_ns);
}

KNBL_API void knbl_run_stop(knbl_run *run)
{
    atomic_store(&run->stopped, true);
    kn_run_stop(run->run);
}

KNBL_API int32_t knbl_run_stats(knbl_run *run, knbl_stats *stats)
{
    struct kn_progress p;
    kn_run_progress(run->run, &p);
    knbl_stats full = {
        .size = stats->size,
        .phase = (uint32_t)p.phase,
        .elapsed_ns = p.elapsed_ns,
        .total_ns = p.total_ns,
        .ops = p.ops,
        .bytes = p.bytes,
    };
    memcpy(stats, &full, stats->size < sizeof full ? stats->size : sizeof full);
    return 0;
}

/* The result of a run that is over or was stopped. */
static json_t *result_of(knbl_run *run, struct kn_error *err)
{
    if (!kn_run_wait(run->run, atomic_load(&run->stopped) ? STOP_NS : 0))
        return kn_null(kn_fail(err, KN_E_ARGUMENT, "the run is not over yet"));
    json_t *result = kn_run_result(run->run);
    if (!result)
        kn_fail_memory(err);
    return result;
}

KNBL_API char *knbl_run_result(knbl_run *run, knbl_error *error)
{
    struct kn_error err = {0};
    return knbl_text_(result_of(run, &err), &err, error);
}

KNBL_API int64_t knbl_run_result_copy(knbl_run *run, char *buffer, uint64_t room, knbl_error *error)
{
    char *text = knbl_run_result(run, error);
    if (!text)
        return -1;
    size_t length = strlen(text), n = length < room ? length : room ? room - 1 : 0;
    if (room) {
        memcpy(buffer, text, n);
        buffer[n] = '\0';
    }
    free(text);
    return (int64_t)length;
}

KNBL_API int32_t knbl_run_percentiles(knbl_run *run, const double *percents, uint64_t *values, uint32_t n,
                                      knbl_error *error)
{
    struct kn_error err = {0};
    json_t *result = result_of(run, &err);
    json_t *json = result ? json_object_get(result, "latency_histogram") : NULL;
    struct kn_hist *h = json ? kn_hist_from_json(json, &err) : NULL;
    if (result && !json)
        kn_fail(&err, KN_E_NO_DATA, "this run measured no latency");
    for (uint32_t i = 0; h && i < n; i++)
        values[i] = kn_hist_percentile(h, percents[i]);
    int rc = h ? 0 : knbl_fail_(error, &err);
    kn_hist_free(h);
    json_decref(result);
    return rc;
}

KNBL_API void knbl_run_free(knbl_run *run)
{
    if (!run)
        return;
    if (run->run)
        kn_run_free(run->run);
    free(run);
}

/* ---- agents ---------------------------------------------------------------------------------- */

struct knbl_agent {
    struct kn_agent *agent;
};

static int take_config(const knbl_agent_config *config, struct kn_agent_config *out, struct kn_error *err)
{
    knbl_agent_config c = {0};
    if (config)
        knbl_take_(&c, sizeof c, config, config->size);
    kn_agent_defaults(out);
    out->unix_path = c.unix_path;
    out->token = c.token ? c.token : "";
    out->max_runs = c.max_runs ? c.max_runs : out->max_runs;
    out->max_duration_ns = c.max_duration_ns ? c.max_duration_ns : out->max_duration_ns;
    strncpy(out->me.name, c.name ? c.name : "", sizeof out->me.name - 1);
    strncpy(out->me.node, c.node ? c.node : "", sizeof out->me.node - 1);
    return kn_agent_listen(c.listen ? c.listen : "127.0.0.1:0", &out->listen, err);
}

KNBL_API knbl_agent *knbl_agent_start(const knbl_agent_config *config, knbl_error *error)
{
    struct kn_agent_config ours;
    struct kn_error err = {0};
    knbl_agent *agent = calloc(1, sizeof *agent);
    if (!agent)
        kn_fail(&err, KN_E_MEMORY, "out of memory");
    else if (take_config(config, &ours, &err) == 0 && (agent->agent = kn_agent_new(&ours, &err)))
        return agent;
    free(agent);
    knbl_fail_(error, &err);
    return NULL;
}

KNBL_API uint16_t knbl_agent_port(const knbl_agent *agent)
{
    return kn_agent_port(agent->agent);
}

KNBL_API void knbl_agent_free(knbl_agent *agent)
{
    if (!agent)
        return;
    kn_agent_free(agent->agent);
    free(agent);
}

/* ---- the library itself ---------------------------------------------------------------------- */

KNBL_API const char *knbl_version(void)
{
    return KNBL_VERSION;
}

KNBL_API uint32_t knbl_protocol(void)
{
    return KN_PROTOCOL;
}

KNBL_API uint64_t knbl_now(void)
{
    return kn_now_ns();
}

KNBL_API void knbl_string_free(char *text)
{
    free(text);
}
