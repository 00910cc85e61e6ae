/* engines/http_parse - the responses of any HTTP/1.x server: bytes in, lengths out.
 *
 * Incremental, in whatever pieces the network brings them, and without memory of its own: of a line that is split
 * only the first KN_HTTP_KEPT bytes are kept, enough for every field that frames a message. The rules are those of
 * RFC 9112: Content-Length, chunked (extensions and trailers skipped), until the end of the stream, or no body at
 * all (204, 304); 1xx are skipped. Nobody asks with HEAD.
 *
 * It refuses what cannot be framed or is out of bounds: no status line, lengths that disagree or overflow, a field
 * without a name, a switch of protocols that nobody asked for, endless lines, heads, trailers or interim responses.
 * A refusal is the caller's to count. */
#ifndef KN_ENGINES_HTTP_PARSE_H
#define KN_ENGINES_HTTP_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KN_HTTP_KEPT 256 /* bytes of a line that are looked at */
#define KN_HTTP_LINE_MAX (16u << 10)
#define KN_HTTP_HEAD_MAX (64u << 10) /* a head with the interim ones before it; the trailers likewise */
#define KN_HTTP_BODY_MAX (1ull << 60)

enum kn_http_got { KN_HTTP_MORE, KN_HTTP_DONE, KN_HTTP_BAD };

struct kn_http_parse { /* all zeros: ready for the first response */
    uint8_t state;
    bool keepalive;      /* the connection can carry another request */
    bool chunked, coded; /* Transfer-Encoding: chunked is the last one; there was any */
    bool has_length;
    bool framed_twice;   /* by chunks, and by a length that was passed over: the server may not know that this ends the
                            connection */
    bool framing_field;  /* the last field line framed the message: it must not be folded */
    uint8_t minor;       /* HTTP/1.minor */
    uint16_t status;     /* of the final response */
    uint64_t left;       /* of the body or of the chunk */
    uint64_t body_bytes; /* payload, without the chunks' own lines */
    uint64_t wire_bytes; /* everything that was taken for this response */
    uint32_t head_bytes; /* bounded: lines of heads, then of trailers */
    uint32_t line_bytes; /* of the line that is being collected */
    uint8_t kept[KN_HTTP_KEPT]; /* its beginning */
};

/* A head as it came last, whole: one that is equal byte by byte needs no parsing. Shared by the connections of a
 * worker. */
struct kn_http_memo {
    uint32_t size; /* 0: none */
    uint16_t status;
    bool keepalive;
    uint64_t length;
    uint8_t bytes[1024];
};

void kn_http_parse_next(struct kn_http_parse *p); /* ready for the next response on the same connection */

/* Takes bytes until the response is complete; *used says how many. DONE: the fields above tell what it was. After
 * DONE and BAD nothing more is taken until kn_http_parse_next. `memo` may be NULL. */
enum kn_http_got kn_http_parse_feed(struct kn_http_parse *p, struct kn_http_memo *memo, const uint8_t *bytes,
                                    size_t size, size_t *used);
/* The server closed: DONE where that ends the body, else BAD. */
enum kn_http_got kn_http_parse_end(struct kn_http_parse *p);
/* Whether a byte of this response has come. */
static inline bool kn_http_parse_begun(const struct kn_http_parse *p)
{
    return p->wire_bytes != 0;
}

#endif
