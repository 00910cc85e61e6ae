/* core/describe - the specification's table and lists of histograms as JSON, for the bindings of other languages. */
#ifndef KN_CORE_DESCRIBE_H
#define KN_CORE_DESCRIBE_H

#include <jansson.h>

#include "core/error.h"

/* [{"name","kind":"duration|size|count|rate|flag|choice|text","choices":[…]?,"tests":[…],"help"}, …]; NULL: out of
 * memory. */
json_t *kn_fields_to_json(void);
/* Many histograms as one: [{…}, …] to {…}. */
json_t *kn_hist_merge_json(const json_t *list, struct kn_error *err);

#endif
