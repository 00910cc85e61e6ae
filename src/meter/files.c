#include "meter/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "meter/proc.h"

static int join(char *out, const char *a, const char *b, const char *c)
{
    int n = snprintf(out, PATH_MAX, "%s%s%s%s", a, b, *c ? "/" : "", c);
    return n > 0 && n < PATH_MAX ? 0 : -1;
}

size_t kn_file_part(int fd, void *into, size_t size, uint64_t offset)
{
    size_t have = 0;
    while (have < size) {
        ssize_t n = pread(fd, (char *)into + have, size - have, (off_t)(offset + have));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        have += (size_t)n;
    }
    return have;
}

long kn_file_read(const char *root, const char *path, char *buf, size_t size)
{
    char full[PATH_MAX];
    if (join(full, root, path, ""))
        return -1;
    int fd = open(full, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    size_t used = kn_file_part(fd, buf, size - 1, 0);
    close(fd);
    buf[used] = 0;
    return (long)used;
}

uint64_t kn_file_id(const char *root, const char *folder)
{
    char full[PATH_MAX];
    struct stat st;
    return join(full, root, folder, "") || stat(full, &st) ? KN_ABSENT : st.st_ino;
}

uint64_t kn_file_number(const char *root, const char *folder, const char *name)
{
    char path[PATH_MAX], text[64];
    if (join(path, folder, "", name) || kn_file_read(root, path, text, sizeof text) < 0)
        return KN_ABSENT;
    return kn_proc_number(text + strspn(text, " \t"));
}

uint64_t kn_file_member(const char *root, const char *folder, const char *name, const char *key)
{
    char path[PATH_MAX], text[4096];
    if (join(path, folder, "", name) || kn_file_read(root, path, text, sizeof text) < 0)
        return KN_ABSENT;
    return kn_proc_line(text, key);
}

int kn_boot_id(const char *root, char *buf, size_t size)
{
    if (kn_file_read(root, "/proc/sys/kernel/random/boot_id", buf, size) <= 0)
        return -1;
    buf[strcspn(buf, "\n")] = 0;
    return 0;
}

/* ---- cgroups ---- */

static bool is_in_list(const char *list, const char *word)
{
    size_t length = strlen(word);
    for (const char *at = list; (at = strstr(at, word)); at += length)
        if ((at == list || at[-1] == ',') && (at[length] == ',' || at[length] == 0))
            return true;
    return false;
}

static FILE *open_lines(const char *root, const char *path)
{
    char full[PATH_MAX];
    return join(full, root, path, "") ? NULL : fopen(full, "re");
}

/* The path in /proc/self/cgroup: "ID:CONTROLLERS:PATH", for v2 "0::PATH". Returns the version, or 0 if no line has
 * it. */
static int find_path(const char *root, const char *controller, char path[PATH_MAX])
{
    char *line = NULL, *list, *at;
    size_t room = 0;
    int version = 0;
    FILE *file = open_lines(root, "/proc/self/cgroup");
    if (!file)
        return 0;
    while (version != 1 && getline(&line, &room, file) > 0) {
        line[strcspn(line, "\n")] = 0;
        if (!(list = strchr(line, ':')) || !(at = strchr(list + 1, ':')))
            continue;
        *list++ = 0;
        *at++ = 0;
        bool unified = strcmp(line, "0") == 0 && *list == 0;
        if ((!unified && !is_in_list(list, controller)) || strlen(at) >= PATH_MAX)
            continue;
        version = unified ? 2 : 1;
        strcpy(path, at);
    }
    free(line);
    fclose(file);
    return version;
}

/* Decodes \040 for a space and the like. */
static void unescape(char *s)
{
    char *out = s;
    for (; *s; s++) {
        if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' && s[3] >= '0' && s[3] <= '7') {
            *out++ = (char)((s[1] - '0') * 64 + (s[2] - '0') * 8 + (s[3] - '0'));
            s += 3;
        } else {
            *out++ = *s;
        }
    }
    *out = 0;
}

/* Whether a line of mountinfo, "… ROOT MOUNTPOINT OPTIONS … - TYPE SOURCE SUPER_OPTIONS", is the hierarchy's. */
static bool is_mount(char *line, int version, const char *controller, char **top, char **point)
{
    char *type, *rest, *save, *tail = strstr(line, " - ");
    if (!tail)
        return false;
    *tail = 0;
    strtok_r(line, " ", &save);
    strtok_r(NULL, " ", &save);
    strtok_r(NULL, " ", &save);
    *top = strtok_r(NULL, " ", &save);
    *point = strtok_r(NULL, " ", &save);
    type = strtok_r(tail + 3, " ", &save);
    strtok_r(NULL, " ", &save);
    rest = strtok_r(NULL, " \n", &save);
    if (!*top || !*point || !type)
        return false;
    unescape(*top);
    unescape(*point);
    if (version == 2)
        return strcmp(type, "cgroup2") == 0;
    return strcmp(type, "cgroup") == 0 && rest && is_in_list(rest, controller);
}

/* The part of `path` below `top`; NULL if it is not below. ".." means another cgroup namespace, whose place is
 * unknown. */
static const char *below(const char *path, const char *top)
{
    size_t n = strcmp(top, "/") == 0 ? 0 : strlen(top);
    if (strncmp(top, "/..", 3) == 0 || strncmp(path, "/..", 3) == 0)
        return NULL;
    if (strncmp(path, top, n) != 0 || (path[n] != '/' && path[n] != 0))
        return NULL;
    return strcmp(path + n, "/") == 0 ? "" : path + n;
}

void kn_cgroup_find(const char *root, const char *controller, struct kn_cgroup *cgroup)
{
    char path[PATH_MAX], *line = NULL, *top, *point;
    size_t room = 0;
    int version = find_path(root, controller, path);
    FILE *file = version ? open_lines(root, "/proc/self/mountinfo") : NULL;
    cgroup->version = 0;
    while (file && !cgroup->version && getline(&line, &room, file) > 0) {
        if (!is_mount(line, version, controller, &top, &point))
            continue;
        /* in a container with the host's cgroup namespace the mount's root is the container's own cgroup, with the
         * host's path */
        const char *rest = below(path, top);
        if (!rest || strlen(point) >= PATH_MAX || join(cgroup->folder, point, rest, ""))
            continue;
        strcpy(cgroup->mount, point);
        cgroup->version = version;
    }
    if (file)
        fclose(file);
    free(line);
}

int kn_cgroup_up(struct kn_cgroup *cgroup)
{
    char *slash = strrchr(cgroup->folder, '/');
    if (!slash || strlen(cgroup->folder) <= strlen(cgroup->mount))
        return 0;
    *slash = 0;
    return 1;
}
