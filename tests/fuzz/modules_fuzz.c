/* modules.dep, as depmod wrote it or not: every path that comes out of it is one of the text, whole, and there once. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "lab/vm.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kn_error err;
    struct kn_vm_modules *modules = malloc(sizeof *modules);
    char *text = malloc(size + 1);
    if (!text || !modules)
        abort();
    memcpy(text, data, size);
    text[size] = '\0';
    int bad = kn_vm_modules_from(text, modules, &err);
    if (modules->n > VM_MODULES_MAX || (bad && err.code != KN_E_LIMIT))
        abort();
    for (size_t i = 0; i < modules->n; i++) {
        if (!modules->path[i][0] || !strstr(text, modules->path[i]))
            abort();
        for (size_t j = 0; j < i; j++)
            if (strcmp(modules->path[i], modules->path[j]) == 0)
                abort();
    }
    free(text);
    free(modules);
    return 0;
}
