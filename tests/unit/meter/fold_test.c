/* Stacks folded into a tree: counts are kept, and those of small nodes move to the node above and count as cut. */
#include "../core/check.h"

#include <stdio.h>
#include <stdlib.h>

#include "meter/fold.h"

static struct kn_fold *new_fold(void)
{
    struct kn_error err;
    struct kn_fold *fold = kn_fold_new(&err);
    assert_non_null(fold);
    return fold;
}

static double number_at(const json_t *json, const char *key, size_t i)
{
    return json_number_value(json_array_get(json_object_get(json, key), i));
}

/* The stack of node i (from 1) as text: "a;b;c". */
static void stack_text(const json_t *json, size_t i, char *text, size_t size)
{
    char rest[256];
    *text = 0;
    for (; i; i = (size_t)number_at(json, "parents", i - 1)) {
        snprintf(rest, sizeof rest, "%s", text);
        size_t name = (size_t)number_at(json, "names", i - 1);
        snprintf(text, size, "%s%s%s", json_string_value(json_array_get(json_object_get(json, "frames"), name)),
                 *rest ? ";" : "", rest);
    }
}

/* The count of a stack, -1 if it is not in the tree. */
static double count_of(const json_t *json, const char *stack)
{
    char text[1024];
    size_t n = json_array_size(json_object_get(json, "parents"));
    for (size_t i = 1; i <= n; i++) {
        assert_true(number_at(json, "parents", i - 1) < (double)i);
        stack_text(json, i, text, sizeof text);
        if (strcmp(text, stack) == 0)
            return number_at(json, "counts", i - 1);
    }
    return -1;
}

static json_t *result(struct kn_fold *fold, double scale, size_t keep)
{
    json_t *json = json_object();
    assert_int_equal(kn_fold_json(fold, scale, keep, json), 0);
    kn_fold_free(fold);
    return json;
}

static void stacks_with_a_common_root(void **state)
{
    struct kn_fold *fold = new_fold();
    uint32_t p = kn_fold_frame(fold, 'p', "client"), a = kn_fold_frame(fold, 'k', "a"),
             b = kn_fold_frame(fold, 'k', "b");
    (void)state;
    assert_int_equal(kn_fold_frame(fold, 'k', "a"), a);
    assert_true(kn_fold_frame(fold, 'u', "a") != a);
    assert_int_equal(kn_fold_frame(fold, 'k', "a.isra.0"), a);
    assert_int_equal(kn_fold_frame(fold, 'k', "a.part.0.cold"), a);
    kn_fold_add(fold, (uint32_t[]){p, a, b}, 3, 1);
    kn_fold_add(fold, (uint32_t[]){p, a}, 2, 1);
    kn_fold_add(fold, (uint32_t[]){p, a, b}, 3, 2);
    kn_fold_add(fold, (uint32_t[]){p, b, a, b}, 4, 1); /* recursion is a plain stack */
    json_t *json = result(fold, 2, KN_FOLD_KEEP);
    assert_true(count_of(json, "client;a;b") == 6 && count_of(json, "client;a") == 2 && count_of(json, "client") == 0);
    assert_true(count_of(json, "client;b;a;b") == 2);
    assert_string_equal(json_string_value(json_object_get(json, "kinds")), "pkk");
    assert_true(json_real_value(json_object_get(json, "cut")) == 0);
    json_decref(json);
}

static void small_branches_are_cut_and_stated(void **state)
{
    struct kn_fold *fold = new_fold();
    uint32_t p = kn_fold_frame(fold, 'p', "p"), large = kn_fold_frame(fold, 'k', "large");
    char name[16];
    (void)state;
    kn_fold_add(fold, (uint32_t[]){p, large}, 2, 60);
    for (int i = 0; i < 40; i++) {
        snprintf(name, sizeof name, "small%d", i);
        kn_fold_add(fold, (uint32_t[]){p, large, kn_fold_frame(fold, 'k', name)}, 3, 1);
    }
    json_t *json = result(fold, 1, 10);
    assert_int_equal(json_array_size(json_object_get(json, "parents")), 2);
    assert_int_equal(json_array_size(json_object_get(json, "frames")), 2);
    assert_true(count_of(json, "p;large") == 100);
    assert_true(json_real_value(json_object_get(json, "cut")) == 0.4);
    json_decref(json);
}

