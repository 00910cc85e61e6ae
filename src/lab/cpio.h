/* lab/cpio - writes an initramfs entry by entry, in the "newc" format of cpio
 * (Documentation/driver-api/early-userspace/buffer-format.rst). A folder comes before its contents. */
#ifndef KN_LAB_CPIO_H
#define KN_LAB_CPIO_H

#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

struct kn_cpio {
    int fd;
    unsigned inode;
    uint64_t at;
};

int kn_cpio_folder(struct kn_cpio *cpio, const char *name, struct kn_error *err);
int kn_cpio_device(struct kn_cpio *cpio, const char *name, unsigned major, unsigned minor, struct kn_error *err);
int kn_cpio_bytes(struct kn_cpio *cpio, const char *name, unsigned mode, const void *bytes, size_t size,
                  struct kn_error *err);
/* A kernel module without its signature, which an emulated guest would take a tenth of a second to check. */
int kn_cpio_module(struct kn_cpio *cpio, const char *name, const char *path, struct kn_error *err);
int kn_cpio_end(struct kn_cpio *cpio, struct kn_error *err);

#endif
