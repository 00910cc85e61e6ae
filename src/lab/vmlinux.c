#include "lab/vm.h"

#include <fcntl.h>
#include <lz4.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "core/file.h"

/* The kernel itself, an ELF file, out of what a distribution ships: a bzImage, whose header says where it lies packed
 * (Documentation/arch/x86/boot.rst). Its last 4 bytes are its size unpacked. */

#define ELF_MAGIC "\177ELF"
#define LZ4_MAGIC "\x02\x21\x4c\x18"    /* the legacy frame: chunks of a size and a block, to the end */
enum {
    SETUP_SECTORS = 0x1f1, HEADER_MAGIC = 0x202, HEADER_VERSION = 0x206, PAYLOAD_OFFSET = 0x248, PAYLOAD_LENGTH = 0x24c,
    HEADER_END = 0x250, SECTOR = 512, WITH_PAYLOAD = 0x208,
};

struct span { const uint8_t *at; size_t n; };

static uint32_t le32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static bool begins(struct span s, const char *magic, size_t n) { return s.n >= n && memcmp(s.at, magic, n) == 0; }

static bool payload_of(struct span image, struct span *payload)
{
    const uint8_t *at = image.at;
    if (image.n < HEADER_END || memcmp(at + HEADER_MAGIC, "HdrS", 4) != 0) return false;
    if (at[HEADER_VERSION] + at[HEADER_VERSION + 1] * 256 < WITH_PAYLOAD) return false;
    size_t from = (at[SETUP_SECTORS] ? at[SETUP_SECTORS] + 1u : 5u) * (size_t)SECTOR + le32(at + PAYLOAD_OFFSET);
    size_t n = le32(at + PAYLOAD_LENGTH);
    if (n < 8 || from > image.n || n > image.n - from) return false;
    *payload = (struct span){ at + from, n };
    return true;
}

static bool unpack_lz4(struct span from, uint8_t *to, size_t size)
{
    size_t done = 0;
    for (from.at += 4, from.n -= 4; done < size && from.n > 4;) {
        size_t n = le32(from.at);
        if (n > from.n - 4) return false;
        size_t room = size - done < INT_MAX ? size - done : INT_MAX;
        int got = LZ4_decompress_safe((const char *)from.at + 4, (char *)to + done, (int)n, (int)room);
        if (got <= 0) return false;
        done += (size_t)got;
        from.at += 4 + n;
        from.n -= 4 + n;
    }
    return done == size;
}

static bool unpack_gzip(struct span from, uint8_t *to, size_t size)
{
    z_stream z = { .next_in = (uint8_t *)(uintptr_t)from.at, .avail_in = (uInt)from.n, .next_out = to,
                   .avail_out = (uInt)size };
    if (inflateInit2(&z, 16 + MAX_WBITS) != Z_OK) return false;
    bool whole = inflate(&z, Z_FINISH) == Z_STREAM_END && z.total_out == size;
    inflateEnd(&z);
    return whole;
}

static const struct packing {
    const char *name, *magic;
    size_t n;
    bool (*unpack)(struct span from, uint8_t *to, size_t size);
} packings[] = {
    { "lz4", LZ4_MAGIC, 4, unpack_lz4 },      { "gzip", "\x1f\x8b", 2, unpack_gzip },
    { "zstd", "\x28\xb5\x2f\xfd", 4, NULL },  { "xz", "\xfd" "7zXZ", 5, NULL },
    { "lzma", "\x5d\0\0", 3, NULL },          { "bzip2", "BZh", 3, NULL },
    { "lzo", "\x89LZO", 4, NULL },
};

static const struct packing *packing_of(struct span payload)
{
    for (size_t i = 0; i < sizeof packings / sizeof *packings; i++)
        if (begins(payload, packings[i].magic, packings[i].n)) return &packings[i];
    return NULL;
}

int kn_vmlinux_unpack(const void *image, size_t size, void **elf, size_t *elf_size, struct kn_error *err)
{
    struct span payload;
    if (!payload_of((struct span){ image, size }, &payload))
        return kn_fail(err, KN_E_UNSUPPORTED, "neither an ELF file nor a compressed kernel for x86");
    const struct packing *packing = packing_of(payload);
    if (!packing || !packing->unpack)
        return kn_fail(err, KN_E_UNSUPPORTED, "packed with %s, which knbl does not unpack: the kernel's "
                       "scripts/extract-vmlinux does", packing ? packing->name : "something unknown");
    *elf_size = le32(payload.at + payload.n - 4);
    if (*elf_size < 4 || *elf_size > VM_KERNEL_MAX)
        return kn_fail(err, KN_E_LIMIT, "a kernel of %zu MiB, unpacked", *elf_size >> 20);
    *elf = malloc(*elf_size);
    if (!*elf) return kn_fail_memory(err);
    if (packing->unpack(payload, *elf, *elf_size) && memcmp(*elf, ELF_MAGIC, 4) == 0) return 0;
    free(*elf);
    return kn_fail(err, KN_E_PROTOCOL, "broken: what is packed in it with %s is no kernel", packing->name);
}

static int unpack_to(const char *path, int fd, size_t size, const char *to, struct kn_error *err)
{
    void *elf;
    size_t elf_size;
    void *image = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (image == MAP_FAILED) return kn_fail_errno(err, "the guest's kernel, %.200s", path);
    int bad = kn_vmlinux_unpack(image, size, &elf, &elf_size, err);
    munmap(image, size);
    if (bad) {
        kn_error_context(err, "the guest's kernel, %.200s", path);
        return -1;
    }
    bad = kn_write_file(to, elf, elf_size, err);
    free(elf);
    return bad;
}

int kn_vmlinux_file(char path[PATH_MAX], struct kn_error *err)
{
    char magic[4] = "", to[128];
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st)) {
        kn_fail_errno(err, "the guest's kernel, %.200s", path);
        if (fd >= 0) close(fd);
        return -1;
    }
    bool elf = pread(fd, magic, 4, 0) == 4 && memcmp(magic, ELF_MAGIC, 4) == 0;
    snprintf(to, sizeof to, LAB_RUN "/vmlinux-%llx-%llx", (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
    int bad = !elf && access(to, R_OK) && unpack_to(path, fd, (size_t)st.st_size, to, err);
    close(fd);
    if (!bad && !elf) snprintf(path, PATH_MAX, "%s", to);
    return bad ? -1 : 0;
}
