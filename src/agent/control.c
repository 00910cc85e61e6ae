#include "agent/control.h"

#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/json.h"

#define BODY_MAX 65536
/* Counted here, well below libmicrohttpd's own limit: 0.9.75 keeps a lock for ever where two connections reach it at
 * once. */
#define CONNECTIONS_MAX 256
#define CONNECTIONS_NEVER (4 * CONNECTIONS_MAX)
#define IDLE_S 60u /* a connection between requests, or in the middle of one */

struct request {
    char *body; /* grows up to `most` */
    size_t size, room, most;
    bool too_long;
};

/* Takes `body`. */
static enum MHD_Result answer(struct MHD_Connection *connection, unsigned status, json_t *body)
{
    char version[8], *text = body ? kn_json_text(body, JSON_COMPACT) : NULL;
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
    if (status == MHD_HTTP_UNAUTHORIZED) /* a client without the token does not keep a connection either */
        MHD_add_response_header(response, "Connection", "close");
    enum MHD_Result rc = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return rc;
}

static enum MHD_Result answer_error(struct MHD_Connection *connection, const struct kn_error *err)
{
    unsigned status;
    json_t *body = kn_api_error(err, &status);
    return answer(connection, status, body);
}

/* Before the body is read. The gate saw the first request of a TCP connection; its others, and those of the Unix
 * socket, are seen here only. */
static enum MHD_Result open_request(struct kn_control *control, struct MHD_Connection *connection, const char *url,
                                    void **state)
{
    struct kn_error err;
    struct kn_shared *shared = control->api.shared;
    if (kn_api_check_token(shared, MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Knbl-Token"), &err) ||
        kn_api_check_protocol(shared, MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Knbl-Protocol"), &err))
        return answer_error(connection, &err);
    struct request *r = calloc(1, sizeof *r);
    if (!r)
        return MHD_NO;
    r->most = strcmp(url, "/v1/schedule") ? BODY_MAX : KN_SCHEDULE_BODY_MAX;
    *state = r;
    atomic_fetch_add(&shared->requests, 1);
    return MHD_YES;
}

/* False: out of memory. */
static bool take_body(struct request *r, const char *bytes, size_t *size)
{
    r->too_long |= *size > r->most - r->size;
    if (!r->too_long && r->size + *size > r->room) {
        size_t room = 2 * (r->size + *size);
        char *grown = realloc(r->body, room);
        if (!grown)
            return false;
        r->body = grown;
        r->room = room;
    }
    if (!r->too_long) {
        memcpy(r->body + r->size, bytes, *size);
        r->size += *size;
    }
    *size = 0;
    return true;
}

static enum MHD_Result on_request(void *closure, struct MHD_Connection *connection, const char *url, const char *method,
                                  const char *version, const char *upload, size_t *upload_size, void **state)
{
    struct kn_control *control = closure;
    struct request *r = *state;
    struct kn_error err;
    unsigned status;
    (void)version;
    if (!r)
        return open_request(control, connection, url, state);
    if (*upload_size)
        return take_body(r, upload, upload_size) ? MHD_YES : MHD_NO;
    if (r->too_long) {
        kn_refuse(&control->api.shared->refused, KN_REFUSED_REQUEST);
        kn_fail(&err, KN_E_ARGUMENT, "the body is longer than %zu KiB", r->most / 1024);
        return answer_error(connection, &err);
    }
    struct kn_api_request asked = {.method = method,
                                   .path = url,
                                   .wait = MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, "wait"),
                                   .body = r->body ? r->body : "",
                                   .size = r->size};
    json_t *body = kn_api_answer(&control->api, &asked, &status);
    return answer(connection, status, body);
}

static void on_completed(void *closure, struct MHD_Connection *connection, void **state,
                         enum MHD_RequestTerminationCode why)
{
    struct kn_shared *shared = ((struct kn_control *)closure)->api.shared;
    (void)connection, (void)why;
    if (!*state)
        return;
    free(((struct request *)*state)->body);
    free(*state);
    *state = NULL;
    kn_shared_heard(shared, kn_now_ns());
    atomic_fetch_sub(&shared->requests, 1);
}

static void on_connection(void *closure, struct MHD_Connection *connection, void **state,
                          enum MHD_ConnectionNotificationCode what)
{
    struct kn_control *control = closure;
    (void)connection, (void)state;
    if (what == MHD_CONNECTION_NOTIFY_CLOSED)
        atomic_fetch_sub(&control->connections, 1);
}

void kn_control_take(struct kn_control *control, int fd)
{
    struct kn_addr peer = {.len = sizeof peer.u};
    bool room = atomic_fetch_add(&control->connections, 1) < CONNECTIONS_MAX;
    if (!room)
        kn_refuse(&control->api.shared->refused, KN_REFUSED_CROWD);
    if (!room || getpeername(fd, &peer.u.sa, &peer.len)) {
        atomic_fetch_sub(&control->connections, 1);
        close(fd);
    } else if (MHD_add_connection(control->http, fd, &peer.u.sa, peer.len) != MHD_YES) { /* it has closed it */
        atomic_fetch_sub(&control->connections, 1);
    }
}

int kn_control_start(struct kn_control *control, const struct kn_api *api, struct kn_error *err)
{
    unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION | MHD_USE_POLL |
                     MHD_USE_NO_LISTEN_SOCKET | MHD_USE_ITC;
    control->api = *api;
    control->http = MHD_start_daemon(flags, 0, NULL, NULL, on_request, control, MHD_OPTION_NOTIFY_COMPLETED,
                                     on_completed, control, MHD_OPTION_NOTIFY_CONNECTION, on_connection, control,
                                     MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_NEVER,
                                     MHD_OPTION_CONNECTION_TIMEOUT, IDLE_S, MHD_OPTION_END);
    return control->http ? 0 : kn_fail_errno(err, "cannot start the HTTP server");
}

void kn_control_stop(struct kn_control *control)
{
    if (control->http)
        MHD_stop_daemon(control->http);
}
