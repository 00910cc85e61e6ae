/* lua/system - clocks, waiting, files, the terminal. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
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

static int interrupted(lua_State *L)
{
    return kn_lua_fail_with(L, KN_E_INTERRUPTED, "interrupted");
}

/* In another program any signal with a handler ends the sleep, because the handler may need Lua to run. */
static int l_sleep(lua_State *L)
{
    uint64_t until_ns = kn_now_ns() + kn_lua_check_seconds(L, 1);
    struct kn_interrupt *interrupt = kn_lua_interrupt(L);
    struct pollfd wake = {.fd = kn_lua_interrupt_fd(L), .events = POLLIN};
    for (uint64_t now_ns; (now_ns = kn_now_ns()) < until_ns;) {
        uint64_t left_ns = until_ns - now_ns;
        struct timespec left = kn_timespec(left_ns);
        int n = ppoll(&wake, 1, &left, NULL);
        if (kn_interrupted(interrupt) || (n < 0 && !interrupt))
            return interrupted(L);
    }
    if (kn_interrupted(interrupt))
        return interrupted(L);
    lua_pushboolean(L, 1);
    return 1;
}

/* core.alarm(SECONDS): an interrupt after this time. */
static int l_alarm(lua_State *L)
{
    uint64_t ns = kn_lua_check_seconds(L, 1);
    struct itimerval at = {
        .it_value = {.tv_sec = (time_t)(ns / KN_NS_PER_S), .tv_usec = (suseconds_t)(ns % KN_NS_PER_S / KN_NS_PER_US)}};
    setitimer(ITIMER_REAL, &at, NULL);
    return 0;
}

static int l_interrupted(lua_State *L)
{
    struct kn_interrupt *interrupt = kn_lua_interrupt(L);
    lua_pushboolean(L, interrupt && atomic_load(&interrupt->hit));
    return 1;
}

/* cleanup(true) … cleanup(false): in between, waits ignore an interrupt. Such pairs may be nested. */
static int l_cleanup(lua_State *L)
{
    struct kn_interrupt *interrupt = kn_lua_interrupt(L);
    luaL_checktype(L, 1, LUA_TBOOLEAN);
    if (interrupt && lua_toboolean(L, 1))
        interrupt->cleanups++;
    else if (interrupt && interrupt->cleanups)
        interrupt->cleanups--;
    return 0;
}

/* An interrupt ends the wait for a pipe's reader even during a cleanup: results are written last. */
static int l_write_file(lua_State *L)
{
    size_t size;
    const char *path = luaL_checkstring(L, 1), *text = luaL_checklstring(L, 2, &size);
    struct kn_interrupt *interrupt = kn_lua_interrupt(L);
    struct kn_error err;
    int rc = kn_write_file(path, text, size, interrupt ? interrupt->fd : -1, &err);
    return kn_lua_true_or_fail(L, rc, &err);
}

/* can_write(path) -> true, whether it is a pipe or a device instead of a file */
static int l_can_write(lua_State *L)
{
    struct kn_error err;
    int rc = kn_can_write(luaL_checkstring(L, 1), &err);
    if (rc < 0)
        return kn_lua_fail(L, &err);
    lua_pushboolean(L, 1);
    lua_pushboolean(L, rc > 0);
    return 2;
}

static void close_folder(void *folder)
{
    if (folder)
        closedir(folder);
}

/* list_files(folder) -> the names in it, in any order | nil, err */
static int l_list_files(lua_State *L)
{
    struct kn_error err;
    const char *path = luaL_checkstring(L, 1);
    struct kn_box *box = kn_lua_box(L, close_folder);
    DIR *folder = box->ptr = opendir(path);
    if (!folder) {
        kn_fail_errno(&err, "cannot read %s", path);
        return kn_lua_fail(L, &err);
    }
    lua_newtable(L);
    lua_Integer n = 0;
    for (struct dirent *entry; (entry = readdir(folder));) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
            continue;
        lua_pushstring(L, entry->d_name);
        lua_rawseti(L, -2, ++n);
    }
    return 1;
}

/* make_folder(path) -> true, also where it is there already | nil, err */
static int l_make_folder(lua_State *L)
{
    struct kn_error err;
    const char *path = luaL_checkstring(L, 1);
    int rc = mkdir(path, 0777) && errno != EEXIST ? kn_fail_errno(&err, "cannot make %s", path) : 0;
    return kn_lua_true_or_fail(L, rc, &err);
}

static int l_isatty(lua_State *L)
{
    lua_Integer fd = luaL_checkinteger(L, 1);
    luaL_argcheck(L, fd >= 0 && fd <= INT_MAX, 1, "file descriptor expected");
    lua_pushboolean(L, isatty((int)fd));
    return 1;
}

/* COLUMNS, or the width of the terminal of any of the three standard streams; nil if there is neither. */
static int l_columns(lua_State *L)
{
    const char *told = getenv("COLUMNS");
    struct winsize w = {0};
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

const luaL_Reg kn_lua_system[] = {
    {"now", l_now},
    {"wall", l_wall},
    {"sleep", l_sleep},
    {"alarm", l_alarm},
    {"interrupted", l_interrupted},
    {"cleanup", l_cleanup},
    {"write_file", l_write_file},
    {"can_write", l_can_write},
    {"list_files", l_list_files},
    {"make_folder", l_make_folder},
    {"isatty", l_isatty},
    {"columns", l_columns},
    {"token", l_token},
    {"machine", l_machine},
    {NULL, NULL},
};
