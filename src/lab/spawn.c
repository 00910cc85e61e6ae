#include "lab/keeper.h"

#include "agent/agent.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { REPORT_FD = 3 };

/* What a new process tells the keeper, once: how it went. */
struct report { enum kn_code code; int sys_errno; uint16_t port; char message[512]; };

char *kn_control_path(const struct kn_keeper *keeper, const char *name, char *buf, size_t size)
{
    snprintf(buf, size, "/proc/%d/root" LAB_RUN "/%s.sock", (int)keeper->outer_pid, name);
    return buf;
}

void kn_end_process(pid_t *pid)
{
    if (*pid <= 0) return;
    kill(*pid, SIGKILL);
    while (waitpid(*pid, NULL, 0) < 0 && errno == EINTR) { }
    *pid = 0;
}

/* ---- in the child ---- */

static void report(const struct report *r)
{
    ssize_t n = write(REPORT_FD, r, sizeof *r);
    (void)n;        /* should the keeper be gone, so are we */
    close(REPORT_FD);
}

static void report_error(const struct kn_error *err)
{
    struct report r = { .code = err->code, .sys_errno = err->sys_errno };
    snprintf(r.message, sizeof r.message, "%s", err->message);
    report(&r);
}

void kn_spawn_report(const struct kn_error *err)
{
    if (err) report_error(err);
    else report(&(struct report){ .code = KN_OK });
}

/* Nothing of the keeper's stays open: a namespace held by a pod would outlive its own. A pod in a sandbox has its
 * node's until it ends. */
static int keep_only(int fd, int outside)
{
    int high = outside < 0 ? -1 : fcntl(outside, F_DUPFD_CLOEXEC, 64), last = REPORT_FD;
    if (fd != REPORT_FD && dup2(fd, REPORT_FD) < 0) return -1;
    fcntl(REPORT_FD, F_SETFD, FD_CLOEXEC);
    if (outside >= 0 && (last = dup3(high, LAB_OUTSIDE_FD, O_CLOEXEC)) < 0) return -1;
    return (int)syscall(SYS_close_range, last + 1, ~0u, 0);
}

static int move_in(const struct kn_keeper *keeper, const struct kn_spawn *spawn, int report_fd, struct kn_error *err)
{
    sigset_t none;
    char title[16];
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    snprintf(title, sizeof title, "knbl:%.10s", spawn->name);
    prctl(PR_SET_NAME, title, 0, 0, 0);
    kn_cgroup_join(&keeper->options.cgroups, spawn->name);
    if (kn_netns_enter(spawn->netns, err)) return -1;
    if (keep_only(report_fd, spawn->box ? spawn->pod->node->netns : -1))
        return kn_fail_errno(err, "a pod cannot close what is not its own");
    if (unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC))
        return kn_fail_errno(err, "a pod cannot have namespaces of its own");
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);     /* see keeper.c */
    if (sethostname(spawn->name, strlen(spawn->name))) return kn_fail_errno(err, "a pod cannot have a name of its own");
    return spawn->hardened ? kn_seccomp_harden(err) : 0;
}

void kn_lab_listen(bool v6, uint16_t port, struct kn_addr *addr)
{
    *addr = (struct kn_addr){ .len = 0 };
    if (v6) {
        addr->u.v6 = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = htons(port) };
        addr->len = sizeof addr->u.v6;
    } else {
        addr->u.v4 = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(port) };
        addr->len = sizeof addr->u.v4;
    }
}

static int run_agent(const struct kn_keeper *keeper, const struct kn_spawn *spawn)
{
    struct kn_agent_config config;
    struct kn_error err;
    char path[128];
    kn_agent_defaults(&config);
    kn_lab_listen(keeper->options.v6, spawn->port, &config.listen);
    snprintf(path, sizeof path, LAB_RUN "/%s.sock", spawn->name);
    unlink(path);
    config.unix_path = path;
    config.token = keeper->options.token;
    snprintf(config.me.name, sizeof config.me.name, "%s", spawn->name);
    snprintf(config.me.node, sizeof config.me.node, "%s", spawn->node);
    signal(SIGCHLD, SIG_IGN);   /* as PID 1 it inherits orphans: the kernel buries them */
    struct kn_agent *agent = kn_agent_new(&config, &err);
    if (!agent) {
        report_error(&err);
        return 1;
    }
    report(&(struct report){ .code = KN_OK, .port = kn_agent_port(agent) });
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
    if (argv) execvp(argv[0], argv);
    kn_fail_errno(&err, "pod '%s' cannot run %s", spawn->name, argv ? argv[0] : "its command");
    report_error(&err);
    _exit(127);
}

