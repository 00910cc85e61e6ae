/* A compressed kernel, or what says that it is one: what comes out is an ELF file of the size that was said, all of it
 * written; or a refusal. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "lab/vm.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kn_error err;
    void *elf;
    size_t elf_size;
    uint8_t *image = malloc(size + 1);
    if (!image) abort();
    memcpy(image, data, size);
    /* few guess a size: most are small */
    if (size > 0x24d && size & 1) memset(image + size - 3, 0, 3);
    if (kn_vmlinux_unpack(image, size, &elf, &elf_size, &err) == 0) {
        if (elf_size < 4 || elf_size > VM_KERNEL_MAX || memcmp(elf, "\177ELF", 4) != 0) abort();
        free(elf);
    } else if (err.code != KN_E_UNSUPPORTED && err.code != KN_E_LIMIT && err.code != KN_E_PROTOCOL) {
        abort();
    }
    free(image);
    return 0;
}
