/* Memory runs out at every allocation of the meters: an error, or all that they saw. What a file that could not be
 * opened would have said is absent, as where the machine has no such file. */
#include "../core/starved.h"

#include "core/clock.h"
#include "core/json.h"
#include "meter/fold.h"
#include "meter/meter.h"
#include "meter/observe.h"
#include "meter/stacks.h"
#include "meter/symbols.h"

/* What is seen while the n-th allocation fails; NULL: nothing, which is an error. */
static json_t *observe(const char *text, long n)
{
    struct kn_error err = {0};
    json_t *request = json_loads(text, 0, NULL);
    starved_begin(n);
    struct kn_observation *o = kn_observation_new(request, &err);
    json_t *seen = o ? kn_observation_stop(o) : NULL;
    starved_end();
    starved_expect(o, &err);
    kn_observation_free(o);
    json_decref(request);
    return seen;
}

static void monitors(void **state)
{
    (void)state;
    STARVED(n)
    {
        json_t *seen = observe("{\"monitor\":{\"interval_ns\":1000000}}", n),
               *monitor = json_object_get(seen, "monitor");
        if (seen && (!json_object_get(monitor, "t") || !json_object_get(monitor, "clock")))
            starved_fail("the monitor says %s", json_dumps(monitor, 0));
        json_decref(seen);
    }
}

/* Each reads the kernel's symbols, and the more processes there are the more it allocates: not for every n. */
static void samples(void **state)
{
    (void)state;
    STARVED_BY(n, STARVED_STEP + n / 4)
    {
        json_t *seen = observe("{\"profile\":{}}", n), *profile = json_object_get(seen, "profile");
        if (seen && !json_object_get(profile, "error") && !json_object_get(profile, "counts"))
            starved_fail("the profile says %s", json_dumps(profile, 0));
        json_decref(seen);
    }
}

static void readings(void **state)
{
    struct kn_cpu_reading from, to;
    (void)state;
    STARVED(n)
    {
        starved_begin(n);
        kn_cpu_read(&from);
        kn_cpu_read(&to);
        unsigned long losses = kn_json_losses();
        json_t *between = kn_json_whole(kn_cpu_between(&from, &to), losses);
        starved_end();
        if (between && !json_object_get(between, "process"))
            starved_fail("it says %s", json_dumps(between, 0));
        json_decref(between);
    }
}

static const char *name_of(void *in, uint64_t offset)
{
    (void)in;
    return offset ? "function" : "[file]";
}

static void profiles(void **state)
{
    json_t *whole = NULL;
    (void)state;
    STARVED(n)
    {
        struct kn_error err = {0};
        json_t *json = json_object();
        starved_begin(n);
        struct kn_fold *fold = kn_fold_new(&err), *named = NULL;
        if (fold) {
            const uint32_t stack[] = {kn_fold_frame(fold, 'p', "process"), kn_fold_place(fold, &whole, 8),
                                      kn_fold_place(fold, &whole, 0), kn_fold_frame(fold, 'k', "kernel")};
            kn_fold_add(fold, stack, 4, 2);
            kn_fold_add(fold, stack, 2, 1);
            named = kn_fold_named(fold, name_of, &err);
        }
        bool ok = named && !kn_fold_json(named, 1, 3, json); /* small branches are cut */
        starved_end();
        if (ok && whole && !json_equal(json, whole))
            starved_fail("%s", json_dumps(json, 0));
        if (ok && !atomic_load(&starved_depth))
            assert_int_equal(json_array_size(json_object_get(json, "names")), 2);
        if (ok && !whole)
            whole = json_incref(json);
        json_decref(json);
        kn_fold_free(fold);
        kn_fold_free(named);
    }
    json_decref(whole);
}

static void own_symbols(void **state)
{
    (void)state;
    FILE *self = fopen("/proc/self/exe", "re");
    assert_non_null(self);
    STARVED(n)
    {
        starved_begin(n);
        struct kn_symbols *symbols = kn_symbols_elf(fileno(self));
        starved_end();
        kn_symbols_free(symbols);
    }
    fclose(self);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(monitors), cmocka_unit_test(samples),
                                       cmocka_unit_test(readings), cmocka_unit_test(profiles),
                                       cmocka_unit_test(own_symbols)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
