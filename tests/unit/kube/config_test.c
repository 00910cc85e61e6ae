#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/clock.h"
#include "kube/config.h"
#include "kube/plugin.h"

#define CERT "-----BEGIN CERTIFICATE-----\nQ0VSVA==\n-----END CERTIFICATE-----\n"
#define KEY "-----BEGIN EC PRIVATE KEY-----\nS0VZ\n-----END EC PRIVATE KEY-----\n"
#define CERT_DATA "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tClEwVlNWQT09Ci0tLS0tRU5EIENFUlRJRklDQVRFLS0tLS0K"
#define KEY_DATA "LS0tLS1CRUdJTiBFQyBQUklWQVRFIEtFWS0tLS0tClMwVloKLS0tLS1FTkQgRUMgUFJJVkFURSBLRVktLS0tLQo="

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
             "contexts:\n- name: first\n  context: {cluster: one, user: u, namespace: perf}\n"
             "- name: lost\n  context: {cluster: nowhere, user: u}\n"
             "current-context: first\n");
    put("b", "clusters:\n- name: one\n  cluster: {server: 'https://other'}\n"
             "- name: two\n  cluster: {server: two.example, insecure-skip-tls-verify: true}\n"
             "users:\n- name: v\n  user: {client-certificate-data: " CERT_DATA ", client-key-data: " KEY_DATA "}\n"
             "contexts:\n- name: second\n  context: {cluster: two, user: v}\ncurrent-context: second\n");
    put("broken", "clusters: [\n");
    put("ca.pem", "Autorit\xe9 de certification\n" CERT);
    put("home/.kube/config", "current-context: none\n");
    put("sa/token", "secret\n");
    put("sa/ca.crt", CERT);
    put("sa/namespace", "inside\n");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    static const char *const names[] = {
        "empty",        "a",          "b",    "broken", "ca.pem", "home/.kube/config", "sa/token", "sa/ca.crt",
        "sa/namespace", "home/.kube", "home", "sa",     "plugin"};
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
    expect(o, "ca", CERT); /* without the comment, which is Latin-1 */
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
    expect(o, "cert", CERT);
    expect(o, "key", KEY);
    expect(o, "namespace", "default");
}

static void test_refusals(void **state)
{
    (void)state;
    char path[256], home[256];
    refused((struct kn_kube_options){.kubeconfig = in_dir(path, "gone")}, "No such file");
    refused((struct kn_kube_options){.kubeconfig = in_dir(path, "broken")}, "line 2");
    refused((struct kn_kube_options){.kubeconfig = in_dir(path, "a"), .context = "frist"}, "did you mean \"first\"?");
    refused((struct kn_kube_options){.kubeconfig = in_dir(path, "a"), .context = "elsewhere"},
            "no context named \"elsewhere\"; there are first, ");
    put("empty", "# nothing\n");
    refused((struct kn_kube_options){.kubeconfig = in_dir(path, "empty"), .service_host = "10.96.0.1"},
            "empty: it is empty");
    refused((struct kn_kube_options){.kubeconfig = in_dir(path, "a"), .context = "lost"},
            "no cluster named \"nowhere\"");
    refused((struct kn_kube_options){.home = "/nonexistent"}, "--kubeconfig");
    refused((struct kn_kube_options){.home = in_dir(home, "home")}, "no context named \"none\"");
}

static void test_in_cluster(void **state)
{
    (void)state;
    char sa[256];
    struct kn_kube_options o = {
        .home = "/nonexistent", .service_host = "fd00::1", .service_port = "6443", .service_account = in_dir(sa, "sa")};
    expect(o, "server", "https://[fd00::1]:6443");
    expect(o, "namespace", "inside");
    expect(o, "ca", CERT);
    put("sa/ca.crt", "");
    refused(o, "it contains no PEM certificate");
    put("sa/ca.crt", CERT);
    o.service_account = "/nonexistent";
    refused(o, "token");
}

/* A kubeconfig of one cluster and one user, with these members. */
static struct kn_kube_options with(const char *cluster, const char *user)
{
    static char path[256];
    char text[4096];
    snprintf(text, sizeof text,
             "clusters: [{name: c, cluster: {server: 'https://c'%s}}]\nusers: [{name: u, user: {%s}}]\n"
             "contexts: [{name: x, context: {cluster: c, user: u}}]\ncurrent-context: x\n",
             cluster, user);
    put("empty", text);
    return (struct kn_kube_options){.kubeconfig = in_dir(path, "empty")};
}

