#include "lab/keeper.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "core/json.h"

#define FRAME_MAX (64u << 20)

/* Sends all of it, or receives it. */
static int transfer(int fd, bool sends, void *data, size_t size, struct kn_error *err)
{
    char *p = data;
    while (size > 0) {
        ssize_t n = sends ? send(fd, p, size, MSG_NOSIGNAL) : recv(fd, p, size, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return kn_fail(err, KN_E_LOST, "the lab has ended");
        p += n;
        size -= (size_t)n;
    }
    return 0;
}

int kn_frame_send(int fd, const json_t *message, struct kn_error *err)
{
    char *text = json_dumps(message, JSON_COMPACT);
    if (!text)
        return kn_fail_memory(err);
    uint32_t size = (uint32_t)strlen(text);
    int bad = transfer(fd, true, &size, sizeof size, err) || transfer(fd, true, text, size, err);
    free(text);
    return bad ? -1 : 0;
}

json_t *kn_frame_receive(int fd, struct kn_error *err)
{
    uint32_t size;
    if (transfer(fd, false, &size, sizeof size, err))
        return NULL;
    if (size > FRAME_MAX)
        return kn_null(kn_fail(err, KN_E_PROTOCOL, "a message of %u bytes from the lab is too long", size));
    char *text = malloc(size + 1u);
    json_t *message = NULL;
    if (!text) {
        kn_fail_memory(err);
    } else if (!transfer(fd, false, text, size, err)) {
        message = kn_json_load(text, size, 0, NULL);
        if (!message)
            kn_fail(err, KN_E_PROTOCOL, "a message from the lab is not JSON");
    }
    free(text);
    return message;
}

json_t *kn_lab_error_json(const struct kn_error *err)
{
    return json_pack("{s:{s:s,s:s}}", "error", "code", kn_code_name(err->code), "message", err->message);
}
