/* Memory runs out while a kubeconfig is read: an error, or all that it says. A lost certificate authority would mean
 * that the system's are trusted. */
#include "../core/starved.h"

#include "core/clock.h"
#include "kube/config.h"
#include "kube/plugin.h"
#include "kube/yaml.h"

#define CERT "-----BEGIN CERTIFICATE-----\nQ0VSVA==\n-----END CERTIFICATE-----\n"
#define CERT_DATA "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tClEwVlNWQT09Ci0tLS0tRU5EIENFUlRJRklDQVRFLS0tLS0K"
#define KEY_DATA "LS0tLS1CRUdJTiBFQyBQUklWQVRFIEtFWS0tLS0tClMwVloKLS0tLS1FTkQgRUMgUFJJVkFURSBLRVktLS0tLQo="

static const char config[] =
    "common: &common {insecure-skip-tls-verify: false}\n"
    "clusters:\n- name: c\n  cluster: {<<: *common, server: 'https://c:6443', certificate-authority: ca.pem}\n"
    "users:\n- name: u\n  user:\n    client-certificate-data: " CERT_DATA "\n    client-key-data: " KEY_DATA "\n"
    "    as: jane\n    as-groups: [a, b]\n    exec: {command: ./plugin, apiVersion: v1, args: [x]}\n"
    "contexts:\n- name: x\n  context: {cluster: c, user: u, namespace: perf}\ncurrent-context: x\nnumber: 12\n";
static char folder[] = "/tmp/knbl-starved-XXXXXX", path[64], account[64];

static void put(const char *name, const char *text)
{
    char full[128];
    snprintf(full, sizeof full, "%s/%s", folder, name);
    FILE *f = fopen(full, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static int set_up(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/config", folder);
    snprintf(account, sizeof account, "%s", folder);
    put("config", config);
    put("ca.pem", CERT CERT);
    put("ca.crt", CERT);
    put("token", "secret");
    put("namespace", "inside");
    return 0;
}

static int tear_down(void **state)
{
    static const char *const names[] = {"config", "ca.pem", "ca.crt", "token", "namespace"};
    char full[128];
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(full, sizeof full, "%s/%s", folder, names[i]);
        remove(full);
    }
    return rmdir(folder);
}

static void same_each_time(const struct kn_kube_options *options)
{
    struct kn_error err = {0};
    json_t *all = kn_kube_config(options, &err);
    if (!all)
        fail_msg("%s", err.message);
    STARVED(n)
    {
        starved_begin(n);
        json_t *some = kn_kube_config(options, &err);
        starved_end();
        starved_expect(some, &err);
        if (some && !json_equal(some, all))
            starved_fail("it says %s", json_dumps(some, 0));
        json_decref(some);
    }
    json_decref(all);
}

static void files(void **state)
{
    (void)state;
    same_each_time(&(struct kn_kube_options){.kubeconfig = path, .as = "john", .namespace = "mine"});
    same_each_time(&(struct kn_kube_options){.kubeconfig_list = path});
}

static void service_accounts(void **state)
{
    (void)state;
    same_each_time(
        &(struct kn_kube_options){.service_host = "10.0.0.1", .service_port = "443", .service_account = account});
}

static void yaml_and_back(void **state)
{
    struct kn_error err = {0};
    (void)state;
    json_t *all = kn_yaml_parse(config, sizeof config - 1, &err);
    assert_non_null(all);
    STARVED(n)
    {
        starved_begin(n);
        json_t *some = kn_yaml_parse(config, sizeof config - 1, &err);
        char *text = some ? kn_yaml_emit(json_array_get(some, 0), &err) : NULL;
        starved_end();
        starved_expect(text, &err);
        if (some && !json_equal(some, all))
            starved_fail("read: %s", json_dumps(some, 0));
        json_t *again = text ? kn_yaml_parse(text, strlen(text), &err) : NULL; /* it may have more quotes */
        if (text && !json_equal(again, all))
            starved_fail("written: %s", text);
        json_decref(again);
        json_decref(some);
        free(text);
    }
    json_decref(all);
}

static void plugins(void **state)
{
    static const char *const argv[] = {"echo", "it", NULL}, *const extra[] = {"A=b", NULL};
    (void)state;
    STARVED(n)
    {
        struct kn_error err = {0};
        starved_begin(n);
        char *text = kn_plugin_run(argv, extra, 10 * KN_NS_PER_S, -1, &err);
        starved_end();
        starved_expect(text, &err);
        if (text && strcmp(text, "it\n"))
            starved_fail("it printed %s", text);
        free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(files), cmocka_unit_test(service_accounts),
                                       cmocka_unit_test(yaml_and_back), cmocka_unit_test(plugins)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
