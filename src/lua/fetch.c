/* lua/fetch - HTTP requests with whole answers or streams. */
#include <string.h>

#include "core/clock.h"
#include "fetch/fetch.h"
#include "lua/bind.h"

#define CLIENT "knbl.fetch_client"
#define STREAM "knbl.stream"

static const char client_key = 0;

/* ---- requests -------------------------------------------------------------------------------- */

static const char *const keys[] = {
    "method", "url",  "headers", "body",        "unix",     "timeout", "connect_timeout", "max_body",
    "ca",     "cert", "key",     "server_name", "insecure", "proxy",   "http1",           NULL,
};

/* {Name = "value", …} or {"Name: value", …} as a NULL-ended array in a userdata, its strings in a table. */
static const char *const *take_headers(lua_State *L, int arg)
{
    if (lua_getfield(L, arg, "headers") == LUA_TNIL)
        return NULL;
    luaL_argcheck(L, lua_istable(L, -1), arg, "headers must be a table");
    int from = lua_gettop(L);
    size_t n = 0;
    for (lua_pushnil(L); lua_next(L, from); lua_pop(L, 1))
        n++;
    const char **list = lua_newuserdatauv(L, (n + 1) * sizeof *list, 0);
    lua_createtable(L, (int)n, 0);
    int keep = lua_gettop(L);
    n = 0;
    for (lua_pushnil(L); lua_next(L, from);) {
        luaL_argcheck(L, lua_isstring(L, -1), arg, "the value of a header must be a string");
        if (lua_type(L, -2) == LUA_TSTRING) {
            const char *value = lua_tostring(L, -1);
            lua_pushfstring(L, *value ? "%s: %s" : "%s;", lua_tostring(L, -2),
                            value); /* "Name;" sends an empty value */
            lua_remove(L, -2);
        }
        list[n++] = lua_tostring(L, -1);
        lua_rawseti(L, keep, (lua_Integer)n);
    }
    list[n] = NULL;
    return list;
}

static uint64_t take_seconds(lua_State *L, int arg, const char *key)
{
    double s = kn_lua_opt_number(L, arg, key, 0);
    if (!(s >= 0 && s < 1e9))
        luaL_argerror(L, arg, lua_pushfstring(L, "%s must be a number of seconds", key));
    return (uint64_t)(s * 1e9);
}

static void take_body(lua_State *L, int arg, struct kn_fetch_request *r)
{
    int type = lua_getfield(L, arg, "body");
    luaL_argcheck(L, type == LUA_TNIL || type == LUA_TSTRING, arg, "body must be a string");
    if (type == LUA_TSTRING)
        r->body = lua_tolstring(L, -1, &r->body_size); /* the table keeps it */
    lua_pop(L, 1);
}

void kn_lua_take_request(lua_State *L, int arg, struct kn_fetch_request *r)
{
    kn_lua_known_keys(L, arg, keys);
    double most = kn_lua_opt_number(L, arg, "max_body", 0);
    luaL_argcheck(L, most >= 0 && most < 1e12, arg, "max_body must be a number of bytes");
    *r = (struct kn_fetch_request){
        .method = kn_lua_opt_text(L, arg, "method", NULL),
        .url = kn_lua_opt_text(L, arg, "url", NULL),
        .unix_path = kn_lua_opt_text(L, arg, "unix", NULL),
        .timeout_ns = take_seconds(L, arg, "timeout"),
        .connect_timeout_ns = take_seconds(L, arg, "connect_timeout"),
        .max_body = (size_t)most,
        .ca = kn_lua_opt_text(L, arg, "ca", NULL),
        .cert = kn_lua_opt_text(L, arg, "cert", NULL),
        .key = kn_lua_opt_text(L, arg, "key", NULL),
        .server_name = kn_lua_opt_text(L, arg, "server_name", NULL),
        .insecure = kn_lua_opt_flag(L, arg, "insecure"),
        .proxy = kn_lua_opt_text(L, arg, "proxy", NULL),
        .http1 = kn_lua_opt_flag(L, arg, "http1"),
        .wake_fd = kn_lua_interrupt_fd(L),
    };
    luaL_argcheck(L, r->url, arg, "url is required");
    take_body(L, arg, r);
    r->headers = take_headers(L, arg);
}

