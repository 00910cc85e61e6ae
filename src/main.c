/* main - arguments, signals and the exit code. Only this file and agent_command.c print and exit.
 *
 * agent_command.c implements `knbl agent`, without Lua. knbl.program.cli implements all other commands. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <lua.h>
#include <lauxlib.h>
#include <lualib.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "agent_command.h"
#include "lua/bind.h"
#include "process.h"

int luaopen_cjson(lua_State *L);

/* ---- signals ---------------------------------------------------------------------------------- */

static struct kn_interrupt interrupt = {.fd = -1};
static lua_State *lua;

/* Interrupts a script that computes without waiting. The error is raised repeatedly until a cleanup begins, so that a
 * script that catches it ends too. Lua allows lua_sethook in a signal handler. */
static void raise_in_lua(lua_State *L, lua_Debug *ar)
{
    (void)ar;
    if (!kn_interrupted(&interrupt))
        return;
    kn_lua_fail_with(L, KN_E_INTERRUPTED, "interrupted");
    lua_error(L);
}

/* The first signal requests an orderly end, the second one exits at once; not SIGHUP, which a terminal that closes, and
 * a parent of several threads that dies (lua/process), send twice. */
static void on_signal(int sig)
{
    int saved = errno;
    if (atomic_exchange(&interrupt.hit, true)) {
        if (sig == SIGHUP)
            return;
        _exit(128 + sig);
    }
    uint64_t one = 1;
    (void)!write(interrupt.fd, &one, sizeof one);
    if (lua)
        lua_sethook(lua, raise_in_lua, LUA_MASKCOUNT, 10000000);
    errno = saved;
}

/* With this handler write(2) fails with EFBIG, which is reported. Child processes would inherit SIG_IGN. */
static void on_file_too_large(int sig)
{
    (void)sig;
}

/* ---- Lua ------------------------------------------------------------------------------------- */

/* Pushes the path of modules on disk: KNBL_LUA_PATH, then lua/ beside the binary. */
static void push_disk_path(lua_State *L)
{
    char exe[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    const char *own = getenv("KNBL_LUA_PATH");
    lua_pushstring(L, own && *own ? own : "");
    if (n <= 0)
        return;
    exe[n] = 0;
    const char *dir = dirname(exe);
    lua_pushfstring(L, "%s%s/lua/?.lua;%s/lua/?/init.lua", own && *own ? ";" : "", dir, dir);
    lua_concat(L, 2);
}

/* Adds a traceback to a message that is a string; an error object stays as it is. */
static int on_error(lua_State *L)
{
    if (lua_type(L, 1) != LUA_TSTRING)
        return 1;
    luaL_traceback(L, L, lua_tostring(L, 1), 1);
    return 1;
}

static int start(lua_State *L)
{
    char **argv = lua_touserdata(L, 1);
    luaL_openlibs(L);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
    lua_pushcfunction(L, luaopen_cjson);
    lua_setfield(L, -2, "cjson");
    kn_lua_set_interrupt(L, &interrupt);
    push_disk_path(L);
    kn_lua_searchers(L, lua_tostring(L, -1));
    lua_getglobal(L, "require");
    lua_pushliteral(L, "knbl.program.cli");
    lua_call(L, 1, 1);
    lua_getfield(L, -1, "main");
    lua_newtable(L);
    for (int i = 0; argv[i]; i++) {
        lua_pushstring(L, argv[i]);
        lua_rawseti(L, -2, i);
    }
    lua_call(L, 1, 1);
    return 1;
}

/* Replaces control characters, because messages can contain untrusted text (as knbl.base.say does). */
static void print_clean(const char *message)
{
    for (const unsigned char *c = (const unsigned char *)message; *c; c++) {
        bool c1 = c[0] == 0xc2 && c[1] >= 0x80 && c[1] < 0xa0;
        bool control = (*c < ' ' && *c != '\n' && *c != '\t') || *c == 0x7f;
        fputc(c1 || control ? '?' : *c, stderr);
        c += c1;
    }
}

/* Reports an error that knbl.program.cli did not handle. */
static int report(lua_State *L)
{
    int code = EXIT_SCRIPT;
    if (lua_istable(L, -1)) {
        lua_getfield(L, -1, "code");
        const char *name = lua_tostring(L, -1);
        code = name && strcmp(name, "interrupted") == 0 ? EXIT_INTERRUPTED : EXIT_SCRIPT;
        lua_pop(L, 1);
    }
    fputs("knbl: ", stderr);
    print_clean(luaL_tolstring(L, -1, NULL));
    fputc('\n', stderr);
    return code;
}

static int run_lua(char **argv)
{
    lua_State *L = luaL_newstate();
    if (!L) {
        fputs("knbl: out of memory\n", stderr);
        return EXIT_SCRIPT;
    }
    lua = L;
    kn_process_signals(on_signal);
    signal(SIGXFSZ, on_file_too_large);
    lua_pushcfunction(L, on_error);
    lua_pushcfunction(L, start);
    lua_pushlightuserdata(L, argv);
    int code = lua_pcall(L, 1, 1, 1) == LUA_OK ? (int)lua_tointeger(L, -1) : report(L);
    lua = NULL;
    lua_close(L);
    return code;
}

/* True if the reader of the output pipe has closed it; that is not reported as an error. */
static bool reader_left(void)
{
    struct pollfd out = {.fd = STDOUT_FILENO, .events = POLLOUT};
    return poll(&out, 1, 0) > 0 && (out.revents & POLLERR);
}

/* If one of the descriptors 0 to 2 is closed, the next socket would get its number, and messages would go there. */
static void fill_standard_descriptors(void)
{
    int fd;
    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}

/* `help COMMAND` is `COMMAND --help`. */
static void read_help(int argc, char **argv)
{
    static char option[] = "--help";
    if (argc < 2 || strcmp(argv[1], "help") != 0)
        return;
    argv[1] = argc > 2 ? argv[2] : option;
    if (argc > 2)
        argv[2] = option;
}

int main(int argc, char **argv)
{
    fill_standard_descriptors();
    kn_process_limits();
    read_help(argc, argv);
    if (argc > 1 && strcmp(argv[1], "agent") == 0)
        return kn_agent_command(argc - 1, argv + 1);
    interrupt.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (interrupt.fd < 0) {
        fprintf(stderr, "knbl: eventfd: %s\n", strerror(errno));
        return EXIT_SCRIPT;
    }
    int code = run_lua(argv);
    bool flushed = fflush(stdout) == 0;
    const char *why = flushed ? "No space left on device (probably)"
                              : strerror(errno); /* errno of an earlier failed write is lost */
    if ((!flushed || ferror(stdout)) && code == 0) {
        code = EXIT_SCRIPT;
        if (!reader_left())
            fprintf(stderr, "knbl: cannot write all of standard output: %s\n", why);
    }
    return code;
}
