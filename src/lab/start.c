#include "lab/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The warden is the process between the opener and the keeper. It makes the namespaces, so that the opener's own never
 * change, and watches the opener through a pidfd. When the opener ends in any way, the warden kills the keeper, whose
 * end as PID 1 ends the whole lab, and removes what the kernel does not. If the warden itself is killed, PDEATHSIG
 * kills the keeper. */

static int write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t n = write(fd, text, strlen(text));
    int saved = errno;
    close(fd);
    errno = saved;
    return n == (ssize_t)strlen(text) ? 0 : -1;
}

static long read_sysctl(const char *path)
{
    FILE *file = fopen(path, "re");
    long value = -1;
    if (!file)
        return -1;
    if (fscanf(file, "%ld", &value) != 1)
        value = -1;
    fclose(file);
    return value;
}

/* Names the sysctl that forbids user namespaces, and the value that allows them. */
static int forbidden(const char *what, int sys_errno, struct kn_error *err)
{
    static const struct {
        const char *path, *name;
        long bad;
        const char *good;
    } switches[] = {
        {"/proc/sys/user/max_user_namespaces", "user.max_user_namespaces", 0, "15000"},
        {"/proc/sys/kernel/unprivileged_userns_clone", "kernel.unprivileged_userns_clone", 0, "1"},
        {"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "kernel.apparmor_restrict_unprivileged_userns", 1,
         "0"},
    };
    for (size_t i = 0; i < sizeof switches / sizeof *switches; i++)
        if (read_sysctl(switches[i].path) == switches[i].bad)
            return kn_fail_with(
                err, KN_E_PERMISSION, sys_errno,
                "users may not make namespaces on this machine (%s = %ld): run sudo sysctl %s=%s, or run knbl with "
                "sudo",
                switches[i].name, switches[i].bad, switches[i].name, switches[i].good);
    return kn_fail_with(
        err, KN_E_PERMISSION, sys_errno,
        "cannot %s (%s): user namespaces are forbidden, perhaps by a container's seccomp filter; run knbl with "
        "sudo, or the container with --privileged",
        what, strerror(sys_errno));
}

static int map_user(uid_t uid, gid_t gid, struct kn_error *err)
{
    char map[64];
    if (write_file("/proc/self/setgroups", "deny") && errno != ENOENT)
        return forbidden("drop its groups", errno, err);
    snprintf(map, sizeof map, "0 %u 1", (unsigned)uid);
    if (write_file("/proc/self/uid_map", map))
        return forbidden("map its user", errno, err);
    snprintf(map, sizeof map, "0 %u 1", (unsigned)gid);
    if (write_file("/proc/self/gid_map", map))
        return forbidden("map its group", errno, err);
    return 0;
}

/* Root uses no user namespace if possible, so that perf events and cgroups work in the lab too. */
static int enter_namespaces(struct kn_error *err)
{
    const int spaces = CLONE_NEWNET | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC;
    uid_t uid = geteuid();
    gid_t gid = getegid();
    if (unshare(spaces) == 0)
        return 0;
    if (errno != EPERM)
        return kn_fail_errno(err, "cannot make the lab's namespaces");
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); /* else /proc/self belongs to root, after a setuid */
    if (unshare(CLONE_NEWUSER)) {
        if (errno == EUSERS)
            return kn_fail_errno(err, "cannot make the lab's namespaces: they are nested too deeply");
        if (errno == EINVAL)
            return kn_fail_errno(err, "this kernel does not support user namespaces: run knbl with sudo");
        return forbidden("make a user namespace", errno, err);
    }
    if (map_user(uid, gid, err))
        return -1;
    if (unshare(spaces))
        return forbidden("make its namespaces", errno, err);
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); /* the opener looks into /proc/PID/root */
    return 0;
}

static void close_others(int a, int b)
{
    int low = a < b ? a : b, high = a < b ? b : a;
    if (low > 3)
        syscall(SYS_close_range, 3, low - 1, 0);
    if (high > low + 1)
        syscall(SYS_close_range, low + 1, high - 1, 0);
    syscall(SYS_close_range, high + 1, ~0u, 0);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null >= 0) { /* standard error stays, for the sanitizers */
        dup2(null, 0);
        dup2(null, 1);
        close(null);
    }
}

static void reset_signals(void)
{
    sigset_t none;
    sigemptyset(&none);
    for (int s = 1; s < 32; s++)
        if (s != SIGKILL && s != SIGSTOP)
            signal(s, SIG_DFL);
    signal(SIGPIPE, SIG_IGN);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static int tell(int fd, json_t *message)
{
    struct kn_error err;
    int bad = !message || kn_frame_send(fd, message, &err);
    json_decref(message);
    return bad;
}

static int refuse(int fd, const char *what)
{
    struct kn_error err;
    kn_fail_errno(&err, "%s", what);
    return tell(fd, kn_lab_error_json(&err));
}

/* Waits until the keeper or the opener has ended, and kills the keeper. */
static void stand_watch(int opener, int keeper, pid_t pid)
{
    struct pollfd fds[2] = {{.fd = opener, .events = POLLIN}, {.fd = keeper, .events = POLLIN}};
    while (poll(fds, 2, -1) < 0 && errno == EINTR) {
    }
    kn_end_process(&pid);
}

/* Starts the keeper and waits for its end. Only the warden holds the writing end of the pipe `life`. */
static int keep(const struct kn_lab_options *options, int request_fd, int opener_fd, const int life[2])
{
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
        close(life[1]); /* the pipe tells if the warden ended before prctl */
        close(opener_fd);
        _exit(kn_lab_keeper_main(options, request_fd, life[0]));
    }
    int keeper_fd = pid < 0 ? -1 : (int)syscall(SYS_pidfd_open, pid, 0);
    if (keeper_fd < 0)
        return refuse(request_fd, "cannot fork");
    char ready[32];
    int n = snprintf(ready, sizeof ready, "%d", (int)pid);
    if (write(life[1], ready, (size_t)n + 1) != n + 1)
        kill(pid, SIGKILL);
    close(request_fd);
    stand_watch(opener_fd, keeper_fd, pid);
    return 0;
}

static int warden(struct kn_lab_options *options, int request_fd, pid_t opener)
{
    struct kn_error err;
    int life[2], opener_fd = (int)syscall(SYS_pidfd_open, opener, 0);
    prctl(PR_SET_NAME, "knbl-warden", 0, 0, 0);
    if (opener_fd < 0)
        return refuse(request_fd, "cannot watch the knbl process (the lab requires Linux 5.9)");
    if (getppid() != opener)
        return 1;
    close_others(request_fd, opener_fd);
    reset_signals();
    setpgid(0, 0); /* Ctrl-C is for the opener */
    if (enter_namespaces(&err))
        return tell(request_fd, kn_lab_error_json(&err));
    if (pipe2(life, O_CLOEXEC))
        return refuse(request_fd, "cannot make a pipe");
    kn_cgroups_make(&options->cgroups);
    int code = keep(options, request_fd, opener_fd, life);
    kn_cgroups_remove(&options->cgroups);
    return code;
}

pid_t kn_warden_start(struct kn_lab_options *options, int request_fd, struct kn_error *err)
{
    pid_t opener = getpid(), pid = fork();
    if (pid == 0)
        _exit(warden(options, request_fd, opener));
    if (pid < 0)
        kn_fail_errno(err, "cannot fork");
    return pid;
}
