/* meter/symbols - names of functions by address: the kernel's from /proc/kallsyms, a program's from its ELF file.
 *
 * A table is sorted once and then only read. Files are not trusted: what lies outside of them, or is larger than a symbol
 * table has any business to be, is no symbol. For the meter's own files and their tests. */
#ifndef KN_METER_SYMBOLS_H
#define KN_METER_SYMBOLS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/error.h"

struct kn_symbol { uint64_t from, size; uint32_t name; };   /* size 0: up to the next one */

/* Where a file's bytes are once it is loaded: file offset, size, address. */
struct kn_segment { uint64_t offset, size, address; };

struct kn_symbols {
    struct kn_symbol *all;
    size_t n, room;
    char *names;                /* NUL-ended texts; kn_symbol.name is an offset */
    size_t names_size;
    struct kn_segment *segments;
    size_t n_segments;
};

/* The kernel's functions. Fails with the switch to turn where this user is shown no addresses. */
struct kn_symbols *kn_symbols_kernel(const char *root, struct kn_error *err);
/* The functions of an ELF file; NULL where there are none to be read. The descriptor stays the caller's. */
struct kn_symbols *kn_symbols_elf(int fd);
void kn_symbols_free(struct kn_symbols *symbols);           /* takes NULL */

/* The function that holds an address; NULL: none does. */
const char *kn_symbols_find(const struct kn_symbols *symbols, uint64_t address);
/* The same by offset in the file, which is what a mapping of it gives. */
const char *kn_symbols_find_offset(const struct kn_symbols *symbols, uint64_t offset);

/* For the two that fill a table. */
int kn_symbols_add(struct kn_symbols *symbols, uint64_t from, uint64_t size, size_t name);
void kn_symbols_sort(struct kn_symbols *symbols);

/* ---- what a process has mapped ---- */

struct kn_processes;
struct kn_processes *kn_processes_new(void);
void kn_processes_free(struct kn_processes *all);           /* takes NULL */
struct kn_process;
/* Looked at once, when it is first asked for; NULL where it is gone already, or there are too many. */
struct kn_process *kn_processes_get(struct kn_processes *all, pid_t pid);
const char *kn_process_name(const struct kn_process *process);
/* The mapping that an address lies in, and the offset in its file; NULL: nothing executable is there. Cheap: the file is
 * opened, but not read. */
struct kn_mapping;
struct kn_mapping *kn_process_map(struct kn_processes *all, struct kn_process *process, uint64_t address,
                                  uint64_t *offset);
/* The function there, or "[FILE]" where it has no name; reads the file's symbols the first time. The text lives as long
 * as the processes. */
const char *kn_mapping_name(struct kn_mapping *mapping, uint64_t offset);

#endif
