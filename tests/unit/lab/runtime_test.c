/* The runtimes of the lab's pods: each says how it would run here or what to install, and what it says is what a pod gets. */
#include "inside.h"

static json_t *runtime(json_t *list, const char *name)
{
    size_t i;
    json_t *one;
    json_array_foreach(list, i, one)
        if (strcmp(json_string_value(json_object_get(one, "name")), name) == 0) return one;
    fail_msg("no runtime '%s'", name);
    return NULL;
}

static void test_each_says_how_or_why_not(void **state)
{
    (void)state;
    struct kn_lab *lab = open_lab("{}");
    json_t *answer = ask(lab, "{\"op\":\"runtimes\"}"), *list = json_object_get(answer, "runtimes"), *one;
    size_t i;
    assert_true(json_is_true(json_object_get(runtime(list, "runc"), "ok")));
    assert_true(json_is_true(json_object_get(runtime(list, "host"), "ok")));
    json_array_foreach(list, i, one) {
        bool ok = json_is_true(json_object_get(one, "ok"));
        const char *word = json_string_value(json_object_get(one, ok ? "network" : "reason"));
        if (!word || !*word) fail_msg("%s says nothing", json_string_value(json_object_get(one, "name")));
    }
    json_decref(answer);
    kn_lab_close(lab);
}

static void test_a_pod_says_how_it_runs(void **state)
{
    (void)state;
    struct kn_lab *lab = open_lab("{}");
    tell(lab, "{\"op\":\"node\"}");
    json_t *pod = ask(lab, "{\"op\":\"pod\",\"runtime\":\"runc\"}"), *sandbox = json_object_get(pod, "sandbox");
    assert_string_equal(json_string_value(json_object_get(sandbox, "platform")), "namespaces");
    assert_true(json_is_integer(json_object_get(pod, "started_ms")));
    json_decref(pod);
    kn_lab_close(lab);
}

int main(int argc, char **argv)
{
    inside_main(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_says_how_or_why_not),
        cmocka_unit_test(test_a_pod_says_how_it_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
