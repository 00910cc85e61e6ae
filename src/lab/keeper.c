#include "lab/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int mount_own(struct kn_error *err)
{
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
        return kn_fail_errno(err, "cannot make the lab's mounts private");
    /* In a container that masks parts of /proc the kernel refuses a new one. The old one is used then, whose PIDs are
     * those of another namespace. */
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    if (mount("knbl", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=64m"))
        return kn_fail_errno(err, "cannot mount /run in the lab");
    if (mkdir(LAB_RUN, 0700))
        return kn_fail_errno(err, "cannot make %s", LAB_RUN);
    kn_names_mount();
    sethostname("lab", 3);
    return 0;
}

/* A lab holds about two descriptors for each pod. */
static void raise_limits(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit))
        return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static int watch_children(struct kn_error *err)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? kn_fail_errno(err, "cannot make a signalfd") : fd;
}

static int set_up(struct kn_lab_keeper *keeper, struct kn_error *err)
{
    prctl(PR_SET_NAME, "knbl-keeper", 0, 0, 0);
    raise_limits();
    if (kn_cgroup_pod(&keeper->options.cgroups, LAB_KEEPER_CGROUP, 0, 0, err))
        return -1;
    kn_cgroup_join(&keeper->options.cgroups, LAB_KEEPER_CGROUP);
    if (mount_own(err))
        return -1;
    keeper->netns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    keeper->pidns = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
    if (keeper->netns < 0 || keeper->pidns < 0)
        return kn_fail_errno(err, "cannot open the lab's namespaces");
    keeper->signal_fd = watch_children(err);
    return keeper->signal_fd < 0 ? -1 : kn_lab_fabric_make(keeper, err);
}

static void note_end(struct kn_lab_keeper *keeper, pid_t pid, int status)
{
    int exit_status = kn_exit_status(status);
    for (struct kn_lab_node *node = keeper->nodes; node; node = node->next)
        if (node->pid == pid) {
            node->pid = 0;
            node->exit_status = exit_status;
        }
    for (struct kn_lab_pod *pod = keeper->pods; pod; pod = pod->next)
        if (pod->pid == pid) {
            pod->pid = 0;
            pod->exit_status = exit_status;
        }
}

static void reap(struct kn_lab_keeper *keeper)
{
    struct signalfd_siginfo info;
    pid_t pid;
    int status;
    while (read(keeper->signal_fd, &info, sizeof info) > 0) {
    }
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        note_end(keeper, pid, status);
}

static bool serve(struct kn_lab_keeper *keeper)
{
    struct kn_error err = {.code = KN_OK};
    json_t *request = kn_frame_receive(keeper->request_fd, &err);
    if (!request)
        return false;
    reap(keeper);
    json_t *answer = kn_lab_handle(keeper, request, &err);
    if (!answer)
        answer = kn_lab_error_json(&err);
    bool sent = answer && kn_frame_send(keeper->request_fd, answer, &err) == 0;
    json_decref(answer);
    json_decref(request);
    return sent;
}

int kn_lab_keeper_main(const struct kn_lab_options *options, int request_fd, int warden_fd)
{
    struct kn_lab_keeper keeper = {.options = *options, .request_fd = request_fd};
    struct kn_error err = {.code = KN_OK};
    char pid[32] = "";
    if (read(warden_fd, pid, sizeof pid - 1) <= 0)
        return 1;
    keeper.outer_pid = (pid_t)atol(pid);
    json_t *ready = set_up(&keeper, &err) ? kn_lab_error_json(&err)
                                          : json_pack("{s:I}", "keeper", (json_int_t)keeper.outer_pid);
    bool on = ready && kn_frame_send(request_fd, ready, &err) == 0;
    json_decref(ready);
    while (on) {
        struct pollfd fds[3] = {{.fd = request_fd, .events = POLLIN},
                                {.fd = warden_fd, .events = POLLIN},
                                {.fd = keeper.signal_fd, .events = POLLIN}};
        if (poll(fds, 3, -1) < 0) {
            on = errno == EINTR;
            continue;
        }
        if (fds[2].revents)
            reap(&keeper);
        if (fds[1].revents)
            on = false;
        else if (fds[0].revents)
            on = serve(&keeper);
    }
    return 0; /* the kernel ends all other processes of this PID namespace, and so removes the networks */
}
