/* Memory runs out at every allocation of the network floor: an error, or the same as otherwise. */
#include "../core/starved.h"

#include "core/clock.h"
#include "net/addr.h"
#include "net/replay.h"
#include "net/wire.h"

static void names(void **state)
{
    struct kn_addr known;
    struct kn_error error;
    (void)state;
    /* glibc makes a table for the first name; where there is no memory for it, it stays locked for good */
    assert_int_equal(kn_addr_resolve("localhost", 80, 4, 10 * KN_NS_PER_S, &known, &error), 0);
    STARVED(n)
    {
        struct kn_addr at;
        struct kn_error err = {0};
        starved_begin(n);
        bool ok = !kn_addr_resolve("localhost", 80, 4, 10 * KN_NS_PER_S, &at, &err);
        starved_end();
        starved_expect(ok, &err);
        if (ok && kn_addr_port(&at) != 80)
            starved_fail("port %u", kn_addr_port(&at));
    }
}

static void accounts(void **state)
{
    json_t *account = json_pack("{s:s, s:{s:i}}", "name", "pod-1", "figures", "ops", 3);
    (void)state;
    STARVED(n)
    {
        struct kn_error err = {0};
        size_t size;
        starved_begin(n);
        uint8_t *wire = kn_trailer_pack(account, &size, &err);
        json_t *back = wire ? kn_trailer_unpack(wire, size, &err) : NULL;
        starved_end();
        starved_expect(back, &err);
        if (back && !json_equal(back, account))
            starved_fail("it says %s", json_dumps(back, 0));
        free(wire);
        json_decref(back);
    }
    json_decref(account);
}

/* What cannot be remembered is refused: it could be replayed. */
static void replays(void **state)
{
    (void)state;
    STARVED(n)
    {
        struct kn_hello hello = {.issued_ns = kn_wall_ns(), .spec = {.duration_ns = KN_NS_PER_S}};
        struct kn_error err = {0};
        unsigned taken = 0, again = 0;
        starved_begin(n);
        struct kn_replay *r = kn_replay_new(10 * KN_NS_PER_S);
        for (uint64_t i = 0; r && i < 3000; i++) {
            memcpy(hello.nonce, &i, sizeof i);
            bool first = !kn_replay_take(r, &hello, hello.issued_ns, &err);
            taken += first;
            again += first && !kn_replay_take(r, &hello, hello.issued_ns, &err);
        }
        starved_end();
        if (again || (r && taken < 2999))
            starved_fail("%u of 3000 hellos were taken, %u of them twice", taken, again);
        kn_replay_free(r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(names), cmocka_unit_test(accounts), cmocka_unit_test(replays)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
