/* lua/core - the module knbl.core, made of its parts. */
#include "lua/bind.h"
#include "net/wire.h"

int luaopen_knbl_core(lua_State *L)
{
    luaL_checkversion(L);
    lua_newtable(L);
    lua_pushliteral(L, KNBL_VERSION);
    lua_setfield(L, -2, "version");
    lua_pushinteger(L, KN_PROTOCOL);
    lua_setfield(L, -2, "protocol");
    kn_lua_embed(L);
    kn_lua_system(L);
    kn_lua_units(L);
    kn_lua_spec(L);
    kn_lua_hist(L);
    kn_lua_fetch(L);
    kn_lua_fetch_pool(L);
    kn_lua_probe(L);
    kn_lua_run(L);
    kn_lua_agent(L);
    kn_lua_lab(L);
    kn_lua_kube(L);
    kn_lua_pack(L);
    kn_lua_observe(L);
    kn_lua_pages(L);
    kn_lua_process(L);
    kn_lua_pick(L);
    return 1;
}
