#include "kube/config.h"

#include <errno.h>
#include <limits.h>
#include <sodium.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/units.h"
#include "kube/yaml.h"

#define FILE_MAX (8u << 20)
#define ACCOUNT_DIR "/var/run/secrets/kubernetes.io/serviceaccount"

/* ---- files ------------------------------------------------------------------------------------------------------------ */

/* The whole file, NUL-ended; NULL with errno where it cannot be read. */
static char *read_file(const char *path, size_t *size)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return NULL;
    char *text = malloc(FILE_MAX + 1);
    *size = text ? fread(text, 1, FILE_MAX, f) : 0;
    int failed = ferror(f) ? errno : 0;
    fclose(f);
    if (!text || failed) {
        free(text);
        errno = failed ? failed : ENOMEM;
        return NULL;
    }
    text[*size] = 0;
    return text;
}

static char *trimmed(char *text)
{
    size_t n = text ? strlen(text) : 0;
    while (n && strchr(" \t\r\n", text[n - 1]))
        text[--n] = 0;
    return text;
}

static const char *field(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text && *text ? text : NULL;
}

/* ---- merging ---------------------------------------------------------------------------------------------------------- */

/* Paths in a file are relative to it: made absolute before files are mixed. */
static void absolute_paths(json_t *entry, const char *file)
{
    static const char *const keys[] = {"certificate-authority", "client-certificate", "client-key", "tokenFile"};
    const char *slash = strrchr(file, '/');
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const char *path = field(entry, keys[i]);
        if (path && path[0] != '/' && slash) {
            json_object_set_new(entry, keys[i], json_sprintf("%.*s/%s", (int)(slash - file), file, path));
        }
    }
    json_t *exec = json_object_get(entry, "exec");
    const char *command = field(exec, "command");
    if (command && strchr(command, '/') && command[0] != '/' && slash)
        json_object_set_new(exec, "command", json_sprintf("%.*s/%s", (int)(slash - file), file, command));
}

/* [{"name","cluster":{…}}…] into name -> {…}; the first to name a thing wins it. */
static void merge_list(json_t *merged, const json_t *config, const char *list, const char *kind, const char *file)
{
    json_t *into = json_object_get(merged, list), *item;
    size_t i;
    json_array_foreach(json_object_get(config, list), i, item)
    {
        const char *name = field(item, "name");
        json_t *entry = json_object_get(item, kind);
        if (!name || json_object_get(into, name))
            continue;
        entry = json_is_object(entry) ? json_deep_copy(entry) : json_object();
        absolute_paths(entry, file);
        json_object_set_new(into, name, entry);
    }
}

static int merge_file(json_t *merged, const char *path, bool must_exist, struct kn_error *err)
{
    size_t size;
    char *text = read_file(path, &size), full[PATH_MAX];
    if (!text) {
        if (!must_exist && errno == ENOENT)
            return 0;
        return kn_fail_errno(err, "kubeconfig %s", path);
    }
    json_t *documents = kn_yaml_parse(text, size, err);
    free(text);
    if (!documents) {
        kn_error_context(err, "kubeconfig %s", path);
        return -1;
    }
    const json_t *config = json_array_get(documents, 0);
    int result = 0;
    if (config && !json_is_object(config)) {
        result = kn_fail(err, KN_E_ARGUMENT, "kubeconfig %s: it is no mapping of clusters, users and contexts", path);
    } else if (config) {
        if (!realpath(path, full))
            snprintf(full, sizeof full, "%s", path);
        merge_list(merged, config, "clusters", "cluster", full);
        merge_list(merged, config, "users", "user", full);
        merge_list(merged, config, "contexts", "context", full);
        const char *current = field(config, "current-context");
        if (current && !field(merged, "current-context"))
            json_object_set_new(merged, "current-context", json_string(current));
        json_array_append_new(json_object_get(merged, "sources"), json_string(path));
    } else if (must_exist) {
        result = kn_fail(err, KN_E_ARGUMENT, "kubeconfig %s: it is empty", path);
    }
    json_decref(documents);
    return result;
}

static int merge_all(json_t *merged, const struct kn_kube_options *o, struct kn_error *err)
{
    char path[PATH_MAX];
    if (o->kubeconfig && *o->kubeconfig)
        return merge_file(merged, o->kubeconfig, true, err);
    if (o->kubeconfig_list && *o->kubeconfig_list) {
        for (const char *p = o->kubeconfig_list; *p;) {
            size_t n = strcspn(p, ":");
            if (n && n < sizeof path) {
                memcpy(path, p, n);
                path[n] = 0;
                if (merge_file(merged, path, false, err))
                    return -1;
            }
            p += n + (p[n] == ':');
        }
        return 0;
    }
    if (!o->home || !*o->home)
        return 0;
    snprintf(path, sizeof path, "%s/.kube/config", o->home);
    return merge_file(merged, path, false, err);
}

