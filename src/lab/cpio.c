#include "lab/cpio.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

struct entry {
    const char *name;
    unsigned mode, major, minor;
    size_t size;
};

static int put(struct kn_cpio *cpio, const void *bytes, size_t size, struct kn_error *err)
{
    const char *p = bytes;
    cpio->at += size;
    while (size > 0) {
        ssize_t n = write(cpio->fd, p, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return kn_fail_errno(err, "cannot write the initramfs");
        p += n;
        size -= (size_t)n;
    }
    return 0;
}

static int pad(struct kn_cpio *cpio, struct kn_error *err)
{
    return put(cpio, "\0\0\0", -cpio->at & 3, err);
}

/* All numbers have eight hex digits; the size of the name includes its terminating zero. */
static int head(struct kn_cpio *cpio, const struct entry *e, struct kn_error *err)
{
    char text[112];
    snprintf(text, sizeof text, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X", ++cpio->inode, e->mode, 0,
             0, 1, 0, (unsigned)e->size, 0, 0, e->major, e->minor, (unsigned)strlen(e->name) + 1, 0);
    return put(cpio, text, 110, err) || put(cpio, e->name, strlen(e->name) + 1, err) || pad(cpio, err) ? -1 : 0;
}

int kn_cpio_folder(struct kn_cpio *cpio, const char *name, struct kn_error *err)
{
    return head(cpio, &(struct entry){.name = name, .mode = S_IFDIR | 0755}, err);
}

int kn_cpio_device(struct kn_cpio *cpio, const char *name, unsigned major, unsigned minor, struct kn_error *err)
{
    return head(cpio, &(struct entry){name, S_IFCHR | 0600, major, minor, 0}, err);
}

int kn_cpio_bytes(struct kn_cpio *cpio, const char *name, unsigned mode, const void *bytes, size_t size,
                  struct kn_error *err)
{
    struct entry e = {.name = name, .mode = S_IFREG | mode, .size = size};
    return head(cpio, &e, err) || put(cpio, bytes, size, err) || pad(cpio, err) ? -1 : 0;
}

static int copy(struct kn_cpio *cpio, int fd, const char *path, size_t size, struct kn_error *err)
{
    cpio->at += size;
    while (size > 0) {
        ssize_t n = sendfile(cpio->fd, fd, NULL, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return kn_fail_errno(err, "cannot copy %s into the initramfs", path);
        if (n == 0)
            return kn_fail(err, KN_E_SYSTEM, "%s became shorter while being read", path);
        size -= (size_t)n;
    }
    return pad(cpio, err);
}

/* linux/module_signature.h: the signature, 12 bytes of which the last four are its length, and a marker. */
static size_t signature(int fd, size_t size)
{
    static const char mark[] = "~Module signature appended~\n";
    unsigned char end[12 + sizeof mark - 1];
    if (size <= sizeof end || pread(fd, end, sizeof end, (off_t)(size - sizeof end)) != (ssize_t)sizeof end)
        return 0;
    size_t length = (size_t)end[8] << 24 | (size_t)end[9] << 16 | (size_t)end[10] << 8 | end[11];
    return memcmp(end + 12, mark, sizeof mark - 1) == 0 && length < size - sizeof end ? length + sizeof end : 0;
}

int kn_cpio_module(struct kn_cpio *cpio, const char *name, const char *path, struct kn_error *err)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st)) {
        kn_fail_errno(err, "cannot read %s", path);
        if (fd >= 0)
            close(fd);
        return -1;
    }
    struct entry e = {.name = name, .mode = S_IFREG | 0600, .size = (size_t)st.st_size};
    e.size -= signature(fd, e.size);
    int bad = st.st_size >> 32 ? kn_fail(err, KN_E_LIMIT, "%s is too large for an initramfs", path)
                               : head(cpio, &e, err) || copy(cpio, fd, path, e.size, err);
    close(fd);
    return bad ? -1 : 0;
}

int kn_cpio_end(struct kn_cpio *cpio, struct kn_error *err)
{
    return head(cpio, &(struct entry){.name = "TRAILER!!!"}, err);
}
