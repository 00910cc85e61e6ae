#include "agent/runs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "run/run.h"

#define PATIENCE_MAX_S 86400           /* a client may be silent for so long, where it says so */
#define END_NS KN_NS_PER_S             /* a stopped run may take so long to collect its servers' reports */
#define SLICE_NS (KN_NS_PER_S / 10)    /* a request that waits sees the agent's end within this time */
#define OPENING_NS (120 * KN_NS_PER_S) /* for connecting and for collecting, beside what is measured */

struct run {
    struct kn_lease lease;
    struct kn_run *run;
    const struct kn_agent_config *config;
    bool over;
    atomic_bool too_long, too_much; /* why the agent stopped it */
};

/* ---- what the table does with a run; its lock is held ---- */

static void run_free(struct kn_lease *lease)
{
    kn_run_free(((struct run *)lease)->run);
    free(lease);
}

static int run_start(struct kn_lease *lease, struct kn_error *err)
{
    return kn_run_start(((struct run *)lease)->run, err);
}

static bool run_is_over(struct kn_lease *lease)
{
    struct run *r = (struct run *)lease;
    return r->over || (r->over = kn_run_wait(r->run, 0));
}

static void run_stop(struct kn_lease *lease)
{
    kn_run_stop(((struct run *)lease)->run);
}

/* A run by duration ends by itself; one by count may take as long. Bytes are limited in both. */
static void run_check(struct kn_lease *lease, void *context)
{
    struct run *r = (struct run *)lease;
    const struct kn_agent_config *config = context;
    struct kn_progress p;
    kn_run_progress(r->run, &p);
    bool too_long = p.elapsed_ns > config->max_duration_ns;
    bool too_much = config->max_bytes && p.bytes > config->max_bytes;
    if (p.phase != KN_PHASE_MEASURE || (!too_long && !too_much))
        return;
    atomic_store(too_long ? &r->too_long : &r->too_much, true);
    kn_run_stop(r->run);
}

static const struct kn_lease_ops ops = {
    .what = "run", .free = run_free, .start = run_start, .is_over = run_is_over, .stop = run_stop, .check = run_check};

void kn_runs_init(struct kn_runs *runs, struct kn_shared *shared)
{
    runs->shared = shared;
    kn_leases_init(&runs->leases, &ops, &shared->config, shared->config.max_runs, shared->config.orphan_ns);
}

void kn_runs_fini(struct kn_runs *runs)
{
    kn_leases_fini(&runs->leases);
}

/* ---- starting one ---- */

/* Optional; "" if it is absent. */
static int take_text(const json_t *from, const char *key, const char *what, char *text, size_t size,
                     struct kn_error *err)
{
    const json_t *value = json_object_get(from, key);
    if (value && (!json_is_string(value) || json_string_length(value) >= size))
        return kn_fail(err, KN_E_ARGUMENT, "\"%s\" must be %s of at most %zu bytes", key, what, size - 1);
    snprintf(text, size, "%s", value ? json_string_value(value) : "");
    return 0;
}

static int take_key(const json_t *from, struct kn_key *key, struct kn_error *err)
{
    const json_t *token = json_object_get(from, "token");
    if (token && !json_is_string(token))
        return kn_fail(err, KN_E_ARGUMENT, "\"token\" must be a string");
    if (token)
        kn_wire_key(json_string_value(token), key);
    return 0;
}

