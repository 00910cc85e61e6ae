/* The response parser: every case whole, in two pieces at every place, and byte by byte, with and without a memory
 * of the head before. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engines/http/parse.h"

struct expected {
    enum kn_http_got got;
    uint16_t status;
    bool keepalive;
    uint64_t body, left_over; /* bytes that belong to what comes next */
};

struct sample {
    const char *name, *text;
    struct expected want;
    bool at_end; /* the answer is complete when the server closes */
};

#define OK_LINE "HTTP/1.1 200 OK\r\n"

static const struct sample samples[] = {
    {"length", OK_LINE "Content-Length: 5\r\n\r\nhello", {KN_HTTP_DONE, 200, true, 5, 0}, false},
    {"length 0", OK_LINE "Content-Length: 0\r\n\r\n", {KN_HTTP_DONE, 200, true, 0, 0}, false},
    {"case and spaces", OK_LINE "cOnTeNt-LeNgTh:\t 5 \t\r\n\r\nhello", {KN_HTTP_DONE, 200, true, 5, 0}, false},
    {"no reason phrase", "HTTP/1.1 200\r\nContent-Length: 1\r\n\r\nx", {KN_HTTP_DONE, 200, true, 1, 0}, false},
    {"empty reason", "HTTP/1.1 404 \r\nContent-Length: 1\r\n\r\nx", {KN_HTTP_DONE, 404, true, 1, 0}, false},
    {"bare line feeds", "HTTP/1.1 200 OK\nContent-Length: 2\n\nhi", {KN_HTTP_DONE, 200, true, 2, 0}, false},
    {"more than one", OK_LINE "Content-Length: 2\r\n\r\nhiHTTP/1.1", {KN_HTTP_DONE, 200, true, 2, 8}, false},
    {"length repeated",
     OK_LINE "Content-Length: 2\r\nContent-Length: 2, 2\r\n\r\nhi",
     {KN_HTTP_DONE, 200, true, 2, 0},
     false},
    {"close", OK_LINE "Connection: close\r\nContent-Length: 2\r\n\r\nhi", {KN_HTTP_DONE, 200, false, 2, 0}, false},
    {"close in a list",
     OK_LINE "Connection: foo, Close\r\nContent-Length: 2\r\n\r\nhi",
     {KN_HTTP_DONE, 200, false, 2, 0},
     false},
    {"1.0", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", {KN_HTTP_DONE, 200, false, 2, 0}, false},
    {"1.0 keep-alive",
     "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nhi",
     {KN_HTTP_DONE, 200, true, 2, 0},
     false},
    {"until the end", OK_LINE "\r\nall of this", {KN_HTTP_DONE, 200, false, 11, 0}, true},
    {"until the end, empty", OK_LINE "Server: x\r\n\r\n", {KN_HTTP_DONE, 200, false, 0, 0}, true},
    {"another coding", OK_LINE "Transfer-Encoding: gzip\r\n\r\nabc", {KN_HTTP_DONE, 200, false, 3, 0}, true},
    {"204", "HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n", {KN_HTTP_DONE, 204, true, 0, 0}, false},
    {"304", "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", {KN_HTTP_DONE, 304, true, 0, 0}, false},
    {"100",
     "HTTP/1.1 100 Continue\r\nX: y\r\n\r\n" OK_LINE "Content-Length: 1\r\n\r\nx",
     {KN_HTTP_DONE, 200, true, 1, 0},
     false},
    {"interim lengths mean nothing",
     "HTTP/1.1 103 Early\r\nContent-Length: 7\r\nConnection: close\r\n\r\n" OK_LINE "Content-Length: 1\r\n\r\nx",
     {KN_HTTP_DONE, 200, true, 1, 0},
     false},
    {"chunked",
     OK_LINE "Transfer-Encoding: chunked\r\n\r\n4\r\nWiki\r\n5\r\npedia\r\n0\r\n\r\n",
     {KN_HTTP_DONE, 200, true, 9, 0},
     false},
    {"chunked, extensions and trailers",
     OK_LINE "Transfer-Encoding: chunked\r\n\r\n00A;a=\"b\"\r\n0123456789\r\n1 ;x\r\n.\r\n0;last\r\n"
             "Expires: never\r\nDigest: 0\r\n\r\nHT",
     {KN_HTTP_DONE, 200, true, 11, 2},
     false},
    {"chunked after another coding",
     OK_LINE "Transfer-Encoding: gzip, chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
     {KN_HTTP_DONE, 200, true, 1, 0},
     false},
    {"chunked over length",
     OK_LINE "Content-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
     {KN_HTTP_DONE, 200, false, 1, 0},
     false},
    {"folded field",
     OK_LINE "X-Long: a\r\n  b: c\r\nContent-Length: 1\r\n\r\nx",
     {KN_HTTP_DONE, 200, true, 1, 0},
     false},
    {"5xx", "HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy", {KN_HTTP_DONE, 503, true, 4, 0}, false},
    {"beyond 5xx", "HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n", {KN_HTTP_DONE, 999, true, 0, 0}, false},

    {"garbage", "SSH-2.0-OpenSSH_9.2\r\n", {.got = KN_HTTP_BAD}, false},
    {"nothing", "\r\n", {.got = KN_HTTP_BAD}, false},
    {"HTTP/2", "HTTP/2.0 200 OK\r\n", {.got = KN_HTTP_BAD}, false},
    {"status 099", "HTTP/1.1 099 OK\r\n", {.got = KN_HTTP_BAD}, false},
    {"status 2000", "HTTP/1.1 2000 OK\r\n", {.got = KN_HTTP_BAD}, false},
    {"switching protocols", "HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\n\r\n", {.got = KN_HTTP_BAD}, false},
    {"lengths disagree", OK_LINE "Content-Length: 2\r\nContent-Length: 3\r\n\r\n", {.got = KN_HTTP_BAD}, false},
    {"negative", OK_LINE "Content-Length: -1\r\n\r\n", {.got = KN_HTTP_BAD}, false},
    {"no number", OK_LINE "Content-Length:\r\n\r\n", {.got = KN_HTTP_BAD}, false},
    {"overflow", OK_LINE "Content-Length: 18446744073709551617\r\n\r\n", {.got = KN_HTTP_BAD}, false},
    {"overflow by zeros", OK_LINE "Content-Length: 9999999999999999999999999999\r\n\r\n", {.got = KN_HTTP_BAD}, false},
    {"no name", OK_LINE ": x\r\n\r\n", {.got = KN_HTTP_BAD}, false},
    {"no colon", OK_LINE "Content-Length 5\r\n\r\n", {.got = KN_HTTP_BAD}, false},
    {"space before the colon", OK_LINE "Content-Length : 5\r\n\r\n", {.got = KN_HTTP_BAD}, false},
    {"folded length", OK_LINE "Content-Length: 5\r\n 0\r\n\r\n", {.got = KN_HTTP_BAD}, false},
    {"chunked twice",
     OK_LINE "Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n\r\n",
     {.got = KN_HTTP_BAD},
     false},
    {"no chunk size", OK_LINE "Transfer-Encoding: chunked\r\n\r\n\r\n", {.got = KN_HTTP_BAD}, false},
    {"chunk of garbage", OK_LINE "Transfer-Encoding: chunked\r\n\r\n5z\r\n", {.got = KN_HTTP_BAD}, false},
    {"negative chunk", OK_LINE "Transfer-Encoding: chunked\r\n\r\n-5\r\n", {.got = KN_HTTP_BAD}, false},
    {"huge chunk", OK_LINE "Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n", {.got = KN_HTTP_BAD}, false},
    {"chunk too long", OK_LINE "Transfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n", {.got = KN_HTTP_BAD}, false},
    {"cut off in the head", OK_LINE "Content-", {.got = KN_HTTP_BAD}, true},
    {"cut off in the body", OK_LINE "Content-Length: 5\r\n\r\nhell", {.got = KN_HTTP_BAD}, true},
    {"cut off in a chunk", OK_LINE "Transfer-Encoding: chunked\r\n\r\n5\r\nhell", {.got = KN_HTTP_BAD}, true},
    {"cut off before the trailers", OK_LINE "Transfer-Encoding: chunked\r\n\r\n0\r\n", {.got = KN_HTTP_BAD}, true},
    {"nothing at all", "", {.got = KN_HTTP_BAD}, true},
};

/* Feeds `size` bytes in pieces that end at `first`, then every `step`. Each piece lies in memory of its own, so that
 * a sanitizer sees whoever reads past it. */
static enum kn_http_got feed(struct kn_http_parse *p, struct kn_http_memo *memo, const char *text, size_t size,
                             size_t first, size_t step, size_t *taken)
{
    enum kn_http_got got = KN_HTTP_MORE;
    *taken = 0;
    for (size_t at = 0; at < size && got == KN_HTTP_MORE;) {
        size_t n = at < first ? first - at : step, used;
        if (n > size - at)
            n = size - at;
        uint8_t *piece = malloc(n);
        memcpy(piece, text + at, n);
        got = kn_http_parse_feed(p, memo, piece, n, &used);
        free(piece);
        if (got == KN_HTTP_MORE)
            assert_int_equal(used, n);
        assert_true(used <= n);
        *taken += used;
        at += n;
    }
    return got;
}

static void check(const struct sample *s, struct kn_http_memo *memo, size_t first, size_t step)
{
    struct kn_http_parse p = {0};
    size_t size = strlen(s->text), taken;
    enum kn_http_got got = feed(&p, memo, s->text, size, first, step, &taken);
    if (s->at_end) {
        assert_int_equal(got, KN_HTTP_MORE);
        got = kn_http_parse_end(&p);
    }
    if (got != s->want.got)
        fail_msg("%s, pieces %zu and %zu: %d", s->name, first, step, got);
    if (got == KN_HTTP_BAD) {
        assert_false(p.keepalive);
        return;
    }
    assert_int_equal(p.status, s->want.status);
    assert_int_equal(p.keepalive, s->want.keepalive);
    assert_int_equal(p.body_bytes, s->want.body);
    assert_int_equal(size - taken, s->want.left_over);
    assert_int_equal(p.wire_bytes, taken);
}

static void every_split(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) {
        size_t size = strlen(samples[i].text);
        struct kn_http_memo memo = {0};
        for (size_t first = 1; first <= size; first++) {
            check(&samples[i], NULL, first, size);
            check(&samples[i], &memo, first, size);
        }
        for (size_t step = 1; step < 9; step++)
            check(&samples[i], &memo, 0, step);
        if (!size)
            check(&samples[i], NULL, 0, 1);
    }
}

