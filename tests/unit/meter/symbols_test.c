/* Names by address: the kernel's from a simulated /proc/kallsyms, this program's from its ELF file; invalid files. */
#include "../core/check.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "meter/symbols.h"

/* ---- the kernel's ---- */

static char root[64];

static void write_file(const char *path, const char *text)
{
    char full[256];
    snprintf(full, sizeof full, "%s%s", root, path);
    FILE *file = fopen(full, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static const char *const folders[] = {"/proc", "/proc/sys", "/proc/sys/kernel"};

static int make_root(void **state)
{
    char full[256];
    (void)state;
    strcpy(root, "/tmp/knbl-symbols-XXXXXX");
    if (!mkdtemp(root))
        return -1;
    for (size_t i = 0; i < 3; i++) {
        snprintf(full, sizeof full, "%s%s", root, folders[i]);
        mkdir(full, 0755);
    }
    return 0;
}

static int drop_root(void **state)
{
    static const char *const files[] = {"/proc/kallsyms", "/proc/sys/kernel/kptr_restrict"};
    char full[256];
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        snprintf(full, sizeof full, "%s%s", root, files[i]);
        unlink(full);
    }
    for (size_t i = 3; i-- > 0;) {
        snprintf(full, sizeof full, "%s%s", root, folders[i]);
        rmdir(full);
    }
    return rmdir(root);
}

static void functions_of_the_kernel(void **state)
{
    struct kn_error err;
    (void)state;
    write_file("/proc/kallsyms",
               "ffffffff81000100 T tcp_sendmsg\nffffffff81000000 T _stext\nffffffff810000f0 t __pfx_tcp_sendmsg\n"
               "ffffffff81000180 D some_data\nffffffff81000200 t tcp_push\nffffffff81000200 T tcp_push_alias\n"
               "ffffffffc0000000 t nft_do_chain\t[nf_tables]\nnonsense\nffffffff81000300\n\n");
    struct kn_symbols *s = kn_symbols_kernel(root, &err);
    assert_non_null(s);
    assert_string_equal(kn_symbols_find(s, 0xffffffff81000100), "tcp_sendmsg");
    assert_string_equal(kn_symbols_find(s, 0xffffffff810001ff), "tcp_sendmsg");
    assert_string_equal(kn_symbols_find(s, 0xffffffff810000ff), "_stext");
    assert_string_equal(kn_symbols_find(s, 0xffffffff81000210), "tcp_push");
    assert_string_equal(kn_symbols_find(s, 0xffffffffc0000008), "nft_do_chain [nf_tables]");
    assert_null(kn_symbols_find(s, 0xffffffff80ffffff));
    kn_symbols_free(s);
}

static void addresses_that_are_not_shown(void **state)
{
    struct kn_error err;
    (void)state;
    write_file("/proc/kallsyms", "0000000000000000 T tcp_sendmsg\n0000000000000000 T tcp_push\n");
    assert_null(kn_symbols_kernel(root, &err));
    check_refusal(&err, KN_E_PERMISSION, "CAP_SYSLOG");
    write_file("/proc/sys/kernel/kptr_restrict", "2\n");
    assert_null(kn_symbols_kernel(root, &err));
    check_refusal(&err, KN_E_PERMISSION, "sysctl kernel.kptr_restrict=0");
}

static void no_list_at_all(void **state)
{
    struct kn_error err;
    (void)state;
    assert_null(kn_symbols_kernel(root, &err));
    check_refusal(&err, KN_E_SYSTEM, "/proc/kallsyms");
}

/* ---- this program's ---- */

static const char *name_at(struct kn_processes *all, struct kn_process *process, uint64_t address)
{
    uint64_t offset;
    struct kn_mapping *mapping = kn_process_map(all, process, address, &offset);
    return mapping ? kn_mapping_name(mapping, offset) : NULL;
}

__attribute__((noinline)) static int a_function_of_this_test(int x)
{
    return x * 3 + 1;
}

static void functions_of_this_program(void **state)
{
    struct kn_processes *all = kn_processes_new();
    struct kn_process *me = kn_processes_get(all, getpid());
    (void)state;
    assert_non_null(me);
    assert_ptr_equal(kn_processes_get(all, getpid()), me);
    assert_string_equal(kn_process_name(me), "symbols_test");
    uint64_t address = (uint64_t)(uintptr_t)a_function_of_this_test;
    assert_string_equal(name_at(all, me, address), "a_function_of_this_test");
    assert_string_equal(name_at(all, me, address + 1), "a_function_of_this_test");
    assert_non_null(name_at(all, me, (uint64_t)(uintptr_t)getenv));
    assert_null(name_at(all, me, 0));
    assert_null(name_at(all, me, (uint64_t)(uintptr_t)&address)); /* a stack is not executable */
    assert_int_equal(a_function_of_this_test(1), 4);
    kn_processes_free(all);
}

static void a_process_that_is_gone(void **state)
{
    struct kn_processes *all = kn_processes_new();
    (void)state;
    struct kn_process *gone = kn_processes_get(all, 1 << 30); /* beyond the kernel's largest */
    assert_non_null(gone);
    assert_string_equal(kn_process_name(gone), "a process that ended");
    assert_null(name_at(all, gone, 4096));
    kn_processes_free(all);
}

/* ---- files that are none ---- */

static void try_bytes(const void *bytes, size_t size)
{
    int fd = memfd_create("elf", MFD_CLOEXEC);
    assert_true(fd >= 0 && write(fd, bytes, size) == (ssize_t)size);
    struct kn_symbols *s = kn_symbols_elf(fd);
    for (uint64_t at = 0; s && at < 1 << 20; at += 4099) {
        kn_symbols_find(s, at);
        kn_symbols_find_offset(s, at);
    }
    kn_symbols_free(s);
    close(fd);
}

static char *own_file(size_t *size)
{
    struct stat st;
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0 && fstat(fd, &st) == 0);
    *size = (size_t)st.st_size;
    char *bytes = malloc(*size);
    assert_non_null(bytes);
    for (size_t have = 0; have < *size;) {
        ssize_t n = read(fd, bytes + have, *size - have);
        assert_true(n > 0);
        have += (size_t)n;
    }
    close(fd);
    return bytes;
}

static void files_that_are_cut_or_broken(void **state)
{
    struct random r = {7};
    size_t size;
    char *bytes = own_file(&size);
    (void)state;
    for (int i = 0; i < 60; i++)
        try_bytes(bytes, (size_t)(random_next(&r) % size));
    for (size_t n = 0; n < 130; n += 13)
        try_bytes(bytes, n);
    for (int i = 0; i < 60; i++) {
        size_t at = (size_t)(random_next(&r) % 64);
        char before = bytes[at];
        bytes[at] = (char)random_next(&r);
        try_bytes(bytes, size);
        bytes[at] = before;
    }
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(functions_of_the_kernel, make_root, drop_root),
        cmocka_unit_test_setup_teardown(addresses_that_are_not_shown, make_root, drop_root),
        cmocka_unit_test_setup_teardown(no_list_at_all, make_root, drop_root),
        cmocka_unit_test(functions_of_this_program),
        cmocka_unit_test(a_process_that_is_gone),
        cmocka_unit_test(files_that_are_cut_or_broken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
