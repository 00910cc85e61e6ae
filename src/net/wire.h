/* net/wire - the messages of the data protocol. Converts them between bytes and structs; no I/O.
 *
 * TCP    client: hello                      server: welcome
 *        client: 'S' (go), then the test's bytes in either or both directions
 *        client: shutdown(SHUT_WR)          server: trailer (its account, always the last bytes), close
 * UDP    client: hello                      server: retry with a cookie, not longer than the hello
 *        client: hello with the cookie      server: welcome; datagrams of the test follow
 *        client: fetch(offset)              server: part of its account at that offset; repeated for all parts
 *
 * A hello contains: magic "KNBL", protocol version, kind, flags, length (4+1+1+2+4 bytes), run id and nonce (8+16),
 * flow number and flow count (4+4), time of issue (8, wall clock), the wire form of the specification, cookie (32,
 * zeros if there is none), and a keyed hash (32, BLAKE2b) of everything before it. Its size is fixed. The key is
 * derived from the run's token (kn_wire_key). Numbers are little-endian. Errors: wrong magic (KN_E_PROTOCOL), other
 * version (KN_E_VERSION, naming both), wrong hash (KN_E_AUTH, compared in constant time), invalid specification
 * (KN_E_ARGUMENT). net/replay.h refuses hellos that are too old or were used before.
 *
 * These parts are the same in all versions, so that two versions can report each other: magic and version at the start,
 * cookie and hash at the end of a hello, size and layout of welcome and retry. */
#ifndef KN_NET_WIRE_H
#define KN_NET_WIRE_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/spec.h"

#define KN_PROTOCOL 2 /* increment it when these messages or the table of options change */
#define KN_MAGIC "KNBL"
#define KN_KEY_SIZE 32
#define KN_COOKIE_SIZE 32
#define KN_NONCE_SIZE 16
#define KN_TRAILER_MAX (4u << 20)
#define KN_GO 'S'

enum kn_hello_kind {
    KN_HELLO_FLOW,  /* opens a flow */
    KN_HELLO_STATS, /* asks a backend for its counts of the run (tcp_crr): it sends welcome and trailer */
};

struct kn_hello {
    uint8_t kind;
    uint64_t run_id;
    uint8_t nonce[KN_NONCE_SIZE];
    uint32_t flow, flows;
    uint64_t issued_ns; /* wall clock of the client */
    struct kn_spec spec;
    uint8_t cookie[KN_COOKIE_SIZE];
};

/* The agent's answer, of fixed size. code is 0 for a welcome, or the enum kn_code of a refusal. */
struct kn_welcome {
    uint8_t protocol;
    uint8_t code;
    uint16_t mss;            /* effective MSS at the server; 0 if unknown */
    char name[64], node[64]; /* names of the agent and its node */
    char message[128];
};

struct kn_key {
    uint8_t bytes[KN_KEY_SIZE];
};
void kn_wire_key(const char *token, struct kn_key *key); /* derives the data key from the run's token */

size_t kn_hello_size(void);
void kn_hello_pack(const struct kn_hello *h, const struct kn_key *key, uint8_t *wire);
/* `size` may be less than a whole hello. Returns 0 on success, 1 if more bytes are needed, -1 on error. */
int kn_hello_unpack(const uint8_t *wire, size_t size, const struct kn_key *key, const struct kn_registry *tests,
                    struct kn_hello *h, struct kn_error *err);

/* The cookie in an unverified hello of any version; NULL if it cannot be a hello. */
const uint8_t *kn_hello_cookie(const uint8_t *wire, size_t size);

size_t kn_welcome_size(void);
void kn_welcome_pack(const struct kn_welcome *w, uint8_t *wire);
/* A refusal is returned as its error. */
int kn_welcome_unpack(const uint8_t *wire, size_t size, struct kn_welcome *w, struct kn_error *err);

/* Trailer: JSON text, its length (4 bytes), "KNBLend." (8). It is at the end of the stream and is read backwards. */
#define KN_TRAILER_FOOT 12
uint8_t *kn_trailer_pack(const json_t *account, size_t *size, struct kn_error *err); /* free() it */
/* The length of the whole trailer, from the last KN_TRAILER_FOOT bytes of the stream; -1 if there is no trailer. */
int64_t kn_trailer_length(const uint8_t foot[KN_TRAILER_FOOT], struct kn_error *err);
json_t *kn_trailer_unpack(const uint8_t *wire, size_t size, struct kn_error *err);

/* UDP control datagrams. All other datagrams of a flow belong to the test. Sizes are below 1232 bytes. */
#define KN_UDP_PART 1024
enum kn_udp_kind { KN_UDP_NONE, KN_UDP_RETRY, KN_UDP_WELCOME, KN_UDP_FETCH, KN_UDP_PART_OF, KN_UDP_STEER };
enum kn_udp_kind kn_udp_kind(const uint8_t *datagram, size_t size);
size_t kn_udp_retry_pack(const uint8_t cookie[KN_COOKIE_SIZE], uint8_t *wire);
int kn_udp_retry_unpack(const uint8_t *wire, size_t size, uint8_t cookie[KN_COOKIE_SIZE]);
size_t kn_udp_welcome_pack(const struct kn_welcome *w, uint8_t *wire);
int kn_udp_welcome_unpack(const uint8_t *wire, size_t size, struct kn_welcome *w, struct kn_error *err);
/* An authenticated order from client to server on an open flow. FETCH requests the part of the account at `offset`;
 * offset UINT32_MAX says that the client has all of it. STEER is used if the server sends: `offset` is the phase (0
 * warm-up, 1 measure, 2 end), and a server that receives no order for a while stops sending. `sent` is the number of
 * measured datagrams that the client has sent, so that the server knows how many can still arrive. */
#define KN_UDP_ORDER_SIZE (8 + 8 + 8 + 4 + 4 + 8 + KN_NONCE_SIZE + 32)
struct kn_udp_order {
    uint64_t run_id, sent;
    uint32_t flow, offset;
    uint64_t number;              /* increases with each order of a flow; older numbers are ignored */
    uint8_t nonce[KN_NONCE_SIZE]; /* of the flow's hello */
};
size_t kn_udp_order_pack(enum kn_udp_kind kind, const struct kn_udp_order *order, const struct kn_key *key,
                         uint8_t *wire);
/* Fails if the datagram is not a complete order of `kind` with the right hash. */
int kn_udp_order_unpack(enum kn_udp_kind kind, const uint8_t *wire, size_t size, const struct kn_key *key,
                        struct kn_udp_order *order);
size_t kn_udp_part_pack(uint32_t total, uint32_t offset, const uint8_t *bytes, size_t n, uint8_t *wire);
int kn_udp_part_unpack(const uint8_t *wire, size_t size, uint32_t *total, uint32_t *offset, const uint8_t **bytes,
                       size_t *n);
/* A cookie is a keyed hash of the peer's address and the time in steps of 10 s, so the server stores nothing. It is
 * valid in its step and the next. kn_cookie_check returns 0 if it is valid. */
void kn_cookie_make(const struct kn_key *key, const void *address, size_t address_size, uint64_t now_ns,
                    uint8_t cookie[KN_COOKIE_SIZE]);
int kn_cookie_check(const struct kn_key *key, const void *address, size_t address_size, uint64_t now_ns,
                    const uint8_t cookie[KN_COOKIE_SIZE]);

#endif
