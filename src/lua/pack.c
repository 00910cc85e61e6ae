/* lua/pack - for image archives: the program's own files, digests, compression. */
#include <sodium.h>
#include <stdlib.h>
#include <zlib.h>

#include "core/program.h"
#include "lab/agents.h"
#include "lua/bind.h"

/* sha256(bytes) -> hex */
static int l_sha256(lua_State *L)
{
    size_t size;
    const char *bytes = luaL_checklstring(L, 1, &size);
    unsigned char digest[crypto_hash_sha256_BYTES];
    char hex[2 * sizeof digest + 1];
    crypto_hash_sha256(digest, (const unsigned char *)bytes, size);
    lua_pushstring(L, sodium_bin2hex(hex, sizeof hex, digest, sizeof digest));
    return 1;
}

/* gzip(bytes) -> bytes; without name and time, so that the same input always gives the same output. */
static int l_gzip(lua_State *L)
{
    size_t size;
    const char *bytes = luaL_checklstring(L, 1, &size);
    luaL_argcheck(L, size < UINT32_MAX, 1, "must be smaller than 4 GiB");
    z_stream z = {0};
    if (deflateInit2(&z, Z_BEST_COMPRESSION, Z_DEFLATED, 15 + 16, 9, Z_DEFAULT_STRATEGY) != Z_OK)
        return kn_lua_fail_with(L, KN_E_MEMORY, "gzip: out of memory");
    size_t room = deflateBound(&z, (uLong)size);
    struct kn_box *box = kn_lua_box(L, free);
    box->ptr = malloc(room);
    z.next_in = (unsigned char *)bytes;
    z.avail_in = (unsigned)size;
    z.next_out = box->ptr;
    z.avail_out = (unsigned)room;
    int done = box->ptr ? deflate(&z, Z_FINISH) : Z_MEM_ERROR;
    size_t out = room - z.avail_out;
    deflateEnd(&z);
    if (done != Z_STREAM_END)
        return kn_lua_fail_with(L, KN_E_MEMORY, "gzip: out of memory");
    lua_pushlstring(L, box->ptr, out);
    return 1;
}

static int note_library(const char *name, const char *file, void *arg)
{
    lua_State *L = arg;
    lua_pushstring(L, file);
    lua_setfield(L, -2, name);
    return 0;
}

/* libraries() -> { ["libc.so.6"] = "/lib/x86_64-linux-gnu/libc.so.6", … }: the libraries of this program */
static int l_libraries(lua_State *L)
{
    lua_newtable(L);
    kn_program_libraries(note_library, L);
    return 1;
}

/* agent_binary(arch) -> bytes: the agent's static binary for "amd64" or "arm64"; nil, error where this build has none
 */
static int l_agent_binary(lua_State *L)
{
    size_t size;
    struct kn_error err;
    struct kn_box *box = kn_lua_box(L, free);
    box->ptr = kn_agent_binary(luaL_checkstring(L, 1), &size, &err);
    if (!box->ptr)
        return kn_lua_fail(L, &err);
    lua_pushlstring(L, box->ptr, size);
    return 1;
}

const luaL_Reg kn_lua_pack[] = {
    {"sha256", l_sha256}, {"gzip", l_gzip}, {"libraries", l_libraries}, {"agent_binary", l_agent_binary}, {NULL, NULL},
};
