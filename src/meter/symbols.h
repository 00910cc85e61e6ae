/* meter/symbols - names of functions by address: the kernel's from /proc/kallsyms, a program's from its ELF file.
 *
 * A table is sorted once and then only read. Files are not trusted: entries that point outside of the file are ignored,
 * and sizes are limited. For the meter's own files and their tests. */
#ifndef KN_METER_SYMBOLS_H
#define KN_METER_SYMBOLS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/error.h"

struct kn_symbol {
    uint64_t from, size;
    uint32_t name;
}; /* size 0: up to the next one */

/* A loaded part of a file: file offset, size, address. */
struct kn_segment {
    uint64_t offset, size, address;
};

struct kn_symbols {
    struct kn_symbol *all;
    size_t n, room;
    char *names; /* NUL-terminated; kn_symbol.name is an offset */
    size_t names_size;
    struct kn_segment *segments;
    size_t n_segments;
};

/* The kernel's functions. If their addresses are hidden, the error names the sysctl. */
struct kn_symbols *kn_symbols_kernel(const char *root, struct kn_error *err);
/* The functions of an ELF file; NULL if it has none. Does not close the descriptor. */
struct kn_symbols *kn_symbols_elf(int fd);
void kn_symbols_free(struct kn_symbols *symbols); /* takes NULL */

/* The function that contains an address, or NULL. */
const char *kn_symbols_find(const struct kn_symbols *symbols, uint64_t address);
/* The same by offset in the file. */
const char *kn_symbols_find_offset(const struct kn_symbols *symbols, uint64_t offset);

/* For symbols.c and elf.c. */
int kn_symbols_add(struct kn_symbols *symbols, uint64_t from, uint64_t size, size_t name);
void kn_symbols_sort(struct kn_symbols *symbols);

/* ---- the mappings of processes ---- */

struct kn_processes;
struct kn_processes *kn_processes_new(void);
void kn_processes_free(struct kn_processes *all); /* takes NULL */
struct kn_process;
/* Reads /proc/PID at the first call; NULL if there are too many processes. */
struct kn_process *kn_processes_get(struct kn_processes *all, pid_t pid);
const char *kn_process_name(const struct kn_process *process);
/* The executable mapping that contains an address and the offset in its file, or NULL. Cheap: opens the file, but does
 * not read it. */
struct kn_mapping;
struct kn_mapping *kn_process_map(struct kn_processes *all, struct kn_process *process, uint64_t address,
                                  uint64_t *offset);
/* The function at the offset, or "[FILE]" if it has no symbol. The first call reads the file's symbols. The text lives
 * as long as the processes. */
const char *kn_mapping_name(struct kn_mapping *mapping, uint64_t offset);

#endif