/* What is given and holds no PEM is refused: the system's authorities must not stand in for it. */
static void test_authorities_that_hold_no_pem(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "\n",
        "some text\n",
        "\x30\x82\x01\x6c\x30",
        KEY,
        "x" CERT,
        "-----BEGIN CERTIFICATE-----\nQ0VS",
        "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\nQ0VSVA==\n-----END PUBLIC KEY-----\n",
        "-----BEGIN TRUSTED CERTIFICATE-----\nQ0VSVA==\n-----END TRUSTED CERTIFICATE-----\n"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        put("ca.pem", texts[i]);
        refused(with(", certificate-authority: ca.pem", ""), "ca.pem: it contains no PEM certificate");
        refused(with("", "client-certificate: ca.pem, client-key-data: " KEY_DATA), "it contains no PEM certificate");
    }
    refused(with(", certificate-authority-data: RElSIQ==", ""),
            "certificate-authority-data: it contains no PEM certificate");
    put("ca.pem", KEY "comment\n" CERT CERT);
    expect(with(", certificate-authority: ca.pem", ""), "ca", CERT CERT);
}

static void test_keys(void **state)
{
    (void)state;
    put("ca.pem", "-----BEGIN EC PARAMETERS-----\nQ0VSVA==\n-----END EC PARAMETERS-----\n" KEY CERT KEY);
    expect(with("", "client-certificate-data: " CERT_DATA ", client-key: ca.pem"), "key", KEY);
    put("ca.pem", CERT);
    refused(with("", "client-certificate-data: " CERT_DATA ", client-key: ca.pem"), "it contains no PEM private key");
    put("ca.pem", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nS0VZ\n-----END ENCRYPTED PRIVATE KEY-----\n");
    refused(with("", "client-certificate-data: " CERT_DATA ", client-key: ca.pem"), "is encrypted");
    put("ca.pem", "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nS0VZ\n-----END EC PRIVATE KEY-----\n");
    refused(with("", "client-certificate-data: " CERT_DATA ", client-key: ca.pem"), "is encrypted");
    refused(with("", "client-certificate-data: " CERT_DATA), "client-certificate without a client-key");
}

static void test_types(void **state)
{
    (void)state;
    refused(with(", certificate-authority-data: 5", ""), "certificate-authority-data must be a string");
    refused(with(", certificate-authority: [x]", ""), "certificate-authority must be a string");
    refused(with(", insecure-skip-tls-verify: 'true'", ""), "insecure-skip-tls-verify must be a boolean");
    refused(with("", "token: 12345"), "token must be a string");
    refused(with("", "as: jane, as-groups: dev"), "as-groups must be a list of strings");
    refused(with("", "as: jane, as-groups: [1]"), "as-groups must be a list of strings");
    refused(with("", "as-groups: [dev]"), "as-groups without a user to impersonate");
    refused(with("", "exec: [x]"), "exec must be a mapping");
    refused(with("", "exec: {args: [x]}"), "no command");
    refused(with("", "exec: {command: x, args: [1]}"), "exec.args must be a list of strings");
    refused(with("", "exec: {command: x, env: {a: b}}"), "env must be a list");
    refused(with("", "exec: {command: x, env: [5]}"), "must have a name and a value");
    refused(with("", "exec: {command: x, env: [{name: A, value: 5}]}"), "value must be a string");
    expect(with(", certificate-authority-data: ~", "token: ~, as-groups: ~, exec: ~"), "server", "https://c");
}

static void test_plugin(void **state)
{
    (void)state;
    char path[256];
    struct kn_error err = {0};
    put("plugin",
        "#!/bin/sh\n[ \"$1\" = hang ] && exec sleep 60\n[ \"$1\" = fail ] && exit 3\necho \"$1 $KN_EXTRA\"\n");
    chmod(in_dir(path, "plugin"), 0700);
    const char *const extra[] = {"KN_EXTRA=e", NULL};
    char *out = kn_plugin_run((const char *const[]){path, "x y", NULL}, extra, 5 * KN_NS_PER_S, -1, &err);
    assert_string_equal(out, "x y e\n");
    free(out);
    assert_null(kn_plugin_run((const char *const[]){path, "fail", NULL}, extra, 5 * KN_NS_PER_S, -1, &err));
    assert_int_equal(err.code, KN_E_AUTH);
    assert_null(kn_plugin_run((const char *const[]){path, "hang", NULL}, extra, 50 * KN_NS_PER_MS, -1, &err));
    assert_int_equal(err.code, KN_E_TIMEOUT);
    assert_null(kn_plugin_run((const char *const[]){"/nonexistent/plugin", NULL}, extra, KN_NS_PER_S, -1, &err));
    assert_int_equal(err.code, KN_E_ARGUMENT);
}

static char *run_script(const char *script, uint64_t timeout_ns, int wake_fd, struct kn_error *err)
{
    char path[256];
    const char *const none[] = {NULL};
    put("plugin", script);
    chmod(in_dir(path, "plugin"), 0700);
    return kn_plugin_run((const char *const[]){path, NULL}, none, timeout_ns, wake_fd, err);
}

static pid_t pid_in(const char *text)
{
    return (pid_t)strtol(text, NULL, 10);
}

/* Ended, or a zombie that its new parent has not reaped yet. */
static bool is_gone(pid_t pid)
{
    char path[64], state = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "r");
    if (!f)
        return true;
    bool dead = fscanf(f, "%*d (%*[^)]) %c", &state) == 1 && (state == 'Z' || state == 'X');
    fclose(f);
    return dead;
}

