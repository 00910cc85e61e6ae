/* The data protocol: what goes in comes out; whatever is cut, changed, foreign or of another version is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "net/wire.h"
#include "engines/engines.h"

#define WIRE_MAX 4096

static struct kn_error err;

static struct kn_key key_of(const char *token)
{
    struct kn_key key;
    kn_wire_key(token, &key);
    return key;
}

static struct kn_hello a_hello(void)
{
    struct kn_hello h = {.kind = KN_HELLO_FLOW, .run_id = 0x1122334455667788, .flow = 3, .flows = 8};
    json_t *spec = json_pack("{s:s, s:s, s:i, s:i}", "test", "tcp_rr", "duration", "10s", "flows", 8, "size", 100);
    assert_int_equal(kn_spec_parse(spec, &kn_engines, &h.spec, &err), 0);
    json_decref(spec);
    memset(h.nonce, 0x5a, sizeof h.nonce);
    memset(h.cookie, 0xc0, sizeof h.cookie);
    return h;
}

/* Bytes in a block of exactly their size, so that the sanitizer sees a read past them. */
static uint8_t *exactly(const uint8_t *bytes, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);
    if (size)
        memcpy(copy, bytes, size);
    return copy;
}

static int unpack_hello(const uint8_t *wire, size_t size, const struct kn_key *key, struct kn_hello *h)
{
    uint8_t *copy = exactly(wire, size);
    int rc = kn_hello_unpack(copy, size, key, &kn_engines, h, &err);
    free(copy);
    return rc;
}

/* ---- hello ---- */

static void a_hello_comes_out_as_it_went_in(void **state)
{
    (void)state;
    struct kn_key key = key_of("a token of the run");
    struct kn_hello in = a_hello(), out;
    uint8_t wire[WIRE_MAX];
    assert_true(kn_hello_size() <= 1232); /* one datagram on any path */
    kn_hello_pack(&in, &key, wire);
    assert_int_equal(unpack_hello(wire, kn_hello_size(), &key, &out), 0);
    assert_int_equal(out.kind, in.kind);
    assert_true(out.run_id == in.run_id && out.flow == in.flow && out.flows == in.flows);
    assert_memory_equal(out.nonce, in.nonce, sizeof in.nonce);
    assert_memory_equal(out.cookie, in.cookie, sizeof in.cookie);
    assert_true(out.spec.test == &kn_tcp_rr && out.spec.size == 100 && out.spec.duration_ns == 10 * KN_NS_PER_S);
}

static void every_beginning_of_a_hello_waits_for_more(void **state)
{
    (void)state;
    struct kn_key key = key_of("a token of the run");
    struct kn_hello in = a_hello(), out;
    uint8_t wire[WIRE_MAX];
    kn_hello_pack(&in, &key, wire);
    for (size_t n = 0; n < kn_hello_size(); n++)
        assert_int_equal(unpack_hello(wire, n, &key, &out), 1);
    assert_int_equal(unpack_hello(wire, kn_hello_size() + 5, &key, &out), 0); /* what follows is somebody else's */
}

static void every_changed_bit_is_refused(void **state)
{
    (void)state;
    struct kn_key key = key_of("a token of the run");
    struct kn_hello in = a_hello(), out;
    uint8_t wire[WIRE_MAX];
    kn_hello_pack(&in, &key, wire);
    for (size_t i = 0; i < kn_hello_size(); i++)
        for (int bit = 0; bit < 8; bit++) {
            wire[i] ^= (uint8_t)(1 << bit);
            assert_int_equal(unpack_hello(wire, kn_hello_size(), &key, &out), -1);
            assert_int_equal(err.code, i < 4              ? KN_E_PROTOCOL
                                       : i == 4           ? KN_E_VERSION
                                       : i >= 8 && i < 12 ? KN_E_PROTOCOL
                                                          : KN_E_AUTH);
            wire[i] ^= (uint8_t)(1 << bit);
        }
}

