/* Converts a specification to and from its wire form. */
#include <string.h>

#include "core/spec.h"

#define NUMBERS_FROM offsetof(struct kn_spec, duration_ns)
#define NUMBERS ((offsetof(struct kn_spec, cc) - NUMBERS_FROM) / 8)
#define TEXTS (sizeof(struct kn_spec) - offsetof(struct kn_spec, cc))

_Static_assert(offsetof(struct kn_spec, text) + sizeof(char[KN_TEXTS_MAX][KN_TEXT_MAX]) == sizeof(struct kn_spec),
               "numbers, then texts, without padding");

static void put_le64(uint8_t *wire, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        wire[i] = (uint8_t)(value >> 8 * i);
}

static uint64_t get_le64(const uint8_t *wire)
{
    uint64_t value = 0;
    for (int i = 7; i >= 0; i--)
        value = value << 8 | wire[i];
    return value;
}

size_t kn_spec_wire_size(void)
{
    return KN_TEST_NAME_MAX + 8 * NUMBERS + TEXTS;
}

void kn_spec_pack(const struct kn_spec *spec, uint8_t *wire)
{
    memset(wire, 0, KN_TEST_NAME_MAX);
    memcpy(wire, spec->test->name, strnlen(spec->test->name, KN_TEST_NAME_MAX - 1));
    wire += KN_TEST_NAME_MAX;
    for (size_t i = 0; i < NUMBERS; i++, wire += 8) {
        uint64_t value;
        memcpy(&value, (const char *)spec + NUMBERS_FROM + 8 * i, sizeof value);
        put_le64(wire, value);
    }
    memcpy(wire, spec->cc, TEXTS);
}

int kn_spec_unpack(const uint8_t *wire, size_t size, const struct kn_registry *tests, struct kn_spec *spec,
                   struct kn_error *err)
{
    char name[KN_TEST_NAME_MAX + 1] = "";
    if (size != kn_spec_wire_size())
        return kn_fail(err, KN_E_PROTOCOL, "a specification must have %zu bytes, got %zu", kn_spec_wire_size(), size);
    memset(spec, 0, sizeof *spec);
    memcpy(name, wire, KN_TEST_NAME_MAX);
    spec->test = kn_test_find(tests, name, err);
    if (!spec->test)
        return -1;
    for (size_t i = strlen(name); i < KN_TEST_NAME_MAX; i++)
        if (wire[i])
            return kn_fail(err, KN_E_PROTOCOL, "the test's name is followed by bytes that are not 0");
    wire += KN_TEST_NAME_MAX;
    for (size_t i = 0; i < NUMBERS; i++, wire += 8) {
        uint64_t value = get_le64(wire);
        memcpy((char *)spec + NUMBERS_FROM + 8 * i, &value, sizeof value);
    }
    memcpy(spec->cc, wire, TEXTS);
    return kn_spec_check(spec, err);
}
