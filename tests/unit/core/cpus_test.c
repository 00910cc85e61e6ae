/* Lists of CPUs, and threads that are pinned to one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "core/cpus.h"

static void lists_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int n;
        size_t first, last;
    } good[] = {{"0", 1, 0, 0}, {"2-5", 4, 2, 5}, {"0,3,7-8", 4, 0, 8}, {"1023", 1, 1023, 1023}, {"3-3", 1, 3, 3}};
    struct kn_error err;
    cpu_set_t set;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(kn_cpus_parse("cpus", good[i].text, &set, &err), 0);
        assert_int_equal(CPU_COUNT(&set), good[i].n);
        assert_true(CPU_ISSET(good[i].first, &set) && CPU_ISSET(good[i].last, &set));
    }
}

static void nonsense_is_named(void **state)
{
    (void)state;
    static const char *const bad[] = {"",     "a",  "1-",  "-1",   "5-2",
                                      "1,,2", "1,", "1 2", "1024", "0-99999999999999999999"};
    struct kn_error err;
    cpu_set_t set;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(kn_cpus_parse("server_cpus", bad[i], &set, &err), -1);
        assert_int_equal(err.code, KN_E_ARGUMENT);
        assert_non_null(strstr(err.message, "server_cpus must be a list of CPUs"));
    }
}

static void a_thread_is_pinned(void **state)
{
    (void)state;
    struct kn_error err;
    cpu_set_t before, now;
    char first[24];
    size_t cpu = 0;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    while (!CPU_ISSET(cpu, &before))
        cpu++;
    snprintf(first, sizeof first, "%zu", cpu);
    assert_int_equal(kn_cpus_there("cpus", first, &err), 0);
    assert_int_equal(kn_cpus_pin("cpus", first, &err), 0);
    assert_int_equal(sched_getaffinity(0, sizeof now, &now), 0);
    assert_int_equal(CPU_COUNT(&now), 1);
    assert_int_equal(kn_cpus_pin("cpus", "1023", &err), -1);
    assert_non_null(strstr(err.message, "this host has none of the CPUs 1023"));
    assert_int_equal(kn_cpus_there("cpus", "1023", &err), -1);
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_are_read),
        cmocka_unit_test(nonsense_is_named),
        cmocka_unit_test(a_thread_is_pinned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
