#include "engines/http/parse.h"

#include <string.h>
#include <strings.h>

enum state { STATUS, FIELD, BODY, UNTIL_END, CHUNK, CHUNK_DATA, CHUNK_CRLF, TRAILER, DONE, BAD };

struct text {
    const uint8_t *at;
    size_t size;
};

static enum kn_http_got refuse(struct kn_http_parse *p)
{
    p->state = BAD;
    p->keepalive = false;
    return KN_HTTP_BAD;
}

static enum kn_http_got finish(struct kn_http_parse *p)
{
    p->state = DONE;
    return KN_HTTP_DONE;
}

static bool is_space(uint8_t c)
{
    return c == ' ' || c == '\t';
}
static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

static struct text trim(struct text t)
{
    while (t.size && is_space(t.at[0]))
        t.at++, t.size--;
    while (t.size && is_space(t.at[t.size - 1]))
        t.size--;
    return t;
}

static bool same(struct text t, const char *word)
{
    return t.size == strlen(word) && !strncasecmp((const char *)t.at, word, t.size);
}

/* The next member of a comma-separated list; false at its end. */
static bool next_member(struct text *list, struct text *member)
{
    if (!list->size)
        return false;
    const uint8_t *comma = memchr(list->at, ',', list->size);
    size_t n = comma ? (size_t)(comma - list->at) : list->size;
    *member = trim((struct text){list->at, n});
    if (comma)
        n++;
    list->at += n;
    list->size -= n;
    return true;
}

