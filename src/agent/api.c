#include "agent/api.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/environment.h"
#include "core/json.h"

#define WAIT_MAX_NS (60 * KN_NS_PER_S)

enum { OK = 200, CREATED = 201, NOT_FOUND = 404 };

/* ---- errors ---- */

/* What HTTP says of an error. */
static unsigned status_of(enum kn_code code)
{
    switch (code) {
    case KN_E_AUTH: return 401;
    case KN_E_LOST: return 404;
    case KN_E_REFUSED: return 409;
    case KN_E_VERSION: return 426;
    case KN_E_LIMIT: return 429;
    case KN_E_SYSTEM:
    case KN_E_MEMORY: return 500;
    default: return 400;
    }
}

json_t *kn_api_error(const struct kn_error *err, unsigned *status)
{
    *status = status_of(err->code);
    return json_pack("{s:{s:s, s:s}}", "error", "code", kn_code_name(err->code), "message", err->message);
}

int kn_api_check_token(struct kn_shared *shared, const char *token, struct kn_error *err)
{
    if (kn_shared_knows(shared, token))
        return 0;
    kn_refuse(&shared->refused, KN_REFUSED_TOKEN);
    return kn_fail(err, KN_E_AUTH, "the header Knbl-Token is missing or wrong");
}

int kn_api_check_protocol(struct kn_shared *shared, const char *protocol, struct kn_error *err)
{
    char ours[8], quoted[KN_QUOTE_MAX];
    snprintf(ours, sizeof ours, "%u", KN_PROTOCOL);
    if (!protocol || !strcmp(protocol, ours))
        return 0;
    kn_refuse(&shared->refused, KN_REFUSED_VERSION);
    return kn_fail(
        err, KN_E_VERSION,
        "the request uses protocol %s, this agent protocol %s (knbl %s): use the same version of knbl on both",
        kn_quote(quoted, protocol), ours, KNBL_VERSION);
}

/* ---- the agent ---- */

static json_t *get_agent(const struct kn_api *api)
{
    struct kn_shared *shared = api->shared;
    unsigned long losses = kn_json_losses();
    json_t *environment = kn_environment();
    json_t *out = json_pack(
        "{s:s, s:s, s:s, s:i, s:i, s:f, s:i, s:i, s:i, s:i, s:I, s:o}", "name", shared->server.me.name, "node",
        shared->server.me.node, "version", KNBL_VERSION, "protocol", KN_PROTOCOL, "pid", (int)getpid(), "uptime_s",
        (double)(kn_now_ns() - shared->started_ns) / 1e9, "runs", (int)kn_leases_active(&api->runs->leases),
        "observations", (int)kn_leases_active(&api->watches->leases), "schedules",
        (int)kn_leases_active(&api->schedules->leases), "flows", (int)kn_flows_active(api->flows), "flows_served",
        (json_int_t)atomic_load(&shared->flows_served), "refused", kn_refusals_json(&shared->refused));
    static const char *const up[] = {"kernel", "cpus", "quota"};
    for (size_t i = 0; out && i < sizeof up / sizeof *up; i++)
        if (json_object_get(environment, up[i]))
            kn_json_set(out, up[i], json_incref(json_object_get(environment, up[i])));
    kn_json_set(out, "environment", environment);
    return kn_json_whole(out, losses);
}

/* ---- runs and observations ---- */

static json_t *body_of(const struct kn_api_request *r, struct kn_error *err)
{
    json_error_t why;
    json_t *body = kn_json_load(r->body, r->size, JSON_REJECT_DUPLICATES, &why);
    if (!body)
        kn_json_invalid(&why, KN_E_ARGUMENT, "the body", err);
    return body;
}

static json_t *refuse(const struct kn_api *api, const struct kn_error *err, unsigned *status)
{
    kn_refuse(&api->shared->refused, err->code == KN_E_LIMIT ? KN_REFUSED_LIMIT : KN_REFUSED_REQUEST);
    return kn_api_error(err, status);
}

static json_t *start(const struct kn_api *api, const struct kn_api_request *r, bool run, unsigned *status)
{
    struct kn_error err;
    char id[KN_ID_SIZE];
    json_t *body = body_of(r, &err);
    int rc = !body ? -1
             : run ? kn_runs_start(api->runs, body, id, &err)
                   : kn_watches_start(api->watches, body, id, &err);
    json_decref(body);
    *status = CREATED;
    return rc == 0 ? json_pack("{s:s}", "id", id) : refuse(api, &err, status);
}

