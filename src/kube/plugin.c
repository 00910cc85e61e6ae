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

extern char **environ;

static bool names_same(const char *a, const char *b)
{
    size_t n = strcspn(a, "=");
    return !strncmp(a, b, n) && b[n] == '=';
}

/* This process's environment with `extra` over it; the texts themselves are borrowed. */
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

static int spawn(const char *const *argv, const char *const *extra, pid_t *pid, int *out, struct kn_error *err)
{
    int pipes[2];
    if (pipe2(pipes, O_CLOEXEC))
        return kn_fail_errno(err, "pipe");
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none, defaults;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, pipes[1], 1);
    posix_spawnattr_init(&attributes);
    sigemptyset(&none);
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &defaults);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    char **env = environment(extra);
    int failed = env ? posix_spawnp(pid, argv[0], &actions, &attributes, (char *const *)argv, env) : ENOMEM;
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

/* What comes out until the end or the deadline. */
static char *drain(int fd, uint64_t deadline_ns, bool *late)
{
    char *text = malloc(OUTPUT_MAX + 1);
    size_t size = 0;
    while (text) {
        uint64_t now = kn_now_ns();
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (now >= deadline_ns || poll(&p, 1, (int)((deadline_ns - now) / KN_NS_PER_MS) + 1) < 0) {
            if (now < deadline_ns && errno == EINTR)
                continue;
            *late = true;
            break;
        }
        ssize_t n = p.revents ? read(fd, text + size, OUTPUT_MAX - size) : 0;
        if (p.revents && n <= 0)
            break;
        size += (size_t)n;
    }
    if (text)
        text[size] = 0;
    return text;
}

char *kn_plugin_run(const char *const *argv, const char *const *extra, uint64_t timeout_ns, struct kn_error *err)
{
    pid_t pid;
    int fd, status = 0;
    bool late = false;
    if (spawn(argv, extra, &pid, &fd, err))
        return NULL;
    char *text = drain(fd, kn_now_ns() + timeout_ns, &late);
    close(fd);
    if (late || !text)
        kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (!text)
        kn_fail(err, KN_E_MEMORY, "credential plugin %s: out of memory", argv[0]);
    else if (late)
        kn_fail(err, KN_E_TIMEOUT, "credential plugin %s: no answer in %g s", argv[0], (double)timeout_ns / 1e9);
    else if (WIFSIGNALED(status))
        kn_fail(err, KN_E_AUTH, "credential plugin %s: ended by signal %d", argv[0], WTERMSIG(status));
    else if (WEXITSTATUS(status))
        kn_fail(err, KN_E_AUTH, "credential plugin %s: ended with code %d", argv[0], WEXITSTATUS(status));
    else
        return text;
    free(text);
    return NULL;
}