static void another_token_is_another_key(void **state)
{
    (void)state;
    struct kn_key ours = key_of("a token of the run"), theirs = key_of("a token of the ruN");
    struct kn_hello in = a_hello(), out;
    uint8_t wire[WIRE_MAX];
    assert_memory_not_equal(ours.bytes, theirs.bytes, sizeof ours.bytes);
    kn_hello_pack(&in, &theirs, wire);
    assert_int_equal(unpack_hello(wire, kn_hello_size(), &ours, &out), -1);
    assert_int_equal(err.code, KN_E_AUTH);
}

static void another_version_is_named_from_the_fifth_byte_on(void **state)
{
    (void)state;
    struct kn_key key = key_of("a token of the run");
    struct kn_hello out;
    uint8_t wire[5] = {'K', 'N', 'B', 'L', KN_PROTOCOL + 1};
    assert_int_equal(unpack_hello(wire, 4, &key, &out), 1);
    assert_int_equal(unpack_hello(wire, 5, &key, &out), -1);
    assert_int_equal(err.code, KN_E_VERSION);
    assert_non_null(strstr(err.message, "protocol 3"));
    assert_non_null(strstr(err.message, "this side protocol 2"));
}

static void foreign_bytes_are_refused_at_once(void **state)
{
    (void)state;
    struct kn_key key = key_of("a token of the run");
    struct kn_hello out;
    assert_int_equal(unpack_hello((const uint8_t *)"S", 1, &key, &out), -1);
    assert_int_equal(err.code, KN_E_PROTOCOL);
    assert_int_equal(unpack_hello((const uint8_t *)"KNBX", 4, &key, &out), -1);
}

static void what_is_signed_must_still_make_sense(void **state)
{
    (void)state;
    struct kn_key key = key_of("a token of the run");
    struct kn_hello in = a_hello(), out;
    uint8_t wire[WIRE_MAX];
    in.flow = in.flows;
    kn_hello_pack(&in, &key, wire);
    assert_int_equal(unpack_hello(wire, kn_hello_size(), &key, &out), -1);
    assert_int_equal(err.code, KN_E_ARGUMENT);
    in = a_hello();
    in.kind = 9;
    kn_hello_pack(&in, &key, wire);
    assert_int_equal(unpack_hello(wire, kn_hello_size(), &key, &out), -1);
    assert_int_equal(err.code, KN_E_PROTOCOL);
    in = a_hello();
    struct kn_test unknown = {.name = "no_such_test"};
    in.spec.test = &unknown;
    kn_hello_pack(&in, &key, wire);
    assert_int_equal(unpack_hello(wire, kn_hello_size(), &key, &out), -1);
    in = a_hello();
    in.spec.size = UINT64_MAX;
    kn_hello_pack(&in, &key, wire);
    assert_int_equal(unpack_hello(wire, kn_hello_size(), &key, &out), -1);
}

static void the_cookie_is_found_whatever_the_version(void **state)
{
    (void)state;
    struct kn_key key = key_of("a token of the run");
    struct kn_hello in = a_hello();
    uint8_t wire[WIRE_MAX];
    kn_hello_pack(&in, &key, wire);
    wire[4] = KN_PROTOCOL + 7;
    assert_memory_equal(kn_hello_cookie(wire, kn_hello_size()), in.cookie, KN_COOKIE_SIZE);
    assert_null(kn_hello_cookie(wire, 40));
    wire[0] = 'X';
    assert_null(kn_hello_cookie(wire, kn_hello_size()));
}

/* ---- welcome ---- */

static int unpack_welcome(const uint8_t *wire, size_t size, struct kn_welcome *w)
{
    uint8_t *copy = exactly(wire, size);
    int rc = kn_welcome_unpack(copy, size, w, &err);
    free(copy);
    return rc;
}

