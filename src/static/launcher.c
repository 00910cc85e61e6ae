/* static/launcher - `knbl` of the release archive, for any Linux: runs lib/knbl with the loader and the libraries
 * beside it.
 *
 * The kernel wants a program's loader by an absolute path, which nobody knows before the archive is unpacked. So
 * lib/knbl is linked with two paths that begin with MARK and leave room; this program puts the real ones there when it
 * runs first, and again where the folder has moved. A folder that may not be written is left alone: the copy is then in
 * memory. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOADER_MARK "/knbl-loader"
#define LIBRARIES_MARK "/knbl-libraries"
#define ROOM 1000 /* of each, the mark and the padding; packaging/archive.sh writes as many */

static int fail(const char *what, const char *path)
{
    fprintf(stderr, "knbl: %s: %s: %s\n", path, what, strerror(errno));
    return 3;
}

/* The folder that this program is in. */
static int find_folder(char folder[PATH_MAX])
{
    ssize_t n = readlink("/proc/self/exe", folder, PATH_MAX - 1);
    if (n <= 0)
        return -1;
    folder[n] = '\0';
    *strrchr(folder, '/') = '\0';
    return 0;
}

static char *read_all(const char *path, size_t *size)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char *bytes = fd >= 0 && fstat(fd, &st) == 0 ? malloc((size_t)st.st_size) : NULL;
    size_t got = 0;
    for (ssize_t n = 1; bytes && n > 0; got += n > 0 ? (size_t)n : 0)
        n = got < (size_t)st.st_size ? read(fd, bytes + got, (size_t)st.st_size - got) : 0;
    if (fd >= 0)
        close(fd);
    *size = got;
    return bytes;
}

/* Writes `path` over the room that begins with `mark`. */
static int put(char *bytes, size_t size, const char *mark, const char *path)
{
    char *at = memmem(bytes, size, mark, strlen(mark));
    if (!at || strlen(path) >= ROOM || at + ROOM > bytes + size)
        return errno = ENAMETOOLONG, -1;
    memset(at, 0, ROOM);
    memcpy(at, path, strlen(path));
    return 0;
}

static int write_all(int fd, const char *bytes, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = write(fd, bytes + done, size - done);
        if (n < 0)
            return -1;
        done += (size_t)n;
    }
    return 0;
}

/* The program beside the template, whole or not at all; -1 where the folder cannot be written. */
static int write_beside(const char *path, const char *bytes, size_t size)
{
    char temporary[PATH_MAX + 64];
    snprintf(temporary, sizeof temporary, "%s.XXXXXX", path);
    int fd = mkstemp(temporary), bad;
    if (fd < 0)
        return -1;
    bad = fchmod(fd, 0755) || write_all(fd, bytes, size);
    close(fd);
    if (!bad && rename(temporary, path) == 0)
        return 0;
    unlink(temporary);
    return -1;
}

static int in_memory(const char *bytes, size_t size)
{
    int fd = memfd_create("knbl", 0);
    return fd >= 0 && write_all(fd, bytes, size) == 0 ? fd : -1;
}

/* Whether the program was made for the loader that is here now. */
static int is_current(const char *program, const char *loader)
{
    size_t size;
    char *bytes = read_all(program, &size);
    int current = bytes && memmem(bytes, size < 65536 ? size : 65536, loader, strlen(loader) + 1) != NULL;
    free(bytes);
    return current;
}

int main(int argc, char **argv, char **environment)
{
    char folder[PATH_MAX], lib[PATH_MAX + 8], loader[PATH_MAX + 32], template[PATH_MAX + 32], program[PATH_MAX + 32];
    size_t size;
    (void)argc;
    if (find_folder(folder))
        return fail("cannot be read", "/proc/self/exe");
    snprintf(lib, sizeof lib, "%s/lib", folder);
    snprintf(loader, sizeof loader, "%s/loader", lib);
    snprintf(template, sizeof template, "%s/knbl.in", lib);
    snprintf(program, sizeof program, "%s/knbl", lib);
    if (is_current(program, loader))
        execve(program, argv, environment);
    char *bytes = read_all(template, &size);
    if (!bytes || put(bytes, size, LOADER_MARK, loader) || put(bytes, size, LIBRARIES_MARK, lib))
        return fail("cannot be prepared", template);
    if (write_beside(program, bytes, size) == 0)
        execve(program, argv, environment);
    int fd = in_memory(bytes, size);
    if (fd >= 0)
        fexecve(fd, argv, environment);
    return fail("cannot be run", program);
}
