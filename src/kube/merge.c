#include "kube/merge.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "kube/yaml.h"

#define FILE_MAX (8u << 20)

/* What is left of an open file, NUL-ended; NULL with errno. */
static char *read_rest(FILE *f, size_t *size)
{
    char *text = NULL;
    *size = 0;
    for (size_t room = 16384; room <= 2 * FILE_MAX; room *= 2) {
        char *grown = realloc(text, room + 1);
        if (!grown)
            break;
        text = grown;
        *size += fread(text + *size, 1, room - *size, f);
        if (!ferror(f) && *size < room && *size <= FILE_MAX)
            return text[*size] = 0, text;
        if (ferror(f) || *size < room)
            break;
    }
    int failed = ferror(f) ? errno : *size > FILE_MAX ? EFBIG : ENOMEM;
    free(text);
    errno = failed;
    return NULL;
}

char *kn_kube_read(const char *path, size_t *size)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return NULL;
    char *text = read_rest(f, size);
    int failed = errno;
    fclose(f);
    errno = failed;
    return text;
}

/* Paths in a file are relative to it: made absolute before files are mixed. */
static void absolute_paths(json_t *entry, const char *file)
{
    static const char *const keys[] = {"certificate-authority", "client-certificate", "client-key", "tokenFile"};
    const char *slash = strrchr(file, '/');
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const char *path = kn_kube_field(entry, keys[i]);
        if (path && path[0] != '/' && slash) {
            kn_json_set(entry, keys[i], json_sprintf("%.*s/%s", (int)(slash - file), file, path));
        }
    }
    json_t *exec = json_object_get(entry, "exec");
    const char *command = kn_kube_field(exec, "command");
    if (command && strchr(command, '/') && command[0] != '/' && slash)
        kn_json_set(exec, "command", json_sprintf("%.*s/%s", (int)(slash - file), file, command));
}

/* [{"name","cluster":{…}}…] into name -> {…}; the first to name a thing wins it. */
static void merge_list(json_t *merged, const json_t *config, const char *list, const char *kind, const char *file)
{
    json_t *into = json_object_get(merged, list), *item;
    size_t i;
    json_array_foreach(json_object_get(config, list), i, item)
    {
        const char *name = kn_kube_field(item, "name");
        json_t *entry = json_object_get(item, kind);
        if (!name || json_object_get(into, name))
            continue;
        entry = json_is_object(entry) ? kn_json_copy(entry) : json_object();
        absolute_paths(entry, file);
        kn_json_set(into, name, entry);
    }
}

static int merge_file(json_t *merged, const char *path, bool must_exist, struct kn_error *err)
{
    size_t size;
    char *text = kn_kube_read(path, &size), full[PATH_MAX];
    if (!text) {
        if (!must_exist && errno == ENOENT)
            return 0;
        return kn_fail_errno(err, "kubeconfig %s", path);
    }
    json_t *documents = kn_yaml_parse(text, size, err);
    free(text);
    if (!documents)
        return kn_error_context(err, "kubeconfig %s", path);
    const json_t *config = json_array_get(documents, 0);
    int result = 0;
    if (config && !json_is_object(config)) {
        result = kn_fail(err, KN_E_ARGUMENT, "kubeconfig %s: it must be a mapping of clusters, users and contexts",
                         path);
    } else if (config) {
        if (!realpath(path, full))
            snprintf(full, sizeof full, "%s", path);
        merge_list(merged, config, "clusters", "cluster", full);
        merge_list(merged, config, "users", "user", full);
        merge_list(merged, config, "contexts", "context", full);
        const char *current = kn_kube_field(config, "current-context");
        if (current && !kn_kube_field(merged, "current-context"))
            kn_json_set(merged, "current-context", json_string(current));
        kn_json_append(json_object_get(merged, "sources"), json_string(path));
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

json_t *kn_kube_merge(const struct kn_kube_options *options, struct kn_error *err)
{
    json_t *merged = json_pack("{s:{}, s:{}, s:{}, s:[]}", "clusters", "users", "contexts", "sources");
    if (!merged)
        kn_fail_memory(err);
    else if (!merge_all(merged, options, err))
        return merged;
    json_decref(merged);
    return NULL;
}
