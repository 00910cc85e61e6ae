/* lua/lab - the cluster made of namespaces; requests and answers are JSON text. */
#include "lab/lab.h"
#include "lua/bind.h"

#define TYPE "knbl.lab"

struct lab { struct kn_lab *lab; };

static int lab_close(lua_State *L)
{
    struct lab *l = luaL_checkudata(L, 1, TYPE);
    struct kn_lab *lab = l->lab;
    l->lab = NULL;
    if (lab)
        kn_lab_close(lab);
    return 0;
}

/* An answer with an error in it is an error. */
static int answer(lua_State *L, json_t *json)
{
    const char *code, *message;
    if (json_unpack(json, "{s:{s:s, s:s}}", "error", "code", &code, "message", &message) < 0)
        return kn_lua_push_json(L, json);
    struct kn_error err;
    kn_fail(&err, kn_code_from_name(code), "%s", message);
    json_decref(json);
    return kn_lua_fail(L, &err);
}

static int lab_request(lua_State *L)
{
    struct lab *l = luaL_checkudata(L, 1, TYPE);
    luaL_argcheck(L, l->lab, 1, "the lab is closed");
    struct kn_error err;
    json_t *json = kn_lab_request(l->lab, kn_lua_check_json(L, 2), &err);
    if (!json && err.code == KN_E_INTERRUPTED)
        kn_interrupt_take(kn_lua_interrupt(L));
    return json ? answer(L, json) : kn_lua_fail(L, &err);
}

static const luaL_Reg methods[] = {
    { "request", lab_request },
    { NULL, NULL },
};

static int l_lab(lua_State *L)
{
    struct kn_error err;
    json_t *options = kn_lua_check_json(L, 1);
    struct lab *l = lua_newuserdatauv(L, sizeof *l, 0);
    l->lab = NULL;
    kn_lua_type(L, TYPE, methods, lab_close);
    lua_setmetatable(L, -2);
    if (!(l->lab = kn_lab_open(options, &err)))
        return kn_lua_fail(L, &err);
    kn_lab_stop_fd(l->lab, kn_lua_interrupt_fd(L));
    return 1;
}

/* An "exec" from within a lab. */
static int l_lab_exec(lua_State *L)
{
    struct kn_error err;
    json_t *json = kn_lab_exec_inside(kn_lua_check_json(L, 1), &err);
    return json ? answer(L, json) : kn_lua_fail(L, &err);
}

static const luaL_Reg functions[] = {
    { "lab", l_lab },
    { "lab_exec", l_lab_exec },
    { NULL, NULL },
};

void kn_lua_lab(lua_State *L) { luaL_setfuncs(L, functions, 0); }
