/* kube/yaml - YAML text to JSON values and back, by libyaml's event stream.
 *
 * Plain scalars become what Kubernetes makes of them: null, booleans (YAML 1.1's yes/no/on/off too), integers, reals,
 * else text; quoted ones are always text. Anchors and aliases work inside one document. Refused, with line and
 * column: aliases that expand to more than a million values or 64 MB of strings, nesting deeper than 100, and mapping
 * keys that are not scalars. */
#ifndef KN_KUBE_YAML_H
#define KN_KUBE_YAML_H

#include <jansson.h>
#include <stddef.h>

#include "core/error.h"

/* All documents of the text, as an array; empty documents are left out. */
json_t *kn_yaml_parse(const char *text, size_t size, struct kn_error *err);
/* One document; keys in the object's own order. free() it. */
char *kn_yaml_emit(const json_t *value, struct kn_error *err);

#endif
