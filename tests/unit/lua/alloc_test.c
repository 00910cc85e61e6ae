/* Lua runs out of memory at every allocation there is: the bindings raise, and nothing that C holds is leaked or freed
 * twice (the sanitizers look). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <lauxlib.h>
#include <lualib.h>
#include <stdlib.h>
#include <string.h>

#include "lua/bind.h"

/* What embed.sh makes for the program. */
struct embedded {
    const char *name, *start, *end;
};
extern const struct embedded kn_embedded[];
static const char module[] = "return { inside = true }";
const struct embedded kn_embedded[] = {
    {"lua/sample.lua", module, module + sizeof module - 1},
    {NULL, NULL, NULL},
};

struct budget {
    long left;
}; /* allocations until they fail; negative: they do not */

static void *allocate(void *data, void *ptr, size_t old, size_t size)
{
    struct budget *budget = data;
    if (!size) {
        free(ptr);
        return NULL;
    }
    if (budget->left == 0 && !(ptr && size <= old))
        return NULL; /* and all that follow, for Lua tries again after a collection */
    budget->left -= budget->left > 0;
    return realloc(ptr, size);
}

static int open_all(lua_State *L)
{
    luaL_requiref(L, LUA_GNAME, luaopen_base, 1);
    luaL_requiref(L, LUA_LOADLIBNAME, luaopen_package, 1);
    kn_lua_searchers(L, "/nonexistent/?.lua");
    lua_settop(L, 0);
    return luaL_loadstring(L, lua_touserdata(L, lua_upvalueindex(1))) == LUA_OK ? (lua_call(L, 0, 0), 0) : lua_error(L);
}

/* 0: the script went through; else Lua's status. */
static int run_with(const char *script, long failing)
{
    struct budget budget = {-1};
    lua_State *L = lua_newstate(allocate, &budget);
    assert_non_null(L);
    lua_pushlightuserdata(L, (void *)(uintptr_t)script);
    lua_pushcclosure(L, open_all, 1);
    budget.left = failing;
    int status = lua_pcall(L, 0, 0, 0);
    budget.left = -1;
    if (status != LUA_OK && status != LUA_ERRMEM && !strstr(lua_tostring(L, -1), "memory"))
        fail_msg("allocation %ld: %s", failing, lua_tostring(L, -1));
    lua_close(L);
    return status;
}

static void survives(const char *script)
{
    assert_int_equal(run_with(script, -1), LUA_OK);
    long n = 0;
    while (run_with(script, n) != LUA_OK)
        n++;
    assert_true(n > 50);
}

static void values(void **state)
{
    (void)state;
    survives("local core = require 'knbl.core'\n"
             "assert(require('sample').inside)\n"
             "assert(core.check '{\"test\":\"tcp_rr\"}') assert(not core.check '{\"test\":\"nix\"}')\n"
             "assert(#core.fields() > 5 and #core.tests() > 5 and core.nearest('tcp_r', { 'tcp_rr' }))\n"
             "assert(#core.sizes '1:64K:*2' == 17 and core.rate '20k/s' and core.duration '1s' == 1)\n"
             "local h = '{\"count\":1,\"min\":1,\"max\":1,\"sum\":\"1\",\"sum_sq\":\"1\",\"buckets\":[[1,1]]}'\n"
             "assert(core.hist_merge { h, h, h }) assert(core.hist_percentile(h, { 50, 99 }))\n"
             "assert(core.median_interval { 1, 2, 3 } and core.rank_test({ 1, 2 }, { 3 }))\n"
             "assert(not core.write_file('/nonexistent/x', 'y') and core.token() and core.wall())\n");
}

static void resources(void **state)
{
    (void)state;
    survives("local core = require 'knbl.core'\n"
             "local token = core.token()\n"
             "local agent <close> = assert(core.agent { token = token, name = 'a', node = 'n' })\n"
             "local url = 'http://127.0.0.1:' .. agent:port()\n"
             "local answer = assert(core.fetch { url = url .. '/v1/agent', headers = { ['Knbl-Token'] = token } })\n"
             "assert(answer.status == 200 and answer.headers['content-type'])\n"
             "local stream <close> = assert(core.fetch_open { url = url, headers = { 'X: y' } })\n"
             "assert(stream:status() == 401 and stream:headers() and stream:line(5))\n"
             "local to = { host = '127.0.0.1', port = agent:port(), token = token }\n"
             "local run <close> = assert(core.run('{\"test\":\"tcp_rr\",\"count\":10}', to))\n"
             "assert(run:wait(10) and run:progress() and run:result())\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(values), cmocka_unit_test(resources)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
