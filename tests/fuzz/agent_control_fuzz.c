/* The requests of control: a line "METHOD PATH", an empty line where a body follows. Whatever is asked is answered with
 * a status and JSON; the same bytes as the head of a TCP connection give up no header that is not there. An agent that
 * allows no runs starts none. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "agent/api.h"
#include "agent/http_head.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(bool truth)
{
    if (!truth)
        abort();
}

static struct kn_api *make_api(void)
{
    static struct kn_shared shared;
    static struct kn_runs runs;
    static struct kn_watches watches;
    static struct kn_schedules schedules;
    static struct kn_flows flows;
    static struct kn_api api = {&shared, &runs, &watches, &schedules, &flows};
    static bool made;
    struct kn_error err;
    struct kn_agent_config config;
    if (made)
        return &api;
    kn_agent_defaults(&config);
    config.token = "the token of the fuzzer";
    demand(kn_shared_init(&shared, &config, &err) == 0);
    kn_flows_init(&flows, &shared);
    kn_runs_init(&runs, &shared);
    kn_watches_init(&watches, &shared);
    kn_schedules_init(&schedules, &shared);
    runs.leases.most = watches.leases.most = schedules.leases.most = 0;
    made = true;
    return &api;
}

/* Up to `size` bytes, and what ends a text. */
static char *text_of(const uint8_t *bytes, size_t size)
{
    char *text = malloc(size + 1);
    memcpy(text, bytes, size);
    text[size] = '\0';
    return text;
}

static void try_head(const uint8_t *data, size_t size)
{
    char value[64];
    char *head = malloc(size ? size : 1); /* in a block of its own, so that the sanitizer sees the end */
    memcpy(head, data, size);
    if (size <= KN_HEAD_MAX && kn_head_look(head, size) == KN_HEAD_WHOLE) {
        if (kn_head_value(head, size, "Knbl-Token", value, sizeof value))
            demand(strlen(value) < size && memmem(head, size, value, strlen(value)) && !strpbrk(value, "\r\n"));
        kn_head_has_body(head, size);
    }
    free(head);
}

static void try_request(const struct kn_api *api, char *line, const uint8_t *body, size_t size)
{
    unsigned status = 0;
    char *path = strchr(line, ' ');
    if (!path)
        return;
    *path++ = '\0';
    if (!strcmp(path, "/v1/agent")) /* reads files and asks kube-proxy: nothing of it comes from the client */
        return;
    struct kn_api_request request = {line, path, NULL, (const char *)body, size};
    json_t *answer = kn_api_answer(api, &request, &status);
    char *text = json_dumps(answer, 0);
    demand(text && json_is_object(answer) && status >= 200 && status <= 500 && status != 201);
    demand(status == 200 || json_string_length(json_object_get(json_object_get(answer, "error"), "message")) > 0);
    free(text);
    json_decref(answer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct kn_api *api = make_api();
    try_head(data, size);
    const uint8_t *end = memmem(data, size, "\n\n", 2);
    size_t n = end ? (size_t)(end - data) : size;
    char *line = text_of(data, n);
    try_request(api, line, end ? end + 2 : data, end ? size - n - 2 : 0);
    free(line);
    return 0;
}
