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
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Runs a program in the lab. Only the children of a process that enters a PID namespace are in it, so each step takes a
 * process: the first enters the lab, its child the pod, and its child is the program. Each dies with its parent; the
 * exit status comes back the same way. */

#define CAPTURE_MAX (1u << 20)
enum { CANNOT = 127 };

struct entry {
    pid_t keeper, inside;
    const json_t *cgroups;
    char *const *argv;
    const json_t *environment; /* set over the caller's; NULL: nothing */
    bool terminal;
    int output;  /* -1: not captured */
    int stop_fd; /* readable: end the captured program; -1: none */
    char folder[PATH_MAX];
};

static bool same_namespace(const char *a, const char *b)
{
    struct stat x, y;
    return !stat(a, &x) && !stat(b, &y) && x.st_ino == y.st_ino && x.st_dev == y.st_dev;
}

static void die_with_parent(void)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    signal(SIGINT, SIG_IGN); /* the terminal sends these to the program too */
    signal(SIGQUIT, SIG_IGN);
}

static int status_of(pid_t pid)
{
    int status = 0;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return CANNOT;
    return kn_exit_status(status);
}

/* A process that is told to end first kills and reaps its child, so that the child's namespaces are gone too. */
static volatile sig_atomic_t to_end;
static volatile pid_t below;

static void end_below(int signal)
{
    (void)signal;
    to_end = 1;
    if (below > 0)
        kill(below, SIGKILL);
}

static int status_below(pid_t pid)
{
    if (pid < 0)
        return CANNOT;
    below = pid;
    if (to_end)
        kill(pid, SIGKILL);
    return status_of(pid);
}

static int step(pid_t pid, int namespaces)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    int bad = fd < 0 || setns(fd, namespaces);
    if (fd >= 0)
        close(fd);
    return bad ? -1 : 0;
}

/* Charges the program's CPU time to the pod, within the pod's limits. */
static void join_cgroups(const json_t *files)
{
    size_t i;
    json_t *file;
    json_array_foreach((json_t *)(uintptr_t)files, i, file)
    {
        int fd = open(json_string_value(file), O_WRONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? 0 : write(fd, "0", 1);
        (void)n; /* without permission it runs outside of them */
        if (fd >= 0)
            close(fd);
    }
}

static void complain(const char *what, const char *whom)
{
    dprintf(2, "knbl: %s %s: %s\n", what, whom, strerror(errno));
}

static void run(const struct entry *entry)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (*entry->folder && chdir(entry->folder)) {
    }                      /* setns changed it to the root */
    if (entry->terminal) { /* a shell must be in the terminal's foreground */
        signal(SIGTTOU, SIG_IGN);
        setpgid(0, 0);
        tcsetpgrp(0, getpgrp());
    }
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)entry->environment, name, value)
        setenv(name, json_string_value(value) ? json_string_value(value) : "", 1);
    for (int s = 1; s < 32; s++)
        if (s != SIGKILL && s != SIGSTOP)
            signal(s, SIG_DFL);
    execvp(entry->argv[0], entry->argv);
    complain("cannot run", entry->argv[0]);
    _exit(CANNOT);
}

static int in_lab(const struct entry *entry)
{
    die_with_parent();
    if (entry->inside == 0)
        run(entry);
    if (step(entry->inside, CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC)) {
        complain("cannot enter", "the pod");
        return CANNOT;
    }
    pid_t pid = fork();
    if (pid == 0)
        run(entry);
    return status_below(pid);
}

static int outside(const struct entry *entry)
{
    char theirs[64];
    sigset_t none;
    die_with_parent();
    signal(SIGTERM, end_below);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (entry->output >= 0) {
        int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
        dup2(null, 0);
        dup2(entry->output, 1);
        dup2(entry->output, 2);
    }
    join_cgroups(entry->cgroups);
    if (entry->keeper == 0)
        return in_lab(entry);
    snprintf(theirs, sizeof theirs, "/proc/%d/ns/user", (int)entry->keeper);
    int user = same_namespace("/proc/self/ns/user", theirs) ? 0 : CLONE_NEWUSER;
    if (step(entry->keeper, user | CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC)) {
        complain("cannot enter", "the lab");
        return CANNOT;
    }
    pid_t pid = fork();
    if (pid == 0)
        _exit(in_lab(entry));
    return status_below(pid);
}

/* Until the end of the output, or until the program (`pid_fd`) has ended and what it wrote is read: a process that it
 * started and left behind may hold the pipe for ever. What does not fit is read and dropped, so that the program can
 * end. NULL: it was to stop. */
static char *read_output(int fd, int pid_fd, int stop_fd, size_t *size)
{
    char *output = malloc(CAPTURE_MAX);
    struct pollfd polls[] = {
        {.fd = fd, .events = POLLIN}, {.fd = stop_fd, .events = POLLIN}, {.fd = pid_fd, .events = POLLIN}};
    char chunk[4096];
    for (*size = 0; output;) {
        if (poll(polls, 3, -1) < 0)
            continue; /* a signal, which may be what makes the other readable */
        if (polls[1].revents)
            break;
        if (!polls[0].revents)
            return output;
        ssize_t n = read(fd, chunk, sizeof chunk);
        if (n == 0 || (n < 0 && errno != EINTR))
            return output;
        if (n > 0 && *size + (size_t)n <= CAPTURE_MAX) {
            memcpy(output + *size, chunk, (size_t)n);
            *size += (size_t)n;
        }
    }
    free(output);
    return NULL;
}

