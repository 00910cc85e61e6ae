/* abi - what the files of the public ABI share: errors out, structures in, text out. Private to this floor. */
#ifndef KN_ABI_ABI_H
#define KN_ABI_ABI_H

#include <jansson.h>
#include <stddef.h>

#include "core/error.h"
#include "knbl.h"

#define KNBL_API __attribute__((visibility("default")))

/* As much of the error as the caller's structure has room for. Returns -1. */
int knbl_fail_(knbl_error *out, const struct kn_error *err);
/* A caller's structure of whatever version, as ours: what it lacks is 0. */
void knbl_take_(void *into, size_t room, const void *from, uint32_t size);
/* As text of the caller's; takes the reference, NULL is an error already told in `err`. */
char *knbl_text_(json_t *owned, const struct kn_error *err, knbl_error *out);
json_t *knbl_parse_(const char *text, struct kn_error *err);

#endif
