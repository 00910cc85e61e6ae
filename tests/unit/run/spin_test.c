/* Two sides that wait for each other: after a disturbance both poll again, whenever it came. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "run/loop.h"

#define POLLED_NS (5 * KN_NS_PER_US)
#define SLEPT_NS (70 * KN_NS_PER_US) /* an answer of a side that has to be woken up */
#define YIELDED_NS (3 * KN_NS_PER_MS)
#define EXCHANGES 100000

/* One wait. `late`: how long the answer takes. True: it was there while this side polled. */
static bool wait_once(struct kn_spin *s, bool polls, uint64_t took_ns)
{
    bool came = took_ns < KN_SPIN_NS;
    if (polls)
        kn_spin_done(s, came, came || took_ns > SLEPT_NS ? took_ns : KN_SPIN_NS);
    return polls && came;
}

struct pair {
    struct kn_spin a, b;
    unsigned long polled; /* exchanges in which both polled */
};

/* `other_a`, `other_b`: another thread has the CPU of that side. */
static void exchange(struct pair *p, bool other_a, bool other_b)
{
    bool a = kn_spin_wanted(&p->a), b = kn_spin_wanted(&p->b);
    wait_once(&p->a, a, other_a ? YIELDED_NS : b ? POLLED_NS : SLEPT_NS);
    wait_once(&p->b, b, other_b ? YIELDED_NS : a ? POLLED_NS : SLEPT_NS);
    p->polled += a && b;
}

/* Side b starts `ahead` waits after side a, and another thread takes the CPUs for a while, one after the other. */
static struct pair disturbed(unsigned apart, unsigned disturbances, unsigned exchanges)
{
    struct pair p = {.polled = 0};
    for (unsigned i = 0; i < 3 * disturbances * apart; i++)
        exchange(&p, i / apart % 3 == 0, i / apart % 3 == 1);
    p.polled = 0;
    for (unsigned i = 0; i < exchanges; i++)
        exchange(&p, false, false);
    return p;
}

static void test_both_poll_again(void **state)
{
    (void)state;
    for (unsigned apart = 1; apart < 200; apart += 7)
        for (unsigned disturbances = 1; disturbances < 8; disturbances++) {
            struct pair p = disturbed(apart, disturbances, EXCHANGES);
            if (p.polled < EXCHANGES * 9 / 10)
                fail_msg("apart %u, %u disturbances: both polled in %lu of %u", apart, disturbances, p.polled,
                         EXCHANGES);
        }
}

/* Alone, with a peer that never polls, it tries ever more rarely. */
static void test_polling_in_vain_ends(void **state)
{
    struct kn_spin s = {0};
    unsigned polled = 0;
    (void)state;
    for (unsigned i = 0; i < EXCHANGES; i++) {
        bool polls = kn_spin_wanted(&s);
        polled += polls;
        wait_once(&s, polls, SLEPT_NS);
    }
    assert_true(polled > 0);
    assert_true(polled < EXCHANGES / 50);
}

static enum kn_wait wait_of(enum kn_wait asked, unsigned flows, unsigned rate)
{
    const struct kn_spec spec = {.wait = asked, .flows = flows, .rate_per_1000s = rate};
    return kn_loop_wait_of(&spec);
}

static void test_many_flows_with_a_rate_do_not_poll(void **state)
{
    (void)state;
    assert_int_equal(wait_of(KN_WAIT_AUTO, 100, 1000), KN_WAIT_BLOCK);
    assert_int_equal(wait_of(KN_WAIT_AUTO, 100, 0), KN_WAIT_AUTO);
    assert_int_equal(wait_of(KN_WAIT_AUTO, 1, 1000), KN_WAIT_AUTO);
    assert_int_equal(wait_of(KN_WAIT_SPIN, 100, 1000), KN_WAIT_SPIN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_poll_again),
        cmocka_unit_test(test_polling_in_vain_ends),
        cmocka_unit_test(test_many_flows_with_a_rate_do_not_poll),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
