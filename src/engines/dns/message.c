#include "engines/dns/message.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#define HEAD 12u
#define CLASS_IN 1u
#define TYPE_OPT 41u
#define FLAG_QR 0x80u
#define FLAG_TC 0x02u
#define FLAG_RD 0x01u

static uint16_t get_16(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

static uint8_t *put_16(uint8_t *at, unsigned value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
    return at + 2;
}

static uint8_t lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c + ('a' - 'A')) : c;
}

/* ---- names ---- */

size_t kn_dns_name_pack(const char *text, uint8_t wire[KN_DNS_NAME_MAX])
{
    size_t n = 0, length;
    if (!strcmp(text, "."))
        text++;
    for (; *text; text += length + (text[length] == '.')) {
        length = strcspn(text, ".");
        if (length < 1 || length > 63 || n + 1 + length + 1 > KN_DNS_NAME_MAX)
            return 0;
        wire[n++] = (uint8_t)length;
        for (size_t i = 0; i < length; i++)
            wire[n++] = lower((uint8_t)text[i]);
    }
    wire[n++] = 0;
    return n;
}

int kn_dns_reverse(const char *address, char text[KN_DNS_TEXT_MAX])
{
    uint8_t bytes[16];
    if (inet_pton(AF_INET, address, bytes) == 1) {
        snprintf(text, KN_DNS_TEXT_MAX, "%u.%u.%u.%u.in-addr.arpa", bytes[3], bytes[2], bytes[1], bytes[0]);
        return 0;
    }
    if (inet_pton(AF_INET6, address, bytes) != 1)
        return -1;
    for (int i = 15; i >= 0; i--, text += 4)
        snprintf(text, 5, "%x.%x.", bytes[i] & 15u, bytes[i] >> 4);
    snprintf(text, sizeof "ip6.arpa", "ip6.arpa");
    return 0;
}

size_t kn_dns_name_read(const uint8_t *wire, size_t size, size_t *at, uint8_t name[KN_DNS_NAME_MAX])
{
    size_t from = *at, limit = *at, n = 0;
    bool jumped = false;
    while (from < size) {
        uint8_t length = wire[from];
        if (length >= 0xc0) { /* to an earlier place than any before, so that it ends */
            size_t to = from + 1 < size ? get_16(wire + from) & 0x3fffu : size;
            if (to >= limit)
                return 0;
            *at = jumped ? *at : from + 2;
            jumped = true;
            from = limit = to;
            continue;
        }
        if (length > 63 || n + length + 1u > KN_DNS_NAME_MAX || length >= size - from)
            return 0;
        name[n++] = length;
        for (unsigned i = 1; i <= length; i++)
            name[n++] = lower(wire[from + i]);
        from += length + 1u;
        if (!length) {
            *at = jumped ? *at : from;
            return n;
        }
    }
    return 0;
}

/* ---- the query ---- */

size_t kn_dns_query(uint8_t wire[KN_DNS_QUERY_MAX], uint16_t id, const uint8_t *name, size_t name_size, uint16_t type,
                    uint16_t edns)
{
    uint8_t *at = put_16(wire, id);
    at = put_16(at, FLAG_RD << 8);
    at = put_16(at, 1);
    at = put_16(at, 0);
    at = put_16(at, 0);
    at = put_16(at, edns != 0);
    memcpy(at, name, name_size);
    at = put_16(at + name_size, type);
    at = put_16(at, CLASS_IN);
    if (edns) {
        *at++ = 0;
        at = put_16(at, TYPE_OPT);
        at = put_16(at, edns);
        memset(at, 0, 6);
        at += 6;
    }
    return (size_t)(at - wire);
}

/* ---- the answer ---- */

struct record {
    uint16_t type, class;
    size_t data, data_size;
    uint8_t owner[KN_DNS_NAME_MAX];
    size_t owner_size;
};

static bool read_record(const uint8_t *wire, size_t size, size_t *at, struct record *r)
{
    r->owner_size = kn_dns_name_read(wire, size, at, r->owner);
    if (!r->owner_size || size - *at < 10)
        return false;
    r->type = get_16(wire + *at);
    r->class = get_16(wire + *at + 2);
    r->data_size = get_16(wire + *at + 8);
    r->data = *at + 10;
    if (r->data_size > size - r->data)
        return false;
    *at = r->data + r->data_size;
    return true;
}

static uint64_t hash(const uint8_t *bytes, size_t n) /* FNV-1a */
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ bytes[i]) * 0x100000001b3u;
    return h;
}

