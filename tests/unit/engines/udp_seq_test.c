/* Sequence numbers, jitter and requests in flight against what is known beforehand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdlib.h>

#include "engines/udp/sequence.h"

static struct kn_seq seq;

static void in_order_is_new(void **state)
{
    (void)state;
    kn_seq_init(&seq, 63);
    for (uint64_t i = 0; i < 100000; i++)
        assert_int_equal(kn_seq_take(&seq, i), KN_SEQ_NEW);
    assert_int_equal(seq.unique, 100000);
    assert_int_equal(seq.reordered + seq.duplicated, 0);
}

static void gaps_stragglers_and_copies(void **state)
{
    (void)state;
    kn_seq_init(&seq, 63);
    assert_int_equal(kn_seq_take(&seq, 5), KN_SEQ_NEW); /* 0 to 4 are missing */
    assert_int_equal(kn_seq_take(&seq, 5), KN_SEQ_DUPLICATE);
    assert_int_equal(kn_seq_take(&seq, 3), KN_SEQ_REORDERED);
    assert_int_equal(kn_seq_take(&seq, 3), KN_SEQ_DUPLICATE);
    assert_int_equal(kn_seq_take(&seq, 6), KN_SEQ_NEW);
    assert_int_equal(kn_seq_take(&seq, 100), KN_SEQ_NEW);
    assert_int_equal(kn_seq_take(&seq, 99), KN_SEQ_REORDERED);
    assert_int_equal(seq.unique, 5);
    assert_int_equal(seq.reordered, 2);
    assert_int_equal(seq.duplicated, 2);
}

/* The bits of the window are used again and again: what was seen a window ago must not look like a copy. */
static void old_bits_are_no_copies(void **state)
{
    (void)state;
    kn_seq_init(&seq, 63);
    for (uint64_t i = 0; i < 3 * KN_SEQ_WINDOW; i++)
        kn_seq_take(&seq, i);
    for (uint64_t i = 3 * KN_SEQ_WINDOW + 7; i < 4 * KN_SEQ_WINDOW; i += 13)
        assert_int_equal(kn_seq_take(&seq, i), KN_SEQ_NEW);
    for (uint64_t i = 3 * KN_SEQ_WINDOW + 1008, end = seq.next; i < end; i++)
        if ((i - 3 * KN_SEQ_WINDOW - 7) % 13)
            assert_int_equal(kn_seq_take(&seq, i), KN_SEQ_REORDERED);
    assert_int_equal(seq.duplicated, 0);
}

/* Against a plain array: random losses, copies and displacements within the window. */
static void as_a_plain_array_has_it(void **state)
{
    (void)state;
    enum { N = 200000, NEAR = 500 };
    unsigned char *seen = calloc(N, 1);
    uint64_t x = 88172645463325252ull, high = 0, unique = 0, reordered = 0, duplicated = 0;
    bool any = false;
    kn_seq_init(&seq, 63);
    for (uint64_t i = 0; i + NEAR < N; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        uint64_t n = x % 100 < 90 ? i : x % 100 < 95 ? i + x / 100 % NEAR : i > NEAR ? i - x / 100 % NEAR : i;
        enum kn_seq_kind want = seen[n] ? KN_SEQ_DUPLICATE : any && n < high ? KN_SEQ_REORDERED : KN_SEQ_NEW;
        assert_int_equal(kn_seq_take(&seq, n), want);
        unique += !seen[n];
        reordered += want == KN_SEQ_REORDERED;
        duplicated += want == KN_SEQ_DUPLICATE;
        seen[n] = 1;
        high = !any || n > high ? n : high;
        any = true;
    }
    assert_int_equal(seq.unique, unique);
    assert_int_equal(seq.reordered, reordered);
    assert_int_equal(seq.duplicated, duplicated);
    free(seen);
}

static void few_bits_are_completed(void **state)
{
    (void)state;
    kn_seq_init(&seq, 23);
    for (uint64_t i = 0; i < (1u << 23) + 5000; i++)
        if (i % 1000 != 7)
            kn_seq_take(&seq, i & ((1u << 23) - 1));
    assert_int_equal(seq.next, (1u << 23) + 5000);
    assert_int_equal(kn_seq_take(&seq, 8389007 - (1u << 23)), KN_SEQ_REORDERED); /* beyond the turn of the 23 bits */
    assert_int_equal(seq.duplicated, 0);
}

static void heads_of_any_size(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 2, 3, 4, 7, 8, 9, 16, 64};
    uint8_t datagram[64];
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        bool measured = false;
        uint64_t mask = ~0ull >> (64 - kn_udp_seq_bits(sizes[i]));
        kn_udp_head_put(datagram, sizes[i], 0x123456789abcdefull, true);
        assert_true(kn_udp_head_get(datagram, sizes[i], &measured) == (0x123456789abcdefull & mask));
        assert_true(measured);
        kn_udp_head_put(datagram, sizes[i], 1, false);
        assert_int_equal(kn_udp_head_get(datagram, sizes[i], &measured), 1);
        assert_false(measured);
    }
}