/* `target` has the key that is used without a token. */
static int take_target(const json_t *to, struct kn_target *target, struct kn_error *err)
{
    const json_t *host = json_object_get(to, "host"), *port = json_object_get(to, "port"),
                 *share = json_object_get(to, "share");
    json_int_t number = port ? json_integer_value(port) : KN_DEFAULT_PORT;
    if (!json_is_string(host) || json_string_length(host) == 0 || json_string_length(host) >= sizeof target->host)
        return kn_fail(err, KN_E_ARGUMENT, "\"to\" must have a \"host\", as in {\"host\":\"10.0.0.2\",\"port\":7099}");
    if (number < 1 || number > 65535)
        return kn_fail(err, KN_E_ARGUMENT, "\"port\" must be a number from 1 to 65535");
    snprintf(target->host, sizeof target->host, "%s", json_string_value(host));
    target->port = (uint16_t)number;
    if (share && !(json_number_value(share) > 0))
        return kn_fail(err, KN_E_ARGUMENT, "\"share\" must be a positive number");
    target->share = json_number_value(share);
    return take_text(to, "ca", "a text", target->ca, sizeof target->ca, err) ||
                   take_text(to, "source", "an IP address of this host", target->source, sizeof target->source, err) ||
                   take_text(to, "name", "a text", target->name, sizeof target->name, err) ||
                   take_key(to, &target->key, err)
               ? -1
               : 0;
}

/* "to": one target, or a list of them, which the caller frees. */
static struct kn_target *take_targets(const json_t *to, const struct kn_key *key, unsigned *n, struct kn_error *err)
{
    size_t size = json_is_array(to) ? json_array_size(to) : 1;
    if (size < 1 || size > KN_TARGETS_MAX)
        return kn_null(kn_fail(err, KN_E_ARGUMENT, "\"to\" must have 1 to %u targets, got %zu", KN_TARGETS_MAX, size));
    struct kn_target *targets = calloc(size, sizeof *targets);
    int failed = targets ? 0 : kn_fail_memory(err);
    for (size_t i = 0; i < size && !failed; i++) {
        targets[i].key = *key;
        failed = take_target(json_is_array(to) ? json_array_get(to, i) : to, &targets[i], err);
    }
    *n = (unsigned)size;
    if (!failed)
        return targets;
    free(targets);
    return NULL;
}

static struct kn_target *take_request(struct kn_runs *runs, const json_t *request, struct kn_spec *spec, unsigned *n,
                                      struct kn_error *err)
{
    const json_t *id = json_object_get(request, "id"), *patience = json_object_get(request, "patience");
    struct kn_key key = runs->shared->key;
    if (!json_is_object(json_object_get(request, "spec")))
        kn_fail(err, KN_E_ARGUMENT,
                "the request must have a \"spec\", as in {\"spec\":{\"test\":\"tcp_rr\"},\"to\":{…}}");
    else if (patience && !(json_number_value(patience) >= 0 && json_number_value(patience) <= PATIENCE_MAX_S))
        kn_fail(err, KN_E_ARGUMENT, "\"patience\" must be a number of seconds from 0 to %d", PATIENCE_MAX_S);
    else if (id && !json_is_string(id))
        kn_fail(err, KN_E_ARGUMENT, "\"id\" must be %d hexadecimal digits", KN_ID_SIZE - 1);
    else if (!kn_spec_parse(json_object_get(request, "spec"), runs->shared->server.tests, spec, err) &&
             !take_key(request, &key, err) && !kn_server_allows(&runs->shared->server.limits, spec, err))
        return take_targets(json_object_get(request, "to"), &key, n, err);
    return NULL;
}

int kn_runs_start(struct kn_runs *runs, const json_t *request, char id[KN_ID_SIZE], struct kn_error *err)
{
    struct kn_spec spec;
    unsigned n;
    const struct kn_agent_config *config = &runs->shared->config;
    if (kn_lease_id(json_string_value(json_object_get(request, "id")), id, err))
        return -1;
    struct kn_target *targets = take_request(runs, request, &spec, &n, err);
    struct run *r = targets ? calloc(1, sizeof *r) : NULL;
    if (targets && !r)
        kn_fail_memory(err);
    if (r)
        r->run = kn_run_new_to(&spec, targets, n, err);
    free(targets);
    if (!r)
        return -1;
    memcpy(r->lease.id, id, KN_ID_SIZE);
    r->config = config;
    r->lease.patience_ns = (uint64_t)(json_number_value(json_object_get(request, "patience")) * 1e9);
    r->lease.limit_ns = kn_now_ns() + config->max_duration_ns + spec.warmup_ns + spec.timeout_ns + OPENING_NS;
    int rc = r->run ? kn_leases_add(&runs->leases, &r->lease, err) : -1;
    if (rc == 0)
        kn_shared_wake(runs->shared);
    else
        run_free(&r->lease);
    return rc < 0 ? -1 : 0; /* 1: it is there already */
}

