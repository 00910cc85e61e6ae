/* kube/merge - the files of a kubeconfig as one: where several name a thing, the first of them wins it. */
#ifndef KN_KUBE_MERGE_H
#define KN_KUBE_MERGE_H

#include "kube/config.h"

/* {"clusters":{NAME:{…}},"users":…,"contexts":…,"current-context"?,"sources":[PATH…]}, with paths made absolute. NULL:
 * a file cannot be read or is no kubeconfig. */
json_t *kn_kube_merge(const struct kn_kube_options *options, struct kn_error *err);

/* A whole file, NUL-ended; NULL with errno where it cannot be read or is longer than 8 MiB. */
char *kn_kube_read(const char *path, size_t *size);

/* A member's text; NULL if it is none, or empty. */
static inline const char *kn_kube_field(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text && *text ? text : NULL;
}

#endif
