#include "meter/symbols.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "meter/files.h"

#define KALLSYMS_MAX (64u << 20)

int kn_symbols_add(struct kn_symbols *symbols, uint64_t from, uint64_t size, size_t name)
{
    if (symbols->n == symbols->room) {
        size_t room = symbols->room ? symbols->room * 2 : 1024;
        struct kn_symbol *more = realloc(symbols->all, room * sizeof *more);
        if (!more)
            return -1;
        symbols->all = more;
        symbols->room = room;
    }
    symbols->all[symbols->n++] = (struct kn_symbol){.from = from, .size = size, .name = (uint32_t)name};
    return 0;
}

/* Of several names of one address the largest function's comes last and is found; if equal, the first in the file. */
static int compare(const void *left, const void *right)
{
    const struct kn_symbol *a = left, *b = right;
    if (a->from != b->from)
        return a->from < b->from ? -1 : 1;
    if (a->size != b->size)
        return a->size < b->size ? -1 : 1;
    return a->name < b->name ? 1 : a->name > b->name ? -1 : 0;
}

void kn_symbols_sort(struct kn_symbols *symbols)
{
    if (symbols->n)
        qsort(symbols->all, symbols->n, sizeof *symbols->all, compare);
}

void kn_symbols_free(struct kn_symbols *symbols)
{
    if (!symbols)
        return;
    free(symbols->all);
    free(symbols->names);
    free(symbols->segments);
    free(symbols);
}

const char *kn_symbols_find(const struct kn_symbols *symbols, uint64_t address)
{
    size_t low = 0, high = symbols->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (symbols->all[middle].from <= address)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0)
        return NULL;
    const struct kn_symbol *s = &symbols->all[low - 1];
    return s->size && address - s->from >= s->size ? NULL : symbols->names + s->name;
}

const char *kn_symbols_find_offset(const struct kn_symbols *symbols, uint64_t offset)
{
    for (size_t i = 0; i < symbols->n_segments; i++) {
        const struct kn_segment *s = &symbols->segments[i];
        if (offset >= s->offset && offset - s->offset < s->size)
            return kn_symbols_find(symbols, s->address + (offset - s->offset));
    }
    return NULL;
}

/* ---- the kernel ---- */

/* Files in /proc have no size: reads to the end. */
static char *read_whole(const char *root, const char *path, size_t most, size_t *size)
{
    char full[PATH_MAX], *text = NULL;
    size_t room = 0, used = 0;
    if ((size_t)snprintf(full, sizeof full, "%s%s", root, path) >= sizeof full)
        return NULL;
    int fd = open(full, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    for (;;) {
        if (room - used < 2) {
            if (room >= most)
                break;
            char *more = realloc(text, room = room ? room * 2 : 1u << 20);
            if (!more) { /* half of the table would name the wrong functions */
                close(fd);
                free(text);
                errno = ENOMEM;
                return NULL;
            }
            text = more;
        }
        ssize_t n = read(fd, text + used, room - used - 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        used += (size_t)n;
    }
    int saved = errno;
    close(fd);
    errno = saved;
    if (text)
        text[used] = 0;
    *size = used;
    return text;
}

/* "ADDRESS TYPE NAME[\t[MODULE]]". The name, with its module, stays in the text. */
static int take_line(struct kn_symbols *symbols, char *line)
{
    char *at;
    uint64_t address = strtoull(line, &at, 16);
    if (at == line || at[0] != ' ' || !at[1] || at[2] != ' ' || !strchr("tTwW", at[1]))
        return 0;
    char *name = at + 3, *tab = strchr(name, '\t');
    if (tab)
        *tab = ' ';
    /* padding before a function, for tracing */
    if (address == 0 || strncmp(name, "__pfx_", 6) == 0)
        return 0;
    return kn_symbols_add(symbols, address, 0, (size_t)(name - symbols->names));
}

static int take_lines(struct kn_symbols *symbols)
{
    char *save, *line = strtok_r(symbols->names, "\n", &save);
    for (; line; line = strtok_r(NULL, "\n", &save))
        if (take_line(symbols, line))
            return -1;
    return 0;
}

static int hidden(const char *root, struct kn_error *err)
{
    uint64_t restricted = kn_file_number(root, "/proc/sys/kernel", "kptr_restrict");
    if (restricted != KN_ABSENT && restricted > 1)
        return kn_fail(err, KN_E_PERMISSION,
                       "cannot read the names of the kernel's functions: kernel.kptr_restrict is %llu; run sudo "
                       "sysctl kernel.kptr_restrict=0",
                       (unsigned long long)restricted);
    return kn_fail(err, KN_E_PERMISSION,
                   "cannot read the names of the kernel's functions: /proc/kallsyms requires root or CAP_SYSLOG");
}

struct kn_symbols *kn_symbols_kernel(const char *root, struct kn_error *err)
{
    struct kn_symbols *symbols = calloc(1, sizeof *symbols);
    if (!symbols)
        return kn_null(kn_fail_memory(err));
    symbols->names = read_whole(root, "/proc/kallsyms", KALLSYMS_MAX, &symbols->names_size);
    if (!symbols->names)
        kn_fail_errno(err, "cannot read the names of the kernel's functions: /proc/kallsyms");
    else if (take_lines(symbols))
        kn_fail_memory(err);
    else if (symbols->n == 0)
        hidden(root, err);
    else {
        kn_symbols_sort(symbols);
        return symbols;
    }
    kn_symbols_free(symbols);
    return NULL;
}
