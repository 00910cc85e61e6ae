/* Memory runs out at every allocation of the lowest floor: specifications, figures, their JSON, statistics, files. */
#include "starved.h"

#include "core/figures.h"
#include "core/file.h"
#include "core/json.h"
#include "core/spec.h"
#include "core/stats.h"
#include "core/step.h"
#include "core/units.h"

/* A test of this file's own: those of the engines are floors above. */
static const char *const columns[] = {"rate", NULL};
static const struct kn_test test = {.name = "starved",
                                    .help = "a test",
                                    .transport = KN_TCP,
                                    .shape = KN_RR,
                                    .rate = KN_RATE_EVENTS,
                                    .headline = "rate",
                                    .columns = columns,
                                    .compared = columns,
                                    .options = KN_HAS(DURATION) | KN_HAS(SIZE) | KN_HAS(RATE) | KN_HAS(CPUS)};
static const struct kn_test *const list[] = {&test, NULL};
static const struct kn_registry tests_known = {list};

static void specifications(void **state)
{
    static const char text[] =
        "{\"test\":\"starved\",\"duration\":\"1s\",\"size\":\"1K\",\"rate\":\"2k/s\",\"cpus\":\"0\"}";
    (void)state;
    STARVED(n)
    {
        struct kn_spec spec;
        struct kn_error err = {0};
        json_error_t why;
        starved_begin(n);
        json_t *json = kn_json_load(text, sizeof text - 1, 0, &why);
        int failed = json ? kn_spec_parse(json, &tests_known, &spec, &err)
                          : kn_json_invalid(&why, KN_E_ARGUMENT, "it", &err);
        json_t *back = failed ? NULL : kn_spec_to_json(&spec);
        starved_end();
        starved_expect(!failed, &err);
        if (back && json_object_size(back) != 5)
            starved_fail("%zu options are left", json_object_size(back));
        json_decref(json);
        json_decref(back);
    }
}

/* Strings of every length, with and without escapes: as they are, or not at all. */
static void texts(void **state)
{
    (void)state;
    for (size_t length = 0; length < 140; length++)
        STARVED_BY(n, 1)
        {
            char text[200] = "[\"", *at = text + 2;
            memset(at, length % 2 ? 'x' : '/', length);
            for (size_t i = 0; i + 1 < length && length % 2 == 0; i += 2)
                at[i] = '\\';
            strcpy(at + length, "\"]");
            json_error_t why;
            starved_begin(n);
            json_t *json = kn_json_load(text, strlen(text), 0, &why);
            starved_end();
            const char *got = json_string_value(json_array_get(json, 0));
            size_t whole = length % 2 ? length : length / 2;
            if (json ? !got || strlen(got) != whole || strspn(got, "x/") != whole : !atomic_load(&starved_depth))
                starved_fail("a string of %zu bytes became %s", length, got ? got : "nothing");
            json_decref(json);
        }
}

static void descriptions(void **state)
{
    (void)state;
    json_t *all_tests = kn_tests_to_json(&tests_known), *all_options = kn_options_to_json(&tests_known);
    STARVED(n)
    {
        starved_begin(n);
        json_t *one = kn_tests_to_json(&tests_known), *other = kn_options_to_json(&tests_known);
        starved_end();
        if ((one && !json_equal(one, all_tests)) || (other && !json_equal(other, all_options)))
            starved_fail("something is missing");
        json_decref(one);
        json_decref(other);
    }
    json_decref(all_tests);
    json_decref(all_options);
}

static void fill(struct kn_figures *f)
{
    f->has = KN_HAS_LATENCY | KN_HAS_HTTP;
    f->ops = 3;
    f->status[2] = 3;
    for (unsigned i = 0; i < 3 && f->latency; i++) {
        kn_hist_record(f->latency, 1000 + 700 * i);
        kn_figures_add(f, i * 1000000, 100, 1);
    }
}

/* What one side measured, as it reaches the other. */
static void figures(void **state)
{
    struct kn_figures whole, f, back, sum;
    struct kn_error err = {0};
    (void)state;
    assert_int_equal(kn_figures_init(&whole, 1000000, &err), 0);
    fill(&whole);
    json_t *all = kn_figures_to_json(&whole);
    STARVED(n)
    {
        memset(&back, 0, sizeof back);
        memset(&sum, 0, sizeof sum);
        starved_begin(n);
        bool ok = !kn_figures_init(&f, 1000000, &err);
        if (ok)
            fill(&f);
        json_t *json = ok ? kn_figures_to_json(&f) : NULL;
        bool read = json && !kn_figures_from_json(json, &back, &err);
        bool added = read && !kn_figures_init(&sum, 0, &err) && !kn_figures_merge(&sum, &back, &err);
        starved_end();
        if (json && !json_equal(json, all))
            starved_fail("figures are missing");
        if (added && (kn_hist_count(sum.latency) != 3 || sum.ops != 3 || sum.series.n != 3))
            starved_fail("the sum lacks something");
        starved_expect(!json || added, &err);
        json_decref(json);
        kn_figures_fini(&f);
        kn_figures_fini(&back);
        kn_figures_fini(&sum);
    }
    json_decref(all);
    kn_figures_fini(&whole);
}

static void statistics(void **state)
{
    static const double a[] = {1, 2, 3, 4, 5, 6, 7, 8, 9}, b[] = {2, 3, 4, 5, 6, 7, 8, 9, 10};
    (void)state;
    STARVED(n)
    {
        struct kn_interval interval;
        struct kn_step step;
        struct kn_error err = {0};
        double p;
        starved_begin(n);
        bool ok = !kn_stats_median(a, 9, 0.95, &interval, &err) && !kn_stats_rank_test(a, 9, b, 9, &p, &err) &&
                  !kn_stats_shift(a, 9, b, 9, 0.95, &interval, &err);
        kn_step_find(a, 9, &step);
        starved_end();
        starved_expect(ok, &err);
    }
}

static void texts_and_copies(void **state)
{
    json_t *json = json_pack("{s:[i,i,s], s:{s:f}}", "list", 1, 2, "three", "object", "real", 0.5);
    json_t *numbers = json_object_get(json, "list");
    (void)state;
    for (int i = 0; i < 60; i++)
        json_array_append_new(numbers, json_pack("{s:i}", "number", i));
    char *whole = json_dumps(json, JSON_COMPACT);
    STARVED(n)
    {
        starved_begin(n);
        char *text = kn_json_text(json, JSON_COMPACT);
        json_t *copy = kn_json_copy(json);
        starved_end();
        if (text && strcmp(text, whole))
            starved_fail("%s", text);
        if (copy && !json_equal(copy, json))
            starved_fail("the copy differs");
        free(text);
        json_decref(copy);
    }
    free(whole);
    json_decref(json);
}

static void files(void **state)
{
    char folder[] = "/tmp/knbl-starved-XXXXXX", path[64];
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/file", folder);
    STARVED(n)
    {
        struct kn_error err = {0};
        starved_begin(n);
        bool written = !kn_write_file(path, "text", 4, -1, &err);
        char *text = written ? kn_read_file(path, 100, &err) : NULL;
        starved_end();
        starved_expect(text, &err);
        if (text && strcmp(text, "text"))
            starved_fail("\"%s\" was read", text);
        free(text);
    }
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0); /* no temporary file is left */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(specifications), cmocka_unit_test(texts),      cmocka_unit_test(descriptions),
        cmocka_unit_test(figures),        cmocka_unit_test(statistics), cmocka_unit_test(texts_and_copies),
        cmocka_unit_test(files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
