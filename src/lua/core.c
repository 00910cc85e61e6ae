/* lua/core - the module knbl.core, made of its parts. */
#include "lua/bind.h"
#include "net/wire.h"

static const luaL_Reg *const parts[] = {kn_lua_embed,   kn_lua_system,     kn_lua_units, kn_lua_spec,    kn_lua_hist,
                                        kn_lua_fetch,   kn_lua_fetch_pool, kn_lua_probe, kn_lua_run,     kn_lua_agent,
                                        kn_lua_lab,     kn_lua_kube,       kn_lua_pack,  kn_lua_observe, kn_lua_pages,
                                        kn_lua_process, kn_lua_pick};

int luaopen_knbl_core(lua_State *L)
{
    luaL_checkversion(L);
    lua_newtable(L);
    lua_pushliteral(L, KNBL_VERSION);
    lua_setfield(L, -2, "version");
    lua_pushinteger(L, KN_PROTOCOL);
    lua_setfield(L, -2, "protocol");
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        luaL_setfuncs(L, parts[i], 0);
    return 1;
}
