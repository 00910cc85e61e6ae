#include "core/json.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local unsigned long losses;

bool kn_json_note(bool made)
{
    losses += !made;
    return made;
}

void kn_json_set(json_t *object, const char *key, json_t *value)
{
    kn_json_note(!json_object_set_new(object, key, value));
}

void kn_json_append(json_t *array, json_t *value)
{
    kn_json_note(!json_array_append_new(array, value));
}

unsigned long kn_json_losses(void)
{
    return losses;
}

json_t *kn_json_whole(json_t *json, unsigned long before)
{
    if (losses == before)
        return json;
    json_decref(json);
    return NULL;
}

struct text {
    char *bytes;
    size_t used, room;
    bool failed;
};

/* Fails for good, because jansson may go on. */
static int append(const char *bytes, size_t size, void *into)
{
    struct text *t = into;
    size_t room = t->room;
    while (room < t->used + size + 1)
        room = 2 * room + 256;
    char *more = t->failed ? NULL : room > t->room ? realloc(t->bytes, room) : t->bytes;
    if (!more) {
        t->failed = true;
        return -1;
    }
    t->bytes = more;
    t->room = room;
    memcpy(t->bytes + t->used, bytes, size);
    t->used += size;
    t->bytes[t->used] = '\0';
    return 0;
}

char *kn_json_text(const json_t *json, size_t flags)
{
    struct text t = {0};
    if (json && !json_dump_callback(json, append, &t, flags) && !t.failed)
        return t.bytes;
    free(t.bytes);
    return NULL;
}

json_t *kn_json_copy(const json_t *json)
{
    json_t *copy = json_deep_copy(json);
    if (json_equal(copy, json))
        return copy;
    json_decref(copy);
    return NULL;
}

/* ---- reading ---- */

/* The buffer of jansson's tokens doubles. */
#define RESERVE(size) (4 * (size) + 1024)

static json_malloc_t malloc_before;
static json_free_t free_before;
static _Thread_local struct {
    char *bytes; /* NULL: this thread reads nothing */
    size_t room, used;
} reserve;

static void *take_memory(size_t size)
{
    void *memory = malloc_before(size);
    if (memory || !reserve.bytes || size & (size - 1) || size > reserve.room - reserve.used)
        return memory;
    memory = reserve.bytes + reserve.used;
    reserve.used += size < 16 ? 16 : size;
    return memory;
}

static void give_back(void *memory)
{
    uintptr_t at = (uintptr_t)memory, from = (uintptr_t)reserve.bytes;
    if (!from || at < from || at >= from + reserve.room)
        free_before(memory);
}

/* Before anything is read: what was allocated without it can still be freed with it. */
__attribute__((constructor)) static void keep_a_reserve(void)
{
    json_get_alloc_funcs(&malloc_before, &free_before);
    json_set_alloc_funcs(take_memory, give_back);
}

json_t *kn_json_load(const char *text, size_t size, size_t flags, json_error_t *why)
{
    json_error_t unused;
    why = why ? why : &unused;
    *why = (json_error_t){0};
    reserve.room = RESERVE(size);
    reserve.used = 0;
    if (!(reserve.bytes = malloc(reserve.room)))
        return NULL;
    json_t *json = json_loadb(text, size, flags, why);
    if (reserve.used) {
        json_decref(json);
        json = NULL;
        *why = (json_error_t){0};
    }
    free(reserve.bytes);
    reserve.bytes = NULL;
    return json;
}

int kn_json_invalid(const json_error_t *why, enum kn_code code, const char *what, struct kn_error *err)
{
    if (json_error_code(why) == json_error_out_of_memory || !*why->text) /* jansson does not always say so */
        return kn_fail_memory(err);
    return kn_fail(err, code, "%s is not JSON: %s", what, why->text);
}

json_t *kn_json_u64(uint64_t value)
{
    char text[24];
    if (value <= KN_JSON_PLAIN_MAX)
        return json_integer((json_int_t)value);
    snprintf(text, sizeof text, "%" PRIu64, value);
    return json_string(text);
}

static int digits_to_u64(const char *s, uint64_t *out)
{
    uint64_t v = 0;
    if (*s == 0)
        return -1;
    for (; *s; s++) {
        if (*s < '0' || *s > '9')
            return -1;
        if (__builtin_mul_overflow(v, 10u, &v) || __builtin_add_overflow(v, (uint64_t)(*s - '0'), &v))
            return -1;
    }
    *out = v;
    return 0;
}

int kn_json_u64_get(const json_t *value, uint64_t *out)
{
    if (json_is_string(value))
        return digits_to_u64(json_string_value(value), out);
    if (json_is_integer(value) && json_integer_value(value) >= 0) {
        *out = (uint64_t)json_integer_value(value);
        return 0;
    }
    /* writers that use doubles write 1e15 or 3.0 */
    double real = json_is_real(value) ? json_real_value(value) : -1;
    if (real < 0 || real > 9007199254740992.0 || (double)(uint64_t)real != real)
        return -1;
    *out = (uint64_t)real;
    return 0;
}

int kn_json_u64_member(const json_t *object, const char *key, uint64_t *out, struct kn_error *err)
{
    const json_t *value = json_object_get(object, key);
    if (!value || kn_json_u64_get(value, out) == 0)
        return 0;
    return kn_fail(err, KN_E_PROTOCOL, "%s is not a whole number", key);
}