static void a_welcome_and_a_refusal(void **state)
{
    (void)state;
    struct kn_welcome in = {.protocol = KN_PROTOCOL, .mss = 1448, .name = "pod-1", .node = "node-a"}, out;
    uint8_t wire[WIRE_MAX];
    kn_welcome_pack(&in, wire);
    assert_int_equal(unpack_welcome(wire, kn_welcome_size(), &out), 0);
    assert_string_equal(out.name, "pod-1");
    assert_string_equal(out.node, "node-a");
    assert_int_equal(out.mss, 1448);
    for (size_t n = 0; n < kn_welcome_size(); n++)
        assert_int_equal(unpack_welcome(wire, n, &out), -1);
    in.code = KN_E_LIMIT;
    strcpy(in.message, "too long\x1b[31m");
    kn_welcome_pack(&in, wire);
    assert_int_equal(unpack_welcome(wire, kn_welcome_size(), &out), -1);
    assert_int_equal(err.code, KN_E_LIMIT);
    assert_string_equal(err.message, "pod-1 refused: too long [31m");
}

static void a_name_is_one_that_json_can_have(void **state)
{
    (void)state;
    struct kn_welcome in = {.protocol = KN_PROTOCOL, .name = "a\xff\x1b[2J", .node = "\xc3\xa9\x7f"}, out;
    uint8_t wire[WIRE_MAX];
    kn_welcome_pack(&in, wire);
    assert_int_equal(unpack_welcome(wire, kn_welcome_size(), &out), 0);
    assert_string_equal(out.name, "a? [2J");
    assert_string_equal(out.node, "\xc3\xa9 ");
}

static void an_unknown_refusal_is_a_refusal_still(void **state)
{
    (void)state;
    struct kn_welcome in = {.protocol = KN_PROTOCOL, .code = 250}, out;
    uint8_t wire[WIRE_MAX];
    memset(in.name, 'n', sizeof in.name); /* without an end */
    memset(in.message, 'm', sizeof in.message);
    kn_welcome_pack(&in, wire);
    assert_int_equal(unpack_welcome(wire, kn_welcome_size(), &out), -1);
    assert_int_equal(err.code, KN_E_PROTOCOL);
    wire[4] = KN_PROTOCOL + 1;
    assert_int_equal(unpack_welcome(wire, kn_welcome_size(), &out), -1);
    assert_int_equal(err.code, KN_E_VERSION);
}

/* ---- trailer ---- */

static void a_report_is_read_from_the_end(void **state)
{
    (void)state;
    json_t *report = json_pack("{s:s, s:[i,i]}", "name", "pod-1", "figures", 1, 2);
    size_t size;
    uint8_t *wire = kn_trailer_pack(report, &size, &err);
    assert_non_null(wire);
    assert_int_equal(kn_trailer_length(wire + size - KN_TRAILER_FOOT, &err), size);
    uint8_t *stream = malloc(size + 100); /* after the last bytes of a reverse flow */
    memset(stream, 'x', 100);
    memcpy(stream + 100, wire, size);
    json_t *back = kn_trailer_unpack(stream, size + 100, &err);
    assert_true(json_equal(report, back));
    json_decref(back);
    for (size_t n = 0; n < size; n++) {
        uint8_t *cut = exactly(wire, n), *late = exactly(wire + size - n, n);
        assert_null(kn_trailer_unpack(cut, n, &err));
        assert_null(kn_trailer_unpack(late, n, &err));
        assert_int_equal(err.code, KN_E_PROTOCOL);
        free(cut);
        free(late);
    }
    free(stream);
    free(wire);
    json_decref(report);
}

static void a_report_that_lies_about_its_length(void **state)
{
    (void)state;
    uint8_t wire[] = "{}\xff\xff\xff\xffKNBLend.";
    assert_null(kn_trailer_unpack(wire, sizeof wire - 1, &err));
    memcpy(wire + 2, "\x03\0\0\0", 4);
    assert_null(kn_trailer_unpack(wire, sizeof wire - 1, &err));
    memcpy(wire + 2, "\x02\0\0\0", 4);
    json_t *empty = kn_trailer_unpack(wire, sizeof wire - 1, &err);
    assert_non_null(empty);
    json_decref(empty);
    wire[0] = '[';
    assert_null(kn_trailer_unpack(wire, sizeof wire - 1, &err));
}