/* What a record says; names in it are uncompressed, since servers compress differently from answer to answer. */
static bool content(const uint8_t *wire, size_t size, const struct record *r, uint64_t *h)
{
    uint8_t name[KN_DNS_NAME_MAX];
    size_t at = r->data + (r->type == KN_DNS_SRV ? 6 : 0), n;
    if (r->type == KN_DNS_A || r->type == KN_DNS_AAAA) {
        *h = hash(wire + r->data, r->data_size);
        return r->data_size == (r->type == KN_DNS_A ? 4 : 16);
    }
    if (r->type == KN_DNS_SRV && r->data_size < 7)
        return false;
    n = kn_dns_name_read(wire, size, &at, name);
    *h = hash(name, n) ^ (r->type == KN_DNS_SRV ? hash(wire + r->data, 6) * 3 : 0);
    return n && at == r->data + r->data_size;
}

struct section {
    const uint8_t *wire;
    size_t size, at;
    unsigned n;
};

/* All records must be well-formed. Those of the type at `name` are counted; an alias of it goes to `next`. */
static bool look(const struct section *s, const uint8_t *name, size_t name_size, uint16_t type,
                 struct kn_dns_answer *answer, uint8_t next[KN_DNS_NAME_MAX], size_t *next_size)
{
    struct record r;
    size_t at = s->at;
    *next_size = 0;
    for (unsigned i = 0; i < s->n; i++) {
        uint64_t h;
        if (!read_record(s->wire, s->size, &at, &r))
            return false;
        if (r.class != CLASS_IN || r.owner_size != name_size || memcmp(r.owner, name, name_size) != 0)
            continue;
        if (r.type == type) {
            if (!content(s->wire, s->size, &r, &h))
                return false;
            answer->records++;
            answer->content += h;
        } else if (r.type == KN_DNS_CNAME && !*next_size) {
            size_t target = r.data;
            *next_size = kn_dns_name_read(s->wire, s->size, &target, next);
            if (!*next_size)
                return false;
        }
    }
    return true;
}

static enum kn_dns_got follow(const struct section *s, const uint8_t *name, size_t name_size, uint16_t type,
                              struct kn_dns_answer *answer)
{
    uint8_t names[2][KN_DNS_NAME_MAX];
    size_t size = name_size, next_size;
    memcpy(names[0], name, name_size);
    for (unsigned i = 0; i <= KN_DNS_CHAIN_MAX; i++) {
        if (!look(s, names[i % 2], size, type, answer, names[(i + 1) % 2], &next_size))
            return KN_DNS_GARBAGE;
        if (answer->records || !next_size)
            return KN_DNS_ANSWER;
        size = next_size;
    }
    return KN_DNS_LOOP;
}

int kn_dns_id(const uint8_t *wire, size_t size)
{
    return size >= HEAD ? get_16(wire) : -1;
}

enum kn_dns_got kn_dns_read(const uint8_t *wire, size_t size, const uint8_t *name, size_t name_size, uint16_t type,
                            struct kn_dns_answer *answer)
{
    uint8_t asked[KN_DNS_NAME_MAX];
    struct section answers = {.wire = wire, .size = size, .at = HEAD};
    *answer = (struct kn_dns_answer){0};
    if (size < HEAD || !(wire[2] & FLAG_QR))
        return KN_DNS_GARBAGE;
    answer->id = get_16(wire);
    answer->rcode = wire[3] & 15u;
    answer->truncated = wire[2] & FLAG_TC;
    answers.n = get_16(wire + 6);
    if (get_16(wire + 4) == 0 && answer->rcode != KN_DNS_NOERROR && answers.n == 0)
        return KN_DNS_ANSWER; /* a server that did not understand the question may leave it out */
    if (get_16(wire + 4) != 1)
        return KN_DNS_GARBAGE;
    size_t n = kn_dns_name_read(wire, size, &answers.at, asked);
    if (!n || size - answers.at < 4)
        return KN_DNS_GARBAGE;
    if (n != name_size || memcmp(asked, name, n) != 0 || get_16(wire + answers.at) != type ||
        get_16(wire + answers.at + 2) != CLASS_IN)
        return KN_DNS_OTHER;
    answers.at += 4;
    if (answer->truncated) /* the records may be cut anywhere */
        return KN_DNS_ANSWER;
    return follow(&answers, name, name_size, type, answer);
}
