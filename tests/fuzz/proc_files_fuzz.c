/* Files of /proc that name things of others: cgroups, mounts, the kernel's functions. The input is /proc/self/cgroup,
 * /proc/self/mountinfo and /proc/kallsyms, separated by zero bytes, in a folder that stands for the root. */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "meter/files.h"
#include "meter/symbols.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const folders[] = {"/proc", "/proc/self"};
static const char *const files[] = {"/proc/self/cgroup", "/proc/self/mountinfo", "/proc/kallsyms"};
#define FOLDERS (sizeof folders / sizeof *folders)
#define FILES (sizeof files / sizeof *files)

static char root[64];

static void demand(bool truth)
{
    if (!truth)
        abort();
}

static const char *in_root(const char *name)
{
    static char path[128];
    snprintf(path, sizeof path, "%s%s", root, name);
    return path;
}

static void clear(void)
{
    for (size_t i = 0; i < FILES; i++)
        unlink(in_root(files[i]));
    for (size_t i = FOLDERS; i-- > 0;)
        rmdir(in_root(folders[i]));
    rmdir(root);
}

static void make_root(void)
{
    const char *tmp = getenv("TMPDIR");
    snprintf(root, sizeof root, "%.40s/knbl-fuzz-XXXXXX", tmp ? tmp : "/tmp");
    demand(mkdtemp(root) != NULL);
    for (size_t i = 0; i < FOLDERS; i++)
        demand(mkdir(in_root(folders[i]), 0700) == 0);
    atexit(clear);
}

static void write_files(const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < FILES; i++) {
        const uint8_t *end = i + 1 < FILES ? memchr(data, 0, size) : NULL;
        size_t n = end ? (size_t)(end - data) : size;
        int fd = open(in_root(files[i]), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
        demand(fd >= 0 && write(fd, data, n) == (ssize_t)n);
        close(fd);
        data += n + (end != NULL);
        size -= n + (end != NULL);
    }
}

static void find_cgroup(const char *controller)
{
    struct kn_cgroup cgroup;
    kn_cgroup_find(root, controller, &cgroup);
    demand(cgroup.version >= 0 && cgroup.version <= 2);
    if (!cgroup.version)
        return;
    demand(strncmp(cgroup.folder, cgroup.mount, strlen(cgroup.mount)) == 0);
    for (size_t n = strlen(cgroup.folder), less; kn_cgroup_up(&cgroup); n = less) {
        less = strlen(cgroup.folder);
        demand(less < n);
    }
}

static void name_functions(void)
{
    struct kn_error err = {0};
    struct kn_symbols *s = kn_symbols_kernel(root, &err);
    if (!s) {
        demand(*err.message);
        return;
    }
    demand(s->n > 0);
    for (size_t i = 0; i < s->n; i++) {
        const char *name = kn_symbols_find(s, s->all[i].from);
        demand(i == 0 || s->all[i - 1].from <= s->all[i].from);
        demand(!name || (name >= s->names && strlen(name) < (size_t)(s->names + s->names_size + 1 - name)));
    }
    kn_symbols_free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!*root)
        make_root();
    write_files(data, size);
    find_cgroup("cpu");
    find_cgroup("memory");
    name_functions();
    return 0;
}
