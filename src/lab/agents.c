#include "lab/agents.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define SIZE_AT_END 4 /* RFC 1952: the last field is the size before compression */

struct packed {
    const char *name;
    const uint8_t *start, *end;
};
/* Made by src/lua/embed.sh, compressed by gzip, linked into the program; a test of the floors links none. */
extern const struct packed kn_agents[] __attribute__((weak, visibility("hidden")));

static const struct packed *find(const char *arch)
{
    for (const struct packed *p = kn_agents; p && p->name; p++) {
        const char *dash = strrchr(p->name, '-'); /* "build/agent-amd64.gz" */
        size_t n = strlen(arch);
        if (dash && strncmp(dash + 1, arch, n) == 0 && strcmp(dash + 1 + n, ".gz") == 0)
            return p;
    }
    return NULL;
}

static size_t size_of(const struct packed *p)
{
    const uint8_t *at = p->end - SIZE_AT_END;
    return (size_t)at[0] | (size_t)at[1] << 8 | (size_t)at[2] << 16 | (size_t)at[3] << 24;
}

static int unpack(const struct packed *p, uint8_t *to, size_t size)
{
    z_stream z = {.next_in = (Bytef *)(uintptr_t)p->start,
                  .avail_in = (uInt)(p->end - p->start),
                  .next_out = to,
                  .avail_out = (uInt)size};
    if (inflateInit2(&z, 15 + 16) != Z_OK)
        return -1;
    int done = inflate(&z, Z_FINISH);
    inflateEnd(&z);
    return done == Z_STREAM_END && z.avail_out == 0 ? 0 : -1;
}

uint8_t *kn_agent_binary(const char *arch, size_t *size, struct kn_error *err)
{
    const struct packed *p = find(arch);
    if (!p)
        return kn_null(kn_fail(err, KN_E_UNSUPPORTED, "this build of knbl has no agent for %.30s", arch));
    *size = size_of(p);
    uint8_t *bytes = malloc(*size);
    if (bytes && unpack(p, bytes, *size) == 0)
        return bytes;
    free(bytes);
    return kn_null(kn_fail_memory(err));
}
