#include "kube/config.h"

#include <errno.h>
#include <limits.h>
#include <sodium.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/json.h"
#include "core/units.h"
#include "kube/merge.h"
#include "kube/pem.h"

#define ACCOUNT_DIR "/var/run/secrets/kubernetes.io/serviceaccount"

static char *trimmed(char *text)
{
    size_t n = text ? strlen(text) : 0;
    while (n && strchr(" \t\r\n", text[n - 1]))
        text[--n] = 0;
    return text;
}

/* ---- resolving ---- */

/* As many of the names as there is room for. */
static void list_names(char *text, size_t size, const char *const *names, size_t n)
{
    static const char more[] = ", ...";
    size_t used = 0;
    for (size_t i = 0; i < n; i++) {
        if (used + strlen(names[i]) + 2 + sizeof more > size) {
            memcpy(text + used, more, sizeof more);
            return;
        }
        used += (size_t)sprintf(text + used, "%s%s", i ? ", " : "", names[i]);
    }
}

/* The entry that is named, or an error that names the nearest, or all. */
static const json_t *entry_named(const json_t *merged, const char *list, const char *kind, const char *name,
                                 struct kn_error *err)
{
    const json_t *all = json_object_get(merged, list), *entry = json_object_get(all, name);
    if (entry)
        return entry;
    const char *names[256], *key;
    size_t n = 0;
    json_t *value;
    json_object_foreach((json_t *)all, key, value) if (n < 256) names[n++] = key;
    const char *near = kn_nearest(name, names, n);
    if (near)
        return kn_null(kn_fail(err, KN_E_ARGUMENT, "kubeconfig: there is no %s named \"%s\"; did you mean \"%s\"?",
                               kind, name, near));
    char there[200] = "none";
    list_names(there, sizeof there, names, n);
    return kn_null(kn_fail(err, KN_E_ARGUMENT, "kubeconfig: there is no %s named \"%s\"; there %s %s", kind, name,
                           n == 1 ? "is" : "are", there));
}

/* The names of the keys, each with the type that a value must have. Null is "not given", as in Go. */
struct expected {
    const char *key;
    json_type type;
    const char *name;
};

static bool has_type(const json_t *value, json_type type)
{
    return !value || json_is_null(value) || json_typeof(value) == type ||
           (type == JSON_TRUE && json_typeof(value) == JSON_FALSE);
}

/* A value of another type is refused: a number where a token or an authority is expected must not pass for nothing. */
static int check_types(const json_t *entry, const char *what, const struct expected *expected, size_t n,
                       struct kn_error *err)
{
    for (size_t i = 0; i < n; i++)
        if (!has_type(json_object_get(entry, expected[i].key), expected[i].type))
            return kn_fail(err, KN_E_ARGUMENT, "kubeconfig: %s: %s must be a %s", what, expected[i].key,
                           expected[i].name);
    return 0;
}

static int check_strings(const json_t *list, const char *what, struct kn_error *err)
{
    size_t i;
    json_t *item;
    json_array_foreach((json_t *)list, i, item) if (!json_is_string(item)) return kn_fail(
        err, KN_E_ARGUMENT, "kubeconfig: %s must be a list of strings", what);
    return 0;
}

