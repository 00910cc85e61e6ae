/* core/pick - removes what is not asked for from a JSON text, without building it: of a ledger of a megabyte, the
 * twenty kilobytes that a history needs.
 *
 * What is kept is copied as it stands. What is removed is only looked through for its end, so that an error within it
 * goes unnoticed; an error in the rest is found when the result is parsed. */
#ifndef KN_CORE_PICK_H
#define KN_CORE_PICK_H

#include <jansson.h>
#include <stddef.h>

#include "core/error.h"

/* `shape` says what to keep: true keeps a value whole; an object keeps the members that it names, each by its own
 * shape; an array of one shape keeps every element by that shape. A value of another kind than its shape is kept whole.
 * Changes `text`, which must be followed by a zero byte, in place; returns its new size, or -1 if the text ends too
 * early or has no value where one must be. */
ptrdiff_t kn_json_pick(char *text, size_t size, const json_t *shape, struct kn_error *err);

#endif
