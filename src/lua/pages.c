/* lua/pages - an HTTP server of texts, in this process. */
#include "agent/config.h"
#include "agent/pages.h"
#include "lua/bind.h"

#define TYPE "knbl.pages"

static void free_pages(void *pages)
{
    kn_pages_free(pages);
}

static int pages_port(lua_State *L)
{
    lua_pushinteger(L, kn_pages_port(kn_lua_check_handle(L, TYPE)));
    return 1;
}

/* pages:put(path, type, body [, { status = 200, fresh = seconds }]) -> true | nil, err */
static int pages_put(lua_State *L)
{
    struct kn_error err;
    struct kn_pages *pages = kn_lua_check_handle(L, TYPE);
    const char *path = luaL_checkstring(L, 2);
    struct kn_page page = {.status = 200, .type = luaL_checkstring(L, 3)};
    page.body = luaL_checklstring(L, 4, &page.size);
    if (!lua_isnoneornil(L, 5)) {
        luaL_checktype(L, 5, LUA_TTABLE);
        page.status = (unsigned)kn_lua_opt_number(L, 5, "status", 200);
        page.fresh_ns = (uint64_t)(kn_lua_opt_number(L, 5, "fresh", 0) * 1e9);
    }
    return kn_lua_true_or_fail(L, kn_pages_put(pages, path, &page, &err), &err);
}

static const luaL_Reg methods[] = {
    {"port", pages_port},
    {"put", pages_put},
    {NULL, NULL},
};

/* core.pages("127.0.0.1:0") -> pages | nil, err */
static int l_pages(lua_State *L)
{
    struct kn_addr at;
    struct kn_error err;
    if (kn_agent_listen(luaL_checkstring(L, 1), &at, &err) < 0)
        return kn_lua_fail(L, &err);
    struct kn_box *pages = kn_lua_handle(L, TYPE, methods, free_pages);
    return (pages->ptr = kn_pages_new(&at, &err)) ? 1 : kn_lua_fail(L, &err);
}

const luaL_Reg kn_lua_pages[] = {
    {"pages", l_pages},
    {NULL, NULL},
};
