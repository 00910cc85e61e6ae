/* Parts of a JSON text: whatever the text, nothing is read or written beyond it, and of what is JSON the same stays as
 * where it is parsed first and cut afterwards. */
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/pick.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(int truth)
{
    if (!truth)
        abort();
}

static json_t *cut(json_t *value, const json_t *shape)
{
    const char *name;
    json_t *member, *kept;
    size_t i;
    if (json_is_object(value) && json_is_object(shape)) {
        kept = json_object();
        json_object_foreach(value, name, member)
        {
            const json_t *inner = json_object_get(shape, name);
            if (inner)
                json_object_set_new(kept, name, cut(member, inner));
        }
        return kept;
    }
    if (!json_is_array(value) || !json_array_size(shape))
        return json_incref(value);
    kept = json_array();
    json_array_foreach(value, i, member) json_array_append_new(kept, cut(member, json_array_get(shape, 0)));
    return kept;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kn_error err;
    json_t *shape = json_loads("{\"a\":true,\"b\":[{\"c\":true,\"d\":{\"a\":true}}],\"e\":{\"a\":[true]}}", 0, NULL);
    char *text = malloc(size + 1);
    demand(shape && text);
    memcpy(text, data, size);
    text[size] = '\0';
    json_t *value = json_loadb(text, size, 0, NULL);
    ptrdiff_t n = kn_json_pick(text, size, shape, &err);
    demand(n <= (ptrdiff_t)size);
    /* jansson takes a zero byte in the middle for an end; a name with escapes is not found, and ours have none */
    if (value && !memchr(data, 0, size) && !memchr(data, 92, size)) {
        json_t *wanted = cut(value, shape), *kept = n < 0 ? NULL : json_loadb(text, (size_t)n, 0, NULL);
        demand(kept && json_equal(kept, wanted));
        json_decref(wanted);
        json_decref(kept);
    }
    json_decref(value);
    json_decref(shape);
    free(text);
    return 0;
}
