/* lua/lab - the cluster made of namespaces; requests and answers are JSON text. */
#include "lab/lab.h"
#include "lua/bind.h"

#define TYPE "knbl.lab"

static void close_lab(void *lab)
{
    kn_lab_close(lab);
}

/* Returns an answer, or its error. */
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
    struct kn_lab *lab = kn_lua_check_handle(L, TYPE);
    struct kn_error err;
    kn_lab_stop_fd(lab, kn_lua_interrupt_fd(L));
    json_t *json = kn_lab_request(lab, kn_lua_check_json(L, 2), &err);
    return json ? answer(L, json) : kn_lua_fail(L, &err);
}

static const luaL_Reg methods[] = {
    {"request", lab_request},
    {NULL, NULL},
};

static int l_lab(lua_State *L)
{
    struct kn_error err;
    json_t *options = kn_lua_check_json(L, 1);
    struct kn_box *lab = kn_lua_handle(L, TYPE, methods, close_lab);
    return (lab->ptr = kn_lab_open(options, &err)) ? 1 : kn_lua_fail(L, &err);
}

/* An "exec" from inside a lab. */
static int l_lab_exec(lua_State *L)
{
    struct kn_error err;
    json_t *json = kn_lab_exec_inside(kn_lua_check_json(L, 1), &err);
    return json ? answer(L, json) : kn_lua_fail(L, &err);
}

/* true, or what `lab` would refuse in these options. */
static int l_lab_check(lua_State *L)
{
    struct kn_error err;
    int rc = kn_lab_options_check(kn_lua_check_json(L, 1), &err);
    return kn_lua_true_or_fail(L, rc, &err);
}

const luaL_Reg kn_lua_lab[] = {
    {"lab", l_lab},
    {"lab_check", l_lab_check},
    {"lab_exec", l_lab_exec},
    {NULL, NULL},
};
