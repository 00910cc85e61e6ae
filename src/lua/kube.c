/* lua/kube - kubeconfig, credential plugins and YAML for knbl.kube; the rest of the client is Lua over core.fetch. */
#include <sodium.h>
#include <stdlib.h>

#include "kube/config.h"
#include "kube/plugin.h"
#include "kube/yaml.h"
#include "lua/bind.h"

/* kube_config{kubeconfig, context, namespace, as, cluster, user} -> JSON */
static int l_config(lua_State *L)
{
    static const char *const keys[] = {"kubeconfig", "context", "namespace", "as", "cluster", "user", NULL};
    struct kn_kube_options o = {0};
    struct kn_error err = {0};
    luaL_checktype(L, 1, LUA_TTABLE);
    kn_lua_known_keys(L, 1, keys);
    kn_kube_options_environment(&o);
    o.kubeconfig = kn_lua_opt_text(L, 1, "kubeconfig", NULL);
    o.context = kn_lua_opt_text(L, 1, "context", NULL);
    o.namespace = kn_lua_opt_text(L, 1, "namespace", NULL);
    o.as = kn_lua_opt_text(L, 1, "as", NULL);
    o.cluster = kn_lua_opt_text(L, 1, "cluster", NULL);
    o.user = kn_lua_opt_text(L, 1, "user", NULL);
    json_t *config = kn_kube_config(&o, &err);
    return config ? kn_lua_push_json(L, config) : kn_lua_fail(L, &err);
}

/* The strings of a list. The array is a userdata; the strings live as long as the list. */
static const char **text_list(lua_State *L, int index)
{
    luaL_checktype(L, index, LUA_TTABLE);
    size_t n = lua_rawlen(L, index);
    const char **list = lua_newuserdatauv(L, (n + 1) * sizeof *list, 0);
    for (size_t i = 0; i < n; i++) {
        if (lua_rawgeti(L, index, (lua_Integer)i + 1) != LUA_TSTRING)
            luaL_argerror(L, index, "list of strings expected");
        list[i] = lua_tostring(L, -1);
        lua_pop(L, 1);
    }
    list[n] = NULL;
    return list;
}

/* kube_plugin({command, args…}, {"NAME=value"…}, seconds) -> its output */
static int l_plugin(lua_State *L)
{
    struct kn_error err = {0};
    uint64_t timeout_ns = kn_lua_check_seconds(L, 3);
    const char **argv = text_list(L, 1), **env = text_list(L, 2);
    luaL_argcheck(L, argv[0], 1, "command expected");
    struct kn_box *box = kn_lua_box(L, free);
    box->ptr = kn_plugin_run(argv, env, timeout_ns, kn_lua_interrupt_fd(L), &err);
    if (!box->ptr)
        return kn_lua_fail(L, &err);
    lua_pushstring(L, box->ptr);
    return 1;
}

/* yaml_parse(text) -> JSON, an array of documents */
static int l_yaml_parse(lua_State *L)
{
    struct kn_error err = {0};
    size_t size;
    const char *text = luaL_checklstring(L, 1, &size);
    json_t *documents = kn_yaml_parse(text, size, &err);
    return documents ? kn_lua_push_json(L, documents) : kn_lua_fail(L, &err);
}

/* yaml_emit(JSON) -> text */
static int l_yaml_emit(lua_State *L)
{
    struct kn_error err = {0};
    json_t *value = kn_lua_check_json(L, 1);
    struct kn_box *box = kn_lua_box(L, free);
    box->ptr = kn_yaml_emit(value, &err);
    if (!box->ptr)
        return kn_lua_fail(L, &err);
    lua_pushstring(L, box->ptr);
    return 1;
}

static int l_base64(lua_State *L)
{
    size_t size;
    const char *bytes = luaL_checklstring(L, 1, &size);
    luaL_Buffer b;
    size_t room = sodium_base64_encoded_len(size, sodium_base64_VARIANT_ORIGINAL);
    char *out = luaL_buffinitsize(L, &b, room);
    sodium_bin2base64(out, room, (const unsigned char *)bytes, size, sodium_base64_VARIANT_ORIGINAL);
    luaL_pushresultsize(&b, room - 1);
    return 1;
}

/* base64_decode(text) -> bytes; nil if it is not valid base64 */
static int l_base64_decode(lua_State *L)
{
    size_t size, got;
    const char *text = luaL_checklstring(L, 1, &size);
    luaL_Buffer b;
    char *out = luaL_buffinitsize(L, &b, size + 1);
    if (sodium_base642bin((unsigned char *)out, size + 1, text, size, " \r\n", &got, NULL,
                          sodium_base64_VARIANT_ORIGINAL))
        return lua_pushnil(L), 1;
    luaL_pushresultsize(&b, got);
    return 1;
}

const luaL_Reg kn_lua_kube[] = {{"kube_config", l_config},
                                {"kube_plugin", l_plugin},
                                {"yaml_parse", l_yaml_parse},
                                {"yaml_emit", l_yaml_emit},
                                {"base64", l_base64},
                                {"base64_decode", l_base64_decode},
                                {NULL, NULL}};