static json_t *answer(int status, char *output, size_t size)
{
    json_t *json = json_pack("{s:i}", "status", status);
    if (output) {
        json_t *text = json_stringn(output, size);
        json_object_set_new(json, "output", text ? text : json_string("(not UTF-8)"));
    }
    free(output);
    return json;
}

/* Ctrl-C and Ctrl-\ are for the program in the foreground. SIGTERM and SIGHUP end a shell's opener, and the lab with
 * it. */
static void signals(struct sigaction old[4], bool shell)
{
    static const int which[4] = {SIGINT, SIGQUIT, SIGTERM, SIGHUP};
    struct sigaction ignore = {.sa_handler = SIG_IGN}, end = {.sa_handler = SIG_DFL};
    for (int i = 0; i < 4; i++)
        sigaction(which[i], i < 2 ? &ignore : shell ? &end : NULL, &old[i]);
}

static void signals_back(const struct sigaction old[4])
{
    static const int which[4] = {SIGINT, SIGQUIT, SIGTERM, SIGHUP};
    for (int i = 0; i < 4; i++)
        sigaction(which[i], &old[i], NULL);
}

static void take_terminal_back(void)
{
    void (*old)(int) = signal(SIGTTOU, SIG_IGN);
    tcsetpgrp(0, getpgrp());
    signal(SIGTTOU, old);
}

static json_t *attached(struct entry *entry, bool shell)
{
    struct sigaction old[4];
    entry->terminal = shell && isatty(0) && tcgetpgrp(0) == getpgrp();
    signals(old, shell);
    pid_t pid = fork();
    if (pid == 0) {
        signals_back(old);
        _exit(outside(entry));
    }
    int status = pid < 0 ? CANNOT : status_of(pid);
    signals_back(old);
    if (entry->terminal)
        take_terminal_back();
    return answer(status, NULL, 0);
}

static json_t *captured(struct entry *entry, struct kn_error *err)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC))
        return kn_null(kn_fail_errno(err, "cannot make a pipe"));
    entry->output = fds[1];
    sigset_t term, before;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    sigprocmask(SIG_BLOCK, &term, &before); /* until the child has its handler */
    pid_t pid = fork();
    if (pid == 0)
        _exit(outside(entry));
    sigprocmask(SIG_SETMASK, &before, NULL);
    close(fds[1]);
    int pid_fd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
    size_t size;
    char *output = read_output(fds[0], pid_fd, entry->stop_fd, &size);
    close(fds[0]);
    if (pid_fd >= 0)
        close(pid_fd);
    if (!output) {
        if (pid > 0) {
            kill(pid, SIGTERM);
            status_of(pid);
        }
        return kn_null(kn_fail(err, KN_E_INTERRUPTED, "interrupted"));
    }
    return answer(pid < 0 ? CANNOT : status_of(pid), output, size);
}

static char **words(const json_t *list, struct kn_error *err)
{
    size_t n = json_array_size(list), i = 0;
    char **argv = calloc(n + 1, sizeof *argv);
    for (; argv && i < n; i++)
        if (!(argv[i] = (char *)(uintptr_t)json_string_value(json_array_get(list, i))))
            break;
    if (argv && n > 0 && i == n)
        return argv;
    free(argv);
    return kn_null(kn_fail(err, KN_E_ARGUMENT, "exec requires argv, a non-empty list of strings"));
}

json_t *kn_lab_run(pid_t keeper, const json_t *where, const json_t *request, int stop_fd, struct kn_error *err)
{
    static const struct kn_lab_field fields[] = {
        {"op", LAB_TEXT},      {"in", LAB_TEXT},    {"argv", LAB_LIST},
        {"capture", LAB_BOOL}, {"shell", LAB_BOOL}, {"env", LAB_OBJECT},
    };
    if (kn_lab_check(request, "exec", fields, 6, err))
        return NULL;
    char **argv = words(json_object_get(request, "argv"), err);
    if (!argv)
        return NULL;
    struct entry entry = {.keeper = keeper,
                          .inside = (pid_t)json_integer_value(json_object_get(where, "pid")),
                          .cgroups = json_object_get(where, "cgroups"),
                          .argv = argv,
                          .environment = json_object_get(request, "env"),
                          .output = -1,
                          .stop_fd = stop_fd};
    if (!getcwd(entry.folder, sizeof entry.folder))
        entry.folder[0] = '\0';
    json_t *json = json_is_true(json_object_get(request, "capture"))
                       ? captured(&entry, err)
                       : attached(&entry, json_is_true(json_object_get(request, "shell")));
    free(argv);
    return json;
}
