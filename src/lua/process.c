/* lua/process - child processes that are waited for with a deadline, and their outputs. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "lua/bind.h"

#define TYPE "knbl.process"
#define LOOK_MS 50 /* between looks at a child where the kernel has no pidfd */

/* Standard input and the outputs are files in memory: neither side waits for the other, and no disk is needed. */
struct process {
    pid_t pid; /* 0: it has ended and was waited for */
    int pidfd, status, in, out, err;
};

static void close_all(struct process *p)
{
    int *fds[] = {&p->pidfd, &p->in, &p->out, &p->err};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++) {
        if (*fds[i] >= 0)
            close(*fds[i]);
        *fds[i] = -1;
    }
}

static void free_process(void *pointer)
{
    struct process *p = pointer;
    if (!p)
        return;
    if (p->pid > 0) {
        kill(p->pid, SIGKILL);
        while (waitpid(p->pid, &p->status, 0) < 0 && errno == EINTR)
            ;
    }
    close_all(p);
    free(p);
}

/* ---- its start ---- */

static int memory_file(const char *name, const char *text, size_t size)
{
    int fd = memfd_create(name, MFD_CLOEXEC);
    size_t done = 0;
    while (fd >= 0 && done < size) {
        ssize_t n = write(fd, text + done, size - done);
        if (n < 0 && errno != EINTR) {
            close(fd);
            return -1;
        }
        done += n > 0 ? (size_t)n : 0;
    }
    if (fd >= 0)
        lseek(fd, 0, SEEK_SET);
    return fd;
}

/* In the child, between fork and exec: only what is safe there. The parent may have died already. */
static _Noreturn void become(const struct process *p, pid_t parent, const char *path, char *const *argv)
{
    static const int handled[] = {SIGINT, SIGTERM, SIGALRM, SIGPIPE, SIGHUP}; /* nohup ignores SIGHUP */
    sigset_t none;
    sigemptyset(&none);
    for (size_t i = 0; i < sizeof handled / sizeof *handled; i++)
        signal(handled[i], SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setpgid(0, 0); /* a signal of the terminal reaches the parent alone, which passes it on */
    if (prctl(PR_SET_PDEATHSIG, SIGHUP) == 0 && getppid() == parent && dup2(p->in, 0) == 0 && dup2(p->out, 1) == 1 &&
        dup2(p->err, 2) == 2)
        execv(path, argv);
    _exit(127);
}

static int start(struct process *p, char *const *argv, const char *input, size_t size, struct kn_error *err)
{
    p->in = memory_file("in", input, size);
    p->out = memory_file("out", NULL, 0);
    p->err = memory_file("err", NULL, 0);
    if (p->in < 0 || p->out < 0 || p->err < 0)
        return kn_fail_errno(err, "cannot make a file in memory");
    pid_t self = getpid();
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* this process's handlers would swallow the child's signals */
    p->pid = fork();
    if (p->pid == 0)
        become(p, self, "/proc/self/exe", argv);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (p->pid < 0)
        return kn_fail_errno(err, "cannot start a process");
    p->pidfd = (int)syscall(SYS_pidfd_open, p->pid, 0);
    return 0;
}

/* ---- its end ---- */

/* True once it has ended. */
static bool look(struct process *p)
{
    int status;
    if (p->pid <= 0 || waitpid(p->pid, &status, WNOHANG) <= 0)
        return p->pid <= 0;
    p->pid = 0;
    p->status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    return true;
}

/* process:wait(seconds) -> its exit code (128 and the signal, as in a shell) | nil while it goes on | nil, err */
static int process_wait(lua_State *L)
{
    struct process *p = kn_lua_check_handle(L, TYPE);
    uint64_t until_ns = kn_now_ns() + kn_lua_check_seconds(L, 2), now_ns;
    struct kn_interrupt *interrupt = kn_lua_interrupt(L);
    struct pollfd polls[] = {{.fd = p->pidfd, .events = POLLIN}, {.fd = kn_lua_interrupt_fd(L), .events = POLLIN}};
    while (!look(p) && !kn_interrupted(interrupt) && (now_ns = kn_now_ns()) < until_ns) {
        uint64_t left_ms = (until_ns - now_ns) / KN_NS_PER_MS + 1;
        poll(polls, 2, p->pidfd < 0 || left_ms > 60000 ? LOOK_MS : (int)left_ms);
    }
    if (p->pid <= 0)
        return lua_pushinteger(L, p->status), 1;
    if (kn_interrupted(interrupt))
        return kn_lua_fail_with(L, KN_E_INTERRUPTED, "interrupted");
    return lua_pushnil(L), 1;
}

static int process_signal(lua_State *L)
{
    struct process *p = kn_lua_check_handle(L, TYPE);
    int sig = (int)luaL_checkinteger(L, 2);
    if (p->pid > 0)
        kill(p->pid, sig);
    return 0;
}

static void push_file(lua_State *L, int fd)
{
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    ssize_t n = 1;
    for (off_t at = 0; n > 0; at += n) {
        n = pread(fd, luaL_prepbuffer(&b), LUAL_BUFFERSIZE, at);
        luaL_addsize(&b, n > 0 ? (size_t)n : 0);
    }
    luaL_pushresult(&b);
}

/* process:output() -> what it has written to standard output, and to standard error */
static int process_output(lua_State *L)
{
    struct process *p = kn_lua_check_handle(L, TYPE);
    push_file(L, p->out);
    push_file(L, p->err);
    return 2;
}

static const luaL_Reg methods[] = {
    {"wait", process_wait},
    {"signal", process_signal},
    {"output", process_output},
    {NULL, NULL},
};

/* The arguments at `arg`, after "knbl", in a userdata that is pushed; their texts live in the table. */
static char **check_arguments(lua_State *L, int arg)
{
    luaL_checktype(L, arg, LUA_TTABLE);
    lua_Integer n = luaL_len(L, arg);
    char **argv = lua_newuserdatauv(L, (size_t)(n + 2) * sizeof *argv, 0);
    argv[0] = "knbl";
    for (lua_Integer i = 1; i <= n; i++) {
        lua_geti(L, arg, i);
        luaL_argcheck(L, lua_type(L, -1) == LUA_TSTRING, arg, "arguments must be strings");
        argv[i] = (char *)lua_tostring(L, -1);
        lua_pop(L, 1);
    }
    argv[n + 1] = NULL;
    return argv;
}

/* core.spawn({ "run", … } [, input]) -> process | nil, err: this program once more, with these arguments. It gets
 * SIGHUP when this process dies, and SIGKILL when it is closed. */
static int l_spawn(lua_State *L)
{
    struct kn_error err;
    size_t size = 0;
    const char *input = luaL_optlstring(L, 2, "", &size);
    char **argv = check_arguments(L, 1);
    struct kn_box *box = kn_lua_handle(L, TYPE, methods, free_process);
    struct process *p = box->ptr = calloc(1, sizeof *p);
    if (!p)
        return kn_lua_fail_with(L, KN_E_MEMORY, "out of memory");
    *p = (struct process){.pidfd = -1, .in = -1, .out = -1, .err = -1};
    return start(p, argv, input, size, &err) ? kn_lua_fail(L, &err) : 1;
}

const luaL_Reg kn_lua_process[] = {
    {"spawn", l_spawn},
    {NULL, NULL},
};