/* ---- resolving ---------------------------------------------------------------------------------------------------------- */

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
static const json_t *entry_named(const json_t *merged, const char *list, const char *kind, const char *name, struct kn_error *err)
{
    const json_t *all = json_object_get(merged, list), *entry = json_object_get(all, name);
    if (entry)
        return entry;
    const char *names[256], *key;
    size_t n = 0;
    json_t *value;
    json_object_foreach((json_t *)all, key, value) if (n < 256) names[n++] = key;
    const char *near = kn_nearest(name, names, n);
    if (near) {
        kn_fail(err, KN_E_ARGUMENT, "kubeconfig: there is no %s named \"%s\"; did you mean \"%s\"?", kind, name, near);
        return NULL;
    }
    char there[200] = "none";
    list_names(there, sizeof there, names, n);
    kn_fail(err, KN_E_ARGUMENT, "kubeconfig: there is no %s named \"%s\"; there %s %s", kind, name, n == 1 ? "is" : "are", there);
    return NULL;
}

/* KEY-data (base64) or KEY (a path), as text under `out_key`. */
static int take_pem(json_t *out, const char *out_key, const json_t *entry, const char *key, struct kn_error *err)
{
    char data_key[64];
    snprintf(data_key, sizeof data_key, "%s-data", key);
    const char *data = field(entry, data_key), *path = field(entry, key);
    size_t size = 0;
    char *text = NULL;
    if (data) {
        size_t room = strlen(data);
        text = malloc(room + 1);
        if (!text || sodium_base642bin((unsigned char *)text, room, data, room, " \r\n", &size, NULL, sodium_base64_VARIANT_ORIGINAL)) {
            free(text);
            return kn_fail(err, KN_E_ARGUMENT, "kubeconfig: %s is not base64", data_key);
        }
        text[size] = 0;
    } else if (path) {
        text = read_file(path, &size);
        if (!text)
            return kn_fail_errno(err, "kubeconfig: %s %s", key, path);
    }
    if (text)
        json_object_set_new(out, out_key, json_string(text));
    free(text);
    return 0;
}

static void copy_text(json_t *out, const char *out_key, const json_t *entry, const char *key)
{
    const char *text = field(entry, key);
    if (text)
        json_object_set_new(out, out_key, json_string(text));
}

static int take_cluster(json_t *out, const json_t *cluster, const char *name, struct kn_error *err)
{
    const char *server = field(cluster, "server");
    if (!server)
        return kn_fail(err, KN_E_ARGUMENT, "kubeconfig: the cluster \"%s\" has no server", name);
    if (strncmp(server, "http://", 7) && strncmp(server, "https://", 8))
        json_object_set_new(out, "server", json_sprintf("https://%s", server));
    else
        json_object_set_new(out, "server", json_string(server));
    copy_text(out, "tls_server_name", cluster, "tls-server-name");
    copy_text(out, "proxy_url", cluster, "proxy-url");
    if (json_is_true(json_object_get(cluster, "insecure-skip-tls-verify"))) {
        json_object_set_new(out, "insecure", json_true());
        if (field(cluster, "certificate-authority") || field(cluster, "certificate-authority-data"))
            return kn_fail(err, KN_E_ARGUMENT, "kubeconfig: the cluster \"%s\" has insecure-skip-tls-verify and a certificate authority: "
                                               "one excludes the other", name);
    }
    return take_pem(out, "ca", cluster, "certificate-authority", err);
}

static int take_user(json_t *out, const json_t *user, struct kn_error *err)
{
    copy_text(out, "token", user, "token");
    copy_text(out, "token_file", user, "tokenFile");
    copy_text(out, "username", user, "username");
    copy_text(out, "password", user, "password");
    copy_text(out, "as", user, "as");
    json_t *groups = json_object_get(user, "as-groups"), *exec = json_object_get(user, "exec");
    if (json_is_array(groups))
        json_object_set(out, "as_groups", groups);
    if (json_is_object(exec)) {
        if (!field(exec, "command"))
            return kn_fail(err, KN_E_ARGUMENT, "kubeconfig: the user's exec plugin has no command");
        json_object_set(out, "exec", exec);
    }
    if (json_object_get(user, "auth-provider"))
        return kn_fail(err, KN_E_UNSUPPORTED, "kubeconfig: the user's auth-provider is gone from Kubernetes since 1.26; use its exec plugin");
    return take_pem(out, "cert", user, "client-certificate", err) || take_pem(out, "key", user, "client-key", err) ? -1 : 0;
}

