#include "net/wire.h"

#include <endian.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/json.h"

/* The first bytes of each message. They and the position of the cookie (before the hash at the end of a hello) are the
 * same in all protocol versions, so that two versions can report that they differ. */
#define MAGIC_SIZE 4
#define WELCOME_MAGIC "KNBW"
#define UDP_MAGIC "KNBU"
#define HASH_SIZE 32
#define HELLO_FIXED (MAGIC_SIZE + 1 + 1 + 2 + 4 + 8 + KN_NONCE_SIZE + 4 + 4 + 8)
#define UDP_HEADER 8
#define PART_HEADER (UDP_HEADER + 4 + 4)
_Static_assert(KN_UDP_ORDER_SIZE == UDP_HEADER + 8 + 8 + 4 + 4 + 8 + KN_NONCE_SIZE + HASH_SIZE,
               "KN_UDP_ORDER_SIZE in wire.h is wrong");
#define FOOT_TEXT "KNBLend."
#define COOKIE_STEP_NS (10 * KN_NS_PER_S)

/* ---- a cursor over bytes; callers check the size ---- */

static void put(uint8_t **at, const void *bytes, size_t n)
{
    memcpy(*at, bytes, n);
    *at += n;
}

static void put_16(uint8_t **at, uint16_t v)
{
    v = htole16(v);
    put(at, &v, sizeof v);
}
static void put_32(uint8_t **at, uint32_t v)
{
    v = htole32(v);
    put(at, &v, sizeof v);
}
static void put_64(uint8_t **at, uint64_t v)
{
    v = htole64(v);
    put(at, &v, sizeof v);
}

static void take(const uint8_t **at, void *bytes, size_t n)
{
    memcpy(bytes, *at, n);
    *at += n;
}

static uint8_t take_8(const uint8_t **at)
{
    uint8_t v;
    take(at, &v, sizeof v);
    return v;
}
static uint16_t take_16(const uint8_t **at)
{
    uint16_t v;
    take(at, &v, sizeof v);
    return le16toh(v);
}
static uint32_t take_32(const uint8_t **at)
{
    uint32_t v;
    take(at, &v, sizeof v);
    return le32toh(v);
}
static uint64_t take_64(const uint8_t **at)
{
    uint64_t v;
    take(at, &v, sizeof v);
    return le64toh(v);
}

static void keyed_hash(const uint8_t *bytes, size_t size, const struct kn_key *key, uint8_t hash[HASH_SIZE])
{
    crypto_generichash(hash, HASH_SIZE, bytes, size, key->bytes, sizeof key->bytes);
}

static bool hash_is_right(const uint8_t *wire, size_t size, const struct kn_key *key)
{
    uint8_t hash[HASH_SIZE];
    keyed_hash(wire, size - HASH_SIZE, key, hash);
    return sodium_memcmp(hash, wire + size - HASH_SIZE, HASH_SIZE) == 0;
}

void kn_wire_key(const char *token, struct kn_key *key)
{
    static const uint8_t purpose[] = "knbl: the key of data connections";
    crypto_generichash(key->bytes, sizeof key->bytes, (const uint8_t *)token, strlen(token), purpose, sizeof purpose);
}

static int other_version(uint8_t theirs, struct kn_error *err)
{
    return kn_fail(err, KN_E_VERSION,
                   "the peer uses protocol %u, this side protocol %u: use the same version of knbl on both", theirs,
                   KN_PROTOCOL);
}

/* Checks as much as the received bytes allow. */
static int check_opening(const uint8_t *wire, size_t size, const char *magic, struct kn_error *err)
{
    if (memcmp(wire, magic, size < MAGIC_SIZE ? size : MAGIC_SIZE))
        return kn_fail(err, KN_E_PROTOCOL, "the peer does not use knbl's protocol");
    return size > MAGIC_SIZE && wire[MAGIC_SIZE] != KN_PROTOCOL ? other_version(wire[MAGIC_SIZE], err) : 0;
}

/* ---- hello ---- */

size_t kn_hello_size(void)
{
    return HELLO_FIXED + kn_spec_wire_size() + KN_COOKIE_SIZE + HASH_SIZE;
}

void kn_hello_pack(const struct kn_hello *h, const struct kn_key *key, uint8_t *wire)
{
    uint8_t *at = wire, opening[2] = {KN_PROTOCOL, h->kind};
    size_t size = kn_hello_size();
    put(&at, KN_MAGIC, MAGIC_SIZE);
    put(&at, opening, sizeof opening);
    put_16(&at, 0);
    put_32(&at, (uint32_t)size);
    put_64(&at, h->run_id);
    put(&at, h->nonce, sizeof h->nonce);
    put_32(&at, h->flow);
    put_32(&at, h->flows);
    put_64(&at, h->issued_ns);
    kn_spec_pack(&h->spec, at);
    at += kn_spec_wire_size();
    put(&at, h->cookie, sizeof h->cookie);
    keyed_hash(wire, size - HASH_SIZE, key, at);
}

