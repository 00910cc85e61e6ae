/* lua/embed - the Lua library and the scenarios inside the binary: reading them, and requiring them. */
#include <string.h>
#include <lualib.h>

#include "lua/bind.h"

struct embedded { const char *name, *start, *end; };
/* made by embed.sh; ends with a NULL name */
extern const struct embedded kn_embedded[] __attribute__((visibility("hidden")));

static const struct embedded *find(const char *name)
{
    for (const struct embedded *e = kn_embedded; e->name; e++)
        if (strcmp(e->name, name) == 0)
            return e;
    return NULL;
}

static int l_embedded(lua_State *L)
{
    const struct embedded *e = find(luaL_checkstring(L, 1));
    if (!e)
        return lua_pushnil(L), 1;
    lua_pushlstring(L, e->start, (size_t)(e->end - e->start));
    return 1;
}

static int l_embedded_list(lua_State *L)
{
    lua_newtable(L);
    lua_Integer n = 0;
    for (const struct embedded *e = kn_embedded; e->name; e++) {
        lua_pushstring(L, e->name);
        lua_rawseti(L, -2, ++n);
    }
    return 1;
}

/* "knbl.format.json" is lua/knbl/format/json.lua or lua/knbl/format/json/init.lua. */
static const struct embedded *find_module(lua_State *L, const char *module)
{
    const char *path = luaL_gsub(L, module, ".", "/");
    const struct embedded *e = find(lua_pushfstring(L, "lua/%s.lua", path));
    return e ? e : find(lua_pushfstring(L, "lua/%s/init.lua", path));
}

static int load(lua_State *L, const struct embedded *e)
{
    const char *chunk = lua_pushfstring(L, "@%s", e->name);
    if (luaL_loadbufferx(L, e->start, (size_t)(e->end - e->start), chunk, "t") != LUA_OK)
        return lua_error(L);
    lua_pushstring(L, e->name);
    return 2;
}

static int search_embedded(lua_State *L)
{
    const char *module = luaL_checkstring(L, 1);
    const struct embedded *e = find_module(L, module);
    if (e)
        return load(L, e);
    lua_pushfstring(L, "no embedded module '%s'", module);
    return 1;
}

/* Upvalue 1: the templates. Lua's own package.searchpath does the looking. */
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
    lua_Integer at = 2; /* after the preloaded ones */
    if (*path) {
        lua_pushstring(L, path);
        lua_pushcclosure(L, search_disk, 1);
        insert_searcher(L, searchers, at++);
    }
    lua_pushcfunction(L, search_embedded);
    insert_searcher(L, searchers, at);
    lua_settop(L, top);
}

/* require "knbl" from a stock lua5.4: the library comes from inside, unless its path has it on disk. */
int luaopen_knbl(lua_State *L)
{
    kn_lua_searchers(L, "");
    const struct embedded *e = find("lua/knbl/init.lua");
    if (!e)
        return luaL_error(L, "this build of knbl holds no Lua library");
    load(L, e);
    lua_pop(L, 1);
    lua_pushliteral(L, "knbl");
    lua_call(L, 1, 1);
    return 1;
}

static const luaL_Reg functions[] = {
    { "embedded", l_embedded },
    { "embedded_list", l_embedded_list },
    { NULL, NULL },
};

void kn_lua_embed(lua_State *L) { luaL_setfuncs(L, functions, 0); }