static json_t *resolve(const json_t *merged, const struct kn_kube_options *o, struct kn_error *err)
{
    const char *context = o->context && *o->context ? o->context : field(merged, "current-context");
    if (!context) {
        kn_fail(err, KN_E_ARGUMENT, "kubeconfig: it names no current-context; choose one with --context");
        return NULL;
    }
    const json_t *c = entry_named(merged, "contexts", "context", context, err);
    if (!c)
        return NULL;
    const char *cluster = o->cluster && *o->cluster ? o->cluster : field(c, "cluster");
    const char *user = o->user && *o->user ? o->user : field(c, "user");
    if (!cluster) {
        kn_fail(err, KN_E_ARGUMENT, "kubeconfig: the context \"%s\" names no cluster", context);
        return NULL;
    }
    const json_t *cluster_entry = entry_named(merged, "clusters", "cluster", cluster, err);
    const json_t *user_entry = cluster_entry && user ? entry_named(merged, "users", "user", user, err) : NULL;
    if (!cluster_entry || (user && !user_entry))
        return NULL;
    json_t *out = json_pack("{s:s, s:s, s:O}", "context", context, "cluster", cluster, "source", json_object_get(merged, "sources"));
    json_object_set_new(out, "namespace", json_string(field(c, "namespace") ? field(c, "namespace") : "default"));
    if (user)
        json_object_set_new(out, "user", json_string(user));
    if (take_cluster(out, cluster_entry, cluster, err) || (user_entry && take_user(out, user_entry, err))) {
        json_decref(out);
        return NULL;
    }
    return out;
}

/* ---- in a pod ------------------------------------------------------------------------------------------------------------ */

static json_t *in_cluster(const struct kn_kube_options *o, struct kn_error *err)
{
    char path[PATH_MAX];
    const char *dir = o->service_account ? o->service_account : ACCOUNT_DIR;
    size_t size;
    bool v6 = strchr(o->service_host, ':') != NULL;
    json_t *out = json_object();
    json_object_set_new(out, "in_cluster", json_true());
    json_object_set_new(out, "server", json_sprintf(v6 ? "https://[%s]:%s" : "https://%s:%s", o->service_host,
                                                    o->service_port && *o->service_port ? o->service_port : "443"));
    snprintf(path, sizeof path, "%s/token", dir);
    if (access(path, R_OK)) {
        kn_fail_errno(err, "in a pod, but its service account token %s", path);
        json_decref(out);
        return NULL;
    }
    json_object_set_new(out, "token_file", json_string(path)); /* it rotates: read again at each use */
    snprintf(path, sizeof path, "%s/ca.crt", dir);
    char *ca = read_file(path, &size);
    if (ca)
        json_object_set_new(out, "ca", json_string(ca));
    free(ca);
    snprintf(path, sizeof path, "%s/namespace", dir);
    char *namespace = trimmed(read_file(path, &size));
    json_object_set_new(out, "namespace", json_string(namespace && *namespace ? namespace : "default"));
    free(namespace);
    return out;
}

/* ---- all of it ----------------------------------------------------------------------------------------------------------- */

void kn_kube_options_environment(struct kn_kube_options *o)
{
    o->home = getenv("HOME");
    o->kubeconfig_list = getenv("KUBECONFIG");
    o->service_host = getenv("KUBERNETES_SERVICE_HOST");
    o->service_port = getenv("KUBERNETES_SERVICE_PORT");
}

json_t *kn_kube_config(const struct kn_kube_options *o, struct kn_error *err)
{
    json_t *merged = json_pack("{s:{}, s:{}, s:{}, s:[]}", "clusters", "users", "contexts", "sources"), *out = NULL;
    if (merge_all(merged, o, err))
        goto out;
    if (json_array_size(json_object_get(merged, "sources"))) {
        out = resolve(merged, o, err);
    } else if (o->service_host && *o->service_host) {
        out = in_cluster(o, err);
    } else {
        kn_fail(err, KN_E_ARGUMENT, "no kubeconfig: %s; name one with --kubeconfig or KUBECONFIG",
                o->kubeconfig_list && *o->kubeconfig_list ? "none of the files in KUBECONFIG is there, or says anything"
                                                                  : "~/.kube/config is not there, or empty");
        goto out;
    }
    if (out && o->namespace && *o->namespace)
        json_object_set_new(out, "namespace", json_string(o->namespace));
    if (out && o->as && *o->as)
        json_object_set_new(out, "as", json_string(o->as));
out:
    json_decref(merged);
    return out;
}
