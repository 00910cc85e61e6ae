#include "core/file.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

static int write_all(int fd, const char *bytes, size_t size)
{
    while (size) {
        ssize_t n = write(fd, bytes, size);
        if (n < 0 && errno != EINTR)
            return -1;
        bytes += n > 0 ? n : 0;
        size -= n > 0 ? (size_t)n : 0;
    }
    return 0;
}

#define READER_LOOK_MS 50 /* interval between tries to open a pipe without a reader */

/* Waits until `fd` (-1 for none) is writable, for at most `ms` (-1 for no limit). Returns -1 with EINTR if `wake_fd` is
 * readable. */
static int await_room(int fd, int wake_fd, int ms)
{
    struct pollfd polls[] = {{.fd = fd, .events = POLLOUT}, {.fd = wake_fd, .events = POLLIN}};
    if (poll(polls, 2, ms) > 0 && polls[1].revents) {
        errno = EINTR;
        return -1;
    }
    return 0;
}

/* Without O_NONBLOCK, open(2) waits for a reader of the pipe, and SA_RESTART restarts the wait after a signal. */
static int open_special(const char *path, int wake_fd)
{
    int fd;
    while ((fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY)) < 0 && errno == ENXIO)
        if (await_room(-1, wake_fd, READER_LOOK_MS) < 0)
            return -1;
    return fd;
}

static int write_as_it_takes(int fd, const char *bytes, size_t size, int wake_fd)
{
    while (size) {
        ssize_t n = write(fd, bytes, size);
        if (n < 0 && errno == EAGAIN && await_room(fd, wake_fd, -1) < 0)
            return -1;
        if (n < 0 && errno != EINTR && errno != EAGAIN)
            return -1;
        bytes += n > 0 ? n : 0;
        size -= n > 0 ? (size_t)n : 0;
    }
    return 0;
}

static int write_special(const char *path, const void *bytes, size_t size, int wake_fd, struct kn_error *err)
{
    int fd = open_special(path, wake_fd);
    int rc = fd < 0 ? -1 : write_as_it_takes(fd, bytes, size, wake_fd), saved = errno;
    if (fd >= 0 && close(fd) < 0 && rc == 0)
        return kn_fail_errno(err, "cannot write %s", path);
    errno = saved;
    if (rc < 0 && errno == EINTR)
        return kn_fail(err, KN_E_INTERRUPTED, "cannot write %s: interrupted while waiting for a reader", path);
    return rc < 0 ? kn_fail_errno(err, "cannot write %s", path) : 0;
}

/* Writes to `fd`, the file `temporary`, gives it the mode of the old file and renames it to `path`. */
static int fill_and_rename(int fd, const char *temporary, const char *path, const struct stat *old, const void *bytes,
                           size_t size)
{
    int rc = (old && fchmod(fd, old->st_mode & 07777) < 0) || write_all(fd, bytes, size) < 0 || fsync(fd) < 0 ? -1 : 0;
    int saved = errno;
    if (close(fd) < 0 && rc == 0) {
        saved = errno;
        rc = -1;
    }
    if (rc == 0 && rename(temporary, path) < 0) {
        saved = errno;
        rc = -1;
    }
    if (rc < 0)
        unlink(temporary);
    errno = saved;
    return rc;
}

/* Creates a new file beside `path` and returns its descriptor. The caller frees its name, `*temporary`. */
static int beside(const char *path, char **temporary)
{
    char secret[KN_TOKEN_SIZE];
    *temporary = malloc(strlen(path) + sizeof secret + 1);
    if (!*temporary)
        return -1;
    kn_token_make(secret);
    sprintf(*temporary, "%s.%.8s", path, secret);
    return open(*temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
}

static int replace(const char *path, const struct stat *old, const void *bytes, size_t size)
{
    char *temporary;
    int fd = beside(path, &temporary);
    int rc = fd < 0 ? -1 : fill_and_rename(fd, temporary, path, old, bytes, size);
    int saved = errno;
    free(temporary);
    errno = saved;
    return rc;
}

static int try_beside(const char *path)
{
    char *temporary;
    int fd = beside(path, &temporary), saved = errno;
    if (fd >= 0) {
        unlink(temporary);
        close(fd);
    }
    free(temporary);
    errno = saved;
    return fd < 0 ? -1 : 0;
}

/* Checks what exists at `path`: 1 for something that is not a regular file and is written directly, 0 for a file or
 * nothing, -1 if it cannot be written. */
static int look(const char *path, struct stat *old, bool *exists, struct kn_error *err)
{
    *exists = stat(path, old) == 0;
    if (*exists && S_ISDIR(old->st_mode))
        return kn_fail(err, KN_E_ARGUMENT, "cannot write %s: it is a directory", path);
    return *exists && !S_ISREG(old->st_mode);
}

int kn_write_file(const char *path, const void *bytes, size_t size, int wake_fd, struct kn_error *err)
{
    struct stat old;
    bool exists;
    int special = look(path, &old, &exists, err);
    if (special)
        return special < 0 ? -1 : write_special(path, bytes, size, wake_fd, err);
    char *real = exists ? realpath(path, NULL) : NULL; /* follows a symbolic link, so that it is kept */
    int rc = replace(real ? real : path, exists ? &old : NULL, bytes, size) < 0
                 ? kn_fail_errno(err, "cannot write %s", path)
                 : 0;
    free(real);
    return rc;
}

int kn_can_write(const char *path, struct kn_error *err)
{
    struct stat old;
    bool exists;
    int special = look(path, &old, &exists, err);
    if (special < 0)
        return -1;
    char *real = exists ? realpath(path, NULL) : NULL;
    int rc = special ? access(path, W_OK) : try_beside(real ? real : path);
    if (rc < 0)
        kn_fail_errno(err, "cannot write %s", path);
    free(real);
    return rc < 0 ? -1 : special;
}

static char *read_all(int fd, const char *path, size_t most, struct kn_error *err)
{
    char *text = malloc(most + 2);
    size_t size = 0;
    ssize_t n = 1;
    while (text && size <= most && (n = read(fd, text + size, most + 1 - size)) > 0)
        size += (size_t)n;
    if (!text)
        kn_fail_memory(err);
    else if (n < 0)
        kn_fail_errno(err, "cannot read %s", path);
    else if (size > most)
        kn_fail(err, KN_E_LIMIT, "%s is longer than %zu bytes", path, most);
    else
        return text[size] = '\0', text;
    free(text);
    return NULL;
}

char *kn_read_file(const char *path, size_t most, struct kn_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return kn_null(kn_fail_errno(err, "cannot read %s", path));
    char *text = read_all(fd, path, most, err);
    close(fd);
    return text;
}

void kn_token_make(char token[KN_TOKEN_SIZE])
{
    unsigned char bytes[(KN_TOKEN_SIZE - 1) / 2];
    for (size_t got = 0; got < sizeof bytes;) {
        ssize_t n = getrandom(bytes + got, sizeof bytes - got, 0);
        got += n > 0 ? (size_t)n : 0;
    }
    for (size_t i = 0; i < sizeof bytes; i++)
        sprintf(token + 2 * i, "%02x", bytes[i]);
}
