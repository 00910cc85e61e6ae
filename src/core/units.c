#include "core/units.h"

#include <string.h>

#define YEAR_NS (365ull * 86400 * 1000000000)
#define SIZE_MOST (1ull << 50)
#define COUNT_MOST 1000000000000000ull
#define BITS_MOST 10000000000000ull /* 10 Tbit/s */
#define EVENTS_MOST 1000000000ull   /* per second */
#define DIGITS_MOST 18

static const char duration_example[] = "\"10s\", \"200ms\" or \"1m30s\"";
static const char size_example[] = "\"64\", \"4K\" or \"1M\"";
static const char count_example[] = "\"100000\", \"20k\" or \"1M\"";
static const char rate_example[] = "\"20k/s\" for events or \"1Gbit/s\" for bits";
static const char list_example[] = "\"64\", \"1,64,4K\", \"1:256K:*64\" or \"96:1460:+64\"";

struct unit {
    const char *name;
    uint64_t value;
};

/* A decimal number, whole.fraction; the fraction is in units of 1/denominator. */
struct decimal {
    uint64_t whole, fraction, denominator;
};

static int refuse(struct kn_error *err, const char *text, const char *why, const char *example)
{
    char quoted[KN_QUOTE_MAX];
    return kn_fail(err, KN_E_ARGUMENT, "%s %s; expected for example %s", kn_quote(quoted, text), why, example);
}
#define REFUSE(why, example) refuse(err, text, (why), (example))

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static int scan_digits(const char **at, uint64_t *value, unsigned *n)
{
    *value = 0;
    for (*n = 0; is_digit(**at); ++*at, ++*n) {
        if (*n == DIGITS_MOST)
            return -1;
        *value = *value * 10 + (uint64_t)(**at - '0');
    }
    return 0;
}

/* Reads the number at `*at` and moves `*at` behind it. Returns NULL, or what is wrong with the number. */
static const char *scan_decimal(const char **at, struct decimal *d)
{
    unsigned n;
    *d = (struct decimal){.denominator = 1};
    if (**at == '-')
        return "is negative";
    if (!is_digit(**at))
        return **at ? "is not a number with a unit" : "is empty";
    while (**at == '0' && is_digit((*at)[1]))
        ++*at;
    if (scan_digits(at, &d->whole, &n))
        return "is too large";
    if (**at != '.')
        return NULL;
    ++*at;
    if (!is_digit(**at))
        return "has no digits after the decimal point";
    if (scan_digits(at, &d->fraction, &n))
        return "has too many digits";
    while (n--)
        d->denominator *= 10;
    return NULL;
}

/* d * unit, rounded; `exact` is set if rounding changed nothing. Returns false if it exceeds `most`. */
static bool scale(const struct decimal *d, uint64_t unit, uint64_t most, uint64_t *value, bool *exact)
{
    unsigned __int128 parts = (unsigned __int128)d->fraction * unit;
    unsigned __int128 total = (unsigned __int128)d->whole * unit + (parts + d->denominator / 2) / d->denominator;
    *exact = parts % d->denominator == 0;
    *value = (uint64_t)total;
    return total <= most;
}

static const struct unit *find_unit(const struct unit *units, const char *name, size_t length)
{
    for (; units->name; units++)
        if (strlen(units->name) == length && memcmp(units->name, name, length) == 0)
            return units;
    return NULL;
}

static const char *skip_spaces(const char *s)
{
    while (*s == ' ' || *s == '\t')
        s++;
    return s;
}

