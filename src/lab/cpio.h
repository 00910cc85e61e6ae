/* lab/cpio - an initramfs, written entry by entry: the "newc" form of cpio that the kernel unpacks
 * (Documentation/driver-api/early-userspace/buffer-format.rst). Parents come before what lies in them. */
#ifndef KN_LAB_CPIO_H
#define KN_LAB_CPIO_H

#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

struct kn_cpio { int fd; unsigned inode; uint64_t at; };

int kn_cpio_folder(struct kn_cpio *cpio, const char *name, struct kn_error *err);
int kn_cpio_device(struct kn_cpio *cpio, const char *name, unsigned major, unsigned minor, struct kn_error *err);
int kn_cpio_bytes(struct kn_cpio *cpio, const char *name, const void *bytes, size_t size, struct kn_error *err);
/* A program, a library, a module: the bytes of `path`. */
int kn_cpio_file(struct kn_cpio *cpio, const char *name, const char *path, struct kn_error *err);
/* A kernel module, without the signature at its end: an emulated guest would spend a tenth of a second on each. */
int kn_cpio_module(struct kn_cpio *cpio, const char *name, const char *path, struct kn_error *err);
int kn_cpio_end(struct kn_cpio *cpio, struct kn_error *err);

#endif
