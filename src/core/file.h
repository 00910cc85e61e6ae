/* core/file - files that are written whole or not at all, and secrets: the only system calls of this floor besides the
 * clock's. */
#ifndef KN_CORE_FILE_H
#define KN_CORE_FILE_H

#include <stddef.h>

#include "core/error.h"

/* A temporary file in the same folder, synced, then renamed over `path`; what is no regular file (/dev/stdout, a pipe)
 * is written to. */
int kn_write_file(const char *path, const void *bytes, size_t size, struct kn_error *err);
/* Whether kn_write_file could, as far as can be told beforehand: what is there stays as it is. */
int kn_can_write(const char *path, struct kn_error *err);
/* The text of a small file: at most `most` bytes, else KN_E_LIMIT. free() it. */
char *kn_read_file(const char *path, size_t most, struct kn_error *err);

#define KN_TOKEN_SIZE 49
#define KN_TOKEN_LEAST 16
void kn_token_make(char token[KN_TOKEN_SIZE]); /* 192 random bits in hex */

#endif
