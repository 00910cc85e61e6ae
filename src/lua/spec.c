/* lua/spec - descriptions and checks of specifications. */

#include "core/spec.h"
#include "core/units.h"
#include "engines/engines.h"
#include "lua/bind.h"

static int l_check(lua_State *L)
{
    struct kn_spec spec;
    struct kn_error err;
    json_t *asked = kn_lua_check_json(L, 1);
    if (kn_spec_parse(asked, &kn_engines, &spec, &err) < 0)
        return kn_lua_fail(L, &err);
    return kn_lua_push_json(L, kn_spec_to_json(&spec));
}

/* Pushes JSON made of strings, whole numbers, booleans, lists and objects. */
static void push_value(lua_State *L, const json_t *value)
{
    luaL_checkstack(L, 4, NULL);
    if (json_is_string(value)) {
        lua_pushlstring(L, json_string_value(value), json_string_length(value));
        return;
    }
    if (json_is_boolean(value)) {
        lua_pushboolean(L, json_is_true(value));
        return;
    }
    if (json_is_integer(value)) {
        lua_pushinteger(L, json_integer_value(value));
        return;
    }
    lua_newtable(L);
    const char *key;
    json_t *item;
    size_t i;
    if (json_is_array(value))
        json_array_foreach(value, i, item)
        {
            push_value(L, item);
            lua_rawseti(L, -2, (lua_Integer)i + 1);
        }
    else
        json_object_foreach((json_t *)(uintptr_t)value, key, item)
        {
            push_value(L, item);
            lua_setfield(L, -2, key);
        }
}

static int push_list(lua_State *L, json_t *(*make)(const struct kn_registry *))
{
    struct kn_box *box = kn_lua_json_box(L);
    if (!(box->ptr = make(&kn_engines)))
        return luaL_error(L, "out of memory");
    push_value(L, box->ptr);
    return 1;
}

static int l_fields(lua_State *L)
{
    return push_list(L, kn_options_to_json);
}

static int l_tests(lua_State *L)
{
    return push_list(L, kn_tests_to_json);
}

static int l_nearest(lua_State *L)
{
    const char *word = luaL_checkstring(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    size_t n = (size_t)luaL_len(L, 2), kept = 0;
    const char **words = lua_newuserdatauv(L, (n + 1) * sizeof *words, 0);
    for (size_t i = 0; i < n; i++) {
        lua_geti(L, 2, (lua_Integer)i + 1);
        if (lua_type(L, -1) == LUA_TSTRING)
            words[kept++] = lua_tostring(L, -1); /* the list keeps it */
        lua_pop(L, 1);
    }
    lua_pushstring(L, kn_nearest(word, words, kept)); /* nil for NULL */
    return 1;
}

const luaL_Reg kn_lua_spec[] = {
    {"check", l_check}, {"fields", l_fields}, {"tests", l_tests}, {"nearest", l_nearest}, {NULL, NULL},
};
