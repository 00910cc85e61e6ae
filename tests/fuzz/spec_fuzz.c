/* The specification from either side: text is JSON as scripts and agents get it; what begins with a zero byte is the
 * wire's form. What is taken is the same after a trip through JSON and through the wire; what is refused says so in one
 * line of UTF-8. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "core/spec.h"
#include "engines/engines.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(bool truth)
{
    if (!truth)
        abort();
}

static void demand_message(const struct kn_error *err)
{
    json_t *text = json_string(err->message);
    demand((err->code == KN_E_ARGUMENT || err->code == KN_E_PROTOCOL) && *err->message && text &&
           !strchr(err->message, '\n'));
    json_decref(text);
}

static void demand_round_trips(const struct kn_spec *spec)
{
    struct kn_error err;
    struct kn_spec again;
    uint8_t *wire = malloc(kn_spec_wire_size());
    kn_spec_pack(spec, wire);
    demand(kn_spec_unpack(wire, kn_spec_wire_size(), &kn_engines, &again, &err) == 0 &&
           memcmp(spec, &again, sizeof again) == 0);
    free(wire);
    json_t *json = kn_spec_to_json(spec);
    char *text = json_dumps(json, 0);
    json_t *back = json_loads(text, 0, NULL);
    memset(&again, 0xaa, sizeof again);
    demand(kn_spec_parse(back, &kn_engines, &again, &err) == 0 && memcmp(spec, &again, sizeof again) == 0);
    json_decref(json);
    json_decref(back);
    free(text);
}

/* Any bytes as a wire form: mostly zeros, so that the fuzzer need not write 512 bytes to say something. */
static void try_wire(const uint8_t *data, size_t size)
{
    struct kn_error err = {.message = ""};
    struct kn_spec spec;
    size_t whole = kn_spec_wire_size();
    uint8_t *wire = calloc(1, whole);
    memcpy(wire, data, size < whole ? size : whole);
    if (size > whole) {
        demand(kn_spec_unpack(data, size, &kn_engines, &spec, &err) != 0);
        demand_message(&err);
    }
    if (kn_spec_unpack(wire, whole, &kn_engines, &spec, &err) == 0)
        demand_round_trips(&spec);
    else
        demand_message(&err);
    free(wire);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kn_error err = {.message = ""};
    struct kn_spec spec;
    if (size && data[0] == 0) {
        try_wire(data + 1, size - 1);
        return 0;
    }
    json_t *json = json_loadb((const char *)data, size, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    if (!json)
        return 0;
    if (kn_spec_parse(json, &kn_engines, &spec, &err) == 0)
        demand_round_trips(&spec);
    else
        demand_message(&err);
    json_decref(json);
    return 0;
}
