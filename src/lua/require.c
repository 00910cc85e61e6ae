/* lua/require - makes require find the modules that are embedded in the binary. */
#include <lualib.h>

#include "lua/bind.h"

/* Pushes the chunk and its name; false if no embedded file has that name. */
static bool load(lua_State *L, const char *name)
{
    size_t size;
    const char *text = kn_embedded_text(name, &size);
    if (!text)
        return false;
    if (luaL_loadbufferx(L, text, size, lua_pushfstring(L, "@%s", name), "t") != LUA_OK)
        lua_error(L);
    lua_pushstring(L, name);
    return true;
}

/* "knbl.format.json" is lua/knbl/format/json.lua or lua/knbl/format/json/init.lua. */
static int search_embedded(lua_State *L)
{
    const char *module = luaL_checkstring(L, 1), *path = luaL_gsub(L, module, ".", "/");
    if (load(L, lua_pushfstring(L, "lua/%s.lua", path)) || load(L, lua_pushfstring(L, "lua/%s/init.lua", path)))
        return 2;
    lua_pushfstring(L, "no embedded module '%s'", module);
    return 1;
}

/* Searches with package.searchpath. Upvalue 1: the templates. */
static int search_disk(lua_State *L)
{
    luaL_checkstring(L, 1);
    lua_getglobal(L, LUA_LOADLIBNAME);
    lua_getfield(L, -1, "searchpath");
    lua_pushvalue(L, 1);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_call(L, 2, 2);
    if (lua_isnil(L, -2))
        return 1;
    lua_pop(L, 1);
    const char *file = lua_tostring(L, -1);
    if (luaL_loadfile(L, file) != LUA_OK)
        return lua_error(L);
    lua_pushvalue(L, -2);
    return 2;
}

static void insert_searcher(lua_State *L, int searchers, lua_Integer at)
{
    for (lua_Integer i = luaL_len(L, searchers); i >= at; i--) {
        lua_rawgeti(L, searchers, i);
        lua_rawseti(L, searchers, i + 1);
    }
    lua_rawseti(L, searchers, at);
}

void kn_lua_searchers(lua_State *L, const char *path)
{
    int top = lua_gettop(L);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
    lua_pushcfunction(L, luaopen_knbl_core);
    lua_setfield(L, -2, "knbl.core");
    lua_getglobal(L, LUA_LOADLIBNAME);
    lua_getfield(L, -1, "searchers");
    int searchers = lua_gettop(L);
    lua_Integer at = 2; /* after package.preload */
    if (*path) {
        lua_pushstring(L, path);
        lua_pushcclosure(L, search_disk, 1);
        insert_searcher(L, searchers, at++);
    }
    lua_pushcfunction(L, search_embedded);
    insert_searcher(L, searchers, at);
    lua_settop(L, top);
}

/* require "knbl" in a stock lua5.4 that found only this module: loads the embedded library. */
int luaopen_knbl(lua_State *L)
{
    kn_lua_searchers(L, "");
    if (!load(L, "lua/knbl/init.lua"))
        return luaL_error(L, "this build of knbl has no embedded Lua library");
    lua_pop(L, 1);
    lua_pushliteral(L, "knbl");
    lua_call(L, 1, 1);
    return 1;
}
