/* The kernel out of what a distribution ships: the one that is installed here, made ones of each packing, and all that
 * is none. */
#include "../core/check.h"

#include <elf.h>
#include <fcntl.h>
#include <lz4.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "lab/vm.h"

/* ---- the one that is installed ---- */

#define NOTE_PHYS32_ENTRY 18 /* XEN_ELFNOTE_PHYS32_ENTRY: where a PVH boot begins */

static void *read_whole(const char *path, size_t *size)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(fstat(fd, &st), 0);
    char *bytes = malloc((size_t)st.st_size);
    *size = 0;
    for (ssize_t n; (n = read(fd, bytes + *size, (size_t)st.st_size - *size)) > 0;) *size += (size_t)n;
    close(fd);
    return bytes;
}

static bool has_pvh_entry(const uint8_t *notes, size_t size)
{
    for (size_t at = 0; at + sizeof(Elf64_Nhdr) <= size;) {
        Elf64_Nhdr note;
        memcpy(&note, notes + at, sizeof note);
        const char *name = (const char *)notes + at + sizeof note;
        if (note.n_type == NOTE_PHYS32_ENTRY && note.n_namesz == 4 && strcmp(name, "Xen") == 0) return true;
        at += sizeof note + ((note.n_namesz + 3) & ~3u) + ((note.n_descsz + 3) & ~3u);
    }
    return false;
}

static void test_installed(void **state)
{
    (void)state;
    struct kn_error err;
    char version[VM_VERSION_MAX], path[PATH_MAX];
    size_t packed_size, size;
    void *elf;
    if (kn_vm_kernel_find(version, &err)) {
        print_message("# skipped: %s\n", err.message);
        skip();
    }
    snprintf(path, sizeof path, "/boot/vmlinuz-%s", version);
    void *packed = read_whole(path, &packed_size);
    if (kn_vmlinux_unpack(packed, packed_size, &elf, &size, &err)) fail_msg("%s", err.message);
    const Elf64_Ehdr *header = elf;
    assert_true(size > packed_size);
    assert_int_equal(header->e_machine, EM_X86_64);
    bool pvh = false;
    for (unsigned i = 0; i < header->e_phnum; i++) {
        const Elf64_Phdr *p = (const void *)((const char *)elf + header->e_phoff + i * header->e_phentsize);
        assert_true(p->p_offset + p->p_filesz <= size);
        if (p->p_type == PT_NOTE) pvh = pvh || has_pvh_entry((const uint8_t *)elf + p->p_offset, p->p_filesz);
    }
    assert_true(pvh);
    free(elf);
    free(packed);
}

/* ---- made ones ---- */

enum { HEADER = 2 * 512, ELF_SIZE = 100000 };

static void put32(uint8_t *at, size_t value)
{
    for (int i = 0; i < 4; i++) at[i] = (uint8_t)(value >> 8 * i);
}

static struct image { uint8_t bytes[HEADER + ELF_SIZE + 1024]; size_t n; } image;
static char text[ELF_SIZE];

/* A header of one sector, whose payload is what comes behind it and, last, `size`. */
static void make(const void *payload, size_t n, size_t size)
{
    memset(&image, 0, sizeof image);
    image.bytes[0x1f1] = 1;
    memcpy(image.bytes + 0x202, "HdrS", 4);
    image.bytes[0x206] = 8;
    image.bytes[0x207] = 2;
    put32(image.bytes + 0x248, 0);
    put32(image.bytes + 0x24c, n + 4);
    memcpy(image.bytes + HEADER, payload, n);
    put32(image.bytes + HEADER + n, size);
    image.n = HEADER + n + 4;
}

static void make_text(void)
{
    memcpy(text, "\177ELF", 4);
    for (size_t i = 4; i < sizeof text; i++) text[i] = (char)(i * i >> 9);
}

static void make_lz4(void)
{
    uint8_t packed[ELF_SIZE + 256];
    size_t n = 4;
    memcpy(packed, "\x02\x21\x4c\x18", 4);
    for (size_t at = 0; at < sizeof text; at += ELF_SIZE / 2) {    /* two chunks: each has a block of its own */
        int got = LZ4_compress_default(text + at, (char *)packed + n + 4, ELF_SIZE / 2, (int)(sizeof packed - n - 4));
        assert_true(got > 0);
        put32(packed + n, (size_t)got);
        n += 4 + (size_t)got;
    }
    make(packed, n, sizeof text);
}

static void make_gzip(void)
{
    uint8_t packed[ELF_SIZE + 256];
    z_stream z = { .next_in = (uint8_t *)text, .avail_in = sizeof text, .next_out = packed,
                   .avail_out = sizeof packed };
    assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    make(packed, z.total_out, sizeof text);
    deflateEnd(&z);
}

static void comes_out(void)
{
    struct kn_error err;
    void *elf;
    size_t size;
    if (kn_vmlinux_unpack(image.bytes, image.n, &elf, &size, &err)) fail_msg("%s", err.message);
    assert_int_equal(size, sizeof text);
    assert_memory_equal(elf, text, sizeof text);
    free(elf);
}

static void refused(size_t n, enum kn_code code, const char *says)
{
    struct kn_error err;
    void *elf;
    size_t size;
    assert_int_equal(kn_vmlinux_unpack(image.bytes, n, &elf, &size, &err), -1);
    check_refusal(&err, code, says);
}

static void test_packings(void **state)
{
    (void)state;
    make_text();
    make_lz4();
    comes_out();
    make_gzip();
    comes_out();
    make("\x28\xb5\x2f\xfd zstd", 9, 100);
    refused(image.n, KN_E_UNSUPPORTED, "packed with zstd, which knbl does not unpack");
    make("\xfd" "7zXZ, and so on", 16, 100);
    refused(image.n, KN_E_UNSUPPORTED, "packed with xz");
    make("what is this?", 13, 100);
    refused(image.n, KN_E_UNSUPPORTED, "packed with something unknown");
}

static void test_broken(void **state)
{
    (void)state;
    void (*const made[])(void) = { make_lz4, make_gzip };
    make_text();
    for (int i = 0; i < 2; i++) {
        made[i]();
        refused(image.n - 1, KN_E_UNSUPPORTED, "neither an ELF file nor a compressed kernel");
        refused(100, KN_E_UNSUPPORTED, "neither an ELF file nor a compressed kernel");
        put32(image.bytes + image.n - 4, sizeof text + 1);          /* it says more than there is, or less */
        refused(image.n, KN_E_PROTOCOL, "no kernel");
        put32(image.bytes + image.n - 4, sizeof text - 1);
        refused(image.n, KN_E_PROTOCOL, "no kernel");
        put32(image.bytes + image.n - 4, 0xffffffff);
        refused(image.n, KN_E_LIMIT, "a kernel of 4095 MiB");
        put32(image.bytes + image.n - 4, sizeof text);
        memset(image.bytes + HEADER + 4, 0xff, 200);
        refused(image.n, KN_E_PROTOCOL, "broken");
    }
    text[0] = 'X';
    make_lz4();
    refused(image.n, KN_E_PROTOCOL, "no kernel");
    put32(image.bytes + 0x248, 0xfffffff0);
    refused(image.n, KN_E_UNSUPPORTED, "neither");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_installed), cmocka_unit_test(test_packings), cmocka_unit_test(test_broken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