static int take_hello(const uint8_t *at, const struct kn_registry *tests, struct kn_hello *h, struct kn_error *err)
{
    at += MAGIC_SIZE + 1;
    h->kind = take_8(&at);
    uint16_t flags = take_16(&at);
    at += 4;
    h->run_id = take_64(&at);
    take(&at, h->nonce, sizeof h->nonce);
    h->flow = take_32(&at);
    h->flows = take_32(&at);
    h->issued_ns = take_64(&at);
    if (kn_spec_unpack(at, kn_spec_wire_size(), tests, &h->spec, err))
        return -1;
    at += kn_spec_wire_size();
    take(&at, h->cookie, sizeof h->cookie);
    if (h->kind > KN_HELLO_STATS || flags)
        return kn_fail(err, KN_E_PROTOCOL, "unknown kind of hello %u, or flags %u", h->kind, flags);
    if (h->flow >= h->flows)
        return kn_fail(err, KN_E_ARGUMENT, "flow must be less than %u, got %u", h->flows, h->flow);
    return 0;
}

int kn_hello_unpack(const uint8_t *wire, size_t size, const struct kn_key *key, const struct kn_registry *tests,
                    struct kn_hello *h, struct kn_error *err)
{
    size_t whole = kn_hello_size();
    if (check_opening(wire, size, KN_MAGIC, err))
        return -1;
    if (size >= 12) {
        const uint8_t *at = wire + 8;
        uint32_t length = take_32(&at);
        if (length != whole)
            return kn_fail(err, KN_E_PROTOCOL, "a hello must have %zu bytes, got %u", whole, length);
    }
    if (size < whole)
        return 1;
    if (!hash_is_right(wire, whole, key))
        return kn_fail(err, KN_E_AUTH, "wrong token: it is not the token of this agent");
    return take_hello(wire, tests, h, err);
}

const uint8_t *kn_hello_cookie(const uint8_t *wire, size_t size)
{
    bool hello = size >= HELLO_FIXED + KN_COOKIE_SIZE + HASH_SIZE && !memcmp(wire, KN_MAGIC, MAGIC_SIZE);
    return hello ? wire + size - HASH_SIZE - KN_COOKIE_SIZE : NULL;
}

/* ---- welcome ---- */

size_t kn_welcome_size(void)
{
    const struct kn_welcome *w = NULL;
    return MAGIC_SIZE + 1 + 1 + 2 + sizeof w->name + sizeof w->node + sizeof w->message;
}

void kn_welcome_pack(const struct kn_welcome *w, uint8_t *wire)
{
    uint8_t *at = wire, opening[2] = {w->protocol ? w->protocol : KN_PROTOCOL, w->code};
    put(&at, WELCOME_MAGIC, MAGIC_SIZE);
    put(&at, opening, sizeof opening);
    put_16(&at, w->mss);
    put(&at, w->name, sizeof w->name);
    put(&at, w->node, sizeof w->node);
    put(&at, w->message, sizeof w->message);
}

static void take_text(const uint8_t **at, char *text, size_t size)
{
    take(at, text, size);
    text[size - 1] = '\0';
    kn_text_clean(text);
}

int kn_welcome_unpack(const uint8_t *wire, size_t size, struct kn_welcome *w, struct kn_error *err)
{
    const uint8_t *at = wire + MAGIC_SIZE;
    if (check_opening(wire, size, WELCOME_MAGIC, err))
        return -1;
    if (size < kn_welcome_size())
        return kn_fail(err, KN_E_PROTOCOL, "a welcome must have %zu bytes, got %zu", kn_welcome_size(), size);
    w->protocol = take_8(&at);
    w->code = take_8(&at);
    w->mss = take_16(&at);
    take_text(&at, w->name, sizeof w->name);
    take_text(&at, w->node, sizeof w->node);
    take_text(&at, w->message, sizeof w->message);
    if (w->code)
        return kn_fail(err, w->code < KN_E_COUNT ? (enum kn_code)w->code : KN_E_PROTOCOL, "%s refused: %s",
                       w->name[0] ? w->name : "the agent",
                       w->message[0] ? w->message : kn_code_name((enum kn_code)w->code));
    return 0;
}

/* ---- trailer ---- */