static uint64_t wait_ns(const struct kn_api_request *r)
{
    unsigned long long ms = r->wait ? strtoull(r->wait, NULL, 10) : 0;
    return ms > WAIT_MAX_NS / KN_NS_PER_MS ? WAIT_MAX_NS : ms * KN_NS_PER_MS;
}

static json_t *get_or_end_run(const struct kn_api *api, const struct kn_api_request *r, const char *id, bool end,
                              unsigned *status)
{
    struct kn_error err;
    json_t *report = end ? kn_runs_end(api->runs, id, &err) : kn_runs_report(api->runs, id, wait_ns(r), &err);
    *status = OK;
    return report ? report : kn_api_error(&err, status);
}

static json_t *keep_or_end_watch(const struct kn_api *api, const char *id, bool end, unsigned *status)
{
    struct kn_error err;
    json_t *seen = NULL;
    *status = OK;
    if (end)
        seen = kn_watches_stop(api->watches, id, &err);
    else if (!kn_leases_touch(&api->watches->leases, id, &err) && !(seen = json_pack("{s:s}", "id", id)))
        kn_fail_memory(&err);
    return seen ? seen : kn_api_error(&err, status);
}

/* ---- schedules ---- */

/* `id`: NULL for a new one; "ID/start" gives one its start. */
static json_t *post_schedule(const struct kn_api *api, const struct kn_api_request *r, const char *id, unsigned *status)
{
    struct kn_error err;
    char which[KN_ID_SIZE] = "";
    json_t *body = body_of(r, &err), *answer = NULL;
    if (body && !id)
        answer = kn_schedules_add(api->schedules, body, &err);
    else if (body)
        answer = kn_schedules_start(api->schedules, memcpy(which, id, KN_ID_SIZE - 1), body, &err);
    json_decref(body);
    *status = id ? OK : CREATED;
    return answer ? answer : refuse(api, &err, status);
}

/* `rest`: what follows "/v1/schedule". NULL: no such request. */
static json_t *of_schedules(const struct kn_api *api, const struct kn_api_request *r, const char *rest,
                            unsigned *status)
{
    bool post = !strcmp(r->method, "POST"), end = !strcmp(r->method, "DELETE"), get = !strcmp(r->method, "GET");
    if (post && !*rest)
        return post_schedule(api, r, NULL, status);
    if (post && *rest == '/' && strlen(rest) == KN_ID_SIZE + sizeof "start" && !strcmp(rest + KN_ID_SIZE, "/start"))
        return post_schedule(api, r, rest + 1, status);
    if (!(get || end) || *rest != '/')
        return NULL;
    struct kn_error err;
    json_t *answer = kn_schedules_report(api->schedules, rest + 1, end, &err);
    *status = OK;
    return answer ? answer : kn_api_error(&err, status);
}

json_t *kn_api_answer(const struct kn_api *api, const struct kn_api_request *r, unsigned *status)
{
    static const char runs[] = "/v1/runs", watches[] = "/v1/observe", schedules[] = "/v1/schedule";
    const size_t nr = sizeof runs - 1, nw = sizeof watches - 1, ns = sizeof schedules - 1;
    bool get = !strcmp(r->method, "GET"), post = !strcmp(r->method, "POST"), end = !strcmp(r->method, "DELETE");
    bool of_runs = !strncmp(r->path, runs, nr), of_watches = !strncmp(r->path, watches, nw);
    if (get && !strcmp(r->path, "/v1/agent")) {
        *status = OK;
        return get_agent(api);
    }
    if (get && !strcmp(r->path, "/v1/alive")) {
        *status = OK;
        return json_object();
    }
    if (post && ((of_runs && !r->path[nr]) || (of_watches && !r->path[nw])))
        return start(api, r, of_runs, status);
    if ((get || end) && of_runs && r->path[nr] == '/')
        return get_or_end_run(api, r, r->path + nr + 1, end, status);
    if ((get || end) && of_watches && r->path[nw] == '/')
        return keep_or_end_watch(api, r->path + nw + 1, end, status);
    json_t *answer = strncmp(r->path, schedules, ns) ? NULL : of_schedules(api, r, r->path + ns, status);
    if (answer)
        return answer;
    kn_refuse(&api->shared->refused, KN_REFUSED_REQUEST);
    struct kn_error err;
    kn_fail(&err, KN_E_ARGUMENT,
            "unsupported HTTP request: expected GET /v1/agent or /v1/alive, POST /v1/runs, /v1/observe or "
            "/v1/schedule, GET or DELETE /v1/runs/ID, /v1/observe/ID or /v1/schedule/ID, POST /v1/schedule/ID/start");
    answer = kn_api_error(&err, status);
    *status = NOT_FOUND;
    return answer;
}
