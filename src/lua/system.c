/* lua/system - clocks, waiting, files, the terminal. */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/file.h"
#include "lua/bind.h"

static int l_now(lua_State *L)
{
    lua_pushnumber(L, (double)kn_now_ns() / 1e9);
    return 1;
}

static int l_wall(lua_State *L)
{
    uint64_t ns = kn_wall_ns();
    time_t s = (time_t)(ns / KN_NS_PER_S);
    struct tm utc;
    char text[64];
    size_t n = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", gmtime_r(&s, &utc));
    snprintf(text + n, sizeof text - n, ".%03uZ", (unsigned)(ns / KN_NS_PER_MS % 1000));
    lua_pushstring(L, text);
    return 1;
}

static int interrupted(lua_State *L) { return kn_lua_fail_with(L, KN_E_INTERRUPTED, "interrupted"); }

/* In a program that is somebody else's any signal with a handler ends the sleep: its handler wants Lua to run. */
static int l_sleep(lua_State *L)
{
    uint64_t until_ns = kn_now_ns() + kn_lua_check_seconds(L, 1);
    struct kn_interrupt *interrupt = kn_lua_interrupt(L);
    struct pollfd wake = { .fd = kn_lua_interrupt_fd(L), .events = POLLIN };
    for (uint64_t now_ns; (now_ns = kn_now_ns()) < until_ns;) {
        uint64_t left_ns = until_ns - now_ns;
        struct timespec left = { .tv_sec = (time_t)(left_ns / KN_NS_PER_S), .tv_nsec = (long)(left_ns % KN_NS_PER_S) };
        int n = ppoll(&wake, 1, &left, NULL);
        if (kn_interrupt_take(interrupt) || (n < 0 && !interrupt))
            return interrupted(L);
    }
    if (kn_interrupt_take(interrupt))
        return interrupted(L);
    lua_pushboolean(L, 1);
    return 1;
}

static int l_interrupted(lua_State *L)
{
    struct kn_interrupt *interrupt = kn_lua_interrupt(L);
    lua_pushboolean(L, interrupt && atomic_load(&interrupt->hit));
    return 1;
}

static int l_write_file(lua_State *L)
{
    size_t size;
    const char *path = luaL_checkstring(L, 1), *text = luaL_checklstring(L, 2, &size);
    struct kn_error err;
    return kn_lua_true_or_fail(L, kn_write_file(path, text, size, &err), &err);
}

static int l_can_write(lua_State *L)
{
    struct kn_error err;
    return kn_lua_true_or_fail(L, kn_can_write(luaL_checkstring(L, 1), &err), &err);
}

static int l_isatty(lua_State *L)
{
    lua_Integer fd = luaL_checkinteger(L, 1);
    luaL_argcheck(L, fd >= 0 && fd <= INT_MAX, 1, "a file descriptor is wanted");
    lua_pushboolean(L, isatty((int)fd));
    return 1;
}

/* The width of the terminal behind any of the three standard streams; COLUMNS wins; nil where there is neither. */
static int l_columns(lua_State *L)
{
    const char *told = getenv("COLUMNS");
    struct winsize w = { 0 };
    int columns = told ? atoi(told) : 0;
    for (int fd = 0; fd < 3 && columns <= 0; fd++)
        if (ioctl(fd, TIOCGWINSZ, &w) == 0)
            columns = w.ws_col;
    if (columns <= 0)
        return lua_pushnil(L), 1;
    lua_pushinteger(L, columns);
    return 1;
}

static int l_token(lua_State *L)
{
    char token[KN_TOKEN_SIZE];
    kn_token_make(token);
    lua_pushstring(L, token);
    return 1;
}

/* The machine's architecture, as the kernel names it. */
static int l_machine(lua_State *L)
{
    struct utsname system;
    lua_pushstring(L, uname(&system) == 0 ? system.machine : "unknown");
    return 1;
}

static const luaL_Reg functions[] = {
    { "now", l_now },
    { "wall", l_wall },
    { "sleep", l_sleep },
    { "interrupted", l_interrupted },
    { "write_file", l_write_file },
    { "can_write", l_can_write },
    { "isatty", l_isatty },
    { "columns", l_columns },
    { "token", l_token },
    { "machine", l_machine },
    { NULL, NULL },
};

void kn_lua_system(lua_State *L) { luaL_setfuncs(L, functions, 0); }
