/* lua/bind - what the bindings share: errors as values, boxes that free what C holds, tables of options, the interrupt.
 *
 * Misuse raises, with the caller's position; what the world refuses is nil and an error {code, message}. A resource is
 * opened into a userdata that exists already, so that nothing leaks when Lua raises, and its __gc and __close are one
 * function that may run twice. */
#ifndef KN_LUA_BIND_H
#define KN_LUA_BIND_H

#include <jansson.h>
#include <lauxlib.h>
#include <lua.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"

/* Set by the signal handler of the program: `hit` for those who look, `fd` (an eventfd) for those who wait. A wait that
 * notices takes the event and fails with "interrupted", once, so that whatever cleans up afterwards can wait again. */
struct kn_interrupt { atomic_bool hit; int fd; };
void kn_lua_set_interrupt(lua_State *L, struct kn_interrupt *interrupt);
struct kn_interrupt *kn_lua_interrupt(lua_State *L);        /* NULL where the program is somebody else's */
int kn_lua_interrupt_fd(lua_State *L);                      /* -1 likewise */
bool kn_interrupt_take(struct kn_interrupt *interrupt);     /* true: there was one, and it is this caller's to report */

int kn_lua_fail(lua_State *L, const struct kn_error *err);  /* pushes nil and the error; returns 2 */
int kn_lua_fail_with(lua_State *L, enum kn_code code, const char *message);
int kn_lua_true_or_fail(lua_State *L, int rc, const struct kn_error *err);

/* A pointer that is freed when the calling function ends, however it ends. Pushes one value. */
struct kn_box { void *ptr; void (*free)(void *); };
struct kn_box *kn_lua_box(lua_State *L, void (*free_it)(void *));
int kn_lua_push_json(lua_State *L, json_t *owned);  /* as compact text; takes the reference; returns 1, or raises */
/* The value of text at `index`, in a box that is pushed. Text that is no JSON is misuse and raises. */
json_t *kn_lua_check_json(lua_State *L, int index);

/* Options: the table at `index`. Wrong types raise and name the key. */
void kn_lua_known_keys(lua_State *L, int index, const char *const *names);  /* NULL-ended; raises on any other key */
/* The text lives as long as the table. */
const char *kn_lua_opt_text(lua_State *L, int index, const char *key, const char *fallback);
double kn_lua_opt_number(lua_State *L, int index, const char *key, double fallback);
bool kn_lua_opt_flag(lua_State *L, int index, const char *key);
uint64_t kn_lua_check_seconds(lua_State *L, int arg);       /* as nanoseconds; 0 … a century */

/* Registers a type: methods, and one function for __gc and __close. */
void kn_lua_type(lua_State *L, const char *name, const luaL_Reg *methods, lua_CFunction close);

/* The modules' parts: each adds its functions to the table on top of the stack. */
void kn_lua_embed(lua_State *L);
void kn_lua_system(lua_State *L);
void kn_lua_units(lua_State *L);
void kn_lua_spec(lua_State *L);
void kn_lua_hist(lua_State *L);
void kn_lua_fetch(lua_State *L);
void kn_lua_probe(lua_State *L);
void kn_lua_run(lua_State *L);
void kn_lua_agent(lua_State *L);
void kn_lua_lab(lua_State *L);
void kn_lua_kube(lua_State *L);
void kn_lua_pack(lua_State *L);
void kn_lua_observe(lua_State *L);

/* For main and for the stock lua5.4. */
__attribute__((visibility("default"))) int luaopen_knbl_core(lua_State *L);
__attribute__((visibility("default"))) int luaopen_knbl(lua_State *L);
/* Makes require find knbl.core, then modules on disk (`path`: templates, or ""), then the embedded ones. */
void kn_lua_searchers(lua_State *L, const char *path);

#endif