/* ---- UDP ---- */

static void retries_and_welcomes(void **state)
{
    (void)state;
    uint8_t cookie[KN_COOKIE_SIZE], back[KN_COOKIE_SIZE], wire[WIRE_MAX];
    memset(cookie, 7, sizeof cookie);
    size_t size = kn_udp_retry_pack(cookie, wire);
    assert_true(size < kn_hello_size());
    assert_int_equal(kn_udp_kind(wire, size), KN_UDP_RETRY);
    assert_int_equal(kn_udp_retry_unpack(wire, size, back), 0);
    assert_memory_equal(cookie, back, sizeof back);
    for (size_t n = 0; n < size; n++)
        assert_int_equal(kn_udp_retry_unpack(wire, n, back), -1);

    struct kn_welcome in = {.protocol = KN_PROTOCOL, .name = "pod-1"}, out;
    size = kn_udp_welcome_pack(&in, wire);
    assert_true(size < 1232);
    assert_int_equal(kn_udp_kind(wire, size), KN_UDP_WELCOME);
    assert_int_equal(kn_udp_welcome_unpack(wire, size, &out, &err), 0);
    assert_string_equal(out.name, "pod-1");
    for (size_t n = 0; n < size; n++)
        assert_int_equal(kn_udp_welcome_unpack(wire, n, &out, &err), -1);
    in.code = KN_E_VERSION;
    size = kn_udp_welcome_pack(&in, wire);
    assert_int_equal(kn_udp_welcome_unpack(wire, size, &out, &err), -1);
    assert_int_equal(err.code, KN_E_VERSION);
}

static void orders_are_signed(void **state)
{
    (void)state;
    struct kn_key key = key_of("a token of the run"), other = key_of("another token, longer");
    struct kn_udp_order in = {.run_id = 77, .sent = 1234567890123, .flow = 5, .offset = 1024}, out;
    uint8_t wire[WIRE_MAX];
    size_t size = kn_udp_order_pack(KN_UDP_FETCH, &in, &key, wire);
    assert_int_equal(kn_udp_kind(wire, size), KN_UDP_FETCH);
    assert_int_equal(kn_udp_order_unpack(KN_UDP_FETCH, wire, size, &key, &out), 0);
    assert_true(out.run_id == 77 && out.sent == 1234567890123 && out.flow == 5 && out.offset == 1024);
    assert_int_equal(kn_udp_order_unpack(KN_UDP_STEER, wire, size, &key, &out), -1);
    assert_int_equal(kn_udp_order_unpack(KN_UDP_FETCH, wire, size, &other, &out), -1);
    for (size_t n = 0; n < size; n++)
        assert_int_equal(kn_udp_order_unpack(KN_UDP_FETCH, wire, n, &key, &out), -1);
    for (size_t i = 0; i < size; i++) {
        wire[i] ^= 0x10;
        assert_int_equal(kn_udp_order_unpack(KN_UDP_FETCH, wire, size, &key, &out), -1);
        wire[i] ^= 0x10;
    }
    size = kn_udp_order_pack(KN_UDP_STEER, &in, &key, wire);
    assert_int_equal(kn_udp_order_unpack(KN_UDP_STEER, wire, size, &key, &out), 0);
}