/* RFC 9110, 5.6.2 */
static bool is_token(struct text t)
{
    for (size_t i = 0; i < t.size; i++) {
        uint8_t c = t.at[i];
        bool letter = (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
        if (!is_digit(c) && !letter && (!c || !strchr("!#$%&'*+-.^_`|~", c)))
            return false;
    }
    return t.size != 0;
}

static bool status_line(struct kn_http_parse *p, struct text t)
{
    if (t.size < 12 || memcmp(t.at, "HTTP/1.", 7) || !is_digit(t.at[7]) || t.at[8] != ' ')
        return false;
    const uint8_t *d = t.at + 9;
    if (!is_digit(d[0]) || d[0] == '0' || !is_digit(d[1]) || !is_digit(d[2]))
        return false;
    if (t.size > 12 && t.at[12] != ' ')
        return false;
    p->minor = (uint8_t)(t.at[7] - '0');
    p->status = (uint16_t)((d[0] - '0') * 100 + (d[1] - '0') * 10 + (d[2] - '0'));
    p->keepalive = p->minor > 0;
    p->chunked = p->coded = p->has_length = p->framed_twice = p->framing_field = false;
    p->left = 0;
    p->state = FIELD;
    return true;
}

static bool decimal(struct text t, uint64_t *value)
{
    uint64_t v = 0;
    for (size_t i = 0; i < t.size; i++) {
        if (!is_digit(t.at[i]) || v > KN_HTTP_BODY_MAX / 10)
            return false;
        v = v * 10 + (uint64_t)(t.at[i] - '0');
    }
    *value = v;
    return t.size && v <= KN_HTTP_BODY_MAX;
}

/* Several lengths may be repeated only where they agree (RFC 9112, 6.3). */
static bool content_length(struct kn_http_parse *p, struct text list)
{
    struct text member;
    uint64_t length;
    bool any = false;
    while (next_member(&list, &member)) {
        if (!decimal(member, &length) || (p->has_length && length != p->left))
            return false;
        p->has_length = any = true;
        p->left = length;
    }
    return any;
}

static bool transfer_encoding(struct kn_http_parse *p, struct text list)
{
    struct text member;
    while (next_member(&list, &member)) {
        if (!member.size)
            continue;
        if (p->chunked)
            return false; /* nothing comes after chunked */
        p->coded = true;
        p->chunked = same(member, "chunked");
    }
    return true;
}

static bool connection(struct kn_http_parse *p, struct text list)
{
    struct text member;
    while (next_member(&list, &member)) {
        if (same(member, "close"))
            p->keepalive = false;
        else if (same(member, "keep-alive") && p->minor == 0)
            p->keepalive = true;
    }
    return true;
}

static bool field_line(struct kn_http_parse *p, struct text t, bool whole)
{
    if (is_space(t.at[0]))
        return !p->framing_field; /* obs-fold: goes on with a field that means nothing here */
    const uint8_t *colon = memchr(t.at, ':', t.size);
    p->framing_field = false;
    if (!colon)
        return !whole && is_token(t);
    struct text name = {t.at, (size_t)(colon - t.at)};
    struct text value = trim((struct text){colon + 1, t.size - name.size - 1});
    bool (*take)(struct kn_http_parse *, struct text) = same(name, "content-length")      ? content_length
                                                        : same(name, "transfer-encoding") ? transfer_encoding
                                                        : same(name, "connection")        ? connection
                                                                                          : NULL;
    if (!take)
        return is_token(name);
    p->framing_field = true;
    return whole && take(p, value);
}

/* The empty line after the fields: what kind of body follows (RFC 9112, 6.3)? */
static enum kn_http_got head_end(struct kn_http_parse *p)
{
    if (p->status < 200) {
        if (p->status == 101)
            return refuse(p);
        p->state = STATUS;
        return KN_HTTP_MORE;
    }
    p->head_bytes = 0;
    if (p->status == 204 || p->status == 304)
        return finish(p);
    if (p->coded) {
        p->framed_twice = p->has_length;
        if (p->has_length || p->minor == 0 || !p->chunked)
            p->keepalive = false;
        p->state = p->chunked ? CHUNK : UNTIL_END;
        return KN_HTTP_MORE;
    }
    if (!p->has_length) {
        p->keepalive = false;
        p->state = UNTIL_END;
        return KN_HTTP_MORE;
    }
    if (!p->left)
        return finish(p);
    p->state = BODY;
    return KN_HTTP_MORE;
}

static int hex(uint8_t c)
{
    if (is_digit(c))
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* "1a; name=value": what comes after the number means nothing here. */
static bool chunk_line(struct kn_http_parse *p, struct text t)
{
    uint64_t v = 0;
    size_t i = 0;
    for (; i < t.size && hex(t.at[i]) >= 0; i++) {
        if (v >> 56)
            return false;
        v = v << 4 | (uint64_t)hex(t.at[i]);
    }
    if (!i || (i < t.size && t.at[i] != ';' && !is_space(t.at[i])))
        return false;
    if (v > KN_HTTP_BODY_MAX - p->body_bytes)
        return false;
    p->left = v;
    p->head_bytes = 0;
    p->state = v ? CHUNK_DATA : TRAILER;
    return true;
}

static enum kn_http_got take_line(struct kn_http_parse *p, struct text t, bool whole)
{
    bool good = true;
    switch (p->state) {
    case STATUS: good = status_line(p, t); break;
    case FIELD:
        if (!t.size)
            return head_end(p);
        good = field_line(p, t, whole);
        break;
    case CHUNK: good = chunk_line(p, t); break;
    case CHUNK_CRLF:
        good = !t.size;
        p->state = CHUNK;
        break;
    default: /* TRAILER */
        if (!t.size)
            return finish(p);
    }
    return good ? KN_HTTP_MORE : refuse(p);
}

/* Collects a line, without its end; the beginning of one that comes in pieces is kept. Looks at no more than
 * KN_HTTP_KEPT bytes of it, so that what comes out does not depend on where the pieces begin. */
static enum kn_http_got feed_line(struct kn_http_parse *p, const uint8_t *bytes, size_t size, size_t *used)
{
    const uint8_t *end = memchr(bytes, '\n', size);
    size_t n = end ? (size_t)(end - bytes) : size;
    *used = n + (end != NULL);
    if (n > KN_HTTP_LINE_MAX - p->line_bytes)
        return refuse(p);
    p->head_bytes += (uint32_t)*used;
    if (p->head_bytes > KN_HTTP_HEAD_MAX)
        return refuse(p);
    struct text line = {bytes, n};
    size_t total = p->line_bytes + n;
    if (p->line_bytes || !end) {
        size_t room = p->line_bytes < KN_HTTP_KEPT ? KN_HTTP_KEPT - p->line_bytes : 0;
        if (n)
            memcpy(p->kept + KN_HTTP_KEPT - room, bytes, n < room ? n : room);
        p->line_bytes = (uint32_t)total;
        if (!end)
            return KN_HTTP_MORE;
        p->line_bytes = 0;
        line = (struct text){p->kept, total};
    }
    bool whole = total <= KN_HTTP_KEPT;
    if (!whole)
        line.size = KN_HTTP_KEPT;
    else if (line.size && line.at[line.size - 1] == '\r')
        line.size--;
    return take_line(p, line, whole);
}

static enum kn_http_got feed_body(struct kn_http_parse *p, size_t size, size_t *used)
{
    *used = size < p->left ? size : (size_t)p->left;
    p->left -= *used;
    p->body_bytes += *used;
    if (p->left)
        return KN_HTTP_MORE;
    if (p->state == BODY)
        return finish(p);
    p->state = CHUNK_CRLF;
    return KN_HTTP_MORE;
}

static enum kn_http_got feed_some(struct kn_http_parse *p, const uint8_t *bytes, size_t size, size_t *used)
{
    switch (p->state) {
    case BODY:
    case CHUNK_DATA: return feed_body(p, size, used);
    case UNTIL_END:
        *used = size;
        p->body_bytes += size;
        return p->body_bytes > KN_HTTP_BODY_MAX ? refuse(p) : KN_HTTP_MORE;
    default: return feed_line(p, bytes, size, used);
    }
}

static void memorise(struct kn_http_memo *memo, const struct kn_http_parse *p, const uint8_t *bytes, size_t size)
{
    memo->size = 0;
    if (size > sizeof memo->bytes)
        return;
    memcpy(memo->bytes, bytes, size);
    memo->size = (uint32_t)size;
    memo->length = p->left;
    memo->status = p->status;
    memo->keepalive = p->keepalive;
}

/* The head is the one before: as if it had been parsed. */
static enum kn_http_got take_memo(struct kn_http_parse *p, const struct kn_http_memo *memo, size_t *used)
{
    p->status = memo->status;
    p->keepalive = memo->keepalive;
    p->left = memo->length;
    p->wire_bytes = *used = memo->size;
    if (!p->left)
        return finish(p);
    p->state = BODY;
    return KN_HTTP_MORE;
}

void kn_http_parse_next(struct kn_http_parse *p)
{
    p->state = STATUS;
    p->status = 0;
    p->body_bytes = p->wire_bytes = p->left = 0;
    p->head_bytes = p->line_bytes = 0;
}

enum kn_http_got kn_http_parse_feed(struct kn_http_parse *p, struct kn_http_memo *memo, const uint8_t *bytes,
                                    size_t size, size_t *used)
{
    enum kn_http_got got = p->state == BAD ? KN_HTTP_BAD : p->state == DONE ? KN_HTTP_DONE : KN_HTTP_MORE;
    bool fresh = memo && !p->wire_bytes && got == KN_HTTP_MORE;
    *used = 0;
    if (fresh && memo->size && size >= memo->size && !memcmp(memo->bytes, bytes, memo->size)) {
        fresh = false;
        got = take_memo(p, memo, used);
    }
    while (got == KN_HTTP_MORE && *used < size) {
        size_t some;
        uint8_t before = p->state;
        got = feed_some(p, bytes + *used, size - *used, &some);
        *used += some;
        p->wire_bytes += some;
        if (!fresh || before != FIELD || p->state == FIELD)
            continue;
        fresh = false;
        if (p->state == BODY || (p->state == DONE && p->has_length && !p->left))
            memorise(memo, p, bytes, *used);
    }
    return got;
}

enum kn_http_got kn_http_parse_end(struct kn_http_parse *p)
{
    if (p->state == UNTIL_END || p->state == DONE)
        return finish(p);
    return refuse(p);
}
