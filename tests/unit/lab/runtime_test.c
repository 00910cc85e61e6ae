/* The runtimes of the lab's pods: each tells how it runs here or what to install, and its pods run in that way. */
#include "inside.h"

#include <sys/stat.h>

static json_t *runtime(json_t *list, const char *name)
{
    size_t i;
    json_t *one;
    json_array_foreach(list, i, one) if (strcmp(json_string_value(json_object_get(one, "name")), name) == 0) return one;
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
    json_array_foreach(list, i, one)
    {
        bool ok = json_is_true(json_object_get(one, "ok"));
        const char *word = json_string_value(json_object_get(one, ok ? "network" : "reason"));
        if (!word || !*word)
            fail_msg("%s says nothing", json_string_value(json_object_get(one, "name")));
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

static uint64_t used(struct kn_lab *lab, const char *name)
{
    json_t *usage = ask(lab, "{\"op\":\"usage\",\"name\":\"%s\"}", name);
    json_int_t ns = json_integer_value(json_object_get(usage, "cpu_ns"));
    json_decref(usage);
    return (uint64_t)ns;
}

/* Of a pod and of programs started in it later. */
static void test_usage_counts_what_a_pod_does(void **state)
{
    (void)state;
    struct kn_lab *lab = open_lab("{}");
    tell(lab, "{\"op\":\"node\"}");
    json_t *pod = ask(lab,
                      "{\"op\":\"pod\",\"name\":\"busy\",\"command\":[\"/bin/sh\",\"-c\",\"while :; do :; done\"]}");
    assert_true(json_array_size(json_object_get(pod, "host_pids")) >= 1);
    json_decref(pod);
    uint64_t from = used(lab, "busy"), end = kn_now_ns() + 20 * KN_NS_PER_S;
    while (used(lab, "busy") < from + 50 * KN_NS_PER_MS && kn_now_ns() < end)
        kn_sleep_until_ns(kn_now_ns() + KN_NS_PER_MS);
    assert_true(used(lab, "busy") >= from + 50 * KN_NS_PER_MS);
    json_t *usage = ask(lab, "{\"op\":\"usage\",\"name\":\"busy\"}");
    assert_true(json_array_size(json_object_get(usage, "host_pids")) >= 2);
    assert_true(json_number_value(json_object_get(usage, "memory_bytes")) > 4096);
    json_decref(usage);
    refuses(lab, KN_E_ARGUMENT, "nothing in the lab is named 'none'", "{\"op\":\"usage\",\"name\":\"none\"}");
    kn_lab_close(lab);
}

/* ---- gvisor ---- */

/* A lab with a node; NULL if gvisor does not work here, with the reason printed. */
static struct kn_lab *with_gvisor(void)
{
    struct kn_lab *lab = open_lab("{}");
    json_t *answer = ask(lab, "{\"op\":\"runtimes\"}"), *about = runtime(json_object_get(answer, "runtimes"), "gvisor");
    bool ok = json_is_true(json_object_get(about, "ok"));
    if (!ok)
        print_message("# skipped: %s\n", json_string_value(json_object_get(about, "reason")));
    json_decref(answer);
    if (ok)
        tell(lab, "{\"op\":\"node\"}");
    else
        kn_lab_close(lab);
    return ok ? lab : NULL;
}

static json_t *status_of_pod(struct kn_lab *lab)
{
    json_t *status = ask(lab, "{\"op\":\"status\"}"),
           *pod = json_incref(json_array_get(json_object_get(status, "pods"), 0));
    json_decref(status);
    return pod;
}

/* How many of these processes exist, by their PIDs in the keeper's namespace. */
static int alive(struct kn_lab *lab, const json_t *pids)
{
    char script[512] = "n=0; for p in";
    for (size_t i = 0; i < json_array_size(pids); i++)
        snprintf(script + strlen(script), sizeof script - strlen(script), " %d",
                 (int)json_integer_value(json_array_get(pids, i)));
    strcat(script, "; do [ -d /proc/$p ] && n=$((n+1)); done; echo $n");
    json_t *answer = ask(lab, "{\"op\":\"exec\",\"capture\":true,\"argv\":[\"/bin/sh\",\"-c\",\"%s\"]}", script);
    int n = atoi(json_string_value(json_object_get(answer, "output")));
    json_decref(answer);
    return n;
}

static void test_gvisor(void **state)
{
    (void)state;
    struct kn_lab *lab = with_gvisor();
    if (!lab)
        skip();
    server(lab, "boxed", "node-1", ",\"runtime\":\"gvisor\"");
    tell(lab, "{\"op\":\"service\",\"name\":\"svc\",\"endpoints\":[\"boxed\"],\"ports\":[{\"port\":80,\"target\":%d}]}",
         SERVE_PORT);
    assert_memory_equal(from(lab, "node-1", "tcp", "10.244.0.2", SERVE_PORT), "boxed ", 6);
    assert_memory_equal(from(lab, "node-1", "udp", "10.244.0.2", SERVE_PORT), "boxed ", 6);
    json_t *usage = ask(lab, "{\"op\":\"usage\",\"name\":\"boxed\"}"), *pids = json_object_get(usage, "host_pids");
    assert_true(json_array_size(pids) >= 4); /* the first, runsc, its gofer and its sentry */
    assert_true(alive(lab, pids) >= 4);
    tell(lab, "{\"op\":\"delete\",\"name\":\"svc\"}");
    tell(lab, "{\"op\":\"delete\",\"name\":\"boxed\"}");
    assert_int_equal(alive(lab, pids), 0);
    json_decref(usage);
    refuses(lab, KN_E_UNSUPPORTED, "hardened does not apply to runtime gvisor",
            "{\"op\":\"pod\",\"runtime\":\"gvisor\",\"hardened\":true}");
    kn_lab_close(lab);
}

static void test_gvisor_killed_in_the_middle(void **state)
{
    (void)state;
    struct kn_lab *lab = with_gvisor();
    if (!lab)
        skip();
    server(lab, "boxed", "node-1", ",\"runtime\":\"gvisor\"");
    json_t *usage = ask(lab, "{\"op\":\"usage\",\"name\":\"boxed\"}"), *pids = json_object_get(usage, "host_pids"),
           *pod;
    /* sentry and gofer are runsc's children: the youngest with that name */
    json_decref(ask(lab, "{\"op\":\"exec\",\"capture\":true,\"argv\":[\"/bin/sh\",\"-c\",\"for p in /proc/[0-9]*; do "
                         "grep -q ^runsc-sandbox $p/cmdline && kill -9 ${p#/proc/}; done\"]}"));
    uint64_t end = kn_now_ns() + 30 * KN_NS_PER_S;
    while ((pod = status_of_pod(lab)) && json_is_true(json_object_get(pod, "alive")) && kn_now_ns() < end) {
        json_decref(pod);
        kn_sleep_until_ns(kn_now_ns() + KN_NS_PER_MS);
    }
    assert_true(json_is_false(json_object_get(pod, "alive")));
    assert_true(json_integer_value(json_object_get(pod, "exit")) != 0);
    assert_int_equal(alive(lab, pids), 0);
    json_decref(pod);
    json_decref(usage);
    kn_lab_close(lab);
}

static void test_gvisor_without_memory(void **state)
{
    (void)state;
    struct kn_lab *lab = with_gvisor();
    struct kn_error err;
    if (!lab)
        skip();
    json_t *request = json_pack("{s:s,s:s,s:s,s:s,s:[s,s,s],s:i}", "op", "pod", "name", "small", "runtime", "gvisor",
                                "memory", "16M", "command", self(), "serve", "9000", "port", 9000);
    json_t *pod = kn_lab_request(lab, request, &err);
    assert_null(pod);
    if (err.code == KN_E_UNSUPPORTED)
        check_refusal(&err, KN_E_UNSUPPORTED, "memory of a pod requires root");
    else
        check_refusal(&err, KN_E_MEMORY, "'small' exceeded its memory limit of 16 MiB");
    json_decref(request);
    kn_lab_close(lab);
}

/* ---- a runsc that is not there, or does not do what it should ---- */

/* With only this script in the PATH, as runsc; NULL: nothing. */
static void with_program(const char *script, void (*test)(struct kn_lab *))
{
    struct stand_in runsc;
    stand_in_for(&runsc, "runsc", script, true);
    struct kn_lab *lab = open_lab("{}");
    tell(lab, "{\"op\":\"node\"}");
    test(lab);
    kn_lab_close(lab);
    stand_down(&runsc);
}

static void is_missing(struct kn_lab *lab)
{
    refuses(lab, KN_E_UNSUPPORTED, "install the package runsc", "{\"op\":\"pod\",\"runtime\":\"gvisor\"}");
    tell(lab, "{\"op\":\"pod\",\"runtime\":\"runc\"}");
}

static void is_broken(struct kn_lab *lab)
{
    refuses(lab, KN_E_UNSUPPORTED, "runsc failed: no such thing as a platform",
            "{\"op\":\"pod\",\"runtime\":\"gvisor\"}");
}

static void ends_early(struct kn_lab *lab)
{
    refuses(lab, KN_E_LOST, "its sandbox ended before it was ready: cannot allocate memory",
            "{\"op\":\"pod\",\"name\":\"p\",\"runtime\":\"gvisor\"}");
    tell(lab, "{\"op\":\"pod\",\"name\":\"p\",\"runtime\":\"runc\"}"); /* nothing of the failed pod is left */
}

static void test_without_runsc(void **state)
{
    (void)state;
    with_program(NULL, is_missing);
}

static void test_broken_runsc(void **state)
{
    (void)state;
    with_program("echo no such thing as a platform >&2; exit 1", is_broken);
    with_program("for w; do :; done; [ $w = trial ] && exit 0; echo cannot allocate memory >&2; exit 3", ends_early);
}

int main(int argc, char **argv)
{
    inside_main(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_says_how_or_why_not),
        cmocka_unit_test(test_a_pod_says_how_it_runs),
        cmocka_unit_test(test_usage_counts_what_a_pod_does),
        cmocka_unit_test(test_gvisor),
        cmocka_unit_test(test_gvisor_killed_in_the_middle),
        cmocka_unit_test(test_gvisor_without_memory),
        cmocka_unit_test(test_without_runsc),
        cmocka_unit_test(test_broken_runsc),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