static void one_after_another(void **state)
{
    (void)state;
    struct kn_http_memo memo = {0};
    struct kn_http_parse p = {0};
    for (size_t round = 0; round < 3; round++) {
        for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) {
            const struct sample *s = &samples[i];
            if (s->want.got != KN_HTTP_DONE)
                continue;
            size_t taken, size = strlen(s->text);
            enum kn_http_got got = feed(&p, &memo, s->text, size, size, size, &taken);
            if (s->at_end)
                got = kn_http_parse_end(&p);
            assert_int_equal(got, KN_HTTP_DONE);
            assert_int_equal(p.body_bytes, s->want.body);
            assert_int_equal(p.status, s->want.status);
            kn_http_parse_next(&p);
            assert_false(kn_http_parse_begun(&p));
        }
    }
}

static bool remembered(const struct kn_http_memo *memo, const char *response)
{
    const char *end = strstr(response, "\r\n\r\n") + 4;
    return memo->size == (size_t)(end - response) && !memcmp(memo->bytes, response, memo->size);
}

static void memo_is_the_head_before(void **state)
{
    (void)state;
    static const char one[] = OK_LINE "Date: Mon\r\nContent-Length: 3\r\n\r\nabc",
                      two[] = OK_LINE "Date: Tue\r\nContent-Length: 3\r\n\r\nabc";
    struct kn_http_memo memo = {0};
    struct kn_http_parse p = {0};
    size_t used;
    assert_false(remembered(&memo, one));
    assert_int_equal(kn_http_parse_feed(&p, &memo, (const uint8_t *)one, sizeof one - 1, &used), KN_HTTP_DONE);
    assert_true(remembered(&memo, one));
    kn_http_parse_next(&p);
    assert_int_equal(kn_http_parse_feed(&p, &memo, (const uint8_t *)two, sizeof two - 1, &used), KN_HTTP_DONE);
    assert_true(remembered(&memo, two));
    assert_int_equal(memo.status, 200);
    assert_int_equal(memo.length, 3);
    assert_true(memo.keepalive);
}

