/* lua/hist - histograms as JSON text, and statistics over lists of figures. */
#include <math.h>

#include "core/hist.h"
#include "core/json.h"
#include "core/hist.h"
#include "core/stats.h"
#include "lua/bind.h"

/* The list at `arg` as an array in a box. */
static double *check_numbers(lua_State *L, int arg, size_t *n)
{
    luaL_checktype(L, arg, LUA_TTABLE);
    *n = (size_t)luaL_len(L, arg);
    double *list = lua_newuserdatauv(L, (*n + 1) * sizeof *list, 0);
    for (size_t i = 0; i < *n; i++) {
        lua_geti(L, arg, (lua_Integer)i + 1);
        if (lua_type(L, -1) != LUA_TNUMBER || !isfinite(lua_tonumber(L, -1)))
            luaL_argerror(L, arg, lua_pushfstring(L, "item %d of the list must be a number", (int)i + 1));
        list[i] = lua_tonumber(L, -1);
        lua_pop(L, 1);
    }
    return list;
}

static void append_text(lua_State *L, json_t *list, lua_Integer i)
{
    json_error_t e;
    size_t size;
    lua_geti(L, 1, i);
    if (lua_type(L, -1) != LUA_TSTRING)
        luaL_argerror(L, 1,
                      lua_pushfstring(L, "histogram %I must be a JSON string, got a %s", i, luaL_typename(L, -1)));
    const char *text = lua_tolstring(L, -1, &size);
    if (json_array_append_new(list, kn_json_load(text, size, 0, &e)) < 0)
        luaL_argerror(L, 1, lua_pushfstring(L, "histogram %I is not valid JSON", i));
    lua_pop(L, 1);
}

static int l_hist_merge(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    struct kn_box *list = kn_lua_json_box(L);
    struct kn_error err;
    lua_Integer n = luaL_len(L, 1);
    list->ptr = json_array();
    for (lua_Integer i = 1; i <= n; i++)
        append_text(L, list->ptr, i);
    json_t *merged = kn_hist_merge_json(list->ptr, &err);
    return merged ? kn_lua_push_json(L, merged) : kn_lua_fail(L, &err);
}

static void free_hist(void *h)
{
    kn_hist_free(h);
}

static int l_hist_percentile(lua_State *L)
{
    size_t n;
    json_t *json = kn_lua_check_json(L, 1);
    const double *percents = check_numbers(L, 2, &n);
    struct kn_box *h = kn_lua_box(L, free_hist);
    struct kn_error err;
    if (!(h->ptr = kn_hist_from_json(json, &err)))
        return kn_lua_fail(L, &err);
    lua_createtable(L, (int)n, 0);
    for (size_t i = 0; i < n; i++) {
        luaL_argcheck(L, percents[i] >= 0 && percents[i] <= 100, 2, "percents must be from 0 to 100");
        lua_pushinteger(L, (lua_Integer)kn_hist_percentile(h->ptr, percents[i]));
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    return 1;
}

/* With too few values for that confidence, returns only the median. */
static int push_interval(lua_State *L, const struct kn_interval *interval, double confidence)
{
    lua_pushnumber(L, interval->median);
    if (interval->confidence < confidence)
        return 1;
    lua_pushnumber(L, interval->low);
    lua_pushnumber(L, interval->high);
    return 3;
}

static int l_median_interval(lua_State *L)
{
    size_t n;
    double confidence = luaL_optnumber(L, 2, 0.95);
    struct kn_interval interval;
    struct kn_error err;
    const double *values = check_numbers(L, 1, &n);
    luaL_argcheck(L, n > 0, 1, "list must not be empty");
    luaL_argcheck(L, confidence > 0 && confidence < 1, 2, "confidence must be between 0 and 1");
    if (kn_stats_median(values, n, confidence, &interval, &err))
        return luaL_error(L, "%s", err.message);
    return push_interval(L, &interval, confidence);
}

static int l_rank_test(lua_State *L)
{
    size_t na, nb;
    const double *a = check_numbers(L, 1, &na), *b = check_numbers(L, 2, &nb);
    luaL_argcheck(L, na > 0, 1, "list must not be empty");
    luaL_argcheck(L, nb > 0, 2, "list must not be empty");
    double p;
    struct kn_error err;
    if (kn_stats_rank_test(a, na, b, nb, &p, &err))
        return luaL_error(L, "%s", err.message);
    lua_pushnumber(L, p);
    return 1;
}

/* Like median_interval, for the shift of the second list against the first. */
static int l_shift_interval(lua_State *L)
{
    size_t na, nb;
    double confidence = luaL_optnumber(L, 3, 0.95);
    const double *a = check_numbers(L, 1, &na), *b = check_numbers(L, 2, &nb);
    struct kn_interval interval;
    struct kn_error err;
    luaL_argcheck(L, na > 0, 1, "list must not be empty");
    luaL_argcheck(L, nb > 0, 2, "list must not be empty");
    luaL_argcheck(L, confidence > 0 && confidence < 1, 3, "confidence must be between 0 and 1");
    if (kn_stats_shift(a, na, b, nb, confidence, &interval, &err))
        return luaL_error(L, "%s", err.message);
    return push_interval(L, &interval, confidence);
}

const luaL_Reg kn_lua_hist[] = {
    {"hist_merge", l_hist_merge}, {"hist_percentile", l_hist_percentile}, {"median_interval", l_median_interval},
    {"rank_test", l_rank_test},   {"shift_interval", l_shift_interval},   {NULL, NULL},
};