/* KEY-data (base64) or KEY (a path), as PEM text under `out_key`. */
static int take_pem(json_t *out, const char *out_key, const json_t *entry, const char *key, enum kn_pem kind,
                    struct kn_error *err)
{
    char data_key[64];
    snprintf(data_key, sizeof data_key, "%s-data", key);
    const char *data = kn_kube_field(entry, data_key), *path = kn_kube_field(entry, key);
    size_t size = 0;
    char *text = NULL;
    if (data) {
        size_t room = strlen(data);
        text = malloc(room + 1);
        if (!text)
            return kn_fail_memory(err);
        if (sodium_base642bin((unsigned char *)text, room, data, room, " \r\n", &size, NULL,
                              sodium_base64_VARIANT_ORIGINAL)) {
            free(text);
            return kn_fail(err, KN_E_ARGUMENT, "kubeconfig: %s is not base64", data_key);
        }
        text[size] = 0;
    } else if (path) {
        text = kn_kube_read(path, &size);
        if (!text)
            return kn_fail_errno(err, "kubeconfig: %s %s", key, path);
    }
    if (!text)
        return 0;
    char *pem = kn_pem_extract(kind, text, size, err);
    free(text);
    if (!pem)
        return kn_error_context(err, "kubeconfig: %s%s%s", data ? data_key : key, data ? "" : " ", data ? "" : path);
    kn_json_set(out, out_key, json_string(pem));
    free(pem);
    return 0;
}

static void copy_text(json_t *out, const char *out_key, const json_t *entry, const char *key)
{
    const char *text = kn_kube_field(entry, key);
    if (text)
        kn_json_set(out, out_key, json_string(text));
}

static int take_cluster(json_t *out, const json_t *cluster, const char *name, struct kn_error *err)
{
    static const struct expected expected[] = {{"server", JSON_STRING, "string"},
                                               {"certificate-authority", JSON_STRING, "string"},
                                               {"certificate-authority-data", JSON_STRING, "string"},
                                               {"tls-server-name", JSON_STRING, "string"},
                                               {"proxy-url", JSON_STRING, "string"},
                                               {"insecure-skip-tls-verify", JSON_TRUE, "boolean"}};
    char what[300];
    snprintf(what, sizeof what, "the cluster \"%.200s\"", name);
    if (check_types(cluster, what, expected, sizeof expected / sizeof *expected, err))
        return -1;
    const char *server = kn_kube_field(cluster, "server");
    if (!server)
        return kn_fail(err, KN_E_ARGUMENT, "kubeconfig: the cluster \"%s\" has no server", name);
    if (strncasecmp(server, "http://", 7) && strncasecmp(server, "https://", 8))
        kn_json_set(out, "server", json_sprintf("https://%s", server));
    else
        kn_json_set(out, "server", json_string(server));
    copy_text(out, "tls_server_name", cluster, "tls-server-name");
    copy_text(out, "proxy_url", cluster, "proxy-url");
    if (json_is_true(json_object_get(cluster, "insecure-skip-tls-verify"))) {
        kn_json_set(out, "insecure", json_true());
        if (kn_kube_field(cluster, "certificate-authority") || kn_kube_field(cluster, "certificate-authority-data"))
            return kn_fail(err, KN_E_ARGUMENT,
                           "kubeconfig: the cluster \"%s\" has both insecure-skip-tls-verify and a certificate "
                           "authority; remove one of them",
                           name);
    }
    return take_pem(out, "ca", cluster, "certificate-authority", KN_PEM_CERTIFICATE, err);
}

static int check_exec(const json_t *exec, struct kn_error *err)
{
    static const struct expected expected[] = {{"command", JSON_STRING, "string"},
                                               {"apiVersion", JSON_STRING, "string"},
                                               {"installHint", JSON_STRING, "string"},
                                               {"args", JSON_ARRAY, "list of strings"},
                                               {"env", JSON_ARRAY, "list"},
                                               {"provideClusterInfo", JSON_TRUE, "boolean"}};
    static const struct expected variable[] = {{"name", JSON_STRING, "string"}, {"value", JSON_STRING, "string"}};
    size_t i;
    json_t *item;
    if (check_types(exec, "exec", expected, sizeof expected / sizeof *expected, err) ||
        check_strings(json_object_get(exec, "args"), "exec.args", err))
        return -1;
    if (!kn_kube_field(exec, "command"))
        return kn_fail(err, KN_E_ARGUMENT, "kubeconfig: the user's exec plugin has no command");
    json_array_foreach(json_object_get(exec, "env"), i, item)
    {
        if (!kn_kube_field(item, "name"))
            return kn_fail(err, KN_E_ARGUMENT, "kubeconfig: each entry of exec.env must have a name and a value");
        if (check_types(item, "exec.env", variable, 2, err))
            return -1;
    }
    return 0;
}

