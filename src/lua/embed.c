/* lua/embed - reads the Lua library and the scenarios that are embedded in the binary. */
#include "lua/bind.h"

#include <string.h>

struct embedded {
    const char *name, *start, *end;
};
/* made by embed.sh; ends with a NULL name */
extern const struct embedded kn_embedded[] __attribute__((visibility("hidden")));

const char *kn_embedded_text(const char *name, size_t *size)
{
    for (const struct embedded *e = kn_embedded; e->name; e++)
        if (strcmp(e->name, name) == 0) {
            *size = (size_t)(e->end - e->start);
            return e->start;
        }
    return NULL;
}

static int l_embedded(lua_State *L)
{
    size_t size;
    const char *text = kn_embedded_text(luaL_checkstring(L, 1), &size);
    if (!text)
        return lua_pushnil(L), 1;
    lua_pushlstring(L, text, size);
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

const luaL_Reg kn_lua_embed[] = {
    {"embedded", l_embedded},
    {"embedded_list", l_embedded_list},
    {NULL, NULL},
};
