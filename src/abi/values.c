/* abi - units, lists, histograms and files, for language bindings. */
#include <stdlib.h>
#include <string.h>

#include "abi/abi.h"
#include "core/hist.h"
#include "engines/engines.h"
#include "core/file.h"
#include "core/hist.h"
#include "core/stats.h"
#include "core/units.h"

static int told(int rc, const struct kn_error *err, knbl_error *out)
{
    return rc < 0 ? knbl_fail_(out, err) : rc;
}

/* ---- lists ----------------------------------------------------------------------------------- */

KNBL_API char *knbl_tests(void)
{
    struct kn_error err = {0};
    json_t *list = json_array();
    for (const struct kn_test *const *test = kn_engines.tests; *test; test++)
        json_array_append_new(list, json_string((*test)->name));
    return knbl_text_(list, &err, NULL);
}

KNBL_API char *knbl_fields(void)
{
    struct kn_error err = {0};
    return knbl_text_(kn_options_to_json(&kn_engines), &err, NULL);
}

KNBL_API char *knbl_descriptors(void)
{
    struct kn_error err = {0};
    return knbl_text_(kn_tests_to_json(&kn_engines), &err, NULL);
}

KNBL_API char *knbl_nearest(const char *word, const char *words_json)
{
    struct kn_error err = {0};
    json_t *list = knbl_parse_(words_json, &err), *value;
    size_t n = json_array_size(list), i;
    const char **words = calloc(n ? n : 1, sizeof *words), *found = NULL;
    if (words && n) {
        size_t kept = 0;
        json_array_foreach(list, i, value) if (json_is_string(value)) words[kept++] = json_string_value(value);
        found = kn_nearest(word, words, kept);
    }
    char *copy = found ? strdup(found) : NULL;
    free(words);
    json_decref(list);
    return copy;
}

/* ---- units ----------------------------------------------------------------------------------- */

KNBL_API int32_t knbl_parse_duration(const char *text, uint64_t *ns, knbl_error *error)
{
    struct kn_error err = {0};
    return told(kn_duration_parse(text, ns, &err), &err, error);
}

KNBL_API int32_t knbl_parse_size(const char *text, uint64_t *bytes, knbl_error *error)
{
    struct kn_error err = {0};
    return told(kn_size_parse(text, bytes, &err), &err, error);
}

KNBL_API int32_t knbl_parse_count(const char *text, uint64_t *count, knbl_error *error)
{
    struct kn_error err = {0};
    return told(kn_count_parse(text, count, &err), &err, error);
}

KNBL_API int32_t knbl_parse_rate(const char *text, uint64_t *per_1000s, uint64_t *bps, knbl_error *error)
{
    struct kn_error err = {0};
    struct kn_rate rate = {0};
    int rc = kn_rate_parse(text, &rate, &err);
    *per_1000s = rate.per_1000s;
    *bps = rate.bps;
    return told(rc, &err, error);
}

KNBL_API int32_t knbl_parse_sizes(const char *text, uint64_t *sizes, uint32_t room, knbl_error *error)
{
    struct kn_error err = {0};
    return told(kn_size_list_parse(text, sizes, room, &err), &err, error);
}

KNBL_API void knbl_format_duration(double ns, int32_t ascii, char *buffer, uint32_t room)
{
    kn_format_duration(buffer, room, ns, ascii != 0);
}

KNBL_API void knbl_format_bits(double bps, char *buffer, uint32_t room)
{
    kn_format_bits(buffer, room, bps);
}

KNBL_API void knbl_format_size(uint64_t bytes, char *buffer, uint32_t room)
{
    kn_format_size(buffer, room, bytes);
}

KNBL_API void knbl_format_rate(double per_s, char *buffer, uint32_t room)
{
    kn_format_rate(buffer, room, per_s);
}

/* ---- statistics ------------------------------------------------------------------------------ */

KNBL_API char *knbl_hist_merge(const char *histograms_json, knbl_error *error)
{
    struct kn_error err = {0};
    json_t *list = knbl_parse_(histograms_json, &err);
    json_t *merged = list ? kn_hist_merge_json(list, &err) : NULL;
    json_decref(list);
    return knbl_text_(merged, &err, error);
}

KNBL_API int32_t knbl_hist_percentiles(const char *histogram_json, const double *percents, uint64_t *values, uint32_t n,
                                       knbl_error *error)
{
    struct kn_error err = {0};
    json_t *json = knbl_parse_(histogram_json, &err);
    struct kn_hist *h = json ? kn_hist_from_json(json, &err) : NULL;
    for (uint32_t i = 0; h && i < n; i++)
        values[i] = kn_hist_percentile(h, percents[i]);
    json_decref(json);
    if (!h)
        return knbl_fail_(error, &err);
    kn_hist_free(h);
    return 0;
}

static int32_t put_interval(const struct kn_interval *i, double *middle, double *low, double *high, double *covered)
{
    *middle = i->median;
    *low = i->low;
    *high = i->high;
    *covered = i->confidence;
    return 0;
}

KNBL_API int32_t knbl_median_interval(const double *values, uint32_t n, double confidence, double *median, double *low,
                                      double *high, double *covered, knbl_error *error)
{
    struct kn_error err = {0};
    struct kn_interval interval;
    if (kn_stats_median(values, n, confidence, &interval, &err) < 0)
        return knbl_fail_(error, &err);
    return put_interval(&interval, median, low, high, covered);
}

KNBL_API int32_t knbl_rank_test(const double *a, uint32_t na, const double *b, uint32_t nb, double *p,
                                knbl_error *error)
{
    struct kn_error err = {0};
    return told(kn_stats_rank_test(a, na, b, nb, p, &err), &err, error);
}

KNBL_API int32_t knbl_shift_interval(const double *a, uint32_t na, const double *b, uint32_t nb, double confidence,
                                     double *shift, double *low, double *high, double *covered, knbl_error *error)
{
    struct kn_error err = {0};
    struct kn_interval interval;
    if (kn_stats_shift(a, na, b, nb, confidence, &interval, &err) < 0)
        return knbl_fail_(error, &err);
    return put_interval(&interval, shift, low, high, covered);
}

/* ---- files ----------------------------------------------------------------------------------- */

KNBL_API int32_t knbl_write_file(const char *path, const char *text, uint64_t size, knbl_error *error)
{
    struct kn_error err = {0};
    return told(kn_write_file(path, text, size, -1, &err), &err, error);
}

KNBL_API int32_t knbl_can_write(const char *path, knbl_error *error)
{
    struct kn_error err = {0};
    return told(kn_can_write(path, &err) < 0 ? -1 : 0, &err, error);
}

KNBL_API char *knbl_token(void)
{
    char token[KN_TOKEN_SIZE];
    kn_token_make(token);
    return strdup(token);
}
