/* The response parser against itself: whole, in pieces that the input's first byte chooses, and with a memory of the
 * head before must all agree, and no byte outside a piece may be read. */
#include <stdlib.h>

#include "engines/http/parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(int truth)
{
    if (!truth)
        abort();
}

static enum kn_http_got feed(struct kn_http_parse *p, struct kn_http_memo *memo, const uint8_t *data, size_t size,
                             size_t step, size_t *taken)
{
    enum kn_http_got got = KN_HTTP_MORE;
    *taken = 0;
    for (size_t at = 0; at < size && got == KN_HTTP_MORE; at += step) {
        size_t n = size - at < step ? size - at : step, used;
        uint8_t *piece = malloc(n);
        if (!piece)
            abort();
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
    if (got == KN_HTTP_BAD)
        return;
    demand(a->status == b->status && a->body_bytes == b->body_bytes && a->wire_bytes == b->wire_bytes);
}

/* The head that one response left in the memory must not show in another: the first `cut` bytes teach, the others
 * are parsed. */
static void another(const uint8_t *data, size_t size, size_t cut)
{
    struct kn_http_parse teacher = {0}, with = {0}, without = {0};
    struct kn_http_memo memo = {0};
    size_t taken, taken_again;
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
    if (size < 1)
        return 0;
    size_t cut = data[0] * (size - 1) / 256, steps[] = {size, 1u + data[0], 1u + data[0] % 8u, 1};
    struct kn_http_parse whole = {0};
    struct kn_http_memo memo = {0};
    size_t taken, taken_again;
    data++;
    size--;
    another(data, size, cut);
    enum kn_http_got got = feed(&whole, &memo, data, size, size ? size : 1, &taken);
    demand(whole.wire_bytes >= whole.body_bytes);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        struct kn_http_parse p = {0};
        demand(feed(&p, i % 2 ? NULL : &memo, data, size, steps[i], &taken_again) == got);
        if (got == KN_HTTP_DONE)
            demand(taken == taken_again);
        agree(&whole, &p, got);
        demand(kn_http_parse_end(&p) != KN_HTTP_MORE);
    }
    return 0;
}