static void expect_gone(pid_t pid)
{
    uint64_t until_ns = kn_now_ns() + 5 * KN_NS_PER_S;
    while (!is_gone(pid) && kn_now_ns() < until_ns)
        usleep(10000);
    bool gone = is_gone(pid);
    if (!gone)
        kill(pid, SIGKILL);
    assert_true(gone);
}

/* A process that the plugin leaves behind holds its standard output: neither is waited for nor does it live on. */
static void test_plugin_with_a_process_left_behind(void **state)
{
    (void)state;
    struct kn_error err = {0};
    uint64_t began_ns = kn_now_ns();
    char *out = run_script("#!/bin/sh\nsleep 300 &\necho $!\n", 60 * KN_NS_PER_S, -1, &err);
    assert_non_null(out);
    assert_true(kn_now_ns() - began_ns < 20 * KN_NS_PER_S);
    expect_gone(pid_in(out));
    free(out);
}

/* One that is too late ends with all that it started. */
static void test_plugin_that_hangs_in_a_child(void **state)
{
    (void)state;
    struct kn_error err = {0};
    char pid[256], script[512], text[32] = "";
    snprintf(script, sizeof script, "#!/bin/sh\nsleep 300 &\necho $! >%s\nwait\n", in_dir(pid, "empty"));
    assert_null(run_script(script, 500 * KN_NS_PER_MS, -1, &err));
    assert_int_equal(err.code, KN_E_TIMEOUT);
    FILE *f = fopen(pid, "r");
    assert_non_null(f);
    assert_non_null(fgets(text, sizeof text, f));
    fclose(f);
    expect_gone(pid_in(text));
}

static void test_plugin_is_interrupted(void **state)
{
    (void)state;
    struct kn_error err = {0};
    uint64_t began_ns = kn_now_ns();
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(write(fds[1], "x", 1), 1);
    assert_null(run_script("#!/bin/sh\nexec sleep 300\n", 60 * KN_NS_PER_S, fds[0], &err));
    assert_int_equal(err.code, KN_E_INTERRUPTED);
    assert_true(kn_now_ns() - began_ns < 20 * KN_NS_PER_S);
    close(fds[0]);
    close(fds[1]);
}

static void test_plugin_that_prints_without_end(void **state)
{
    (void)state;
    struct kn_error err = {0};
    assert_null(run_script("#!/bin/sh\nexec yes\n", 60 * KN_NS_PER_S, -1, &err));
    assert_int_equal(err.code, KN_E_AUTH);
    assert_non_null(strstr(err.message, "printed more than"));
}

/* Nothing is asked of the terminal, which would stop a background process. */
static void test_plugin_has_no_standard_input(void **state)
{
    (void)state;
    struct kn_error err = {0};
    char *out = run_script("#!/bin/sh\nreadlink /proc/self/fd/0\n", 60 * KN_NS_PER_S, -1, &err);
    assert_non_null(out);
    assert_string_equal(out, "/dev/null\n");
    free(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_explicit_file),
                                       cmocka_unit_test(test_merged_list),
                                       cmocka_unit_test(test_refusals),
                                       cmocka_unit_test(test_in_cluster),
                                       cmocka_unit_test(test_authorities_that_hold_no_pem),
                                       cmocka_unit_test(test_keys),
                                       cmocka_unit_test(test_types),
                                       cmocka_unit_test(test_plugin),
                                       cmocka_unit_test(test_plugin_with_a_process_left_behind),
                                       cmocka_unit_test(test_plugin_that_hangs_in_a_child),
                                       cmocka_unit_test(test_plugin_is_interrupted),
                                       cmocka_unit_test(test_plugin_that_prints_without_end),
                                       cmocka_unit_test(test_plugin_has_no_standard_input)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
