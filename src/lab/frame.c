#include "lab/keeper.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define FRAME_MAX (64u << 20)

static int write_all(int fd, const void *data, size_t size, struct kn_error *err)
{
    const char *p = data;
    while (size > 0) {
        ssize_t n = send(fd, p, size, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return kn_fail(err, KN_E_LOST, "the lab has ended");
        p += n;
        size -= (size_t)n;
    }
    return 0;
}

static int read_all(int fd, void *data, size_t size, struct kn_error *err)
{
    char *p = data;
    while (size > 0) {
        ssize_t n = recv(fd, p, size, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return kn_fail(err, KN_E_LOST, "the lab has ended");
        p += n;
        size -= (size_t)n;
    }
    return 0;
}

int kn_frame_send(int fd, const json_t *message, struct kn_error *err)
{
    char *text = json_dumps(message, JSON_COMPACT);
    if (!text) return kn_fail(err, KN_E_MEMORY, "out of memory");
    uint32_t size = (uint32_t)strlen(text);
    int bad = write_all(fd, &size, sizeof size, err) || write_all(fd, text, size, err);
    free(text);
    return bad ? -1 : 0;
}

json_t *kn_frame_receive(int fd, struct kn_error *err)
{
    uint32_t size;
    if (read_all(fd, &size, sizeof size, err)) return NULL;
    if (size > FRAME_MAX) {
        kn_fail(err, KN_E_PROTOCOL, "a message of %u bytes between knbl and its lab", size);
        return NULL;
    }
    char *text = malloc(size + 1u);
    json_t *message = NULL;
    if (!text) {
        kn_fail(err, KN_E_MEMORY, "out of memory");
    } else if (!read_all(fd, text, size, err)) {
        message = json_loadb(text, size, 0, NULL);
        if (!message) kn_fail(err, KN_E_PROTOCOL, "a message that is not JSON between knbl and its lab");
    }
    free(text);
    return message;
}
