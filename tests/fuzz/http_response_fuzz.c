/* The response parser against itself: whole, in pieces that the input's first bytes choose, and with a memory of the
 * head before must all agree, and no byte outside a piece may be read. */
#include <stdlib.h>

#include "engines/http_parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(int truth)
{
    if (!truth) abort();
}

static enum kn_http_got feed(struct kn_http_parse *p, struct kn_http_memo *memo, const uint8_t *data, size_t size, size_t step,
                             size_t *taken)
{
    enum kn_http_got got = KN_HTTP_MORE;
    *taken = 0;
    for (size_t at = 0; at < size && got == KN_HTTP_MORE; at += step) {
        size_t n = size - at < step ? size - at : step, used;
        uint8_t *piece = malloc(n);
        if (!piece) abort();
        memcpy(piece, data + at, n);
        got = kn_http_parse_feed(p, memo, piece, n, &used);
        free(piece);
        demand(used <= n && (got != KN_HTTP_MORE || used == n));
        *taken += used;
    }
    return got;
}

static void agree(const struct kn_http_parse *a, const struct kn_http_parse *b, enum kn_http_got got)
{
    demand(a->keepalive == b->keepalive);
    if (got == KN_HTTP_BAD) return;
    demand(a->status == b->status && a->body_bytes == b->body_bytes && a->wire_bytes == b->wire_bytes);
}

/* The head that one response left in the memory must not show in another: the first `cut` bytes teach, the others
 * are parsed. */
static void another(const uint8_t *data, size_t size, size_t cut, bool head)
{
    struct kn_http_parse teacher, with, without;
    struct kn_http_memo memo = {0};
    size_t taken, taken_again;
    kn_http_parse_init(&teacher, head);
    kn_http_parse_init(&with, head);
    kn_http_parse_init(&without, head);
    feed(&teacher, &memo, data, cut, cut ? cut : 1, &taken);
    data += cut;
    size -= cut;
    enum kn_http_got got = feed(&with, &memo, data, size, size ? size : 1, &taken);
    demand(feed(&without, NULL, data, size, size ? size : 1, &taken_again) == got);
    if (got == KN_HTTP_DONE)
        demand(taken == taken_again);
    agree(&with, &without, got);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) return 0;
    bool head = data[0] & 1;
    size_t cut = data[1] * (size - 2) / 256, steps[] = {size, 1u + data[1], 1u + data[1] % 8u, 1};
    struct kn_http_parse whole;
    struct kn_http_memo memo = {0};
    size_t taken, taken_again;
    data += 2;
    size -= 2;
    another(data, size, cut, head);
    kn_http_parse_init(&whole, head);
    enum kn_http_got got = feed(&whole, &memo, data, size, size ? size : 1, &taken);
    demand(whole.wire_bytes >= whole.body_bytes);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        struct kn_http_parse p;
        kn_http_parse_init(&p, head);
        demand(feed(&p, i % 2 ? NULL : &memo, data, size, steps[i], &taken_again) == got);
        if (got == KN_HTTP_DONE) demand(taken == taken_again);
        agree(&whole, &p, got);
        demand(kn_http_parse_end(&p) != KN_HTTP_MORE);
    }
    return 0;
}