static void parts_stay_within_their_report(void **state)
{
    (void)state;
    uint8_t wire[WIRE_MAX], bytes[KN_UDP_PART];
    const uint8_t *back;
    uint32_t total, offset;
    size_t n;
    memset(bytes, 'b', sizeof bytes);
    size_t size = kn_udp_part_pack(5000, 4096, bytes, 904, wire);
    assert_int_equal(kn_udp_part_unpack(wire, size, &total, &offset, &back, &n), 0);
    assert_true(total == 5000 && offset == 4096 && n == 904);
    assert_memory_equal(back, bytes, n);
    size = kn_udp_part_pack(5000, 4096, bytes, 905, wire);
    assert_int_equal(kn_udp_part_unpack(wire, size, &total, &offset, &back, &n), -1);
    size = kn_udp_part_pack(5000, 6000, bytes, 0, wire);
    assert_int_equal(kn_udp_part_unpack(wire, size, &total, &offset, &back, &n), -1);
    size = kn_udp_part_pack(UINT32_MAX, 0, bytes, 10, wire);
    assert_int_equal(kn_udp_part_unpack(wire, size, &total, &offset, &back, &n), -1);
    size = kn_udp_part_pack(10, 10, NULL, 0, wire);
    assert_int_equal(kn_udp_part_unpack(wire, size, &total, &offset, &back, &n), 0);
}

static void test_data_is_no_control(void **state)
{
    (void)state;
    uint8_t data[1400] = {'K', 'N', 'B', 'U', KN_PROTOCOL, KN_UDP_FETCH};
    assert_int_equal(kn_udp_kind(data, sizeof data), KN_UDP_NONE);
    assert_int_equal(kn_udp_kind(data, 0), KN_UDP_NONE);
    assert_int_equal(kn_udp_kind(data, 7), KN_UDP_NONE);
    data[5] = 200;
    assert_int_equal(kn_udp_kind(data, 48), KN_UDP_NONE);
}

static void a_cookie_is_good_for_one_address_and_a_while(void **state)
{
    (void)state;
    struct kn_key key = key_of("a secret of the agent"), other = key_of("a secret of another");
    const uint64_t now = 1000 * KN_NS_PER_S, step = 10 * KN_NS_PER_S;
    uint8_t cookie[KN_COOKIE_SIZE], zero[KN_COOKIE_SIZE] = {0};
    kn_cookie_make(&key, "10.0.0.1:99", 11, now, cookie);
    assert_int_equal(kn_cookie_check(&key, "10.0.0.1:99", 11, now, cookie), 0);
    assert_int_equal(kn_cookie_check(&key, "10.0.0.1:99", 11, now + step, cookie), 0);
    assert_int_equal(kn_cookie_check(&key, "10.0.0.1:99", 11, now + 2 * step, cookie), -1);
    assert_int_equal(kn_cookie_check(&key, "10.0.0.1:99", 11, now - step, cookie), -1);
    assert_int_equal(kn_cookie_check(&key, "10.0.0.2:99", 11, now, cookie), -1);
    assert_int_equal(kn_cookie_check(&other, "10.0.0.1:99", 11, now, cookie), -1);
    assert_int_equal(kn_cookie_check(&key, "10.0.0.1:99", 11, now, zero), -1);
    assert_int_equal(kn_cookie_check(&key, "10.0.0.1:99", 11, 1, zero), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hello_comes_out_as_it_went_in),
        cmocka_unit_test(every_beginning_of_a_hello_waits_for_more),
        cmocka_unit_test(every_changed_bit_is_refused),
        cmocka_unit_test(another_token_is_another_key),
        cmocka_unit_test(another_version_is_named_from_the_fifth_byte_on),
        cmocka_unit_test(foreign_bytes_are_refused_at_once),
        cmocka_unit_test(what_is_signed_must_still_make_sense),
        cmocka_unit_test(the_cookie_is_found_whatever_the_version),
        cmocka_unit_test(a_welcome_and_a_refusal),
        cmocka_unit_test(a_name_is_one_that_json_can_have),
        cmocka_unit_test(an_unknown_refusal_is_a_refusal_still),
        cmocka_unit_test(a_report_is_read_from_the_end),
        cmocka_unit_test(a_report_that_lies_about_its_length),
        cmocka_unit_test(retries_and_welcomes),
        cmocka_unit_test(orders_are_signed),
        cmocka_unit_test(parts_stay_within_their_report),
        cmocka_unit_test(test_data_is_no_control),
        cmocka_unit_test(a_cookie_is_good_for_one_address_and_a_while),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
