/* main - arguments, signals, exit code: the only place of knbl that prints and exits.
 *
 * `knbl agent` is carried out here, so that an agent holds no Lua at all; everything else is knbl.cli's. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <libgen.h>
#include <limits.h>
#include <lua.h>
#include <lauxlib.h>
#include <lualib.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lua/bind.h"

enum { EXIT_SCRIPT = 1, EXIT_USAGE = 2, EXIT_NO_CLUSTER = 3, EXIT_INTERRUPTED = 130 };

int luaopen_cjson(lua_State *L);

/* ---- signals: what a handler can reach --------------------------------------------------------------------------- */

static struct kn_interrupt interrupt = { .fd = -1 };
static lua_State *lua;

/* For a script that computes and never waits: lets Lua raise in its own time. Lua allows lua_sethook in a handler. */
static void raise_in_lua(lua_State *L, lua_Debug *ar)
{
    (void)ar;
    lua_sethook(L, NULL, 0, 0);
    if (!kn_interrupt_take(&interrupt))
        return;
    kn_lua_fail_with(L, KN_E_INTERRUPTED, "interrupted");
    lua_error(L);
}

/* The first signal asks; the second one ends, for whoever hangs. */
static void on_signal(int sig)
{
    int saved = errno;
    if (atomic_exchange(&interrupt.hit, true))
        _exit(128 + sig);
    uint64_t one = 1;
    (void)!write(interrupt.fd, &one, sizeof one);
    if (lua)
        lua_sethook(lua, raise_in_lua, LUA_MASKCOUNT, 10000000);
    errno = saved;
}

static void handle_signals(void (*handler)(int))
{
    struct sigaction act = { .sa_handler = handler, .sa_flags = SA_RESTART };
    sigemptyset(&act.sa_mask);
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGTERM, &act, NULL);
    signal(SIGPIPE, SIG_IGN);
}

/* ---- Lua ----------------------------------------------------------------------------------------------------------- */

/* Templates for the modules on disk: KNBL_LUA_PATH, then lua/ beside the binary. */
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

/* An error that is a table keeps its code; text gets the traceback. */
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
    lua_pushliteral(L, "knbl.cli");
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

/* What knbl.cli let through. */
static int report(lua_State *L)
{
    int code = EXIT_SCRIPT;
    if (lua_istable(L, -1)) {
        lua_getfield(L, -1, "code");
        const char *name = lua_tostring(L, -1);
        code = name && strcmp(name, "interrupted") == 0 ? EXIT_INTERRUPTED : EXIT_SCRIPT;
        lua_pop(L, 1);
    }
    const char *message = luaL_tolstring(L, -1, NULL);
    fprintf(stderr, "knbl: %s\n", message);
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
    handle_signals(on_signal);
    lua_pushcfunction(L, on_error);
    lua_pushcfunction(L, start);
    lua_pushlightuserdata(L, argv);
    int code = lua_pcall(L, 1, 1, 1) == LUA_OK ? (int)lua_tointeger(L, -1) : report(L);
    lua = NULL;
    lua_close(L);
    return code;
}

int main(int argc, char **argv)
{
    (void)argc;
    interrupt.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (interrupt.fd < 0) {
        fprintf(stderr, "knbl: eventfd: %s\n", strerror(errno));
        return EXIT_SCRIPT;
    }
    int code = run_lua(argv);
    if (fflush(stdout) != 0 && code == 0) {
        fprintf(stderr, "knbl: standard output: %s\n", strerror(errno));
        code = EXIT_SCRIPT;
    }
    return code;
}
