/* What measurements carry: no path that compresses may look faster than it is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "run/payload.h"

static void test_all_bytes_are_as_frequent(void **state)
{
    unsigned seen[256] = {0};
    (void)state;
    for (size_t i = 0; i < KN_PAYLOAD_SIZE; i++)
        seen[kn_payload()[i]]++;
    for (int i = 0; i < 256; i++)
        assert_in_range(seen[i], KN_PAYLOAD_SIZE / 256 / 2, KN_PAYLOAD_SIZE / 256 * 2);
}

/* Four bytes that came before are what compressors look for. */
static void test_nothing_comes_twice(void **state)
{
    const uint8_t *p = kn_payload();
    unsigned again = 0;
    (void)state;
    for (size_t i = 0; i + 4 <= 4096; i++)
        for (size_t k = i + 1; k + 4 <= 4096; k++)
            again += !memcmp(p + i, p + k, 4);
    assert_in_range(again, 0, 4);
}

static void test_filled_again_and_again(void **state)
{
    uint8_t *made = kn_payload_new(3 * KN_PAYLOAD_SIZE + 5);
    (void)state;
    for (unsigned i = 0; i < 3; i++)
        assert_memory_equal(made + i * KN_PAYLOAD_SIZE, kn_payload(), KN_PAYLOAD_SIZE);
    assert_memory_equal(made + 3 * KN_PAYLOAD_SIZE, kn_payload(), 5);
    free(made);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_bytes_are_as_frequent),
        cmocka_unit_test(test_nothing_comes_twice),
        cmocka_unit_test(test_filled_again_and_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
