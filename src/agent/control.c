/* Control: HTTP and JSON. libmicrohttpd has the connections that the gate found to be HTTP, a thread each. */
#include <errno.h>
#include <microhttpd.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/inside.h"

#define BODY_MAX 65536
/* Counted here, well below libmicrohttpd's own limit: 0.9.75 keeps a lock for ever where two connections reach it at
 * once. */
#define CONNECTIONS_MAX 256
#define CONNECTIONS_NEVER (4 * CONNECTIONS_MAX)
#define IDLE_S 60u                    /* a connection between requests, or in the middle of one */
#define WAIT_MAX_NS (60 * KN_NS_PER_S)

struct request { struct kn_agent *agent; size_t size; bool too_long; char body[BODY_MAX]; };

/* ---- answers ---- */

/* What HTTP says of an error. */
static unsigned status_of(enum kn_code code)
{
    switch (code) {
    case KN_E_AUTH: return MHD_HTTP_UNAUTHORIZED;
    case KN_E_VERSION: return MHD_HTTP_UPGRADE_REQUIRED;
    case KN_E_LIMIT: return MHD_HTTP_TOO_MANY_REQUESTS;
    case KN_E_REFUSED: return MHD_HTTP_CONFLICT;
    case KN_E_SYSTEM:
    case KN_E_MEMORY: return MHD_HTTP_INTERNAL_SERVER_ERROR;
    default: return MHD_HTTP_BAD_REQUEST;
    }
}

/* Takes `body`. */
static enum MHD_Result answer(struct MHD_Connection *connection, unsigned status, json_t *body)
{
    char version[8], *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    json_decref(body);
    if (!text)
        return MHD_NO;
    struct MHD_Response *response = MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE);
    if (!response) {
        free(text);
        return MHD_NO;
    }
    snprintf(version, sizeof version, "%u", KN_PROTOCOL);
    MHD_add_response_header(response, "Content-Type", "application/json");
    MHD_add_response_header(response, "Knbl-Protocol", version);
    if (status == MHD_HTTP_UNAUTHORIZED) /* whoever has no token holds no connection either */
        MHD_add_response_header(response, "Connection", "close");
    enum MHD_Result rc = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return rc;
}

static enum MHD_Result answer_error(struct MHD_Connection *connection, unsigned status, const char *code,
                                    const char *message)
{
    return answer(connection, status, json_pack("{s:{s:s, s:s}}", "error", "code", code, "message", message));
}

static enum MHD_Result answer_failure(struct MHD_Connection *connection, const struct kn_error *err)
{
    return answer_error(connection, status_of(err->code), kn_code_name(err->code), err->message);
}

/* ---- who may ask ---- */

/* The comparison takes as long for any token: it is one of two hashes of the same length. */
static bool token_is_right(struct kn_agent *agent, struct MHD_Connection *connection)
{
    const char *token = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Knbl-Token");
    struct kn_key key;
    if (!token)
        return false;
    kn_wire_key(token, &key);
    return sodium_memcmp(key.bytes, agent->key.bytes, sizeof key.bytes) == 0;
}

static int check_version(struct MHD_Connection *connection, struct kn_error *err)
{
    const char *theirs = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Knbl-Protocol");
    char ours[8], quoted[KN_QUOTE_MAX];
    snprintf(ours, sizeof ours, "%u", KN_PROTOCOL);
    if (!theirs || !strcmp(theirs, ours))
        return 0;
    return kn_fail(err, KN_E_VERSION,
                   "the request speaks protocol %s, this agent %s (knbl %s): use the same version of knbl on both",
                   kn_quote(quoted, theirs), ours, KNBL_VERSION);
}

/* ---- what can be asked ---- */

static json_t *refused_json(struct kn_agent *agent)
{
    json_t *out = json_object();
    for (int i = 0; i < KN_REFUSED_COUNT; i++)
        json_object_set_new(out, kn_refused_name((enum kn_refused)i),
                            json_integer((json_int_t)atomic_load(&agent->refused[i])));
    return out;
}

