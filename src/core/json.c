#include "core/json.h"

#include <inttypes.h>
#include <stdio.h>

json_t *kn_json_u64(uint64_t value)
{
    char text[24];
    if (value <= KN_JSON_PLAIN_MAX) return json_integer((json_int_t)value);
    snprintf(text, sizeof text, "%" PRIu64, value);
    return json_string(text);
}

static int digits_to_u64(const char *s, uint64_t *out)
{
    uint64_t v = 0;
    if (*s == 0) return -1;
    for (; *s; s++) {
        if (*s < '0' || *s > '9') return -1;
        if (__builtin_mul_overflow(v, 10u, &v) || __builtin_add_overflow(v, (uint64_t)(*s - '0'), &v)) return -1;
    }
    *out = v;
    return 0;
}

int kn_json_u64_get(const json_t *value, uint64_t *out)
{
    if (json_is_string(value)) return digits_to_u64(json_string_value(value), out);
    if (json_is_integer(value) && json_integer_value(value) >= 0) {
        *out = (uint64_t)json_integer_value(value);
        return 0;
    }
    /* readers that know only doubles write 1e15 or 3.0 */
    double real = json_is_real(value) ? json_real_value(value) : -1;
    if (real < 0 || real > 9007199254740992.0 || (double)(uint64_t)real != real) return -1;
    *out = (uint64_t)real;
    return 0;
}

int kn_json_u64_member(const json_t *object, const char *key, uint64_t *out, struct kn_error *err)
{
    const json_t *value = json_object_get(object, key);
    if (!value || kn_json_u64_get(value, out) == 0) return 0;
    return kn_fail(err, KN_E_PROTOCOL, "%s is not a whole number", key);
}