/* A certificate is of no use without its key, and the user would be somebody else. */
static int take_certificate(json_t *out, const json_t *user, struct kn_error *err)
{
    if (take_pem(out, "cert", user, "client-certificate", KN_PEM_CERTIFICATE, err) ||
        take_pem(out, "key", user, "client-key", KN_PEM_KEY, err))
        return -1;
    if (json_object_get(out, "cert") && !json_object_get(out, "key"))
        return kn_fail(err, KN_E_ARGUMENT, "kubeconfig: the user has a client-certificate without a client-key");
    return 0;
}

static int take_user(json_t *out, const json_t *user, struct kn_error *err)
{
    static const struct expected expected[] = {
        {"token", JSON_STRING, "string"},
        {"tokenFile", JSON_STRING, "string"},
        {"username", JSON_STRING, "string"},
        {"password", JSON_STRING, "string"},
        {"as", JSON_STRING, "string"},
        {"as-groups", JSON_ARRAY, "list of strings"},
        {"exec", JSON_OBJECT, "mapping"},
        {"client-certificate", JSON_STRING, "string"},
        {"client-certificate-data", JSON_STRING, "string"},
        {"client-key", JSON_STRING, "string"},
        {"client-key-data", JSON_STRING, "string"},
    };
    json_t *groups = json_object_get(user, "as-groups"), *exec = json_object_get(user, "exec");
    if (check_types(user, "the user", expected, sizeof expected / sizeof *expected, err) ||
        check_strings(groups, "as-groups", err))
        return -1;
    copy_text(out, "token", user, "token");
    copy_text(out, "token_file", user, "tokenFile");
    copy_text(out, "username", user, "username");
    copy_text(out, "password", user, "password");
    copy_text(out, "as", user, "as");
    if (json_array_size(groups))
        kn_json_set(out, "as_groups", json_incref(groups));
    if (json_is_object(exec)) {
        if (check_exec(exec, err))
            return -1;
        kn_json_set(out, "exec", json_incref(exec));
    }
    if (json_object_get(user, "auth-provider"))
        return kn_fail(err, KN_E_UNSUPPORTED,
                       "kubeconfig: the user has an auth-provider, which Kubernetes 1.26 removed; use its exec plugin");
    return take_certificate(out, user, err);
}

static json_t *resolve(const json_t *merged, const struct kn_kube_options *o, struct kn_error *err)
{
    const char *context = o->context && *o->context ? o->context : kn_kube_field(merged, "current-context");
    if (!context)
        return kn_null(kn_fail(err, KN_E_ARGUMENT, "kubeconfig: no current-context is set; choose one with --context"));
    const json_t *c = entry_named(merged, "contexts", "context", context, err);
    if (!c)
        return NULL;
    const char *cluster = o->cluster && *o->cluster ? o->cluster : kn_kube_field(c, "cluster");
    const char *user = o->user && *o->user ? o->user : kn_kube_field(c, "user");
    if (!cluster)
        return kn_null(kn_fail(err, KN_E_ARGUMENT, "kubeconfig: the context \"%s\" names no cluster", context));
    const json_t *cluster_entry = entry_named(merged, "clusters", "cluster", cluster, err);
    const json_t *user_entry = cluster_entry && user ? entry_named(merged, "users", "user", user, err) : NULL;
    if (!cluster_entry || (user && !user_entry))
        return NULL;
    json_t *out = json_pack("{s:s, s:s, s:O}", "context", context, "cluster", cluster, "source",
                            json_object_get(merged, "sources"));
    kn_json_set(out, "namespace",
                json_string(kn_kube_field(c, "namespace") ? kn_kube_field(c, "namespace") : "default"));
    if (user)
        kn_json_set(out, "user", json_string(user));
    if (take_cluster(out, cluster_entry, cluster, err) || (user_entry && take_user(out, user_entry, err))) {
        json_decref(out);
        return NULL;
    }
    return out;
}