/* Copies the text without leading and trailing spaces; -1 if it is too long for a quantity. */
static int trim(const char *text, size_t length, char *out, size_t size)
{
    const char *start = text, *end = text + length;
    while (start < end && (*start == ' ' || *start == '\t'))
        start++;
    while (end > start && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    if ((size_t)(end - start) >= size)
        return -1;
    memcpy(out, start, (size_t)(end - start));
    out[end - start] = 0;
    return 0;
}

/* ---- durations ---- */

static const struct unit durations[] = {
    {"h", 3600000000000ull},
    {"m", 60000000000ull},
    {"min", 60000000000ull},
    {"s", 1000000000ull},
    {"sec", 1000000000ull},
    {"ms", 1000000ull},
    {"us", 1000ull},
    {"\302\265s", 1000ull},
    {"\316\274s", 1000ull},
    {"ns", 1ull},
    {NULL, 0},
};

static size_t unit_length(const char *s)
{
    size_t n = 0;
    while (s[n] && !is_digit(s[n]) && s[n] != ' ' && s[n] != '\t' && s[n] != '.')
        n++;
    return n;
}

int kn_duration_parse(const char *text, uint64_t *ns, struct kn_error *err)
{
    const struct unit *bare = &durations[3];
    uint64_t total = 0, last = UINT64_MAX, part;
    char s[128];
    const char *at = s, *wrong;
    struct decimal d;
    bool exact;
    if (trim(text, strlen(text), s, sizeof s))
        return REFUSE("is too long", duration_example);
    do {
        if ((wrong = scan_decimal(&at, &d)))
            return REFUSE(wrong, duration_example);
        at = skip_spaces(at);
        size_t length = unit_length(at);
        const struct unit *unit = length || last != UINT64_MAX ? find_unit(durations, at, length) : bare;
        if (!unit)
            return REFUSE("has no valid unit of time", duration_example);
        if (unit->value >= last)
            return REFUSE("has repeated units or units in the wrong order", duration_example);
        if (!scale(&d, unit->value, YEAR_NS, &part, &exact) || (total += part) > YEAR_NS)
            return REFUSE("is longer than a year", duration_example);
        if (part == 0 && d.fraction)
            return REFUSE("is less than a nanosecond", duration_example);
        last = length ? unit->value : 1;
        at = skip_spaces(at + length);
    } while (*at);
    *ns = total;
    return 0;
}

/* ---- sizes, counts, rates: one number and one unit ---- */

static const struct unit sizes_of[] = {
    {"", 1},
    {"B", 1},
    {"k", 1ull << 10},
    {"K", 1ull << 10},
    {"Ki", 1ull << 10},
    {"KiB", 1ull << 10},
    {"kB", 1000},
    {"KB", 1000},
    {"m", 1ull << 20},
    {"M", 1ull << 20},
    {"Mi", 1ull << 20},
    {"MiB", 1ull << 20},
    {"MB", 1000000},
    {"g", 1ull << 30},
    {"G", 1ull << 30},
    {"Gi", 1ull << 30},
    {"GiB", 1ull << 30},
    {"GB", 1000000000},
    {"T", 1ull << 40},
    {"Ti", 1ull << 40},
    {"TiB", 1ull << 40},
    {"TB", 1000000000000ull},
    {NULL, 0},
};

static const struct unit thousands[] = {
    {"", 1}, {"k", 1000}, {"K", 1000}, {"M", 1000000}, {"G", 1000000000}, {"T", 1000000000000ull}, {NULL, 0},
};

/* Splits "NUMBER [UNIT]" into the number and the unit. Returns NULL, or what is wrong. */
static const char *split(const char *text, char s[128], struct decimal *d, const char **rest)
{
    const char *at = s, *wrong;
    if (trim(text, strlen(text), s, 128))
        return "is too long";
    if ((wrong = scan_decimal(&at, d)))
        return wrong;
    *rest = skip_spaces(at);
    return NULL;
}

static int parse_whole(const char *text, const struct unit *units, uint64_t most, const char *example, uint64_t *value,
                       struct kn_error *err)
{
    char s[128];
    struct decimal d;
    const char *rest, *wrong = split(text, s, &d, &rest);
    uint64_t whole;
    bool exact;
    if (wrong)
        return REFUSE(wrong, example);
    const struct unit *unit = find_unit(units, rest, strlen(rest));
    if (!unit)
        return REFUSE("has no valid unit", example);
    if (!scale(&d, unit->value, most, &whole, &exact))
        return REFUSE("is too large", example);
    if (!exact)
        return REFUSE("is not a whole number", example);
    *value = whole;
    return 0;
}

int kn_size_parse(const char *text, uint64_t *bytes, struct kn_error *err)
{
    return parse_whole(text, sizes_of, SIZE_MOST, size_example, bytes, err);
}

int kn_count_parse(const char *text, uint64_t *count, struct kn_error *err)
{
    return parse_whole(text, thousands, COUNT_MOST, count_example, count, err);
}

/* What a rate counts, by the end of its unit. Longer endings come first. */
static const struct ending {
    const char *text;
    uint64_t bits;
} endings[] = {
    {"bits/s", 1}, {"bit/s", 1}, {"bps", 1}, {"b/s", 1}, {"bit", 1}, {"B/s", 8}, {"/s", 0}, {"", 1},
};

static const struct ending *find_ending(const char *rest, size_t *prefix)
{
    size_t length = strlen(rest);
    for (const struct ending *e = endings;; e++) {
        size_t n = strlen(e->text);
        if (n > length || strcmp(rest + length - n, e->text) != 0)
            continue;
        *prefix = length - n;
        return e;
    }
}

int kn_rate_parse(const char *text, struct kn_rate *rate, struct kn_error *err)
{
    char s[128];
    struct decimal d;
    const char *rest, *wrong = split(text, s, &d, &rest);
    size_t prefix;
    bool exact;
    uint64_t value;
    if (wrong)
        return REFUSE(wrong, rate_example);
    const struct ending *ending = find_ending(rest, &prefix);
    const struct unit *unit = find_unit(thousands, rest, prefix);
    if (!unit)
        return REFUSE("has no valid unit of a rate", rate_example);
    uint64_t most = ending->bits ? BITS_MOST : EVENTS_MOST * 1000;
    if (!scale(&d, unit->value * (ending->bits ? ending->bits : 1000), most, &value, &exact))
        return REFUSE("is too large", rate_example);
    if (value == 0 && d.fraction)
        return REFUSE("is too small", rate_example);
    *rate = ending->bits ? (struct kn_rate){.bps = value} : (struct kn_rate){.per_1000s = value};
    return 0;
}

/* ---- lists of sizes ---- */

struct list {
    uint64_t *sizes;
    size_t n, most;
};

/* Parses FIRST:LAST:STEP, from the first colon on; the step begins with * or +. Returns NULL, or what is wrong; an
 * error in a part is in `err`. */
static const char *add_range(struct list *list, uint64_t from, char *colon, struct kn_error *err)
{
    char *step = strchr(colon + 1, ':');
    uint64_t to, by;
    if (!step)
        return "is a range without a step";
    *step++ = 0;
    bool times = *step == '*';
    if (times || *step == '+')
        step++;
    if (kn_size_parse(colon + 1, &to, err) || kn_size_parse(step, &by, err))
        return "";
    if (to < from)
        return "ends before it begins";
    if (times ? by < 2 || from == 0 : by == 0)
        return "never ends";
    for (uint64_t v = from; v <= to; v = times ? v * by : v + by) {
        if (list->n == list->most)
            return "has too many sizes";
        list->sizes[list->n++] = v;
        if (times && v > to / by)
            break;
    }
    return NULL;
}

static const char *add_item(struct list *list, char *item, struct kn_error *err)
{
    uint64_t from;
    char *colon = strchr(item, ':');
    if (colon)
        *colon = 0;
    if (kn_size_parse(item, &from, err))
        return "";
    if (colon)
        return add_range(list, from, colon, err);
    if (list->n == list->most)
        return "has too many sizes";
    list->sizes[list->n++] = from;
    return NULL;
}

int kn_size_list_parse(const char *text, uint64_t *sizes, size_t most, struct kn_error *err)
{
    struct list list = {.sizes = sizes, .most = most};
    char item[128];
    for (const char *at = text;; at++) {
        size_t length = strcspn(at, ",");
        if (trim(at, length, item, sizeof item))
            return REFUSE("is too long", list_example);
        const char *wrong = add_item(&list, item, err);
        if (wrong && *wrong)
            return REFUSE(wrong, list_example);
        if (wrong) {
            char quoted[KN_QUOTE_MAX];
            return kn_error_context(err, "%s", kn_quote(quoted, text));
        }
        at += length;
        if (*at == 0)
            return (int)list.n;
    }
}
