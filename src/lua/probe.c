/* lua/probe - tries what this machine allows, for `knbl doctor`. */
#include <linux/perf_event.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lua/bind.h"
#include "meter/meter.h"
#include "meter/stacks.h"

static int opened(lua_State *L, int fd, const char *what)
{
    struct kn_error err;
    int rc = fd < 0 ? kn_fail_errno(&err, "%s", what) : close(fd);
    return kn_lua_true_or_fail(L, rc, &err);
}

static int try_perf(lua_State *L)
{
    struct kn_error err;
    return kn_lua_true_or_fail(L, kn_stacks_probe(&err), &err);
}

/* A hardware counter, which virtual machines often lack. */
static int try_counters(lua_State *L)
{
    struct perf_event_attr attr = {
        .type = PERF_TYPE_HARDWARE,
        .size = sizeof attr,
        .config = PERF_COUNT_HW_CPU_CYCLES,
        .disabled = 1,
    };
    return opened(L, (int)syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC), "counting cycles");
}

static int try_socket(lua_State *L, int family, int type, int protocol, const char *what)
{
    return opened(L, socket(family, type | SOCK_CLOEXEC, protocol), what);
}

static int try_icmp(lua_State *L)
{
    return try_socket(L, AF_INET, SOCK_DGRAM, IPPROTO_ICMP, "an ICMP socket");
}

static int try_raw(lua_State *L)
{
    return try_socket(L, AF_INET, SOCK_RAW, IPPROTO_ICMP, "a raw socket");
}

static int try_ipv6(lua_State *L)
{
    return try_socket(L, AF_INET6, SOCK_DGRAM, 0, "an IPv6 socket");
}

static const luaL_Reg probes[] = {
    {"perf", try_perf}, {"counters", try_counters}, {"icmp", try_icmp},
    {"raw", try_raw},   {"ipv6", try_ipv6},         {NULL, NULL},
};

/* core.probe(name) -> true | nil, err */
static int l_probe(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    for (const luaL_Reg *p = probes; p->name; p++)
        if (strcmp(p->name, name) == 0)
            return p->func(L);
    return luaL_argerror(L, 1, lua_pushfstring(L, "unknown probe '%s'", name));
}

/* core.cpus() -> the number of CPUs that this process may use, and the cgroup's quota in cores or nil */
static int l_cpus(lua_State *L)
{
    double quota = kn_cpu_quota();
    lua_pushinteger(L, (lua_Integer)kn_cpus_allowed());
    if (quota > 0)
        lua_pushnumber(L, quota);
    else
        lua_pushnil(L);
    return 2;
}

const luaL_Reg kn_lua_probe[] = {
    {"probe", l_probe},
    {"cpus", l_cpus},
    {NULL, NULL},
};