/* ---- in a pod ---- */

static json_t *in_cluster(const struct kn_kube_options *o, struct kn_error *err)
{
    char path[PATH_MAX];
    const char *dir = o->service_account ? o->service_account : ACCOUNT_DIR;
    size_t size;
    bool v6 = strchr(o->service_host, ':') != NULL;
    json_t *out = json_object();
    kn_json_set(out, "in_cluster", json_true());
    kn_json_set(out, "server",
                json_sprintf(v6 ? "https://[%s]:%s" : "https://%s:%s", o->service_host,
                             o->service_port && *o->service_port ? o->service_port : "443"));
    snprintf(path, sizeof path, "%s/token", dir);
    if (access(path, R_OK)) {
        kn_fail_errno(err, "in a pod, but its service account's token %s cannot be read", path);
        json_decref(out);
        return NULL;
    }
    kn_json_set(out, "token_file", json_string(path)); /* it rotates: read again at each use */
    snprintf(path, sizeof path, "%s/ca.crt", dir);
    char *bytes = kn_kube_read(path, &size), *ca = NULL;
    if (!bytes)
        kn_fail_errno(err, "in a pod, but its certificate authority %s cannot be read", path);
    else if (!(ca = kn_pem_extract(KN_PEM_CERTIFICATE, bytes, size, err)))
        kn_error_context(err, "in a pod, but its certificate authority %s cannot be used", path);
    free(bytes);
    if (!ca) {
        json_decref(out);
        return NULL;
    }
    kn_json_set(out, "ca", json_string(ca));
    free(ca);
    snprintf(path, sizeof path, "%s/namespace", dir);
    char *namespace = trimmed(kn_kube_read(path, &size));
    kn_json_note(namespace || errno != ENOMEM); /* "default" would be another one */
    kn_json_set(out, "namespace", json_string(namespace && *namespace ? namespace : "default"));
    free(namespace);
    return out;
}

/* ---- all of it ---- */

void kn_kube_options_environment(struct kn_kube_options *o)
{
    o->home = getenv("HOME");
    o->kubeconfig_list = getenv("KUBECONFIG");
    o->service_host = getenv("KUBERNETES_SERVICE_HOST");
    o->service_port = getenv("KUBERNETES_SERVICE_PORT");
}

json_t *kn_kube_config(const struct kn_kube_options *o, struct kn_error *err)
{
    unsigned long losses = kn_json_losses();
    json_t *merged = kn_kube_merge(o, err), *out = NULL;
    if (!merged)
        goto out;
    if (json_array_size(json_object_get(merged, "sources"))) {
        out = resolve(merged, o, err);
    } else if (o->service_host && *o->service_host) {
        out = in_cluster(o, err);
    } else {
        kn_fail(err, KN_E_ARGUMENT, "no kubeconfig: %s; name one with --kubeconfig or KUBECONFIG",
                o->kubeconfig_list && *o->kubeconfig_list ? "none of the files in KUBECONFIG exists or has content"
                                                          : "~/.kube/config does not exist or is empty");
        goto out;
    }
    if (out && o->namespace && *o->namespace)
        kn_json_set(out, "namespace", json_string(o->namespace));
    if (out && o->as && *o->as)
        kn_json_set(out, "as", json_string(o->as));
    if (out && json_object_get(out, "as_groups") && !json_object_get(out, "as")) {
        kn_fail(err, KN_E_ARGUMENT, "kubeconfig: the user has as-groups without a user to impersonate (as)");
        json_decref(out);
        out = NULL;
    }
out:
    json_decref(merged);
    if (kn_json_losses() == losses)
        return out;
    json_decref(out); /* without its authority, say */
    return kn_null(kn_fail_memory(err));
}
