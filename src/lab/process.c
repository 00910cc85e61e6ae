#include "lab/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"

void kn_end_process(pid_t *pid)
{
    if (*pid <= 0)
        return;
    kill(*pid, SIGKILL);
    while (waitpid(*pid, NULL, 0) < 0 && errno == EINTR) {
    }
    *pid = 0;
}

int kn_exit_status(int wait_status)
{
    return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status);
}

int kn_reap_until(pid_t pid)
{
    pid_t gone;
    int status;
    while ((gone = waitpid(-1, &status, 0)) != pid)
        if (gone < 0 && errno != EINTR)
            return 1;
    return kn_exit_status(status);
}

int kn_read_until(int fd, const char *word, uint64_t timeout_ns, char *text, size_t size)
{
    uint64_t now = kn_now_ns(), deadline = now + timeout_ns;
    size_t n = 0;
    for (*text = '\0'; now < deadline; now = kn_now_ns()) {
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        if (poll(&ready, 1, (int)((deadline - now) / KN_NS_PER_MS) + 1) <= 0)
            continue;
        if (n > size / 2) {
            memmove(text, text + n - size / 4, size / 4 + 1);
            n = size / 4;
        }
        ssize_t got = read(fd, text + n, size - 1 - n);
        if (got <= 0)
            return 0;
        text[n += (size_t)got] = '\0';
        if (word && strstr(text, word))
            return 1;
    }
    return -1;
}

/* unshare(CLONE_NEWPID) applies to all later children of the keeper, so setns() restores its own namespace for them. */
pid_t kn_fork_apart(const struct kn_lab_keeper *keeper, struct kn_error *err)
{
    if (unshare(CLONE_NEWPID))
        return kn_fail_errno(err, "cannot make a PID namespace");
    malloc_trim(0); /* what libnl and the requests have freed: each process would keep a copy of it */
    pid_t pid = fork();
    if (pid == 0)
        return 0;
    if (pid < 0)
        kn_fail_errno(err, "cannot fork");
    if (setns(keeper->pidns, CLONE_NEWPID) && pid > 0) {
        kn_fail_errno(err, "cannot leave a PID namespace");
        kn_end_process(&pid);
        return -1;
    }
    return pid;
}

int kn_lab_empty_input(void)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC))
        return -1;
    close(fds[1]);
    return fds[0];
}

bool kn_lab_installed(const char *program)
{
    char path[PATH_MAX], *save, *all = strdup(getenv("PATH") ? getenv("PATH") : "/usr/bin:/bin");
    bool found = false;
    for (char *folder = all ? strtok_r(all, ":", &save) : NULL; folder && !found; folder = strtok_r(NULL, ":", &save))
        found = snprintf(path, sizeof path, "%s/%s", folder, program) < (int)sizeof path && access(path, X_OK) == 0;
    free(all);
    return found;
}