static void more_than_there_is_room_for(void **state)
{
    struct kn_fold *fold = new_fold();
    uint32_t stack[2] = {kn_fold_frame(fold, 'p', "p")};
    double sum = 0;
    char name[16];
    (void)state;
    for (unsigned i = 0; i < KN_FOLD_FRAMES + 1000; i++) {
        snprintf(name, sizeof name, "f%u", i);
        stack[1] = kn_fold_frame(fold, 'k', name);
        kn_fold_add(fold, stack, 2, 1);
    }
    uint32_t full = kn_fold_frame(fold, 'k', "one more");
    assert_int_equal(full, 0);
    json_t *json = result(fold, 1, KN_FOLD_NODES), *counts = json_object_get(json, "counts");
    for (size_t i = 0; i < json_array_size(counts); i++)
        sum += number_at(json, "counts", i);
    assert_true(sum == KN_FOLD_FRAMES + 1000); /* none is lost */
    assert_true(count_of(json, "p") == 1002);
    double cut = json_real_value(json_object_get(json, "cut"));
    assert_true(cut > 0.05 && cut < 0.06);
    json_decref(json);
}

static void names_of_other_people(void **state)
{
    struct kn_fold *fold = new_fold();
    char longest[1000];
    (void)state;
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    uint32_t odd = kn_fold_frame(fold, 'p', "a\x1b[31m\xff\nb"), huge = kn_fold_frame(fold, 'u', longest);
    kn_fold_add(fold, (uint32_t[]){odd, huge}, 2, 1);
    json_t *json = result(fold, 1, KN_FOLD_KEEP), *frames = json_object_get(json, "frames");
    assert_string_equal(json_string_value(json_array_get(frames, 0)), "a?[31m??b");
    assert_int_equal(json_string_length(json_array_get(frames, 1)), 200);
    json_decref(json);
}

static const char *name_of(void *in, uint64_t offset)
{
    return *(char *)in == 'x' ? "[x]" : offset < 10 ? "low" : "high";
}

static void places_get_their_names_later(void **state)
{
    struct kn_fold *fold = new_fold();
    struct kn_error err;
    char a = 'a', x = 'x';
    uint32_t p = kn_fold_frame(fold, 'p', "p"), low1 = kn_fold_place(fold, &a, 1), low2 = kn_fold_place(fold, &a, 2);
    uint32_t x1 = kn_fold_place(fold, &x, 1), x2 = kn_fold_place(fold, &x, 2), high = kn_fold_place(fold, &a, 10);
    (void)state;
    assert_true(low1 != low2 && low1 == kn_fold_place(fold, &a, 1) && x1 != low1);
    kn_fold_add(fold, (uint32_t[]){p, low1, high}, 3, 1);
    kn_fold_add(fold, (uint32_t[]){p, low2, high}, 3, 2);
    kn_fold_add(fold, (uint32_t[]){p, low2, low1}, 3, 4);       /* recursion has two frames */
    kn_fold_add(fold, (uint32_t[]){p, x1, x2, x1, high}, 5, 8); /* frames without a name become one */
    struct kn_fold *with_names = kn_fold_named(fold, name_of, &err);
    kn_fold_free(fold);
    assert_non_null(with_names);
    json_t *json = result(with_names, 1, KN_FOLD_KEEP);
    assert_true(count_of(json, "p;low;high") == 3 && count_of(json, "p;low;low") == 4 &&
                count_of(json, "p;[x];high") == 8);
    assert_int_equal(json_array_size(json_object_get(json, "parents")), 6);
    json_decref(json);
}

static void nothing_at_all(void **state)
{
    (void)state;
    json_t *json = result(new_fold(), 1, KN_FOLD_KEEP);
    assert_int_equal(json_array_size(json_object_get(json, "counts")), 0);
    assert_true(json_real_value(json_object_get(json, "cut")) == 0);
    json_decref(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stacks_with_a_common_root),    cmocka_unit_test(small_branches_are_cut_and_stated),
        cmocka_unit_test(more_than_there_is_room_for),  cmocka_unit_test(names_of_other_people),
        cmocka_unit_test(places_get_their_names_later), cmocka_unit_test(nothing_at_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
