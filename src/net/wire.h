/* net/wire - the data protocol: what opens a connection, what answers it, what closes it. Bytes in, structs out, no
 * I/O.
 *
 * TCP    client: hello                      server: welcome
 *        client: 'S' (go), then the test's bytes in whichever directions it has
 *        client: shutdown(SHUT_WR)          server: trailer (always the last bytes before it closes), close
 * UDP    client: hello                      server: retry with a cookie, never longer than the hello
 *        client: hello with the cookie      server: welcome; datagrams of the test follow
 *        client: fetch(offset)              server: part of its report at that offset; until the client has it all
 *
 * A hello is: magic "KNBL", protocol version, kind, flags, length (4+1+1+2+4), run id and nonce (8+16), flow number and
 * flow count (4+4), the specification's wire form, cookie (32, zero without), and a keyed hash (32, BLAKE2b) over all
 * before it. Its size is fixed. The key comes from the run's token (kn_wire_key). It refuses: another magic
 * (KN_E_PROTOCOL), another version (KN_E_VERSION, naming both), a wrong hash (KN_E_AUTH, constant time), a
 * specification out of bounds (KN_E_ARGUMENT). All numbers little-endian.
 *
 * The same in all versions, so that two of them can name each other: magic and version first, the cookie and the hash
 * last in a hello, the size and layout of welcome and retry. */
#ifndef KN_NET_WIRE_H
#define KN_NET_WIRE_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/spec.h"

#define KN_PROTOCOL 1            /* goes up with any change to these bytes or to the specification's table */
#define KN_MAGIC "KNBL"
#define KN_KEY_SIZE 32
#define KN_COOKIE_SIZE 32
#define KN_NONCE_SIZE 16
#define KN_TRAILER_MAX (4u << 20)
#define KN_GO 'S'

enum kn_hello_kind {
    KN_HELLO_FLOW,   /* opens a flow */
    KN_HELLO_STATS,  /* asks this backend what it has counted for the run (tcp_crr): welcome and trailer at once */
};

struct kn_hello {
    uint8_t kind;
    uint64_t run_id;
    uint8_t nonce[KN_NONCE_SIZE];
    uint32_t flow, flows;
    struct kn_spec spec;
    uint8_t cookie[KN_COOKIE_SIZE];
};

/* The agent's answer: fixed size too. code 0 is welcome, else the enum kn_code of the refusal, with its message. */
struct kn_welcome {
    uint8_t protocol;
    uint8_t code;
    uint16_t mss;              /* effective at the server, 0 unknown */
    char name[64], node[64];   /* who answers: pod and node */
    char message[128];
};

struct kn_key { uint8_t bytes[KN_KEY_SIZE]; };
void kn_wire_key(const char *token, struct kn_key *key);  /* derives the data key from the run's token */

size_t kn_hello_size(void);
void kn_hello_pack(const struct kn_hello *h, const struct kn_key *key, uint8_t *wire);
/* `size` may be less than a whole hello: returns 0 taken, 1 more bytes needed, -1 refused. */
int kn_hello_unpack(const uint8_t *wire, size_t size, const struct kn_key *key, struct kn_hello *h,
                    struct kn_error *err);

/* Where the cookie lies in what claims to be a hello, of whichever version and not yet verified; NULL: it cannot be. */
const uint8_t *kn_hello_cookie(const uint8_t *wire, size_t size);

size_t kn_welcome_size(void);
void kn_welcome_pack(const struct kn_welcome *w, uint8_t *wire);
/* A refusal comes out as the error it names. */
int kn_welcome_unpack(const uint8_t *wire, size_t size, struct kn_welcome *w, struct kn_error *err);

/* Trailer: JSON text, its length (4), "KNBLend." (8). It stands at the end of the stream, so it is read backwards. */
#define KN_TRAILER_FOOT 12
uint8_t *kn_trailer_pack(const json_t *report, size_t *size, struct kn_error *err); /* free() it */
/* The length of the whole trailer from the last KN_TRAILER_FOOT bytes of the stream; -1 where there is none. */
int64_t kn_trailer_length(const uint8_t foot[KN_TRAILER_FOOT], struct kn_error *err);
json_t *kn_trailer_unpack(const uint8_t *wire, size_t size, struct kn_error *err);

/* UDP control datagrams (others on a flow are the test's own). Sizes are below 1232 bytes. */
#define KN_UDP_PART 1024
enum kn_udp_kind { KN_UDP_NONE, KN_UDP_RETRY, KN_UDP_WELCOME, KN_UDP_FETCH, KN_UDP_PART_OF, KN_UDP_STEER };
enum kn_udp_kind kn_udp_kind(const uint8_t *datagram, size_t size);
size_t kn_udp_retry_pack(const uint8_t cookie[KN_COOKIE_SIZE], uint8_t *wire);
int kn_udp_retry_unpack(const uint8_t *wire, size_t size, uint8_t cookie[KN_COOKIE_SIZE]);
size_t kn_udp_welcome_pack(const struct kn_welcome *w, uint8_t *wire);
int kn_udp_welcome_unpack(const uint8_t *wire, size_t size, struct kn_welcome *w, struct kn_error *err);
/* What a client orders of its server on an open flow, keyed. FETCH: the part of the report at `offset`; from offset
 * UINT32_MAX on, it has all of it. STEER (the server sends): `offset` is the phase, 0 warm-up, 1 measure, 2 end; a
 * server that hears none for a while sends no more. `sent`: the measured datagrams that the client has sent, so that
 * the server knows what is still to come. */
#define KN_UDP_ORDER_SIZE (8 + 8 + 8 + 4 + 4 + 32)
struct kn_udp_order { uint64_t run_id, sent; uint32_t flow, offset; };
size_t kn_udp_order_pack(enum kn_udp_kind kind, const struct kn_udp_order *order, const struct kn_key *key,
                         uint8_t *wire);
/* Whether it is of `kind`, whole, and its hash is right. */
int kn_udp_order_unpack(enum kn_udp_kind kind, const uint8_t *wire, size_t size, const struct kn_key *key,
                        struct kn_udp_order *order);
size_t kn_udp_part_pack(uint32_t total, uint32_t offset, const uint8_t *bytes, size_t n, uint8_t *wire);
int kn_udp_part_unpack(const uint8_t *wire, size_t size, uint32_t *total, uint32_t *offset, const uint8_t **bytes,
                       size_t *n);
/* Cookies need no memory: a keyed hash of the peer's address and the time in steps of 10 s; the last step is good too.
 * kn_cookie_check: 0 where it is good. */
void kn_cookie_make(const struct kn_key *key, const void *address, size_t address_size, uint64_t now_ns,
                    uint8_t cookie[KN_COOKIE_SIZE]);
int kn_cookie_check(const struct kn_key *key, const void *address, size_t address_size, uint64_t now_ns,
                    const uint8_t cookie[KN_COOKIE_SIZE]);

#endif