uint8_t *kn_trailer_pack(const json_t *account, size_t *size, struct kn_error *err)
{
    size_t n = json_dumpb(account, NULL, 0, JSON_COMPACT);
    uint8_t *wire = n && n <= KN_TRAILER_MAX - KN_TRAILER_FOOT ? malloc(n + KN_TRAILER_FOOT) : NULL;
    if (!wire) {
        if (n > KN_TRAILER_MAX - KN_TRAILER_FOOT)
            kn_fail(err, KN_E_LIMIT, "the server's account is too long: %zu bytes", n);
        else
            kn_fail_memory(err);
        return NULL;
    }
    uint8_t *at = wire + n;
    if (json_dumpb(account, (char *)wire, n, JSON_COMPACT) != n) {
        kn_fail_memory(err);
        free(wire);
        return NULL;
    }
    put_32(&at, (uint32_t)n);
    put(&at, FOOT_TEXT, 8);
    *size = n + KN_TRAILER_FOOT;
    return wire;
}

int64_t kn_trailer_length(const uint8_t foot[KN_TRAILER_FOOT], struct kn_error *err)
{
    const uint8_t *at = foot;
    uint32_t n = take_32(&at);
    if (memcmp(at, FOOT_TEXT, 8))
        return kn_fail(err, KN_E_PROTOCOL, "the stream ended without the server's account");
    if (n > KN_TRAILER_MAX - KN_TRAILER_FOOT)
        return kn_fail(err, KN_E_PROTOCOL, "the server's account is too long: %u bytes", n);
    return (int64_t)n + KN_TRAILER_FOOT;
}

json_t *kn_trailer_unpack(const uint8_t *wire, size_t size, struct kn_error *err)
{
    json_error_t why;
    if (size < KN_TRAILER_FOOT)
        return kn_null(kn_fail(err, KN_E_PROTOCOL, "the stream ended without the server's account"));
    int64_t length = kn_trailer_length(wire + size - KN_TRAILER_FOOT, err);
    if (length < 0)
        return NULL;
    if ((uint64_t)length > size)
        return kn_null(kn_fail(err, KN_E_PROTOCOL, "the server's account is incomplete: %zu of %lld bytes", size,
                               (long long)length));
    const char *text = (const char *)wire + size - (size_t)length;
    json_t *account = kn_json_load(text, (size_t)length - KN_TRAILER_FOOT, 0, &why);
    if (!account)
        kn_json_invalid(&why, KN_E_PROTOCOL, "the server's account", err);
    return account;
}

/* ---- UDP ---- */

static uint8_t *udp_open(uint8_t *wire, enum kn_udp_kind kind)
{
    uint8_t *at = wire, opening[2] = {KN_PROTOCOL, (uint8_t)kind};
    put(&at, UDP_MAGIC, MAGIC_SIZE);
    put(&at, opening, sizeof opening);
    put_16(&at, 0);
    return at;
}

/* Retry and welcome have the same size in all versions, so the version is not checked here. */
enum kn_udp_kind kn_udp_kind(const uint8_t *datagram, size_t size)
{
    if (size < UDP_HEADER || memcmp(datagram, UDP_MAGIC, MAGIC_SIZE) || datagram[6] || datagram[7])
        return KN_UDP_NONE;
    switch (datagram[5]) {
    case KN_UDP_RETRY: return size == UDP_HEADER + KN_COOKIE_SIZE ? KN_UDP_RETRY : KN_UDP_NONE;
    case KN_UDP_WELCOME: return size == UDP_HEADER + kn_welcome_size() ? KN_UDP_WELCOME : KN_UDP_NONE;
    case KN_UDP_FETCH:
    case KN_UDP_STEER: return size == KN_UDP_ORDER_SIZE ? (enum kn_udp_kind)datagram[5] : KN_UDP_NONE;
    case KN_UDP_PART_OF: return size >= PART_HEADER && size <= PART_HEADER + KN_UDP_PART ? KN_UDP_PART_OF : KN_UDP_NONE;
    default: return KN_UDP_NONE;
    }
}

size_t kn_udp_retry_pack(const uint8_t cookie[KN_COOKIE_SIZE], uint8_t *wire)
{
    uint8_t *at = udp_open(wire, KN_UDP_RETRY);
    put(&at, cookie, KN_COOKIE_SIZE);
    return (size_t)(at - wire);
}

int kn_udp_retry_unpack(const uint8_t *wire, size_t size, uint8_t cookie[KN_COOKIE_SIZE])
{
    if (kn_udp_kind(wire, size) != KN_UDP_RETRY)
        return -1;
    memcpy(cookie, wire + UDP_HEADER, KN_COOKIE_SIZE);
    return 0;
}

