/* lua/agent - an agent in this process. */
#include <stdio.h>
#include <string.h>

#include "agent/agent.h"
#include "lua/bind.h"

#define TYPE "knbl.agent"

static void free_agent(void *agent)
{
    kn_agent_free(agent);
}

static int agent_port(lua_State *L)
{
    lua_pushinteger(L, kn_agent_port(kn_lua_check_handle(L, TYPE)));
    return 1;
}

static void take_name(lua_State *L, int arg, const char *key, char *into, size_t room)
{
    const char *name = kn_lua_opt_text(L, arg, key, "");
    if (strlen(name) >= room)
        luaL_argerror(L, arg, lua_pushfstring(L, "%s must have at most %d bytes", key, (int)room - 1));
    snprintf(into, room, "%s", name);
}

/* Seconds; 0 is the default. */
static uint64_t take_time(lua_State *L, int arg, const char *key)
{
    double seconds = kn_lua_opt_number(L, arg, key, 0);
    if (!(seconds >= 0 && seconds < 1e9))
        luaL_argerror(L, arg, lua_pushfstring(L, "'%s' must be from 0 to 1e9 seconds, got %f", key, seconds));
    return (uint64_t)(seconds * 1e9);
}

static uint64_t take_number(lua_State *L, int arg, const char *key, double most)
{
    double n = kn_lua_opt_number(L, arg, key, 0);
    if (!(n >= 0 && n <= most))
        luaL_argerror(L, arg, lua_pushfstring(L, "'%s' must be from 0 to %f, got %f", key, most, n));
    return (uint64_t)n;
}

static int take_config(lua_State *L, int arg, struct kn_agent_config *config, struct kn_error *err)
{
    static const char *const keys[] = {"listen",       "unix",      "token",    "name", "node",
                                       "max_duration", "max_bytes", "max_runs", "idle", NULL};
    kn_lua_known_keys(L, arg, keys);
    kn_agent_defaults(config);
    config->unix_path = kn_lua_opt_text(L, arg, "unix", NULL);
    config->token = kn_lua_opt_text(L, arg, "token", NULL);
    luaL_argcheck(L, config->token, arg, "token is required");
    take_name(L, arg, "name", config->me.name, sizeof config->me.name);
    take_name(L, arg, "node", config->me.node, sizeof config->me.node);
    config->max_duration_ns = take_time(L, arg, "max_duration");
    config->max_bytes = take_number(L, arg, "max_bytes", 1e18);
    config->max_runs = (unsigned)take_number(L, arg, "max_runs", 1e6);
    config->idle_ns = take_time(L, arg, "idle");
    return kn_agent_listen(kn_lua_opt_text(L, arg, "listen", "127.0.0.1:0"), &config->listen, err);
}

static const luaL_Reg methods[] = {
    {"port", agent_port},
    {NULL, NULL},
};

static int l_agent(lua_State *L)
{
    struct kn_agent_config config;
    struct kn_error err;
    if (take_config(L, 1, &config, &err) < 0)
        return kn_lua_fail(L, &err);
    struct kn_box *agent = kn_lua_handle(L, TYPE, methods, free_agent);
    return (agent->ptr = kn_agent_new(&config, &err)) ? 1 : kn_lua_fail(L, &err);
}

const luaL_Reg kn_lua_agent[] = {
    {"agent", l_agent},
    {NULL, NULL},
};