/* Feeds the same text again and again until it is refused or `most` bytes went in. */
static size_t endless(const char *start, const char *text, size_t most)
{
    struct kn_http_parse p = {0};
    size_t used, total = 0;
    enum kn_http_got got = kn_http_parse_feed(&p, NULL, (const uint8_t *)start, strlen(start), &used);
    while (got == KN_HTTP_MORE && total < most) {
        got = kn_http_parse_feed(&p, NULL, (const uint8_t *)text, strlen(text), &used);
        total += used;
    }
    assert_int_equal(got, KN_HTTP_BAD);
    return total;
}

static void hostile_sizes_are_bounded(void **state)
{
    (void)state;
    size_t most = 1u << 20;
    assert_in_range(endless("", "HTTP/1.1 200 ", most), KN_HTTP_LINE_MAX - 64, KN_HTTP_LINE_MAX + 64);
    assert_in_range(endless(OK_LINE, "X", most), KN_HTTP_LINE_MAX - 64, KN_HTTP_LINE_MAX + 64);
    assert_in_range(endless(OK_LINE, "X: y\r\n", most), KN_HTTP_HEAD_MAX - 64, KN_HTTP_HEAD_MAX + 64);
    assert_in_range(endless("", "HTTP/1.1 100 Continue\r\n\r\n", most), KN_HTTP_HEAD_MAX - 64, KN_HTTP_HEAD_MAX + 64);
    assert_in_range(endless(OK_LINE "Transfer-Encoding: chunked\r\n\r\n", "1;xxxx", most), KN_HTTP_LINE_MAX - 64,
                    KN_HTTP_LINE_MAX + 64);
    assert_in_range(endless(OK_LINE "Transfer-Encoding: chunked\r\n\r\n0\r\n", "T: x\r\n", most), KN_HTTP_HEAD_MAX - 64,
                    KN_HTTP_HEAD_MAX + 64);
    char line[KN_HTTP_KEPT + 64];
    snprintf(line, sizeof line, OK_LINE "Content-Length: %*d\r\n\r\n", KN_HTTP_KEPT, 5);
    struct sample padded = {"a length that is padded beyond what is kept", line, {.got = KN_HTTP_BAD}, false};
    for (size_t first = 1; first <= strlen(line); first++)
        check(&padded, NULL, first, 512);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_split),
        cmocka_unit_test(one_after_another),
        cmocka_unit_test(memo_is_the_head_before),
        cmocka_unit_test(hostile_sizes_are_bounded),
    };
    return cmocka_run_group_tests_name("http_parse", tests, NULL, NULL);
}
