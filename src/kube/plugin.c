#include "kube/plugin.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <fcntl.h>
#include <unistd.h>

#include "core/clock.h"

#define OUTPUT_MAX (1u << 20)
#define LOOK_MS 20 /* how often a plugin is looked at that has not closed its output */

extern char **environ;

static bool names_same(const char *a, const char *b)
{
    size_t n = strcspn(a, "=");
    return !strncmp(a, b, n) && b[n] == '=';
}

/* This process's environment with `extra` over it; the strings themselves are borrowed. */
static char **environment(const char *const *extra)
{
    size_t n = 0, extras = 0, out = 0;
    while (environ[n])
        n++;
    while (extra[extras])
        extras++;
    char **all = calloc(n + extras + 1, sizeof *all);
    for (size_t i = 0; all && i < n; i++) {
        bool replaced = false;
        for (size_t j = 0; j < extras; j++)
            replaced |= names_same(extra[j], environ[i]);
        if (!replaced)
            all[out++] = environ[i];
    }
    for (size_t j = 0; all && j < extras; j++)
        all[out++] = (char *)extra[j];
    return all;
}

/* A process group of its own, so that what the plugin starts can be ended with it; no standard input, for a background
 * group that reads from the terminal would be stopped. */
static int set_up(posix_spawnattr_t *attributes, posix_spawn_file_actions_t *actions, int output)
{
    sigset_t none, defaults;
    sigemptyset(&none);
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    int failed = posix_spawn_file_actions_addopen(actions, 0, "/dev/null", O_RDONLY, 0);
    failed = failed ? failed : posix_spawn_file_actions_adddup2(actions, output, 1);
    failed = failed ? failed : posix_spawnattr_setsigmask(attributes, &none);
    failed = failed ? failed : posix_spawnattr_setsigdefault(attributes, &defaults);
    failed = failed ? failed : posix_spawnattr_setpgroup(attributes, 0);
    const short flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP;
    return failed ? failed : posix_spawnattr_setflags(attributes, flags);
}

static int spawn(const char *const *argv, const char *const *extra, pid_t *pid, int *out, struct kn_error *err)
{
    int pipes[2];
    if (pipe2(pipes, O_CLOEXEC))
        return kn_fail_errno(err, "pipe");
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    char **env = environment(extra);
    int failed = env ? set_up(&attributes, &actions, pipes[1]) : ENOMEM;
    if (!failed)
        failed = posix_spawnp(pid, argv[0], &actions, &attributes, (char *const *)argv, env);
    free(env);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    close(pipes[1]);
    if (failed) {
        close(pipes[0]);
        errno = failed;
        kn_fail_errno(err, "credential plugin %s", argv[0]);
        err->code = KN_E_ARGUMENT;
        return -1;
    }
    *out = pipes[0];
    return 0;
}

/* The plugin has ended. It stays a zombie, so that its process group keeps its number until it is ended. */
static bool has_ended(pid_t pid)
{
    siginfo_t info = {0};
    return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == pid;
}

enum drained { ENDED, LATE, INTERRUPTED, TOO_LONG };

/* What the plugin prints, until the end of its output, or until it has ended and what it wrote is read: a process that
 * it left behind may hold the pipe for ever. */
static enum drained drain(int fd, pid_t pid, int wake_fd, uint64_t deadline_ns, char *text, size_t *size)
{
    struct pollfd polls[] = {{.fd = fd, .events = POLLIN}, {.fd = wake_fd, .events = POLLIN}};
    for (bool ended = false;;) {
        if (kn_now_ns() >= deadline_ns)
            return LATE;
        int n = poll(polls, 2, ended ? 0 : LOOK_MS);
        if (n > 0 && polls[1].revents)
            return INTERRUPTED;
        if (n > 0) {
            ssize_t got = read(fd, text + *size, OUTPUT_MAX + 1 - *size);
            if (got <= 0)
                return ENDED;
            *size += (size_t)got;
            if (*size > OUTPUT_MAX)
                return TOO_LONG;
        } else if (ended) {
            return ENDED;
        } else if (n == 0) {
            ended = has_ended(pid);
        }
    }
}

/* After the end of the output a plugin may go on for a while, but not for ever. */
static enum drained await_end(pid_t pid, int wake_fd, uint64_t deadline_ns)
{
    struct pollfd wake = {.fd = wake_fd, .events = POLLIN};
    while (!has_ended(pid)) {
        if (kn_now_ns() >= deadline_ns)
            return LATE;
        if (poll(&wake, 1, LOOK_MS) > 0)
            return INTERRUPTED;
    }
    return ENDED;
}

static int judge(const char *name, enum drained how, int status, uint64_t timeout_ns, struct kn_error *err)
{
    if (how == INTERRUPTED)
        return kn_fail(err, KN_E_INTERRUPTED, "interrupted");
    if (how == LATE)
        return kn_fail(err, KN_E_TIMEOUT, "credential plugin %s: no answer in %g s", name, (double)timeout_ns / 1e9);
    if (how == TOO_LONG)
        return kn_fail(err, KN_E_AUTH, "credential plugin %s: it printed more than %u bytes", name, OUTPUT_MAX);
    if (WIFSIGNALED(status))
        return kn_fail(err, KN_E_AUTH, "credential plugin %s: ended by signal %d", name, WTERMSIG(status));
    if (WEXITSTATUS(status))
        return kn_fail(err, KN_E_AUTH, "credential plugin %s: ended with exit code %d", name, WEXITSTATUS(status));
    return 0;
}

char *kn_plugin_run(const char *const *argv, const char *const *extra, uint64_t timeout_ns, int wake_fd,
                    struct kn_error *err)
{
    uint64_t deadline_ns = kn_now_ns() + timeout_ns;
    pid_t pid;
    int fd, status = 0;
    size_t size = 0;
    char *text = malloc(OUTPUT_MAX + 2);
    if (!text)
        return kn_null(kn_fail(err, KN_E_MEMORY, "credential plugin %s: out of memory", argv[0]));
    if (spawn(argv, extra, &pid, &fd, err)) {
        free(text);
        return NULL;
    }
    enum drained how = drain(fd, pid, wake_fd, deadline_ns, text, &size);
    close(fd);
    text[size] = 0;
    if (how == ENDED)
        how = await_end(pid, wake_fd, deadline_ns);
    kill(-pid, SIGKILL); /* what it left behind too */
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (judge(argv[0], how, status, timeout_ns, err) == 0)
        return text;
    free(text);
    return NULL;
}