static enum MHD_Result get_agent(struct kn_agent *agent, struct MHD_Connection *connection)
{
    json_t *environment = kn_environment();
    json_t *out =
        json_pack("{s:s, s:s, s:s, s:i, s:i, s:f, s:i, s:i, s:i, s:I, s:o}", "name", agent->server.me.name, "node",
                  agent->server.me.node, "version", KNBL_VERSION, "protocol", KN_PROTOCOL, "pid", (int)getpid(),
                  "uptime_s", (double)(kn_now_ns() - agent->started_ns) / 1e9, "runs", (int)kn_runs_active(agent->runs),
                  "observations", (int)kn_watches_active(agent->watches), "flows", (int)kn_flows_active(agent->flows), "flows_served",
                  (json_int_t)atomic_load(&agent->flows_served), "refused", refused_json(agent));
    static const char *const up[] = { "kernel", "cpus", "quota" };
    for (size_t i = 0; out && i < sizeof up / sizeof *up; i++)
        if (json_object_get(environment, up[i]))
            json_object_set(out, up[i], json_object_get(environment, up[i]));
    if (out)
        json_object_set_new(out, "environment", environment);
    return answer(connection, MHD_HTTP_OK, out);
}

/* A run, or an observation. */
static enum MHD_Result post(struct request *r, struct MHD_Connection *connection, bool run)
{
    struct kn_error err;
    json_error_t why;
    char id[KN_RUN_ID_SIZE];
    json_t *body = json_loadb(r->body, r->size, JSON_REJECT_DUPLICATES, &why);
    int rc = !body ? kn_fail(&err, KN_E_ARGUMENT, "the body is no JSON: %s", why.text)
             : run ? kn_runs_start(r->agent->runs, body, id, &err)
                   : kn_watches_start(r->agent->watches, body, id, &err);
    json_decref(body);
    if (rc == 0)
        return answer(connection, MHD_HTTP_CREATED, json_pack("{s:s}", "id", id));
    kn_count_refused(r->agent, err.code == KN_E_LIMIT ? KN_REFUSED_RUNS : KN_REFUSED_REQUEST);
    return answer_failure(connection, &err);
}

static uint64_t wait_of(struct MHD_Connection *connection)
{
    const char *text = MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, "wait");
    unsigned long long ms = text ? strtoull(text, NULL, 10) : 0;
    return ms > WAIT_MAX_NS / KN_NS_PER_MS ? WAIT_MAX_NS : ms * KN_NS_PER_MS;
}

/* Takes `report`; NULL: there is no such thing. */
static enum MHD_Result answer_report(struct MHD_Connection *connection, json_t *report, const char *what, const char *id)
{
    char quoted[KN_QUOTE_MAX], message[160];
    if (report)
        return answer(connection, MHD_HTTP_OK, report);
    snprintf(message, sizeof message, "no %s %s here: it was stopped, or forgotten because nobody asked after it", what,
             kn_quote(quoted, id));
    return answer_error(connection, MHD_HTTP_NOT_FOUND, kn_code_name(KN_E_LOST), message);
}

static enum MHD_Result report_run(struct kn_agent *agent, struct MHD_Connection *connection, const char *id, bool end)
{
    return answer_report(connection, kn_runs_report(agent->runs, id, end ? 0 : wait_of(connection), end), "run", id);
}

static enum MHD_Result report_watch(struct kn_agent *agent, struct MHD_Connection *connection, const char *id, bool end)
{
    json_t *report = end                                   ? kn_watches_stop(agent->watches, id)
                     : kn_watches_keep(agent->watches, id) ? json_pack("{s:s}", "id", id)
                                                           : NULL;
    return answer_report(connection, report, "observation", id);
}

static enum MHD_Result route(struct request *r, struct MHD_Connection *connection, const char *url, const char *method)
{
    static const char runs[] = "/v1/runs/", watches[] = "/v1/observe/";
    bool get = !strcmp(method, "GET"), posted = !strcmp(method, "POST"), end = !strcmp(method, "DELETE");
    if (get && !strcmp(url, "/v1/agent"))
        return get_agent(r->agent, connection);
    if (get && !strcmp(url, "/v1/meter"))
        return answer(connection, MHD_HTTP_OK, kn_meter_json());
    if (posted && (!strcmp(url, "/v1/runs") || !strcmp(url, "/v1/observe")))
        return post(r, connection, !strcmp(url, "/v1/runs"));
    if ((get || end) && !strncmp(url, runs, sizeof runs - 1))
        return report_run(r->agent, connection, url + sizeof runs - 1, end);
    if ((get || end) && !strncmp(url, watches, sizeof watches - 1))
        return report_watch(r->agent, connection, url + sizeof watches - 1, end);
    kn_count_refused(r->agent, KN_REFUSED_REQUEST);
    return answer_error(connection, MHD_HTTP_NOT_FOUND, kn_code_name(KN_E_ARGUMENT),
                        "an agent answers GET /v1/agent and /v1/meter, POST /v1/runs and /v1/observe, GET and DELETE "
                        "/v1/runs/ID and /v1/observe/ID");
}

