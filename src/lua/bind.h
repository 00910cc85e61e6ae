/* lua/bind - helpers that the bindings share: errors as values, boxes that free C pointers, tables of options, the
 * interrupt.
 *
 * Misuse raises an error with the caller's position; a failure of the environment returns nil and an error {code,
 * message}. A resource is opened into a userdata that exists already, so that nothing leaks when Lua raises; its __gc
 * and __close are one function that may run twice. */
#ifndef KN_LUA_BIND_H
#define KN_LUA_BIND_H

#include <jansson.h>
#include <lauxlib.h>
#include <lua.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"

/* Set by the signal handler of the program: `hit` for code that looks, `fd` (an eventfd) for code that waits. Nothing
 * takes it back: every wait fails with "interrupted" until a cleanup begins (core.cleanup). While one goes on, waits
 * ignore the interrupt, so that a cleanup can wait for what it removes. */
struct kn_interrupt {
    atomic_bool hit;
    int fd;
    unsigned cleanups; /* how many go on, one within another */
};
void kn_lua_set_interrupt(lua_State *L, struct kn_interrupt *interrupt);
struct kn_interrupt *kn_lua_interrupt(lua_State *L);       /* NULL where the program is somebody else's */
int kn_lua_interrupt_fd(lua_State *L);                     /* for waits: -1 likewise, and while a cleanup goes on */
bool kn_interrupted(const struct kn_interrupt *interrupt); /* true: a wait must fail with KN_E_INTERRUPTED */

int kn_lua_fail(lua_State *L, const struct kn_error *err); /* pushes nil and the error; returns 2 */
int kn_lua_fail_with(lua_State *L, enum kn_code code, const char *message);
int kn_lua_true_or_fail(lua_State *L, int rc, const struct kn_error *err);

/* A pointer that is freed when the calling function ends in any way. Pushes one value. */
struct kn_box {
    void *ptr;
    void (*free)(void *);
};
struct kn_box *kn_lua_box(lua_State *L, void (*free_it)(void *));
struct kn_box *kn_lua_json_box(lua_State *L); /* of a json_t */
/* A pointer with methods and close(), which frees it. Pushes one value; set ptr once the resource is open. */
struct kn_box *kn_lua_handle(lua_State *L, const char *name, const luaL_Reg *methods, void (*free_it)(void *));
void *kn_lua_check_handle(lua_State *L, const char *name); /* the first argument; raises if it is closed */
int kn_lua_push_json(lua_State *L, json_t *owned); /* as compact text; takes the reference; returns 1, or raises */
/* Parses the JSON text at `index` into a box that is pushed. Invalid JSON raises. */
json_t *kn_lua_check_json(lua_State *L, int index);

/* Options: the table at `index`. A wrong type raises an error with the key. */
void kn_lua_known_keys(lua_State *L, int index, const char *const *names); /* NULL-ended; raises on any other key */
/* The text lives as long as the table. */
const char *kn_lua_opt_text(lua_State *L, int index, const char *key, const char *fallback);
double kn_lua_opt_number(lua_State *L, int index, const char *key, double fallback);
bool kn_lua_opt_flag(lua_State *L, int index, const char *key);
uint64_t kn_lua_check_seconds(lua_State *L, int arg); /* as nanoseconds; 0 … a century */

/* Pushes the metatable of a type: methods, and one function for close(), __gc and __close; its upvalue is the name. */
void kn_lua_type(lua_State *L, const char *name, const luaL_Reg *methods, lua_CFunction close);

/* The functions of knbl.core, by file. */
extern const luaL_Reg kn_lua_embed[], kn_lua_system[], kn_lua_units[], kn_lua_spec[], kn_lua_hist[], kn_lua_fetch[],
    kn_lua_fetch_pool[], kn_lua_probe[], kn_lua_run[], kn_lua_agent[], kn_lua_lab[], kn_lua_kube[], kn_lua_pack[],
    kn_lua_observe[], kn_lua_pages[], kn_lua_process[], kn_lua_pick[];
struct kn_fetch_request;
struct kn_fetch_response;
/* The table at `arg` of core.fetch; what it points to lives as long as the table and what was pushed. */
void kn_lua_take_request(lua_State *L, int arg, struct kn_fetch_request *r);
/* One that is empty, and released when the calling function ends. Pushes two values. */
struct kn_fetch_response *kn_lua_new_response(lua_State *L);
void kn_lua_push_response(lua_State *L, const struct kn_fetch_response *response);

/* An embedded file, "lua/knbl/init.lua"; NULL if there is none. Not terminated by a zero. */
const char *kn_embedded_text(const char *name, size_t *size);

/* ---- require.c: for main and for a stock lua5.4 ---- */
__attribute__((visibility("default"))) int luaopen_knbl_core(lua_State *L);
__attribute__((visibility("default"))) int luaopen_knbl(lua_State *L);
/* Makes require find knbl.core, then modules on disk (`path`: templates, or ""), then the embedded ones. */
void kn_lua_searchers(lua_State *L, const char *path);

#endif
