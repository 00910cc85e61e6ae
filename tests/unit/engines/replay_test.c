/* Hellos that come again, and hellos of another time. */
#include "../core/check.h"

#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "engines/engines.h"
#include "net/replay.h"

#define NOW (1000000 * KN_NS_PER_S)
#define LONGEST (3600 * KN_NS_PER_S)

static struct kn_hello hello_of(const char *json, uint64_t issued_ns, uint64_t number)
{
    struct kn_hello h = {.kind = KN_HELLO_FLOW, .run_id = 7, .flow = 0, .flows = 1, .issued_ns = issued_ns};
    struct kn_error err;
    json_t *object = json_loads(json, 0, NULL);
    assert_int_equal(kn_spec_parse(object, &kn_engines, &h.spec, &err), 0);
    json_decref(object);
    memcpy(h.nonce, &number, sizeof number);
    return h;
}

static void a_hello_is_taken_once(void **state)
{
    struct kn_replay *r = kn_replay_new(LONGEST);
    struct kn_error err = {.message = ""};
    (void)state;
    for (uint64_t i = 0; i < 5000; i++) {
        struct kn_hello h = hello_of("{\"test\":\"tcp_rr\",\"duration\":1}", NOW, i);
        assert_int_equal(kn_replay_take(r, &h, NOW + i, &err), 0);
    }
    for (uint64_t i = 0; i < 5000; i++) {
        struct kn_hello h = hello_of("{\"test\":\"tcp_rr\",\"duration\":1}", NOW, i);
        assert_int_equal(kn_replay_take(r, &h, NOW + KN_NS_PER_S, &err), -1);
        check_refusal(&err, KN_E_AUTH, "used before");
    }
    struct kn_hello other = hello_of("{\"test\":\"tcp_rr\",\"duration\":1}", NOW, 0);
    other.run_id = 8;
    assert_int_equal(kn_replay_take(r, &other, NOW, &err), 0);
    kn_replay_free(r);
}

/* A generation later it is forgotten; by then it is too old as well. */
static void what_is_forgotten_is_too_old(void **state)
{
    struct kn_replay *r = kn_replay_new(LONGEST);
    struct kn_error err = {.message = ""};
    uint64_t step_ns = LONGEST + 2 * KN_CLOCKS_APART_NS + KN_NS_PER_S;
    (void)state;
    struct kn_hello first = hello_of("{\"test\":\"tcp_rr\",\"duration\":1}", NOW, 0);
    assert_int_equal(kn_replay_take(r, &first, NOW, &err), 0);
    for (uint64_t i = 1; i < 4; i++) {
        struct kn_hello h = hello_of("{\"test\":\"tcp_rr\",\"duration\":1}", NOW + i * step_ns, i);
        assert_int_equal(kn_replay_take(r, &h, NOW + i * step_ns, &err), 0);
        assert_int_equal(kn_replay_take(r, &first, NOW + i * step_ns, &err), -1);
        check_refusal(&err, KN_E_AUTH, "too old");
    }
    kn_replay_free(r);
}

static void freshness_has_two_sides(void **state)
{
    static const struct {
        const char *spec;
        int64_t after_s; /* its arrival, by the server's clock */
        bool fresh;
    } list[] = {
        {"{\"test\":\"tcp_rr\",\"duration\":10}", 0, true},
        {"{\"test\":\"tcp_rr\",\"duration\":10}", -899, true},
        {"{\"test\":\"tcp_rr\",\"duration\":10}", -902, false},
        {"{\"test\":\"tcp_rr\",\"duration\":10}", 910, true},
        {"{\"test\":\"tcp_rr\",\"duration\":10}", 912, false},
        {"{\"test\":\"tcp_crr\",\"count\":1000}", 4400, true}, /* may go on for as long as the agent allows */
        {"{\"test\":\"tcp_crr\",\"count\":1000}", 4502, false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        struct kn_error err;
        struct kn_hello h = hello_of(list[i].spec, NOW, i);
        uint64_t wall_ns = NOW + (uint64_t)(list[i].after_s * (int64_t)KN_NS_PER_S);
        assert_int_equal(kn_hello_is_fresh(&h, wall_ns, LONGEST, &err), list[i].fresh ? 0 : -1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hello_is_taken_once),
        cmocka_unit_test(what_is_forgotten_is_too_old),
        cmocka_unit_test(freshness_has_two_sides),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
