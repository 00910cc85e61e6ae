/* engines/dns/message - DNS messages (RFC 1035, 6891): queries are written, answers are read and checked.
 *
 * An answer comes from outside and may be anything: every offset is checked, compression pointers only lead backwards,
 * and nothing is allocated. */
#ifndef KN_ENGINES_DNS_MESSAGE_H
#define KN_ENGINES_DNS_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KN_DNS_NAME_MAX 255u  /* of a name on the wire, with its last zero */
#define KN_DNS_TEXT_MAX 1025u /* of a name as text, with its NUL */
#define KN_DNS_QUERY_MAX (12u + KN_DNS_NAME_MAX + 4u + 11u)
#define KN_DNS_CHAIN_MAX 16 /* aliases that are followed */

enum kn_dns_type { KN_DNS_A = 1, KN_DNS_CNAME = 5, KN_DNS_PTR = 12, KN_DNS_AAAA = 28, KN_DNS_SRV = 33 };
enum { KN_DNS_NOERROR = 0, KN_DNS_SERVFAIL = 2, KN_DNS_NXDOMAIN = 3 };

/* "www.example.com" to its wire form, in lower case; 0: no name (a label empty or above 63 bytes, or too long). */
size_t kn_dns_name_pack(const char *text, uint8_t wire[KN_DNS_NAME_MAX]);
/* The name that a PTR query asks for of an address; -1: no address. */
int kn_dns_reverse(const char *address, char text[KN_DNS_TEXT_MAX]);
/* A query for one name; edns: the size of answers over UDP that is taken, 0: no EDNS. Returns its size. */
size_t kn_dns_query(uint8_t wire[KN_DNS_QUERY_MAX], uint16_t id, const uint8_t *name, size_t name_size, uint16_t type,
                    uint16_t edns);

enum kn_dns_got {
    KN_DNS_ANSWER,
    KN_DNS_GARBAGE, /* no message, or a query */
    KN_DNS_OTHER,   /* an answer to another question */
    KN_DNS_LOOP     /* its aliases lead in a circle, or are more than KN_DNS_CHAIN_MAX */
};
struct kn_dns_answer {
    uint16_t id;
    unsigned rcode;
    bool truncated;
    unsigned records; /* of the type asked for, at the end of the aliases */
    uint64_t content; /* a hash over them that does not depend on their order */
};
/* The id of what may be an answer; -1: not even a header. */
int kn_dns_id(const uint8_t *wire, size_t size);
enum kn_dns_got kn_dns_read(const uint8_t *wire, size_t size, const uint8_t *name, size_t name_size, uint16_t type,
                            struct kn_dns_answer *answer);
/* A name at *at, uncompressed and in lower case; *at then is behind it. Its size, 0: no name. */
size_t kn_dns_name_read(const uint8_t *wire, size_t size, size_t *at, uint8_t name[KN_DNS_NAME_MAX]);

#endif
