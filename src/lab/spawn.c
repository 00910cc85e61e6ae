#include "lab/keeper.h"

#include "agent/agent.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

char *kn_control_path(const struct kn_lab_keeper *keeper, const char *name, char *buf, size_t size)
{
    snprintf(buf, size, "/proc/%d/root" LAB_RUN "/%s.sock", (int)keeper->outer_pid, name);
    return buf;
}

/* ---- in the child ---- */

/* Closes the keeper's descriptors: a namespace that a pod holds open would outlive its owner. A sandbox keeps its
 * node's namespace until it ends. */
static int keep_only(int fd, int outside)
{
    int high = outside < 0 ? -1 : fcntl(outside, F_DUPFD_CLOEXEC, 64), last = LAB_READY_FD;
    if (fd != LAB_READY_FD && dup2(fd, LAB_READY_FD) < 0)
        return -1;
    fcntl(LAB_READY_FD, F_SETFD, FD_CLOEXEC);
    if (outside >= 0 && (last = dup3(high, LAB_OUTSIDE_FD, O_CLOEXEC)) < 0)
        return -1;
    return (int)syscall(SYS_close_range, last + 1, ~0u, 0);
}

/* In the new process: from the keeper's namespaces and cgroup into the pod's. */
static int move_in(const struct kn_lab_keeper *keeper, const struct kn_spawn *spawn, int report_fd,
                   struct kn_error *err)
{
    sigset_t none;
    char title[16];
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    snprintf(title, sizeof title, "knbl:%.10s", spawn->name);
    prctl(PR_SET_NAME, title, 0, 0, 0);
    kn_cgroup_join(&keeper->options.cgroups, spawn->name);
    if (kn_netns_enter(spawn->netns, err))
        return -1;
    if (keep_only(report_fd, spawn->sandbox ? spawn->pod->node->netns : -1))
        return kn_fail_errno(err, "a pod cannot close the keeper's descriptors");
    if (unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC))
        return kn_fail_errno(err, "a pod cannot make its namespaces");
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL); /* see keeper.c */
    if (sethostname(spawn->name, strlen(spawn->name)))
        return kn_fail_errno(err, "a pod cannot set its host name");
    return spawn->hardened ? kn_seccomp_harden(err) : 0;
}

static int run_agent(const struct kn_lab_keeper *keeper, const struct kn_spawn *spawn)
{
    struct kn_agent_config config;
    struct kn_error err;
    char path[128];
    kn_agent_defaults(&config);
    config.listen = kn_addr_any(keeper->options.v6, spawn->port);
    snprintf(path, sizeof path, LAB_RUN "/%s.sock", spawn->name);
    unlink(path);
    config.unix_path = path;
    config.token = keeper->options.token;
    snprintf(config.me.name, sizeof config.me.name, "%s", spawn->name);
    snprintf(config.me.node, sizeof config.me.node, "%s", spawn->node);
    signal(SIGCHLD, SIG_IGN); /* as PID 1 it inherits orphans, which the kernel then reaps */
    struct kn_agent *agent = kn_agent_new(&config, &err);
    if (!agent) {
        kn_ready_report(&err);
        return 1;
    }
    kn_ready_report(NULL);
    kn_agent_wait(agent);
    kn_agent_free(agent);
    return 0;
}

static void exec_command(const struct kn_spawn *spawn)
{
    size_t n = json_array_size(spawn->command);
    struct kn_error err;
    char log[128], **argv = calloc(n + 1, sizeof *argv);
    snprintf(log, sizeof log, LAB_RUN "/%s.log", spawn->name);
    int fd = open(log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd >= 0) {
        dup2(fd, 1);
        dup2(fd, 2);
    }
    for (size_t i = 0; argv && i < n; i++)
        argv[i] = (char *)(uintptr_t)json_string_value(json_array_get(spawn->command, i));
    signal(SIGPIPE, SIG_DFL);
    if (argv)
        execvp(argv[0], argv);
    kn_fail_errno(&err, "pod '%s' cannot run %s", spawn->name, argv ? argv[0] : "its command");
    kn_ready_report(&err);
    _exit(127);
}

/* The pod's PID 1 reaps every process, and ends when its command does. */
static int run_command(const struct kn_spawn *spawn)
{
    pid_t pid = fork();
    if (pid == 0)
        exec_command(spawn);
    close(LAB_READY_FD); /* exec closes the command's copy, which tells the keeper that it runs */
    return kn_reap_until(pid);
}

static int child(const struct kn_lab_keeper *keeper, const struct kn_spawn *spawn, int report_fd)
{
    struct kn_error err;
    int bad = move_in(keeper, spawn, report_fd, &err);
    if (!bad && spawn->sandbox)
        return kn_sandbox_run(keeper, spawn);
    if (!bad)
        return spawn->command ? run_command(spawn) : run_agent(keeper, spawn);
    kn_ready_report(&err);
    return 1;
}

/* ---- in the keeper ---- */

pid_t kn_spawn(struct kn_lab_keeper *keeper, const struct kn_spawn *spawn, struct kn_error *err)
{
    int fds[2];
    if (kn_cgroup_pod(&keeper->options.cgroups, spawn->name, spawn->cpu_milli, spawn->memory, err))
        return -1;
    if (pipe2(fds, O_CLOEXEC))
        return kn_fail_errno(err, "cannot make a pipe");
    pid_t pid = kn_fork_apart(keeper, err);
    if (pid == 0)
        _exit(child(keeper, spawn, fds[1]));
    close(fds[1]);
    bool ready = pid > 0 && kn_ready_await(fds[0], spawn, err) == 0;
    if (ready && spawn->command && spawn->port && !spawn->sandbox)
        ready = kn_ready_await_port(keeper, spawn, pid, err) == 0;
    if (pid > 0 && !ready && kn_cgroup_out_of_memory(&keeper->options.cgroups, spawn->name))
        kn_fail(err, KN_E_MEMORY, "'%s' exceeded its memory limit of %llu MiB before it was ready", spawn->name,
                (unsigned long long)spawn->memory >> 20);
    if (pid > 0 && !ready) {
        kn_end_process(&pid);
        pid = -1;
    }
    close(fds[0]);
    if (pid > 0)
        kn_place_write(&keeper->options.cgroups, pid, spawn->name);
    return pid;
}

struct kn_spawn kn_spawn_of(const struct kn_lab_pod *pod, const json_t *request)
{
    return (struct kn_spawn){.name = pod->name,
                             .node = pod->node->name,
                             .netns = pod->runtime->node_network ? pod->node->netns : pod->netns,
                             .port = pod->port,
                             .command = json_object_get(request, "command"),
                             .cpu_milli = pod->cpu_milli,
                             .memory = pod->memory,
                             .hardened = pod->hardened,
                             .pod = pod,
                             .request = request};
}

int kn_spawn_plain(struct kn_lab_keeper *keeper, struct kn_lab_pod *pod, const json_t *request, struct kn_error *err)
{
    struct kn_spawn spawn = kn_spawn_of(pod, request);
    pod->pid = kn_spawn(keeper, &spawn, err);
    return pod->pid < 0 ? -1 : 0;
}