size_t kn_udp_welcome_pack(const struct kn_welcome *w, uint8_t *wire)
{
    kn_welcome_pack(w, udp_open(wire, KN_UDP_WELCOME));
    return UDP_HEADER + kn_welcome_size();
}

int kn_udp_welcome_unpack(const uint8_t *wire, size_t size, struct kn_welcome *w, struct kn_error *err)
{
    if (kn_udp_kind(wire, size) != KN_UDP_WELCOME)
        return kn_fail(err, KN_E_PROTOCOL, "a datagram of %zu bytes is not a welcome", size);
    return kn_welcome_unpack(wire + UDP_HEADER, size - UDP_HEADER, w, err);
}

size_t kn_udp_order_pack(enum kn_udp_kind kind, const struct kn_udp_order *order, const struct kn_key *key,
                         uint8_t *wire)
{
    uint8_t *at = udp_open(wire, kind);
    put_64(&at, order->run_id);
    put_64(&at, order->sent);
    put_32(&at, order->flow);
    put_32(&at, order->offset);
    put_64(&at, order->number);
    put(&at, order->nonce, KN_NONCE_SIZE);
    keyed_hash(wire, KN_UDP_ORDER_SIZE - HASH_SIZE, key, at);
    return KN_UDP_ORDER_SIZE;
}

int kn_udp_order_unpack(enum kn_udp_kind kind, const uint8_t *wire, size_t size, const struct kn_key *key,
                        struct kn_udp_order *order)
{
    const uint8_t *at = wire + UDP_HEADER;
    if (kn_udp_kind(wire, size) != kind || size != KN_UDP_ORDER_SIZE || !hash_is_right(wire, size, key))
        return -1;
    order->run_id = take_64(&at);
    order->sent = take_64(&at);
    order->flow = take_32(&at);
    order->offset = take_32(&at);
    order->number = take_64(&at);
    take(&at, order->nonce, KN_NONCE_SIZE);
    return 0;
}

size_t kn_udp_part_pack(uint32_t total, uint32_t offset, const uint8_t *bytes, size_t n, uint8_t *wire)
{
    uint8_t *at = udp_open(wire, KN_UDP_PART_OF);
    if (n > KN_UDP_PART)
        n = KN_UDP_PART;
    put_32(&at, total);
    put_32(&at, offset);
    if (n)
        put(&at, bytes, n);
    return PART_HEADER + n;
}

int kn_udp_part_unpack(const uint8_t *wire, size_t size, uint32_t *total, uint32_t *offset, const uint8_t **bytes,
                       size_t *n)
{
    const uint8_t *at = wire + UDP_HEADER;
    if (kn_udp_kind(wire, size) != KN_UDP_PART_OF)
        return -1;
    *total = take_32(&at);
    *offset = take_32(&at);
    *bytes = at;
    *n = size - PART_HEADER;
    return *total <= KN_TRAILER_MAX && *offset <= *total && *n <= *total - *offset ? 0 : -1;
}

static void cookie_of_step(const struct kn_key *key, const void *address, size_t size, uint64_t step,
                           uint8_t cookie[KN_COOKIE_SIZE])
{
    static const uint8_t purpose[] = "cookie";
    crypto_generichash_state state;
    step = htole64(step);
    crypto_generichash_init(&state, key->bytes, sizeof key->bytes, KN_COOKIE_SIZE);
    crypto_generichash_update(&state, purpose, sizeof purpose);
    crypto_generichash_update(&state, (const uint8_t *)&step, sizeof step);
    crypto_generichash_update(&state, address, size);
    crypto_generichash_final(&state, cookie, KN_COOKIE_SIZE);
}

void kn_cookie_make(const struct kn_key *key, const void *address, size_t address_size, uint64_t now_ns,
                    uint8_t cookie[KN_COOKIE_SIZE])
{
    cookie_of_step(key, address, address_size, now_ns / COOKIE_STEP_NS, cookie);
}

int kn_cookie_check(const struct kn_key *key, const void *address, size_t address_size, uint64_t now_ns,
                    const uint8_t cookie[KN_COOKIE_SIZE])
{
    uint8_t right[KN_COOKIE_SIZE];
    uint64_t step = now_ns / COOKIE_STEP_NS;
    for (uint64_t back = 0; back < 2 && back <= step; back++) {
        cookie_of_step(key, address, address_size, step - back, right);
        if (sodium_memcmp(right, cookie, KN_COOKIE_SIZE) == 0)
            return 0;
    }
    return -1;
}
