/* lua/pick - parts of JSON texts and files (core/pick). */
#include "core/pick.h"

#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "lua/bind.h"

static int push_picked(lua_State *L, char *text, size_t size, const json_t *shape)
{
    struct kn_error err;
    ptrdiff_t n = kn_json_pick(text, size, shape, &err);
    if (n < 0)
        return kn_lua_fail(L, &err);
    lua_pushlstring(L, text, (size_t)n);
    return 1;
}

/* json_pick(text, shape) -> text | nil, err */
static int l_json_pick(lua_State *L)
{
    size_t size;
    const char *text = luaL_checklstring(L, 1, &size);
    const json_t *shape = kn_lua_check_json(L, 2);
    char *copy = lua_newuserdatauv(L, size + 1, 0);
    memcpy(copy, text, size + 1);
    return push_picked(L, copy, size, shape);
}

/* json_pick_file(path, most bytes, shape) -> text | nil, err */
static int l_json_pick_file(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    lua_Integer most = luaL_checkinteger(L, 2);
    const json_t *shape = kn_lua_check_json(L, 3);
    struct kn_box *box = kn_lua_box(L, free);
    struct kn_error err;
    luaL_argcheck(L, most > 0, 2, "limit must be positive");
    if (!(box->ptr = kn_read_file(path, (size_t)most, &err)))
        return kn_lua_fail(L, &err);
    return push_picked(L, box->ptr, strlen(box->ptr), shape);
}

const luaL_Reg kn_lua_pick[] = {
    {"json_pick", l_json_pick},
    {"json_pick_file", l_json_pick_file},
    {NULL, NULL},
};
