/* lua/fetch_pool - HTTP requests at the same time: core.fetch_pool(). */
#include "fetch/fetch.h"
#include "lua/bind.h"

#define POOL "knbl.fetch_pool"

static struct kn_fetch_pool *check_pool(lua_State *L)
{
    return kn_lua_check_handle(L, POOL);
}

static void free_pool(void *pool)
{
    kn_fetch_pool_free(pool);
}

/* pool:add(request, number) -> true | nil, err: begins a request as core.fetch takes it. */
static int pool_add(lua_State *L)
{
    struct kn_fetch_request r;
    struct kn_error err;
    struct kn_fetch_pool *pool = check_pool(L);
    lua_Integer number = luaL_checkinteger(L, 3);
    kn_lua_take_request(L, 2, &r);
    return kn_lua_true_or_fail(L, kn_fetch_pool_add(pool, &r, (uint64_t)number, &err), &err);
}

/* pool:wait(seconds) -> number, response | number, nil, err: the next that is over | nil: none in that time
 * | nil, nil, err: interrupted */
static int pool_wait(lua_State *L)
{
    struct kn_error err;
    struct kn_fetch_pool *pool = check_pool(L);
    uint64_t timeout_ns = kn_lua_check_seconds(L, 2), number = 0;
    int failed = 0;
    struct kn_fetch_response *response = kn_lua_new_response(L);
    int rc = kn_fetch_pool_wait(pool, timeout_ns, kn_lua_interrupt_fd(L), &number, &failed, response, &err);
    if (rc > 0)
        lua_pushinteger(L, (lua_Integer)number);
    else
        lua_pushnil(L);
    if (rc == 0)
        return 1;
    if (rc < 0 || failed)
        return 1 + kn_lua_fail(L, &err);
    kn_lua_push_response(L, response);
    return 2;
}

static const luaL_Reg methods[] = {{"add", pool_add}, {"wait", pool_wait}, {NULL, NULL}};

static int l_fetch_pool(lua_State *L)
{
    struct kn_error err;
    struct kn_box *pool = kn_lua_handle(L, POOL, methods, free_pool);
    return (pool->ptr = kn_fetch_pool_new(&err)) ? 1 : kn_lua_fail(L, &err);
}

const luaL_Reg kn_lua_fetch_pool[] = {{"fetch_pool", l_fetch_pool}, {NULL, NULL}};