/* RFC 3550: J += (|D| - J) / 16, with D the difference of transit times. */
static void jitter_as_the_rfc_has_it(void **state)
{
    (void)state;
    struct kn_jitter j = {0};
    kn_jitter_add(&j, 1000, 501000);
    kn_jitter_add(&j, 2000, 502000); /* the same transit */
    assert_true(j.value_ns == 0 && j.n == 1);
    kn_jitter_add(&j, 3000, 503160); /* 160 later */
    assert_true(j.value_ns == 10);
    kn_jitter_break(&j);
    kn_jitter_add(&j, 9000, 700000); /* has no predecessor */
    assert_true(j.value_ns == 10 && j.n == 2);
    kn_jitter_add(&j, 10000, 700990); /* 10 earlier counts as much as 10 later */
    assert_true(j.value_ns == 10 && j.n == 3);
}

static void answers_find_their_requests(void **state)
{
    (void)state;
    struct kn_pending p;
    struct kn_error err;
    struct kn_request q;
    assert_int_equal(kn_pending_init(&p, 63, 4, &err), 0);
    uint64_t a = kn_pending_send(&p, 10, 20), b = kn_pending_send(&p, 11, 30);
    assert_int_equal(p.waiting, 2);
    assert_int_equal(kn_pending_answer(&p, b, &q), KN_ANSWER_RIGHT);
    assert_int_equal(q.due_ns, 11);
    assert_int_equal(kn_pending_answer(&p, b, &q), KN_ANSWER_DUPLICATE);
    assert_int_equal(kn_pending_answer(&p, b + 1, &q), KN_ANSWER_STRANGE);
    assert_true(kn_pending_oldest_ns(&p) == 20);
    assert_false(kn_pending_expire(&p, 19, &q));
    assert_true(kn_pending_expire(&p, 20, &q));
    assert_int_equal(q.seq, a);
    assert_int_equal(p.waiting, 0);
    assert_true(kn_pending_oldest_ns(&p) == UINT64_MAX);
    assert_int_equal(kn_pending_answer(&p, a, &q), KN_ANSWER_LATE);
    assert_int_equal(kn_pending_answer(&p, a, &q), KN_ANSWER_DUPLICATE);
    kn_pending_fini(&p);
}

/* Seven bits: 128 numbers. A request that waits, or was given up a moment ago, keeps its number from others. */
static void one_byte_tells_them_apart(void **state)
{
    (void)state;
    struct kn_pending p;
    struct kn_error err;
    struct kn_request q;
    assert_int_equal(kn_pending_init(&p, 7, 2, &err), 0);
    uint64_t lost = kn_pending_send(&p, 1, 1), stuck = kn_pending_send(&p, 2, 2);
    assert_true(kn_pending_expire(&p, 1, &q));
    for (int i = 0; i < 1000; i++) {
        uint64_t seq_now = kn_pending_send(&p, 10, 10);
        assert_true((seq_now & 127) != (lost & 127) && (seq_now & 127) != (stuck & 127));
        assert_int_equal(kn_pending_answer(&p, seq_now & 127, &q), KN_ANSWER_RIGHT);
    }
    assert_int_equal(kn_pending_answer(&p, lost & 127, &q), KN_ANSWER_LATE);
    assert_int_equal(kn_pending_answer(&p, stuck & 127, &q), KN_ANSWER_RIGHT);
    assert_int_equal(q.due_ns, 2);
    kn_pending_fini(&p);
    assert_int_equal(kn_pending_init(&p, 7, 65, &err), -1);
    assert_int_equal(err.code, KN_E_ARGUMENT);
}

/* Numbers given up rest only while others are left. */
static void all_given_up_still_goes_on(void **state)
{
    (void)state;
    struct kn_pending p;
    struct kn_error err;
    struct kn_request q;
    assert_int_equal(kn_pending_init(&p, 7, 1, &err), 0);
    for (uint64_t i = 1; i < 1000; i++) {
        kn_pending_send(&p, i, i);
        assert_true(kn_pending_expire(&p, i, &q));
    }
    kn_pending_fini(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_order_is_new),           cmocka_unit_test(gaps_stragglers_and_copies),
        cmocka_unit_test(old_bits_are_no_copies),    cmocka_unit_test(as_a_plain_array_has_it),
        cmocka_unit_test(few_bits_are_completed),    cmocka_unit_test(heads_of_any_size),
        cmocka_unit_test(jitter_as_the_rfc_has_it),  cmocka_unit_test(answers_find_their_requests),
        cmocka_unit_test(one_byte_tells_them_apart), cmocka_unit_test(all_given_up_still_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