/* The pod's PID 1 buries all, and ends when its command does. */
static int run_command(const struct kn_spawn *spawn)
{
    pid_t pid = fork(), gone;
    int status;
    if (pid == 0) exec_command(spawn);
    close(REPORT_FD);           /* the command's own closes by exec: that is the sign that it runs */
    while ((gone = waitpid(-1, &status, 0)) != pid)
        if (gone < 0 && errno != EINTR) return 1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int child(const struct kn_keeper *keeper, const struct kn_spawn *spawn, int report_fd)
{
    struct kn_error err;
    int bad = move_in(keeper, spawn, report_fd, &err);
    if (!bad && spawn->box) return kn_box_run(keeper, spawn);
    if (!bad) return spawn->command ? run_command(spawn) : run_agent(keeper, spawn);
    report_error(&err);
    return 1;
}

/* ---- in the keeper ---- */

/* An end without a word: fine for a command (exec closed it), not for an agent. */
static int await(int fd, const struct kn_spawn *spawn, struct kn_error *err)
{
    struct pollfd ready = { .fd = fd, .events = POLLIN };
    struct report r = { .code = KN_OK };
    uint64_t patience_ns = LAB_READY_NS + (spawn->ready_ns ? spawn->ready_ns : spawn->box ? LAB_BOX_READY_NS : 0);
    int n = poll(&ready, 1, (int)(patience_ns / 1000000));
    if (n <= 0) return kn_fail(err, KN_E_TIMEOUT, "'%s' was not ready in time", spawn->name);
    ssize_t size = read(fd, &r, sizeof r);
    if (size == 0 && spawn->command && !spawn->box) return 0;
    if (size != (ssize_t)sizeof r) return kn_fail(err, KN_E_LOST, "'%s' ended before it was ready", spawn->name);
    return r.code == KN_OK ? 0 : kn_fail_with(err, r.code, r.sys_errno, "'%s': %s", spawn->name, r.message);
}

/* A PID namespace for the next child only: the keeper's own children-to-be go back to its own. */
pid_t kn_fork_apart(const struct kn_keeper *keeper, struct kn_error *err)
{
    if (unshare(CLONE_NEWPID)) return kn_fail_errno(err, "the lab cannot make a PID namespace");
    pid_t pid = fork();
    if (pid == 0) return 0;
    if (pid < 0) kn_fail_errno(err, "the lab cannot fork");
    if (setns(keeper->pidns, CLONE_NEWPID) && pid > 0) {
        kn_fail_errno(err, "the lab cannot leave a PID namespace");
        kn_end_process(&pid);
        return -1;
    }
    return pid;
}

pid_t kn_spawn(struct kn_keeper *keeper, const struct kn_spawn *spawn, struct kn_error *err)
{
    int fds[2];
    if (kn_cgroup_pod(&keeper->options.cgroups, spawn->name, spawn->cpu_milli, spawn->memory, err)) return -1;
    if (pipe2(fds, O_CLOEXEC)) return kn_fail_errno(err, "the lab cannot make a pipe");
    pid_t pid = kn_fork_apart(keeper, err);
    if (pid == 0) _exit(child(keeper, spawn, fds[1]));
    close(fds[1]);
    bool ready = pid > 0 && await(fds[0], spawn, err) == 0;
    if (ready && spawn->command && spawn->port && !spawn->box) ready = kn_lab_await_port(keeper, spawn, pid, err) == 0;
    if (pid > 0 && !ready && kn_cgroup_out_of_memory(&keeper->options.cgroups, spawn->name))
        kn_fail(err, KN_E_MEMORY, "'%s' ran out of the memory that it may have, %llu MiB, before it was ready",
                spawn->name, (unsigned long long)spawn->memory >> 20);
    if (pid > 0 && !ready) {
        kn_end_process(&pid);
        pid = -1;
    }
    close(fds[0]);
    if (pid > 0) kn_place_write(&keeper->options.cgroups, pid, spawn->name);
    return pid;
}
