#include "lab/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Running a program inside. A PID namespace holds the children of who enters it, so it takes a process for each step:
 * the first enters the lab, its child the pod, and its child is the program. Each dies with the one before it; a status
 * comes back the same way. */

#define CAPTURE_MAX (1u << 20)
enum { CANNOT = 127 };

struct entry { pid_t keeper, inside; char *const *argv; bool terminal; int output; /* -1: not captured */ };

static bool same_namespace(const char *a, const char *b)
{
    struct stat x, y;
    return !stat(a, &x) && !stat(b, &y) && x.st_ino == y.st_ino && x.st_dev == y.st_dev;
}

static void die_with_parent(void)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    signal(SIGINT, SIG_IGN);        /* the terminal's signals are for the program */
    signal(SIGQUIT, SIG_IGN);
}

static int status_of(pid_t pid)
{
    int status = 0;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) return CANNOT;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int step(pid_t pid, int namespaces)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    int bad = fd < 0 || setns(fd, namespaces);
    if (fd >= 0) close(fd);
    return bad ? -1 : 0;
}

static void complain(const char *what, const char *whom)
{
    dprintf(2, "knbl: %s %s: %s\n", what, whom, strerror(errno));
}

static void run(const struct entry *entry)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (entry->terminal) {          /* a shell wants to be the terminal's foreground */
        signal(SIGTTOU, SIG_IGN);
        setpgid(0, 0);
        tcsetpgrp(0, getpgrp());
    }
    for (int s = 1; s < 32; s++)
        if (s != SIGKILL && s != SIGSTOP) signal(s, SIG_DFL);
    execvp(entry->argv[0], entry->argv);
    complain("cannot run", entry->argv[0]);
    _exit(CANNOT);
}

static int in_lab(const struct entry *entry)
{
    die_with_parent();
    if (entry->inside == 0) run(entry);
    if (step(entry->inside, CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC)) {
        complain("cannot enter", "the pod");
        return CANNOT;
    }
    pid_t pid = fork();
    if (pid == 0) run(entry);
    return pid < 0 ? CANNOT : status_of(pid);
}

static int outside(const struct entry *entry)
{
    char theirs[64];
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    die_with_parent();
    if (entry->output >= 0) {
        int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
        dup2(null, 0);
        dup2(entry->output, 1);
        dup2(entry->output, 2);
    }
    snprintf(theirs, sizeof theirs, "/proc/%d/ns/user", (int)entry->keeper);
    int user = same_namespace("/proc/self/ns/user", theirs) ? 0 : CLONE_NEWUSER;
    if (step(entry->keeper, user | CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC)) {
        complain("cannot enter", "the lab");
        return CANNOT;
    }
    pid_t pid = fork();
    if (pid == 0) _exit(in_lab(entry));
    return pid < 0 ? CANNOT : status_of(pid);
}

/* What does not fit is read and dropped, so that the program can end. */
static char *read_output(int fd)
{
    struct kn_text text = { .data = NULL };
    char chunk[4096];
    ssize_t n;
    kn_text_add(&text, "%s", "");
    while ((n = read(fd, chunk, sizeof chunk)) > 0 || (n < 0 && errno == EINTR))
        if (n > 0 && text.used + (size_t)n < CAPTURE_MAX) kn_text_add(&text, "%.*s", (int)n, chunk);
    return text.data;
}

static json_t *answer(int status, char *output)
{
    json_t *json = json_pack("{s:i}", "status", status);
    if (output) {
        json_t *text = json_string(output);
        json_object_set_new(json, "output", text ? text : json_string("(not UTF-8)"));
    }
    free(output);
    return json;
}

static json_t *go(struct entry *entry, bool capture, struct kn_error *err)
{
    int fds[2] = { -1, -1 };
    char *output = NULL;
    if (capture && pipe2(fds, O_CLOEXEC)) {
        kn_fail_errno(err, "no pipe for the output");
        return NULL;
    }
    entry->output = fds[1];
    entry->terminal = !capture && isatty(0) && tcgetpgrp(0) == getpgrp();
    void (*interrupt)(int) = capture ? NULL : signal(SIGINT, SIG_IGN);
    pid_t pid = fork();
    if (pid == 0) _exit(outside(entry));
    if (capture) {
        close(fds[1]);
        output = read_output(fds[0]);
        close(fds[0]);
    }
    int status = pid < 0 ? CANNOT : status_of(pid);
    if (!capture) signal(SIGINT, interrupt);
    if (entry->terminal) {
        void (*old)(int) = signal(SIGTTOU, SIG_IGN);
        tcsetpgrp(0, getpgrp());
        signal(SIGTTOU, old);
    }
    return answer(status, output);
}

json_t *kn_lab_exec(pid_t keeper, pid_t inside, const json_t *request, struct kn_error *err)
{
    static const struct kn_lab_field fields[] = {
        { "op", LAB_TEXT }, { "in", LAB_TEXT }, { "argv", LAB_LIST }, { "capture", LAB_BOOL }
    };
    const json_t *list = json_object_get(request, "argv");
    size_t n = json_array_size(list);
    if (kn_lab_check(request, "'exec'", fields, 4, err)) return NULL;
    char **argv = calloc(n + 1, sizeof *argv);
    for (size_t i = 0; argv && i < n; i++) argv[i] = (char *)(uintptr_t)json_string_value(json_array_get(list, i));
    json_t *json = NULL;
    if (!argv || n == 0 || !argv[0]) {
        kn_fail(err, KN_E_ARGUMENT, "'exec' needs 'argv', a list of texts");
    } else {
        struct entry entry = { .keeper = keeper, .inside = inside, .argv = argv };
        json = go(&entry, json_is_true(json_object_get(request, "capture")), err);
    }
    free(argv);
    return json;
}
