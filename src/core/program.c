#include "core/program.h"

#include <link.h>
#include <string.h>

struct asked { int (*take)(const char *name, const char *file, void *arg); void *arg; };

/* An object that was asked for by another has its path end in the name that it was asked by. The program itself has no
 * name, the vDSO no path. */
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
    struct asked asked = { take, arg };
    return dl_iterate_phdr(on_object, &asked);
}

static int on_program(struct dl_phdr_info *info, size_t size, void *arg)
{
    const char **loader = arg;
    (void)size;
    for (unsigned i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_INTERP)
            *loader = (const char *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
    return 1; /* the program is the first */
}

const char *kn_program_loader(void)
{
    const char *loader = NULL;
    dl_iterate_phdr(on_program, &loader);
    return loader;
}
