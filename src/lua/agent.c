/* lua/agent - an agent in this process. */
#include <stdio.h>
#include <string.h>

#include "agent/agent.h"
#include "lua/bind.h"

#define TYPE "knbl.agent"

struct agent { struct kn_agent *agent; };

static int agent_close(lua_State *L)
{
    struct agent *a = luaL_checkudata(L, 1, TYPE);
    struct kn_agent *agent = a->agent;
    a->agent = NULL;
    if (agent)
        kn_agent_free(agent);
    return 0;
}

static int agent_port(lua_State *L)
{
    struct agent *a = luaL_checkudata(L, 1, TYPE);
    luaL_argcheck(L, a->agent, 1, "the agent is closed");
    lua_pushinteger(L, kn_agent_port(a->agent));
    return 1;
}

static void take_name(lua_State *L, int arg, const char *key, char *into, size_t room)
{
    const char *name = kn_lua_opt_text(L, arg, key, "");
    if (strlen(name) >= room)
        luaL_argerror(L, arg, lua_pushfstring(L, "'%s' is longer than %d bytes", key, (int)room - 1));
    snprintf(into, room, "%s", name);
}

static int take_config(lua_State *L, int arg, struct kn_agent_config *config, struct kn_error *err)
{
    static const char *const keys[] = { "listen", "unix", "token", "name", "node", "max_duration", "max_runs", NULL };
    kn_lua_known_keys(L, arg, keys);
    kn_agent_defaults(config);
    config->unix_path = kn_lua_opt_text(L, arg, "unix", NULL);
    config->token = kn_lua_opt_text(L, arg, "token", NULL);
    luaL_argcheck(L, config->token, arg, "'token' is missing");
    take_name(L, arg, "name", config->me.name, sizeof config->me.name);
    take_name(L, arg, "node", config->me.node, sizeof config->me.node);
    double seconds = kn_lua_opt_number(L, arg, "max_duration", (double)config->max_duration_ns / 1e9);
    double runs = kn_lua_opt_number(L, arg, "max_runs", config->max_runs);
    luaL_argcheck(L, seconds > 0 && seconds < 1e9, arg, "'max_duration' is no number of seconds");
    luaL_argcheck(L, runs >= 1 && runs <= 1e6, arg, "'max_runs' is no number of runs");
    config->max_duration_ns = (uint64_t)(seconds * 1e9);
    config->max_runs = (unsigned)runs;
    return kn_agent_listen(kn_lua_opt_text(L, arg, "listen", "127.0.0.1:0"), &config->listen, err);
}

static const luaL_Reg methods[] = {
    { "port", agent_port },
    { NULL, NULL },
};

static int l_agent(lua_State *L)
{
    struct kn_agent_config config;
    struct kn_error err;
    if (take_config(L, 1, &config, &err) < 0)
        return kn_lua_fail(L, &err);
    struct agent *a = lua_newuserdatauv(L, sizeof *a, 0);
    a->agent = NULL;
    kn_lua_type(L, TYPE, methods, agent_close);
    lua_setmetatable(L, -2);
    if (!(a->agent = kn_agent_new(&config, &err)))
        return kn_lua_fail(L, &err);
    return 1;
}

static const luaL_Reg functions[] = {
    { "agent", l_agent },
    { NULL, NULL },
};

void kn_lua_agent(lua_State *L) { luaL_setfuncs(L, functions, 0); }