/* ---- libmicrohttpd's side ---- */

/* Before the body is taken: without the token nobody may send one. */
static enum MHD_Result open_request(struct kn_agent *agent, struct MHD_Connection *connection, void **state)
{
    struct kn_error err;
    if (!token_is_right(agent, connection)) {
        kn_count_refused(agent, KN_REFUSED_TOKEN);
        return answer_error(connection, MHD_HTTP_UNAUTHORIZED, kn_code_name(KN_E_AUTH),
                            "the header Knbl-Token is missing or wrong");
    }
    if (check_version(connection, &err)) {
        kn_count_refused(agent, KN_REFUSED_VERSION);
        return answer_failure(connection, &err);
    }
    struct request *r = malloc(sizeof *r);
    if (!r)
        return MHD_NO;
    r->agent = agent;
    r->size = 0;
    r->too_long = false;
    *state = r;
    return MHD_YES;
}

static enum MHD_Result on_request(void *closure, struct MHD_Connection *connection, const char *url, const char *method,
                                  const char *version, const char *upload, size_t *upload_size, void **state)
{
    struct request *r = *state;
    (void)version;
    if (!r)
        return open_request(closure, connection, state);
    if (*upload_size) {
        r->too_long |= *upload_size > sizeof r->body - r->size;
        if (!r->too_long) {
            memcpy(r->body + r->size, upload, *upload_size);
            r->size += *upload_size;
        }
        *upload_size = 0;
        return MHD_YES;
    }
    if (r->too_long) {
        kn_count_refused(r->agent, KN_REFUSED_REQUEST);
        return answer_error(connection, MHD_HTTP_BAD_REQUEST, kn_code_name(KN_E_ARGUMENT),
                            "the body is longer than 64 KiB");
    }
    return route(r, connection, url, method);
}

static void on_completed(void *closure, struct MHD_Connection *connection, void **state,
                         enum MHD_RequestTerminationCode why)
{
    (void)closure, (void)connection, (void)why;
    free(*state);
    *state = NULL;
}

static void on_connection(void *closure, struct MHD_Connection *connection, void **state,
                          enum MHD_ConnectionNotificationCode what)
{
    struct kn_agent *agent = closure;
    (void)connection, (void)state;
    if (what == MHD_CONNECTION_NOTIFY_CLOSED)
        atomic_fetch_sub(&agent->controls, 1);
}

void kn_control_take(struct kn_agent *agent, int fd)
{
    struct kn_addr peer = { .len = sizeof peer.u };
    bool room = atomic_fetch_add(&agent->controls, 1) < CONNECTIONS_MAX;
    if (!room)
        kn_count_refused(agent, KN_REFUSED_CROWD);
    if (!room || getpeername(fd, &peer.u.sa, &peer.len)) {
        atomic_fetch_sub(&agent->controls, 1);
        close(fd);
    } else if (MHD_add_connection(agent->http, fd, &peer.u.sa, peer.len) != MHD_YES) { /* it has closed it */
        atomic_fetch_sub(&agent->controls, 1);
    }
}

struct MHD_Daemon *kn_control_new(struct kn_agent *agent, struct kn_error *err)
{
    unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION | MHD_USE_POLL |
                     MHD_USE_NO_LISTEN_SOCKET | MHD_USE_ITC;
    struct MHD_Daemon *http =
        MHD_start_daemon(flags, 0, NULL, NULL, on_request, agent, MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL,
                         MHD_OPTION_NOTIFY_CONNECTION, on_connection, agent, MHD_OPTION_CONNECTION_LIMIT,
                         (unsigned)CONNECTIONS_NEVER, MHD_OPTION_CONNECTION_TIMEOUT, IDLE_S, MHD_OPTION_END);
    if (!http)
        kn_fail_errno(err, "the HTTP server did not start");
    return http;
}

void kn_control_free(struct MHD_Daemon *http)
{
    if (http)
        MHD_stop_daemon(http);
}
