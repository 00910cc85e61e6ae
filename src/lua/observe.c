/* lua/observe - observes this machine, in this process. */
#include "lua/bind.h"
#include "meter/observe.h"

#define TYPE "knbl.observation"

static void free_observation(void *observation)
{
    kn_observation_free(observation);
}

/* observation:finish() -> the result as JSON; may be called once */
static int watch_finish(lua_State *L)
{
    json_t *seen = kn_observation_stop(kn_lua_check_handle(L, TYPE));
    struct kn_box *box = lua_touserdata(L, 1);
    kn_observation_free(box->ptr);
    box->ptr = NULL;
    return kn_lua_push_json(L, seen);
}

static const luaL_Reg methods[] = {
    {"finish", watch_finish},
    {NULL, NULL},
};

/* core.observe(json) -> observation | nil, err */
static int l_observe(lua_State *L)
{
    struct kn_error err;
    json_t *request = kn_lua_check_json(L, 1);
    struct kn_box *watch = kn_lua_handle(L, TYPE, methods, free_observation);
    return (watch->ptr = kn_observation_new(request, &err)) ? 1 : kn_lua_fail(L, &err);
}

const luaL_Reg kn_lua_observe[] = {
    {"observe", l_observe},
    {NULL, NULL},
};
