/* lua/bind - helpers that the bindings share. */
#include <stdlib.h>
#include <string.h>

#include "lua/bind.h"

#include "core/json.h"

static const char interrupt_key = 0;

void kn_lua_set_interrupt(lua_State *L, struct kn_interrupt *interrupt)
{
    lua_pushlightuserdata(L, interrupt);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &interrupt_key);
}

struct kn_interrupt *kn_lua_interrupt(lua_State *L)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &interrupt_key);
    struct kn_interrupt *i = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return i;
}

int kn_lua_interrupt_fd(lua_State *L)
{
    struct kn_interrupt *i = kn_lua_interrupt(L);
    return i && !i->cleanups ? i->fd : -1;
}

bool kn_interrupted(const struct kn_interrupt *i)
{
    return i && !i->cleanups && atomic_load(&i->hit);
}

static int error_text(lua_State *L)
{
    lua_getfield(L, 1, "message");
    return 1;
}

static int push_error(lua_State *L, enum kn_code code, const char *message, int sys_errno)
{
    lua_pushnil(L);
    lua_createtable(L, 0, 3);
    lua_pushstring(L, kn_code_name(code));
    lua_setfield(L, -2, "code");
    lua_pushstring(L, message);
    lua_setfield(L, -2, "message");
    if (sys_errno) {
        lua_pushinteger(L, sys_errno);
        lua_setfield(L, -2, "errno");
    }
    if (luaL_newmetatable(L, "knbl.error")) {
        lua_pushcfunction(L, error_text);
        lua_setfield(L, -2, "__tostring");
    }
    lua_setmetatable(L, -2);
    return 2;
}

int kn_lua_fail(lua_State *L, const struct kn_error *err)
{
    return push_error(L, err->code, err->message, err->sys_errno);
}

int kn_lua_fail_with(lua_State *L, enum kn_code code, const char *message)
{
    return push_error(L, code, message, 0);
}

int kn_lua_true_or_fail(lua_State *L, int rc, const struct kn_error *err)
{
    if (rc < 0)
        return kn_lua_fail(L, err);
    lua_pushboolean(L, 1);
    return 1;
}

static int handle_close(lua_State *L)
{
    struct kn_box *box = luaL_checkudata(L, 1, lua_tostring(L, lua_upvalueindex(1)));
    void *ptr = box->ptr;
    box->ptr = NULL;
    if (ptr)
        box->free(ptr);
    return 0;
}

static void free_json(void *json)
{
    json_decref(json);
}

struct kn_box *kn_lua_json_box(lua_State *L)
{
    return kn_lua_box(L, free_json);
}

struct kn_box *kn_lua_handle(lua_State *L, const char *name, const luaL_Reg *methods, void (*free_it)(void *))
{
    struct kn_box *box = lua_newuserdatauv(L, sizeof *box, 0);
    *box = (struct kn_box){.free = free_it};
    kn_lua_type(L, name, methods, handle_close);
    lua_setmetatable(L, -2);
    return box;
}

void *kn_lua_check_handle(lua_State *L, const char *name)
{
    struct kn_box *box = luaL_checkudata(L, 1, name);
    if (!box->ptr)
        luaL_argerror(L, 1, lua_pushfstring(L, "the %s is closed", strchr(name, '.') + 1));
    return box->ptr;
}

struct kn_box *kn_lua_box(lua_State *L, void (*free_it)(void *))
{
    struct kn_box *box = kn_lua_handle(L, "knbl.box", NULL, free_it);
    lua_toclose(L, -1);
    return box;
}

static int push_text(lua_State *L)
{
    lua_pushstring(L, lua_touserdata(L, 1));
    return 1;
}

/* In a protected call, so that the text is freed if Lua runs out of memory. */
int kn_lua_push_json(lua_State *L, json_t *owned)
{
    char *text = kn_json_text(owned, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
    json_decref(owned);
    if (!text)
        return luaL_error(L, "out of memory");
    lua_pushcfunction(L, push_text);
    lua_pushlightuserdata(L, text);
    int status = lua_pcall(L, 1, 1, 0);
    free(text);
    return status == LUA_OK ? 1 : lua_error(L);
}

json_t *kn_lua_check_json(lua_State *L, int index)
{
    size_t size;
    const char *text = luaL_checklstring(L, index, &size);
    struct kn_box *box = kn_lua_json_box(L);
    json_error_t e;
    box->ptr = kn_json_load(text, size, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &e);
    if (!box->ptr)
        luaL_argerror(L, index, lua_pushfstring(L, "not JSON: %s (byte %d)", e.text, e.position));
    return box->ptr;
}

void kn_lua_known_keys(lua_State *L, int index, const char *const *names)
{
    luaL_checktype(L, index, LUA_TTABLE);
    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
        const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : NULL;
        size_t i = 0;
        while (key && names[i] && strcmp(names[i], key) != 0)
            i++;
        if (!key)
            luaL_argerror(L, index, "options must have names");
        else if (!names[i])
            luaL_argerror(L, index, lua_pushfstring(L, "unknown option '%s'", key));
    }
}

static void wrong_type(lua_State *L, int index, const char *key, const char *wanted)
{
    luaL_argerror(L, index, lua_pushfstring(L, "%s must be a %s, got a %s", key, wanted, luaL_typename(L, -1)));
}

const char *kn_lua_opt_text(lua_State *L, int index, const char *key, const char *fallback)
{
    lua_getfield(L, index, key);
    if (!lua_isnil(L, -1)) {
        if (lua_type(L, -1) != LUA_TSTRING)
            wrong_type(L, index, key, "string");
        fallback = lua_tostring(L, -1);
    }
    lua_pop(L, 1);
    return fallback;
}

double kn_lua_opt_number(lua_State *L, int index, const char *key, double fallback)
{
    lua_getfield(L, index, key);
    if (!lua_isnil(L, -1)) {
        if (lua_type(L, -1) != LUA_TNUMBER)
            wrong_type(L, index, key, "number");
        fallback = lua_tonumber(L, -1);
    }
    lua_pop(L, 1);
    return fallback;
}

bool kn_lua_opt_flag(lua_State *L, int index, const char *key)
{
    lua_getfield(L, index, key);
    if (!lua_isnil(L, -1) && !lua_isboolean(L, -1))
        wrong_type(L, index, key, "boolean");
    bool on = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return on;
}

uint64_t kn_lua_check_seconds(lua_State *L, int arg)
{
    double s = luaL_checknumber(L, arg);
    luaL_argcheck(L, s >= 0 && s < 3.2e9, arg, "must be a number of seconds from 0 to 3.2e9");
    return (uint64_t)(s * 1e9);
}

void kn_lua_type(lua_State *L, const char *name, const luaL_Reg *methods, lua_CFunction close)
{
    if (!luaL_newmetatable(L, name))
        return;
    lua_pushstring(L, name);
    lua_pushcclosure(L, close, 1);
    lua_pushvalue(L, -1);
    lua_pushvalue(L, -1);
    lua_setfield(L, -4, "__gc");
    lua_setfield(L, -3, "__close");
    lua_newtable(L);
    if (methods)
        luaL_setfuncs(L, methods, 0);
    lua_insert(L, -2);
    lua_setfield(L, -2, "close");
    lua_setfield(L, -2, "__index");
}
