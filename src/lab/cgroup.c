#include "lab/keeper.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "meter/files.h"

/* A cgroup for each pod and each node's agent, if the lab may make them, to measure and limit their CPU. The lab's
 * folder, knbl-lab-NAMESPACE-PID, is in knbl's own cgroup; with cgroup v2 it is at the top, because a cgroup that holds
 * processes cannot have children with limits. The kernel does not remove cgroups: the warden does, and each lab removes
 * those of labs whose warden was killed. */

#define PREFIX "knbl-lab-"
#define PERIOD_US 100000

static const char *const controllers[LAB_CGROUPS] = {"cpu", "cpuacct", "memory"};

/* False if the path is too long. */
static bool path_of(char *out, const char *folder, const char *name, const char *file)
{
    int n = snprintf(out, PATH_MAX, "%s%s%s%s%s", folder, *name ? "/" : "", name, *file ? "/" : "", file);
    return n > 0 && n < PATH_MAX;
}

static bool write_at(const char *folder, const char *name, const char *file, const char *value)
{
    char path[PATH_MAX];
    if (!path_of(path, folder, name, file))
        return false;
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && write(fd, value, strlen(value)) == (ssize_t)strlen(value);
    if (fd >= 0)
        close(fd);
    return ok;
}

/* Whether the groups below a folder have a controller. */
static bool passes_on(const char *folder, const char *controller)
{
    char text[512], path[PATH_MAX], *save;
    if (!path_of(path, folder, "", "cgroup.subtree_control") || kn_file_read("", path, text, sizeof text) < 0)
        return false;
    for (char *p = strtok_r(text, " \n", &save); p; p = strtok_r(NULL, " \n", &save))
        if (strcmp(p, controller) == 0)
            return true;
    return false;
}

/* A PID is unique only within its PID namespace, so a folder's name has both. */
static unsigned long pid_namespace(void)
{
    struct stat st;
    return stat("/proc/self/ns/pid", &st) ? 0 : (unsigned long)st.st_ino;
}

static bool dead(const char *name)
{
    unsigned long space;
    int pid, end = 0;
    if (sscanf(name, PREFIX "%lu-%d%n", &space, &pid, &end) != 2 || name[end] || space != pid_namespace())
        return false;
    return pid > 0 && kill(pid, 0) && errno == ESRCH;
}

/* Removes it with all below it, where labs within a lab have theirs. */
static void remove_folder(const char *folder)
{
    char path[PATH_MAX];
    DIR *dir = opendir(folder);
    for (struct dirent *e; dir && (e = readdir(dir));)
        if (e->d_type == DT_DIR && e->d_name[0] != '.' && path_of(path, folder, e->d_name, ""))
            remove_folder(path);
    if (dir)
        closedir(dir);
    rmdir(folder);
}

/* Removes the folders of wardens that were killed. */
static void sweep(const char *parent)
{
    char path[PATH_MAX];
    DIR *dir = opendir(parent);
    for (struct dirent *e; dir && (e = readdir(dir));)
        if (dead(e->d_name) && path_of(path, parent, e->d_name, ""))
            remove_folder(path);
    if (dir)
        closedir(dir);
}

static bool make_at(struct kn_lab_cgroups *cgroups, int i, const char *parent)
{
    char name[64];
    snprintf(name, sizeof name, PREFIX "%lu-%d", pid_namespace(), (int)getpid());
    sweep(parent);
    if (!path_of(cgroups->folder[i], parent, name, "") || (mkdir(cgroups->folder[i], 0755) && errno != EEXIST)) {
        cgroups->folder[i][0] = '\0';
        return false;
    }
    return true;
}

/* cgroup v2: one folder for all controllers. */
static void make_unified(struct kn_lab_cgroups *cgroups, const struct kn_cgroup *own)
{
    cgroups->version = 2;
    const char *parent = passes_on(own->folder, "cpu") ? own->folder : own->mount;
    if (!make_at(cgroups, 0, parent) && !make_at(cgroups, 0, own->folder))
        return;
    write_at(cgroups->folder[0], "", "cgroup.subtree_control", "+cpu");
    write_at(cgroups->folder[0], "", "cgroup.subtree_control", "+memory");
}

void kn_cgroups_make(struct kn_lab_cgroups *cgroups)
{
    struct kn_cgroup own;
    *cgroups = (struct kn_lab_cgroups){.version = 0};
    for (int i = 0; i < LAB_CGROUPS; i++) {
        kn_cgroup_find("", controllers[i], &own);
        if (own.version == 2 && cgroups->version == 0)
            make_unified(cgroups, &own);
        if (own.version != 1)
            continue;
        cgroups->version = 1;
        make_at(cgroups, i, own.folder);
    }
}

