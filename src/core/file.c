#include "core/file.h"

#include <errno.h>
#include <fcntl.h>
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

static int write_special(const char *path, const void *bytes, size_t size, struct kn_error *err)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write_all(fd, bytes, size) < 0) {
        kn_fail_errno(err, "cannot write %s", path);
        if (fd >= 0)
            close(fd);
        return -1;
    }
    return close(fd) == 0 ? 0 : kn_fail_errno(err, "cannot write %s", path);
}

/* Into `fd`, which is `temporary`; takes the rights of the file that is replaced. */
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

/* A new file beside `path`: its descriptor, and its name in `*temporary`, which is the caller's to free. */
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

/* What stands at `path`. 1: something that is no file, and is written to as it is; 0: a file or nothing; -1: what cannot be written. */
static int look(const char *path, struct stat *old, bool *exists, struct kn_error *err)
{
    *exists = stat(path, old) == 0;
    if (*exists && S_ISDIR(old->st_mode))
        return kn_fail(err, KN_E_ARGUMENT, "cannot write %s: it is a folder", path);
    return *exists && !S_ISREG(old->st_mode);
}

int kn_write_file(const char *path, const void *bytes, size_t size, struct kn_error *err)
{
    struct stat old;
    bool exists;
    int special = look(path, &old, &exists, err);
    if (special)
        return special < 0 ? -1 : write_special(path, bytes, size, err);
    char *real = exists ? realpath(path, NULL) : NULL; /* through a symbolic link, which stays one */
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
    return rc;
}

static char *read_all(int fd, const char *path, size_t most, struct kn_error *err)
{
    char *text = malloc(most + 2);
    size_t size = 0;
    ssize_t n = 1;
    while (text && size <= most && (n = read(fd, text + size, most + 1 - size)) > 0)
        size += (size_t)n;
    if (!text)
        kn_fail(err, KN_E_MEMORY, "out of memory");
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
    if (fd < 0) {
        kn_fail_errno(err, "cannot read %s", path);
        return NULL;
    }
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