/* {["content-type"] = "text/plain", …}; values of a repeated header are joined by ", ". */
static void push_headers(lua_State *L, const char *text)
{
    lua_newtable(L);
    for (const char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
        const char *colon = memchr(line, ':', (size_t)(end - line));
        if (!colon)
            continue;
        const char *value = colon + 1 + strspn(colon + 1, " \t");
        lua_pushlstring(L, line, (size_t)(colon - line));
        lua_pushvalue(L, -1);
        if (lua_rawget(L, -3) == LUA_TSTRING) {
            lua_pushliteral(L, ", ");
            lua_pushlstring(L, value, value < end ? (size_t)(end - value) : 0);
            lua_concat(L, 3);
        } else {
            lua_pop(L, 1);
            lua_pushlstring(L, value, value < end ? (size_t)(end - value) : 0);
        }
        lua_rawset(L, -3);
    }
}

/* ---- whole answers --------------------------------------------------------------------------- */

static void free_client(void *client)
{
    kn_fetch_client_free(client);
}

/* One client for each Lua state, so that a request can reuse the last one's connection. */
static struct kn_fetch_client *the_client(lua_State *L, struct kn_error *err)
{
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &client_key) != LUA_TUSERDATA) {
        kn_lua_handle(L, CLIENT, NULL, free_client);
        lua_pushvalue(L, -1);
        lua_rawsetp(L, LUA_REGISTRYINDEX, &client_key);
    }
    struct kn_box *client = lua_touserdata(L, -1);
    if (!client->ptr)
        client->ptr = kn_fetch_client_new(err);
    return client->ptr;
}

void kn_lua_push_response(lua_State *L, const struct kn_fetch_response *response)
{
    lua_createtable(L, 0, 3);
    lua_pushinteger(L, response->status);
    lua_setfield(L, -2, "status");
    push_headers(L, response->headers);
    lua_setfield(L, -2, "headers");
    lua_pushlstring(L, response->body, response->body_size);
    lua_setfield(L, -2, "body");
}

static void free_response(void *r)
{
    kn_fetch_response_fini(r);
}

struct kn_fetch_response *kn_lua_new_response(lua_State *L)
{
    struct kn_fetch_response *response = lua_newuserdatauv(L, sizeof *response, 0);
    *response = (struct kn_fetch_response){0};
    kn_lua_box(L, free_response)->ptr = response;
    return response;
}

static int l_fetch(lua_State *L)
{
    struct kn_fetch_request r;
    struct kn_error err;
    kn_lua_take_request(L, 1, &r);
    struct kn_fetch_response *response = kn_lua_new_response(L);
    struct kn_fetch_client *client = the_client(L, &err);
    if (!client || kn_fetch(client, &r, response, &err) < 0)
        return kn_lua_fail(L, &err);
    kn_lua_push_response(L, response);
    return 1;
}

/* ---- streams --------------------------------------------------------------------------------- */

static struct kn_fetch_stream *check_stream(lua_State *L)
{
    return kn_lua_check_handle(L, STREAM);
}

static void free_stream(void *stream)
{
    kn_fetch_stream_free(stream);
}

/* Returns the next bytes; nil at the end; or nil and an error ("timeout" and "interrupted" can be retried). */
static int read_by(lua_State *L, bool line)
{
    struct kn_fetch_stream *stream = check_stream(L);
    uint64_t timeout_ns = lua_isnoneornil(L, 2) ? 30 * KN_NS_PER_S : kn_lua_check_seconds(L, 2);
    const char *chunk;
    size_t size;
    struct kn_error err;
    int rc = kn_fetch_stream_read(stream, line, timeout_ns, &chunk, &size, &err);
    if (rc < 0)
        return kn_lua_fail(L, &err);
    if (rc == 0)
        return lua_pushnil(L), 1;
    lua_pushlstring(L, chunk, size);
    return 1;
}

static int stream_read(lua_State *L)
{
    return read_by(L, false);
}

static int stream_line(lua_State *L)
{
    return read_by(L, true);
}

static int stream_status(lua_State *L)
{
    lua_pushinteger(L, kn_fetch_stream_status(check_stream(L)));
    return 1;
}

static int stream_headers(lua_State *L)
{
    push_headers(L, kn_fetch_stream_headers(check_stream(L)));
    return 1;
}

static const luaL_Reg stream_methods[] = {
    {"read", stream_read}, {"line", stream_line}, {"status", stream_status}, {"headers", stream_headers}, {NULL, NULL},
};

static int l_fetch_open(lua_State *L)
{
    struct kn_fetch_request r;
    struct kn_error err;
    kn_lua_take_request(L, 1, &r);
    struct kn_box *stream = kn_lua_handle(L, STREAM, stream_methods, free_stream);
    return (stream->ptr = kn_fetch_stream_open(&r, &err)) ? 1 : kn_lua_fail(L, &err);
}

const luaL_Reg kn_lua_fetch[] = {
    {"fetch", l_fetch},
    {"fetch_open", l_fetch_open},
    {NULL, NULL},
};
