/* core/json - builds JSON that is whole or known not to be, and writes and reads 64-bit integers in it.
 *
 * Readers that use doubles lose the last digits of large integers (lua-cjson keeps 14), so integers above 10^14 are
 * written as strings. Both forms are read. */
#ifndef KN_CORE_JSON_H
#define KN_CORE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"

/* Objects and arrays are built without a check at each step. kn_json_set and kn_json_append take `value`, also where
 * they fail. A value that is NULL or could not be added is a loss; kn_json_losses() counts those of this thread, so
 * that code that hands on what it built can tell whether something is missing in it. */
void kn_json_set(json_t *object, const char *key, json_t *value);
void kn_json_append(json_t *array, json_t *value);
bool kn_json_note(bool made); /* counts a loss unless `made`, which it returns */
unsigned long kn_json_losses(void);
/* Returns `json`, or frees it and returns NULL if there were losses since kn_json_losses() returned `before`. */
json_t *kn_json_whole(json_t *json, unsigned long before);

#define KN_JSON_PLAIN_MAX 100000000000000ull

/* The text, with the flags of json_dumps(); free() it. NULL without memory. json_dumps() ignores some failed
 * allocations, and its text then lacks parts. */
char *kn_json_text(const json_t *json, size_t flags);
/* A deep copy; NULL without memory. json_deep_copy() ignores failed allocations within objects and arrays. */
json_t *kn_json_copy(const json_t *json);
/* As json_loadb(), which writes beyond its memory, or reads another text, where its buffer for a token cannot grow:
 * here a reserve serves that buffer, and the outcome is NULL. `why` may be NULL. */
json_t *kn_json_load(const char *text, size_t size, size_t flags, json_error_t *why);
/* The error where kn_json_load failed; returns -1. */
int kn_json_invalid(const json_error_t *why, enum kn_code code, const char *what, struct kn_error *err);

json_t *kn_json_u64(uint64_t value);
int kn_json_u64_get(const json_t *value, uint64_t *out); /* -1 if it is not an unsigned integer */
/* Stores object[key] in *out. A missing key leaves *out unchanged; any value but an unsigned integer is an error. */
int kn_json_u64_member(const json_t *object, const char *key, uint64_t *out, struct kn_error *err);

#endif
