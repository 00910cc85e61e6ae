/* core/file - atomic writes to files, and random tokens. Apart from the clock, only this file makes system calls in
 * core. */
#ifndef KN_CORE_FILE_H
#define KN_CORE_FILE_H

#include <stddef.h>

#include "core/error.h"

/* Writes a temporary file in the same folder, syncs it and renames it to `path`. Pipes and devices (/dev/stdout) are
 * written directly. Writing to a named pipe waits for a reader; the wait ends with KN_E_INTERRUPTED when `wake_fd` (-1
 * for none) becomes readable. */
int kn_write_file(const char *path, const void *bytes, size_t size, int wake_fd, struct kn_error *err);
/* Checks in advance whether kn_write_file would succeed, without changing an existing file. Returns 0 for a file, 1 for
 * a pipe or a device, -1 if it would fail. */
int kn_can_write(const char *path, struct kn_error *err);
/* Reads a file of at most `most` bytes; a longer one is KN_E_LIMIT. The caller frees the text with free(). */
char *kn_read_file(const char *path, size_t most, struct kn_error *err);

#define KN_TOKEN_SIZE 49
#define KN_TOKEN_LEAST 16
void kn_token_make(char token[KN_TOKEN_SIZE]); /* 192 random bits in hex */

#endif
