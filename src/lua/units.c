/* lua/units - quantities: text to numbers and back. */
#include <math.h>

#include "core/spec.h"
#include "core/units.h"
#include "lua/bind.h"

/* Accepts a number, or a string to be parsed. */
static int l_duration(lua_State *L)
{
    uint64_t ns;
    struct kn_error err;
    if (kn_duration_parse(luaL_checkstring(L, 1), &ns, &err) < 0)
        return kn_lua_fail(L, &err);
    lua_pushnumber(L, (double)ns / 1e9);
    return 1;
}

static int integer_by(lua_State *L, int (*parse)(const char *, uint64_t *, struct kn_error *))
{
    uint64_t value;
    struct kn_error err;
    if (parse(luaL_checkstring(L, 1), &value, &err) < 0)
        return kn_lua_fail(L, &err);
    lua_pushinteger(L, (lua_Integer)value);
    return 1;
}

static int l_size(lua_State *L)
{
    return integer_by(L, kn_size_parse);
}

static int l_count(lua_State *L)
{
    return integer_by(L, kn_count_parse);
}

static int l_rate(lua_State *L)
{
    struct kn_rate rate = {0};
    struct kn_error err;
    if (kn_rate_parse(luaL_checkstring(L, 1), &rate, &err) < 0)
        return kn_lua_fail(L, &err);
    lua_createtable(L, 0, 1);
    if (rate.bps)
        lua_pushinteger(L, (lua_Integer)rate.bps);
    else
        lua_pushnumber(L, (double)rate.per_1000s / 1000);
    lua_setfield(L, -2, rate.bps ? "bps" : "per_s");
    return 1;
}

static int l_sizes(lua_State *L)
{
    uint64_t sizes[KN_SIZES_MAX];
    struct kn_error err;
    int n = kn_size_list_parse(luaL_checkstring(L, 1), sizes, KN_SIZES_MAX, &err);
    if (n < 0)
        return kn_lua_fail(L, &err);
    lua_createtable(L, n, 0);
    for (int i = 0; i < n; i++) {
        lua_pushinteger(L, (lua_Integer)sizes[i]);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

static double finite_number(lua_State *L)
{
    double x = luaL_checknumber(L, 1);
    luaL_argcheck(L, isfinite(x), 1, "finite number expected");
    return x;
}

static int l_format_duration(lua_State *L)
{
    char text[64];
    lua_pushstring(L, kn_format_duration(text, sizeof text, finite_number(L), lua_toboolean(L, 2)));
    return 1;
}

static int l_format_bits(lua_State *L)
{
    char text[64];
    lua_pushstring(L, kn_format_bits(text, sizeof text, finite_number(L)));
    return 1;
}

static int l_format_size(lua_State *L)
{
    char text[64];
    double bytes = finite_number(L);
    luaL_argcheck(L, bytes >= 0 && bytes < 9e18, 1, "size expected");
    lua_pushstring(L, kn_format_size(text, sizeof text, (uint64_t)bytes));
    return 1;
}

static int l_format_rate(lua_State *L)
{
    char text[64];
    lua_pushstring(L, kn_format_rate(text, sizeof text, finite_number(L)));
    return 1;
}

const luaL_Reg kn_lua_units[] = {
    {"duration", l_duration},
    {"size", l_size},
    {"count", l_count},
    {"rate", l_rate},
    {"sizes", l_sizes},
    {"format_duration", l_format_duration},
    {"format_bits", l_format_bits},
    {"format_size", l_format_size},
    {"format_rate", l_format_rate},
    {NULL, NULL},
};
