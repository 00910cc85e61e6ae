/* Profiles of this machine: busy functions are found by name; without permission the error says what is missing. */
#include "../core/check.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "meter/files.h"
#include "meter/stacks.h"

/* Works until this process has used that much CPU time. */
__attribute__((noinline)) static uint64_t burn_some_cpu(uint64_t ns)
{
    volatile uint64_t x = 1;
    uint64_t until_ns = kn_process_cpu_ns() + ns;
    while (kn_process_cpu_ns() < until_ns)
        for (int i = 0; i < 20000; i++)
            x = x * 6364136223846793005u + 1;
    return x;
}

static struct kn_stacks *start_or_skip(const struct kn_stacks_options *options)
{
    struct kn_error err;
    struct kn_stacks *s = kn_stacks_start(options, &err);
    if (s)
        return s;
    assert_true(err.code == KN_E_PERMISSION || err.code == KN_E_UNSUPPORTED);
    print_message("# %s\n", err.message);
    skip();
    return NULL;
}

static double number_of(const json_t *json, const char *key)
{
    return json_number_value(json_object_get(json, key));
}

static double sum_of(const json_t *list)
{
    double sum = 0;
    for (size_t i = 0; i < json_array_size(list); i++)
        sum += json_number_value(json_array_get(list, i));
    return sum;
}

/* This process's samples with the function innermost. */
static double samples_of(const json_t *json, const char *name)
{
    const json_t *names = json_object_get(json, "names"), *frames = json_object_get(json, "frames");
    double sum = 0;
    for (size_t i = 0; i < json_array_size(names); i++) {
        size_t frame = (size_t)json_integer_value(json_array_get(names, i));
        if (strcmp(json_string_value(json_array_get(frames, frame)), name) == 0)
            sum += json_number_value(json_array_get(json_object_get(json, "counts"), i));
    }
    return sum;
}

static void what_burns_is_found(void **state)
{
    (void)state;
    struct kn_stacks *s = start_or_skip(&(struct kn_stacks_options){.hz = 999});
    burn_some_cpu(300 * KN_NS_PER_MS);
    json_t *json = kn_stacks_stop(s);
    kn_stacks_free(s);
    assert_non_null(json);
    assert_true(number_of(json, "samples") >= 100 && number_of(json, "lost") == 0);
    double busy = number_of(json, "samples") - number_of(json, "idle");
    double share = sum_of(json_object_get(json, "counts")) / busy;
    assert_true(share > 0.999 && share < 1.001); /* none is lost in the tree */
    assert_true(samples_of(json, "burn_some_cpu") >= 50);
    assert_true(number_of(json, "duration_s") >= 0.1 && number_of(json, "busy_s") >= 0.1);
    char *text = json_dumps(json, JSON_COMPACT);
    assert_non_null(strstr(text, "\"stacks_test\""));
    free(text);
    json_decref(json);
}

static void before_its_time_nothing(void **state)
{
    (void)state;
    struct kn_stacks *s = start_or_skip(&(struct kn_stacks_options){.hz = 999, .after_ns = 3600 * KN_NS_PER_S});
    burn_some_cpu(20 * KN_NS_PER_MS);
    json_t *json = kn_stacks_stop(s);
    kn_stacks_free(s);
    assert_true(number_of(json, "samples") == 0 && number_of(json, "duration_s") == 0);
    json_decref(json);
}

static void after_its_time_no_more(void **state)
{
    (void)state;
    struct kn_stacks *s = start_or_skip(&(struct kn_stacks_options){.hz = 999, .for_ns = 30 * KN_NS_PER_MS});
    burn_some_cpu(300 * KN_NS_PER_MS);
    json_t *json = kn_stacks_stop(s);
    kn_stacks_free(s);
    assert_true(number_of(json, "duration_s") >= 0.03);
    json_decref(json);
}

static void too_many_a_second(void **state)
{
    struct kn_error err;
    (void)state;
    assert_null(kn_stacks_start(&(struct kn_stacks_options){.hz = KN_STACKS_HZ_MAX + 1}, &err));
    check_refusal(&err, KN_E_ARGUMENT, "hz of a profile must be at most 10000");
}

static void an_ordinary_user_is_told(void **state)
{
    char text[32] = "";
    (void)state;
    if (geteuid() != 0 || kn_file_read("", "/proc/sys/kernel/perf_event_paranoid", text, sizeof text) <= 0 ||
        atoi(text) < 1)
        skip();
    pid_t pid = fork();
    if (pid == 0) {
        struct kn_error err = {.code = KN_OK};
        if (setgid(65534) || setuid(65534))
            _exit(3);
        int refused = kn_stacks_probe(&err);
        bool told = err.code == KN_E_UNSUPPORTED ||
                    (strstr(err.message, "perf_event_paranoid") && strstr(err.message, "CAP_PERFMON"));
        _exit(refused && told ? 0 : 1);
    }
    int status = 1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_burns_is_found),      cmocka_unit_test(before_its_time_nothing),
        cmocka_unit_test(after_its_time_no_more),   cmocka_unit_test(too_many_a_second),
        cmocka_unit_test(an_ordinary_user_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
