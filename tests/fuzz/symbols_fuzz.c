/* Any file as a program: its symbols are read or they are not; every name that is found is a text within the table. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "meter/symbols.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(bool truth)
{
    if (!truth)
        abort();
}

static void demand_text(const struct kn_symbols *s, const char *name)
{
    if (name)
        demand(name >= s->names && strlen(name) < (size_t)(s->names + s->names_size + 1 - name));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    demand(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    struct kn_symbols *s = kn_symbols_elf(fd);
    close(fd);
    if (!s)
        return 0;
    demand(s->n > 0 && s->n_segments > 0);
    for (size_t i = 0; i < s->n; i++) {
        demand(i == 0 || s->all[i - 1].from <= s->all[i].from);
        demand_text(s, kn_symbols_find(s, s->all[i].from));
        demand_text(s, kn_symbols_find(s, s->all[i].from + s->all[i].size));
    }
    for (size_t i = 0; i < s->n_segments; i++)
        demand_text(s, kn_symbols_find_offset(s, s->segments[i].offset));
    kn_symbols_free(s);
    return 0;
}
