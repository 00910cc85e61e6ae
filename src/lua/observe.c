/* lua/observe - an observation by this process, of the machine that it runs on. */
#include "lua/bind.h"
#include "meter/observe.h"

#define TYPE "knbl.observation"

struct watch { struct kn_observation *observation; };

static int watch_close(lua_State *L)
{
    struct watch *w = luaL_checkudata(L, 1, TYPE);
    struct kn_observation *observation = w->observation;
    w->observation = NULL;
    kn_observation_free(observation);
    return 0;
}

/* observation:finish() -> what was seen, as JSON; once */
static int watch_finish(lua_State *L)
{
    struct watch *w = luaL_checkudata(L, 1, TYPE);
    luaL_argcheck(L, w->observation, 1, "the observation is over");
    json_t *seen = kn_observation_stop(w->observation);
    watch_close(L);
    return kn_lua_push_json(L, seen);
}

static const luaL_Reg methods[] = {
    { "finish", watch_finish },
    { NULL, NULL },
};

/* core.observe(json) -> observation | nil, err */
static int l_observe(lua_State *L)
{
    struct kn_error err;
    json_t *request = kn_lua_check_json(L, 1);
    struct watch *w = lua_newuserdatauv(L, sizeof *w, 0);
    *w = (struct watch){ NULL };
    kn_lua_type(L, TYPE, methods, watch_close);
    lua_setmetatable(L, -2);
    if (!(w->observation = kn_observation_new(request, &err)))
        return kn_lua_fail(L, &err);
    return 1;
}

static const luaL_Reg functions[] = {
    { "observe", l_observe },
    { NULL, NULL },
};

void kn_lua_observe(lua_State *L) { luaL_setfuncs(L, functions, 0); }
