#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/clock.h"
#include "kube/config.h"
#include "kube/plugin.h"

static char dir[] = "/tmp/knbl-config-XXXXXX";

static char *in_dir(char *buf, const char *name)
{
    snprintf(buf, 256, "%s/%s", dir, name);
    return buf;
}

static void put(const char *name, const char *text)
{
    char path[256];
    FILE *f = fopen(in_dir(path, name), "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static int set_up(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(dir));
    char path[256];
    mkdir(in_dir(path, "home"), 0700);
    mkdir(in_dir(path, "home/.kube"), 0700);
    mkdir(in_dir(path, "sa"), 0700);
    put("a", "clusters:\n- name: one\n  cluster: {server: 'https://one:6443', certificate-authority: ca.pem}\n"
             "users:\n- name: u\n  user: {tokenFile: token}\n"
             "contexts:\n- name: first\n  context: {cluster: one, user: u, namespace: perf}\n- name: lost\n  context: {cluster: nowhere, user: u}\n"
             "current-context: first\n");
    put("b", "clusters:\n- name: one\n  cluster: {server: 'https://other'}\n- name: two\n  cluster: {server: two.example, insecure-skip-tls-verify: true}\n"
             "users:\n- name: v\n  user: {client-certificate-data: Q0VSVA==, client-key-data: S0VZ}\n"
             "contexts:\n- name: second\n  context: {cluster: two, user: v}\ncurrent-context: second\n");
    put("broken", "clusters: [\n");
    put("ca.pem", "AUTHORITY");
    put("home/.kube/config", "current-context: none\n");
    put("sa/token", "secret\n");
    put("sa/ca.crt", "CA");
    put("sa/namespace", "inside\n");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    static const char *const names[] = {"empty", "a", "b", "broken", "ca.pem", "home/.kube/config", "sa/token", "sa/ca.crt", "sa/namespace",
                                        "home/.kube", "home", "sa", "plugin"};
    char path[256];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        remove(in_dir(path, names[i]));
    return rmdir(dir);
}

static void expect(struct kn_kube_options o, const char *key, const char *value)
{
    struct kn_error err = {0};
    json_t *c = kn_kube_config(&o, &err);
    if (!c)
        fail_msg("%s: %s", key, err.message);
    const char *got = json_string_value(json_object_get(c, key));
    if (value)
        assert_string_equal(got ? got : "(absent)", value);
    else
        assert_null(got);
    json_decref(c);
}

static void refused(struct kn_kube_options o, const char *part)
{
    struct kn_error err = {0};
    assert_null(kn_kube_config(&o, &err));
    if (!strstr(err.message, part))
        fail_msg("\"%s\" lacks \"%s\"", err.message, part);
}

static void test_explicit_file(void **state)
{
    (void)state;
    char a[256], token[256];
    struct kn_kube_options o = {.kubeconfig = in_dir(a, "a"), .kubeconfig_list = "/not/read"};
    expect(o, "server", "https://one:6443");
    expect(o, "namespace", "perf");
    expect(o, "ca", "AUTHORITY");
    expect(o, "token_file", in_dir(token, "token"));
    o.namespace = "mine", o.as = "jane";
    expect(o, "namespace", "mine");
    expect(o, "as", "jane");
}

static void test_merged_list(void **state)
{
    (void)state;
    char list[1024];
    snprintf(list, sizeof list, "%s/absent:%s/a:%s/b", dir, dir, dir);
    struct kn_kube_options o = {.kubeconfig_list = list};
    expect(o, "context", "first");
    expect(o, "server", "https://one:6443"); /* the first file wins */
    o.context = "second";
    expect(o, "server", "https://two.example");
    expect(o, "cert", "CERT");
    expect(o, "key", "KEY");
    expect(o, "namespace", "default");
}

static void test_refusals(void **state)
{
    (void)state;
    char path[256], home[256];
    refused((struct kn_kube_options){.kubeconfig = in_dir(path, "gone")}, "No such file");
    refused((struct kn_kube_options){.kubeconfig = in_dir(path, "broken")}, "line 2");
    refused((struct kn_kube_options){.kubeconfig = in_dir(path, "a"), .context = "frist"}, "did you mean \"first\"?");
    refused((struct kn_kube_options){.kubeconfig = in_dir(path, "a"), .context = "elsewhere"}, "no context named \"elsewhere\"; there are first, ");
    put("empty", "# nothing\n");
    refused((struct kn_kube_options){.kubeconfig = in_dir(path, "empty"), .service_host = "10.96.0.1"}, "empty: it is empty");
    refused((struct kn_kube_options){.kubeconfig = in_dir(path, "a"), .context = "lost"}, "no cluster named \"nowhere\"");
    refused((struct kn_kube_options){.home = "/nonexistent"}, "--kubeconfig");
    refused((struct kn_kube_options){.home = in_dir(home, "home")}, "no context named \"none\"");
}

static void test_in_cluster(void **state)
{
    (void)state;
    char sa[256];
    struct kn_kube_options o = {.home = "/nonexistent", .service_host = "fd00::1", .service_port = "6443", .service_account = in_dir(sa, "sa")};
    expect(o, "server", "https://[fd00::1]:6443");
    expect(o, "namespace", "inside");
    expect(o, "ca", "CA");
    o.service_account = "/nonexistent";
    refused(o, "token");
}

static void test_plugin(void **state)
{
    (void)state;
    char path[256];
    struct kn_error err = {0};
    put("plugin", "#!/bin/sh\n[ \"$1\" = hang ] && exec sleep 60\n[ \"$1\" = fail ] && exit 3\necho \"$1 $KN_EXTRA\"\n");
    chmod(in_dir(path, "plugin"), 0700);
    const char *const extra[] = {"KN_EXTRA=e", NULL};
    char *out = kn_plugin_run((const char *const[]){path, "x y", NULL}, extra, 5 * KN_NS_PER_S, &err);
    assert_string_equal(out, "x y e\n");
    free(out);
    assert_null(kn_plugin_run((const char *const[]){path, "fail", NULL}, extra, 5 * KN_NS_PER_S, &err));
    assert_int_equal(err.code, KN_E_AUTH);
    assert_null(kn_plugin_run((const char *const[]){path, "hang", NULL}, extra, 50 * KN_NS_PER_MS, &err));
    assert_int_equal(err.code, KN_E_TIMEOUT);
    assert_null(kn_plugin_run((const char *const[]){"/nonexistent/plugin", NULL}, extra, KN_NS_PER_S, &err));
    assert_int_equal(err.code, KN_E_ARGUMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_explicit_file), cmocka_unit_test(test_merged_list), cmocka_unit_test(test_refusals),
                                       cmocka_unit_test(test_in_cluster), cmocka_unit_test(test_plugin)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
