#include "core/program.h"

#include <link.h>
#include <string.h>

struct asked {
    int (*take)(const char *name, const char *file, void *arg);
    void *arg;
};

/* The path of a shared object ends in the name by which it was loaded. The program itself has no name, and the vDSO no
 * path. */
static int on_object(struct dl_phdr_info *info, size_t size, void *arg)
{
    const struct asked *asked = arg;
    const char *slash = strrchr(info->dlpi_name, '/');
    (void)size;
    return slash && strcmp(info->dlpi_name, KN_PROGRAM_SELF) != 0 ? asked->take(slash + 1, info->dlpi_name, asked->arg)
                                                                  : 0;
}

int kn_program_libraries(int (*take)(const char *name, const char *file, void *arg), void *arg)
{
    struct asked asked = {take, arg};
    return dl_iterate_phdr(on_object, &asked);
}
