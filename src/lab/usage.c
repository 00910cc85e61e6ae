#include "lab/keeper.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "core/json.h"
#include "meter/files.h"

/* What a pod uses as its host sees it: the CPU time and memory of its first process and all its descendants, with those
 * of the sandbox. An agent sees only what its own kernel shows.
 *
 * CPU time is the cgroup's if the pod has one: that includes processes that have ended and kernel threads that work for
 * the pod (vhost). Otherwise it is that of the running processes. Memory is the sum of proportional set sizes, which
 * counts shared pages once. */

struct family {
    size_t n, size;
    pid_t *pids;
};

static bool add(struct family *family, pid_t pid)
{
    if (family->n == family->size) {
        size_t size = family->size ? 2 * family->size : 32;
        pid_t *pids = realloc(family->pids, size * sizeof *pids);
        if (!pids)
            return false;
        family->pids = pids;
        family->size = size;
    }
    family->pids[family->n++] = pid;
    return true;
}

static bool add_children(struct family *family, const char *path)
{
    FILE *file = fopen(path, "re");
    int pid;
    bool ok = file != NULL;
    while (file && ok && fscanf(file, "%d", &pid) == 1)
        ok = add(family, (pid_t)pid);
    if (file)
        fclose(file);
    return ok;
}

/* /proc lists a child with the thread that forked it. */
static void add_below(struct family *family, pid_t pid)
{
    char path[320];
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *dir = opendir(path);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        if (e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/proc/%d/task/%s/children", (int)pid, e->d_name);
        add_children(family, path);
    }
    if (dir)
        closedir(dir);
}

/* False if /proc belongs to another PID namespace (see keeper.c). */
static bool own_proc(void)
{
    char self[32] = "";
    return readlink("/proc/self", self, sizeof self - 1) > 0 && atol(self) == (long)getpid();
}

static uint64_t cpu_of(pid_t pid)
{
    struct timespec t;
    clockid_t clock = (clockid_t)(~(unsigned)pid << 3 | 2); /* clock_getcpuclockid's, without its permission check */
    return clock_gettime(clock, &t) ? 0 : (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t memory_of(pid_t pid)
{
    char path[64], line[160];
    unsigned long long kb = 0;
    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)pid);
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "Pss: %llu kB", &kb) == 1)
            break;
    if (file)
        fclose(file);
    return kb * 1024;
}

static uint64_t cgroup_cpu(const struct kn_lab_cgroups *cgroups, const char *name)
{
    char folder[PATH_MAX + LAB_NAME_MAX + 2];
    const char *parent = cgroups->folder[cgroups->version == 2 ? 0 : 1];
    if (!*parent)
        return KN_ABSENT;
    snprintf(folder, sizeof folder, "%s/%s", parent, name);
    if (cgroups->version == 1)
        return kn_file_number("", folder, "cpuacct.usage");
    uint64_t us = kn_file_member("", folder, "cpu.stat", "usage_usec");
    return us == KN_ABSENT ? us : us * 1000;
}

json_t *kn_lab_usage(const struct kn_lab_keeper *keeper, pid_t first, const char *name)
{
    struct family family = {.n = 0};
    json_t *json = json_object(), *pids = json_array();
    uint64_t cpu_ns = 0, memory = 0, of_cgroup = cgroup_cpu(&keeper->options.cgroups, name);
    if (first > 0 && own_proc() && add(&family, first))
        for (size_t i = 0; i < family.n; i++)
            add_below(&family, family.pids[i]);
    for (size_t i = 0; i < family.n; i++) {
        cpu_ns += cpu_of(family.pids[i]);
        memory += memory_of(family.pids[i]);
        json_array_append_new(pids, json_integer(family.pids[i]));
    }
    if (of_cgroup != KN_ABSENT)
        cpu_ns = of_cgroup;
    if (cpu_ns)
        json_object_set_new(json, "cpu_ns", kn_json_u64(cpu_ns));
    if (memory)
        json_object_set_new(json, "memory_bytes", kn_json_u64(memory));
    json_object_set_new(json, "host_pids", pids);
    free(family.pids);
    return json;
}