void kn_cgroups_remove(const struct kn_lab_cgroups *cgroups)
{
    for (int i = 0; i < LAB_CGROUPS; i++)
        if (cgroups->folder[i][0])
            remove_folder(cgroups->folder[i]);
}

/* ---- the cgroup of one pod ---- */

static bool limit_cpu(const struct kn_lab_cgroups *cgroups, const char *name, uint64_t milli)
{
    char value[64], period[16];
    uint64_t quota = milli * PERIOD_US / 1000;
    snprintf(period, sizeof period, "%d", PERIOD_US);
    snprintf(value, sizeof value, "%llu%s%s", (unsigned long long)quota, cgroups->version == 2 ? " " : "",
             cgroups->version == 2 ? period : "");
    if (cgroups->version == 2)
        return write_at(cgroups->folder[0], name, "cpu.max", value);
    return cgroups->folder[0][0] && write_at(cgroups->folder[0], name, "cpu.cfs_period_us", period) &&
           write_at(cgroups->folder[0], name, "cpu.cfs_quota_us", value);
}

static bool limit_memory(const struct kn_lab_cgroups *cgroups, const char *name, uint64_t bytes)
{
    char value[32];
    const char *folder = cgroups->folder[cgroups->version == 2 ? 0 : 2];
    snprintf(value, sizeof value, "%llu", (unsigned long long)bytes);
    return *folder && write_at(folder, name, cgroups->version == 2 ? "memory.max" : "memory.limit_in_bytes", value);
}

/* With cgroup v1, the scheduler's folder has no figures: a pod without a limit does without. Linux before
 * 6.18.45 may starve other processes for seconds while those of nested folders wake each other. */
static bool needs_scheduling(const struct kn_lab_cgroups *cgroups, uint64_t cpu_milli)
{
    return cgroups->version == 2 || cpu_milli;
}

int kn_cgroup_pod(const struct kn_lab_cgroups *cgroups, const char *name, uint64_t cpu_milli, uint64_t memory,
                  struct kn_error *err)
{
    char path[PATH_MAX];
    for (int i = needs_scheduling(cgroups, cpu_milli) ? 0 : 1; i < LAB_CGROUPS; i++)
        if (cgroups->folder[i][0] && path_of(path, cgroups->folder[i], name, ""))
            mkdir(path, 0755);
    if (cpu_milli && !limit_cpu(cgroups, name, cpu_milli))
        return kn_fail(err, KN_E_UNSUPPORTED, "cpu of a pod requires root and writable cgroups");
    if (memory && !limit_memory(cgroups, name, memory))
        return kn_fail(err, KN_E_UNSUPPORTED, "memory of a pod requires root and writable cgroups");
    return 0;
}

const char *kn_cgroup_limits(const struct kn_lab_cgroups *cgroups)
{
    bool v2 = cgroups->version == 2;
    bool cpu = cgroups->folder[0][0] && (!v2 || passes_on(cgroups->folder[0], "cpu"));
    bool memory = v2 ? cgroups->folder[0][0] && passes_on(cgroups->folder[0], "memory") : cgroups->folder[2][0] != '\0';
    return cpu && memory ? "CPU and memory" : cpu ? "CPU" : memory ? "memory" : "none";
}

bool kn_cgroup_out_of_memory(const struct kn_lab_cgroups *cgroups, const char *name)
{
    char folder[PATH_MAX];
    bool v2 = cgroups->version == 2;
    const char *parent = cgroups->folder[v2 ? 0 : 2];
    if (!*parent || !path_of(folder, parent, name, ""))
        return false;
    uint64_t n = kn_file_member("", folder, v2 ? "memory.events" : "memory.oom_control", "oom_kill");
    return n != KN_ABSENT && n > 0;
}

void kn_cgroup_join(const struct kn_lab_cgroups *cgroups, const char *name)
{
    for (int i = 0; i < LAB_CGROUPS; i++)
        if (cgroups->folder[i][0])
            write_at(cgroups->folder[i], name, "cgroup.procs", "0");
}

void kn_cgroup_pod_gone(const struct kn_lab_cgroups *cgroups, const char *name)
{
    char path[PATH_MAX];
    for (int i = 0; i < LAB_CGROUPS; i++)
        if (cgroups->folder[i][0] && path_of(path, cgroups->folder[i], name, ""))
            rmdir(path);
}

json_t *kn_cgroup_list(const struct kn_lab_cgroups *cgroups, const char *name)
{
    char path[PATH_MAX];
    json_t *list = json_array();
    for (int i = 0; i < LAB_CGROUPS; i++)
        if (cgroups->folder[i][0] && path_of(path, cgroups->folder[i], name, "cgroup.procs") && !access(path, F_OK))
            json_array_append_new(list, json_string(path));
    return list;
}
