/* The functions of an ELF file: .symtab, or .dynsym if it was stripped. Only 64 bits, in the machine's byte order. */
#include <elf.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "meter/files.h"
#include "meter/symbols.h"

#define PART_MAX (64u << 20) /* the largest section to read: names, symbols */
#define HEADERS_MAX 4096u

static int read_at(int fd, void *into, size_t size, uint64_t offset)
{
    return offset <= INT64_MAX - size && kn_file_part(fd, into, size, offset) == size ? 0 : -1;
}

/* A part of the file with a NUL after it. Memory grows as bytes arrive, because a header may claim any size. */
static char *read_part(int fd, uint64_t offset, uint64_t size)
{
    off_t end = lseek(fd, 0, SEEK_END);
    if (size == 0 || size > PART_MAX || end < 0 || offset > (uint64_t)end || size > (uint64_t)end - offset)
        return NULL;
    char *part = malloc((size_t)size + 1);
    if (!part)
        return NULL;
    if (read_at(fd, part, (size_t)size, offset)) {
        free(part);
        return NULL;
    }
    part[size] = 0;
    return part;
}

static bool is_ours(const Elf64_Ehdr *h)
{
    static const unsigned char native = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? ELFDATA2LSB : ELFDATA2MSB;
    return memcmp(h->e_ident, ELFMAG, SELFMAG) == 0 && h->e_ident[EI_CLASS] == ELFCLASS64 &&
           h->e_ident[EI_DATA] == native;
}

static int take_segments(struct kn_symbols *symbols, int fd, const Elf64_Ehdr *h)
{
    if (h->e_phentsize != sizeof(Elf64_Phdr) || h->e_phnum == 0 || h->e_phnum > HEADERS_MAX)
        return -1;
    Elf64_Phdr *all = (Elf64_Phdr *)(void *)read_part(fd, h->e_phoff, (uint64_t)h->e_phnum * sizeof *all);
    symbols->segments = all ? calloc(h->e_phnum, sizeof *symbols->segments) : NULL;
    for (size_t i = 0; symbols->segments && i < h->e_phnum; i++)
        if (all[i].p_type == PT_LOAD && all[i].p_flags & PF_X)
            symbols->segments[symbols->n_segments++] = (struct kn_segment){all[i].p_offset, all[i].p_filesz,
                                                                           all[i].p_vaddr};
    free(all);
    return symbols->n_segments ? 0 : -1;
}

static void take_functions(struct kn_symbols *symbols, const Elf64_Sym *all, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned type = ELF64_ST_TYPE(all[i].st_info);
        if ((type != STT_FUNC && type != STT_GNU_IFUNC) || all[i].st_shndx == SHN_UNDEF || all[i].st_value == 0)
            continue;
        if (all[i].st_name == 0 || all[i].st_name >= symbols->names_size || !symbols->names[all[i].st_name])
            continue;
        if (kn_symbols_add(symbols, all[i].st_value, all[i].st_size, all[i].st_name))
            return;
    }
}

/* Reads a symbol table: its section, and the section of its names. */
static void take_table(struct kn_symbols *symbols, int fd, const Elf64_Shdr *sections, size_t n,
                       const Elf64_Shdr *table)
{
    if (table->sh_link >= n || table->sh_entsize != sizeof(Elf64_Sym))
        return;
    const Elf64_Shdr *names = &sections[table->sh_link];
    char *all = names->sh_type == SHT_STRTAB ? read_part(fd, table->sh_offset, table->sh_size) : NULL;
    symbols->names = all ? read_part(fd, names->sh_offset, names->sh_size) : NULL;
    if (symbols->names) {
        symbols->names_size = (size_t)names->sh_size;
        take_functions(symbols, (const Elf64_Sym *)(const void *)all, (size_t)table->sh_size / sizeof(Elf64_Sym));
    }
    free(all);
}

static void take_sections(struct kn_symbols *symbols, int fd, const Elf64_Ehdr *h)
{
    static const Elf64_Word kinds[] = {SHT_SYMTAB, SHT_DYNSYM};
    if (h->e_shentsize != sizeof(Elf64_Shdr) || h->e_shnum == 0 || h->e_shnum > HEADERS_MAX)
        return;
    Elf64_Shdr *all = (Elf64_Shdr *)(void *)read_part(fd, h->e_shoff, (uint64_t)h->e_shnum * sizeof *all);
    for (size_t k = 0; all && k < 2 && symbols->n == 0; k++)
        for (size_t i = 0; i < h->e_shnum && symbols->n == 0; i++) {
            if (all[i].sh_type != kinds[k])
                continue;
            free(symbols->names);
            symbols->names = NULL;
            take_table(symbols, fd, all, h->e_shnum, &all[i]);
        }
    free(all);
}

struct kn_symbols *kn_symbols_elf(int fd)
{
    Elf64_Ehdr h;
    struct kn_symbols *symbols = calloc(1, sizeof *symbols);
    if (!symbols)
        return NULL;
    if (read_at(fd, &h, sizeof h, 0) == 0 && is_ours(&h) && take_segments(symbols, fd, &h) == 0)
        take_sections(symbols, fd, &h);
    if (symbols->n == 0) {
        kn_symbols_free(symbols);
        return NULL;
    }
    kn_symbols_sort(symbols);
    return symbols;
}