/* ---- asking for one ---- */

/* As the engines name them: see docs/agent.md. */
static const char *phase_name(enum kn_phase phase)
{
    static const char *const names[] = {"new", "connect", "warmup", "measure", "collect", "done", "failed"};
    return (unsigned)phase < sizeof names / sizeof *names ? names[phase] : "new";
}

/* What was measured stays in it. */
static void blame(json_t *result, const char *format, double limit)
{
    kn_json_set(result, "ok", json_false());
    kn_json_set(result, "error",
                json_pack("{s:s, s:o}", "code", kn_code_name(KN_E_LIMIT), "message", json_sprintf(format, limit)));
}

static json_t *result_of(struct run *r)
{
    json_t *result = kn_run_result(r->run);
    if (result && atomic_load(&r->too_long))
        blame(result, "stopped by the agent: the run took longer than %.6g s",
              (double)r->config->max_duration_ns / 1e9);
    else if (result && atomic_load(&r->too_much))
        blame(result, "stopped by the agent: the run moved more than %.0f bytes", (double)r->config->max_bytes);
    return result;
}

static json_t *describe(struct run *r, bool over, struct kn_error *err)
{
    struct kn_progress p;
    unsigned long losses = kn_json_losses();
    kn_run_progress(r->run, &p);
    json_t *result = over ? result_of(r) : NULL;
    const char *state = !over ? "running" : json_is_true(json_object_get(result, "ok")) ? "done" : "failed";
    json_t *out = json_pack("{s:s, s:s, s:{s:s, s:f, s:f, s:I, s:I}}", "id", r->lease.id, "state", state, "progress",
                            "phase", phase_name(p.phase), "elapsed_s", (double)p.elapsed_ns / 1e9, "total_s",
                            (double)p.total_ns / 1e9, "ops", (json_int_t)p.ops, "bytes", (json_int_t)p.bytes);
    if (over)
        kn_json_set(out, "result", result);
    if (!out || !(out = kn_json_whole(out, losses)))
        kn_fail_memory(err);
    return out;
}

/* True: it is over. An agent that ends stops its runs, and gives those that wait a moment to see the result. */
static bool wait_for(struct kn_runs *runs, struct run *r, uint64_t wait_ns)
{
    uint64_t until_ns = kn_now_ns() + wait_ns;
    for (bool ending = false;;) {
        uint64_t now_ns = kn_now_ns(), left_ns = now_ns < until_ns ? until_ns - now_ns : 0;
        if (kn_run_wait(r->run, left_ns < SLICE_NS ? left_ns : SLICE_NS))
            return true;
        if (left_ns == 0)
            return false;
        if (!ending && kn_stopping(runs->shared) && left_ns > END_NS)
            until_ns = now_ns + END_NS;
        ending = kn_stopping(runs->shared);
    }
}

json_t *kn_runs_report(struct kn_runs *runs, const char *id, uint64_t wait_ns, struct kn_error *err)
{
    struct run *r = (struct run *)kn_leases_take(&runs->leases, id, err);
    if (!r)
        return NULL;
    json_t *out = describe(r, wait_for(runs, r, wait_ns), err);
    kn_leases_give_back(&runs->leases, &r->lease, false);
    return out;
}

json_t *kn_runs_end(struct kn_runs *runs, const char *id, struct kn_error *err)
{
    struct run *r = (struct run *)kn_leases_take(&runs->leases, id, err);
    if (!r)
        return NULL;
    kn_run_stop(r->run);
    bool over = kn_run_wait(r->run, END_NS);
    json_t *out = describe(r, over, err);
    kn_leases_give_back(&runs->leases, &r->lease, out && over);
    return out;
}
