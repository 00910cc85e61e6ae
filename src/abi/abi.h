/* abi - helpers for the files of the public ABI: errors, structures and strings. Private to src/abi. */
#ifndef KN_ABI_ABI_H
#define KN_ABI_ABI_H

#include <jansson.h>
#include <stddef.h>

#include "core/error.h"
#include "knbl.h"

#define KNBL_API __attribute__((visibility("default")))

/* Copies as much of the error as fits into the caller's structure. Returns -1. */
int knbl_fail_(knbl_error *out, const struct kn_error *err);
/* Copies a caller's structure of any version into ours; members that it lacks are 0. */
void knbl_take_(void *into, size_t room, const void *from, uint32_t size);
/* Serializes JSON for the caller and takes the reference. NULL stands for the error in `err`. */
char *knbl_text_(json_t *owned, const struct kn_error *err, knbl_error *out);
json_t *knbl_parse_(const char *text, struct kn_error *err);

#endif
