/* Every unit's parser over any text: what is taken lies within the limits and is printed as something that is taken
 * again; what is refused says so in one line of UTF-8, and leaves the number alone. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/units.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(bool truth)
{
    if (!truth)
        abort();
}

static void demand_message(const struct kn_error *err)
{
    json_t *text = json_string(err->message);
    demand(err->code == KN_E_ARGUMENT && *err->message && text && !strchr(err->message, '\n'));
    json_decref(text);
}

static void try_duration(const char *text)
{
    struct kn_error err = {.message = ""};
    uint64_t ns = 7, again;
    char buf[16];
    if (kn_duration_parse(text, &ns, &err)) {
        demand_message(&err);
        demand(ns == 7);
        return;
    }
    demand(ns <= 365ull * 86400 * 1000000000);
    demand(kn_duration_parse(kn_format_duration(buf, sizeof buf, (double)ns, ns % 2), &again, &err) == 0);
    demand(fabs((double)again - (double)ns) <= (double)ns * 0.0051);
}

static void try_whole(int (*parse)(const char *, uint64_t *, struct kn_error *), const char *text, uint64_t most)
{
    struct kn_error err = {.message = ""};
    uint64_t value = 7;
    char buf[16];
    if (parse(text, &value, &err)) {
        demand_message(&err);
        demand(value == 7);
        return;
    }
    demand(value <= most);
    demand(strlen(kn_format_size(buf, sizeof buf, value)) < sizeof buf);
}

static void try_rate(const char *text)
{
    struct kn_error err = {.message = ""};
    struct kn_rate rate = {7, 7}, again;
    char buf[16];
    if (kn_rate_parse(text, &rate, &err)) {
        demand_message(&err);
        demand(rate.per_1000s == 7 && rate.bps == 7);
        return;
    }
    demand(rate.per_1000s == 0 || rate.bps == 0);
    demand(rate.per_1000s <= 1000000000000 && rate.bps <= 10000000000000);
    if (rate.bps)
        demand(kn_rate_parse(kn_format_bits(buf, sizeof buf, (double)rate.bps), &again, &err) == 0 && again.bps);
}

static void try_list(const char *text)
{
    struct kn_error err = {.message = ""};
    uint64_t sizes[17];
    sizes[16] = 4711;
    int n = kn_size_list_parse(text, sizes, 16, &err);
    if (n < 0)
        demand_message(&err);
    demand(n <= 16 && n != 0 && sizes[16] == 4711);
    for (int i = 0; i < n; i++)
        demand(sizes[i] <= 1ull << 50);
}

static void try_words(const char *text)
{
    static const char *const names[] = {"duration", "warmup", "ip", "rate", "a"};
    char quoted[KN_QUOTE_MAX];
    struct kn_error err;
    kn_nearest(text, names, 5);
    const char *with[] = {"rate", text};
    kn_nearest("rated", with, 2);
    json_t *json = json_string(kn_quote(quoted, text));
    demand(json && strlen(quoted) < sizeof quoted);
    json_decref(json);
    kn_fail(&err, KN_E_ARGUMENT, "%s", text);
    kn_error_context(&err, "%s", text);
    json = json_string(err.message);
    demand(json != NULL);
    json_decref(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    memcpy(text, data, size);
    text[size] = 0;
    try_duration(text);
    try_whole(kn_size_parse, text, 1ull << 50);
    try_whole(kn_count_parse, text, 1000000000000000);
    try_rate(text);
    try_list(text);
    try_words(text);
    free(text);
    return 0;
}
