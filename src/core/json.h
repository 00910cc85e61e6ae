/* core/json - whole numbers in JSON. Readers with doubles (lua-cjson keeps 14 digits) lose the end of a large one, so
 * numbers above 10^14 travel as text; both forms are read. */
#ifndef KN_CORE_JSON_H
#define KN_CORE_JSON_H

#include <jansson.h>
#include <stdint.h>

#include "core/error.h"

#define KN_JSON_PLAIN_MAX 100000000000000ull

json_t *kn_json_u64(uint64_t value);
int kn_json_u64_get(const json_t *value, uint64_t *out);             /* -1: is none */
/* object[key] into *out; absent leaves *out alone; anything else than a whole number fails and names the key. */
int kn_json_u64_member(const json_t *object, const char *key, uint64_t *out, struct kn_error *err);

#endif
