/* What the tests of guests share: is its agent there? */
#ifndef KN_TESTS_LAB_GUESTS_H
#define KN_TESTS_LAB_GUESTS_H

#include "inside.h"

#include <sys/un.h>

/* The control socket leads to the agent in there, which refuses HTTP without a token. */
static inline void agent_answers(json_t *pod)
{
    struct sockaddr_un at = { .sun_family = AF_UNIX };
    char text[512] = "";
    snprintf(at.sun_path, sizeof at.sun_path, "%s", json_string_value(json_object_get(pod, "control")));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval patience = { .tv_sec = 20 };
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_true(dprintf(fd, "GET /v1/agent HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n") > 0);
    size_t n = 0;
    for (ssize_t got; n < sizeof text - 1 && (got = recv(fd, text + n, sizeof text - 1 - n, 0)) > 0;) n += (size_t)got;
    close(fd);
    if (!strstr(text, " 401 ") || !strstr(text, "\"auth\"")) fail_msg("the agent says \"%s\"", text);
}

/* Whether the agent at that address takes a connection from there; it says nothing to who says nothing. */
static inline bool reached(struct kn_lab *lab, const char *where, const char *host)
{
    char words[128];
    snprintf(words, sizeof words, "\"ask\",\"tmss\",\"%s\",\"7099\"", host);
    char *text = run_in(lab, where, words);
    bool ok = atoi(text) > 0;
    free(text);
    return ok;
}

#endif
