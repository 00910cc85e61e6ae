/* The data protocol over any bytes, as they come and, since a wrong hash stops most, also signed with the right key:
 * whatever is taken is packed again to the same bytes; what is refused says so in one line of UTF-8; nothing is read
 * past the end. */
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "core/spec.h"
#include "net/wire.h"
#include "engines/engines.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HASH_SIZE 32

static void demand(bool truth)
{
    if (!truth)
        abort();
}

static void demand_message(const struct kn_error *err)
{
    json_t *text = json_string(err->message);
    demand(err->code > KN_OK && err->code < KN_E_COUNT && *err->message && text && !strchr(err->message, '\n'));
    json_decref(text);
}

/* In a block of their own, so that the sanitizer sees the end. */
static uint8_t *copy_of(const uint8_t *bytes, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);
    if (size)
        memcpy(copy, bytes, size);
    return copy;
}

static void sign(uint8_t *wire, size_t size, const struct kn_key *key)
{
    if (size > HASH_SIZE)
        crypto_generichash(wire + size - HASH_SIZE, HASH_SIZE, wire, size - HASH_SIZE, key->bytes, sizeof key->bytes);
}

static void try_hello(const uint8_t *wire, size_t size, const struct kn_key *key)
{
    struct kn_error err = {.message = ""};
    struct kn_hello h;
    uint8_t again[4096];
    int rc = kn_hello_unpack(wire, size, key, &kn_engines, &h, &err);
    demand(rc >= -1 && rc <= 1);
    demand(rc != 1 || size < kn_hello_size());
    const uint8_t *cookie = kn_hello_cookie(wire, size);
    demand(!cookie || (cookie >= wire && cookie + KN_COOKIE_SIZE <= wire + size));
    if (rc < 0)
        demand_message(&err);
    if (rc)
        return;
    demand(kn_spec_check(&h.spec, &err) == 0 && h.flow < h.flows);
    kn_hello_pack(&h, key, again);
    struct kn_hello back;
    demand(kn_hello_unpack(again, kn_hello_size(), key, &kn_engines, &back, &err) == 0 &&
           !memcmp(&h.nonce, &back.nonce, sizeof h.nonce));
}

/* The input laid over a good hello, and signed: what only a holder of the token can send. */
static void try_signed_hello(const uint8_t *data, size_t size, const struct kn_key *key)
{
    uint8_t wire[4096];
    struct kn_error err;
    struct kn_hello h = {.flows = 1};
    json_t *spec = json_pack("{s:s}", "test", size && data[0] & 1 ? "udp_rr" : "tcp_rr");
    demand(kn_spec_parse(spec, &kn_engines, &h.spec, &err) == 0);
    json_decref(spec);
    kn_hello_pack(&h, key, wire);
    size_t whole = kn_hello_size(), room = whole - HASH_SIZE - 12;
    for (size_t i = 0; i < size && i < room; i++)
        wire[12 + i] ^= data[i];
    sign(wire, whole, key);
    try_hello(wire, whole, key);
}

static void try_welcome(const uint8_t *wire, size_t size)
{
    struct kn_error err = {.message = ""};
    struct kn_welcome w;
    if (kn_welcome_unpack(wire, size, &w, &err))
        demand_message(&err);
    else
        demand(w.code == 0 && strlen(w.name) < sizeof w.name && strlen(w.node) < sizeof w.node);
    kn_udp_welcome_unpack(wire, size, &w, &err);
}

static void try_trailer(const uint8_t *wire, size_t size)
{
    struct kn_error err = {.message = ""};
    json_t *report = kn_trailer_unpack(wire, size, &err);
    if (!report)
        demand_message(&err);
    size_t again_size;
    uint8_t *again = report ? kn_trailer_pack(report, &again_size, &err) : NULL;
    json_t *back = again ? kn_trailer_unpack(again, again_size, &err) : NULL;
    demand(!again || json_equal(report, back));
    json_decref(back);
    json_decref(report);
    free(again);
}

static void try_datagram(uint8_t *wire, size_t size, const struct kn_key *key)
{
    uint8_t cookie[KN_COOKIE_SIZE];
    uint32_t total, offset;
    const uint8_t *bytes;
    size_t n;
    struct kn_udp_order order;
    enum kn_udp_kind kind = kn_udp_kind(wire, size);
    demand((kn_udp_retry_unpack(wire, size, cookie) == 0) == (kind == KN_UDP_RETRY));
    if (kn_udp_part_unpack(wire, size, &total, &offset, &bytes, &n) == 0)
        demand(kind == KN_UDP_PART_OF && bytes >= wire && bytes + n == wire + size && offset + n <= total);
    if (size == KN_UDP_ORDER_SIZE)
        sign(wire, size, key);
    demand((kn_udp_order_unpack(KN_UDP_FETCH, wire, size, key, &order) == 0) == (kind == KN_UDP_FETCH));
    demand((kn_udp_order_unpack(KN_UDP_STEER, wire, size, key, &order) == 0) == (kind == KN_UDP_STEER));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kn_key key;
    kn_wire_key("the token of the fuzzer", &key);
    uint8_t *wire = copy_of(data, size);
    try_hello(wire, size, &key);
    try_signed_hello(wire, size, &key);
    try_welcome(wire, size);
    try_trailer(wire, size);
    try_datagram(wire, size, &key);
    free(wire);
    return 0;
}
