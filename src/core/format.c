/* Formats numbers, and finds similar words. Numbers are formatted as integers, because %f of printf uses the decimal
 * point of the locale. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/units.h"

/* Formats a value in [0, 1000) with three significant figures: "9.41", "27.6", "182". */
static void significant(char *buf, size_t size, double value)
{
    if (value < 9.995) {
        unsigned v = (unsigned)lround(value * 100);
        snprintf(buf, size, "%u.%02u", v / 100, v % 100);
    } else if (value < 99.95) {
        unsigned v = (unsigned)lround(value * 10);
        snprintf(buf, size, "%u.%u", v / 10, v % 10);
    } else {
        snprintf(buf, size, "%u", (unsigned)lround(value));
    }
}

/* Formats `value` in the first unit in which it is below `base` after rounding. Each unit is `base` times the last. */
static char *scaled(char *buf, size_t size, double value, double base, const char *const *units)
{
    char number[16];
    const char *sign = value < 0 ? "-" : "";
    if (!isfinite(value) || fabs(value) > 1e30) {
        snprintf(buf, size, "-");
        return buf;
    }
    value = fabs(value);
    for (; units[1] && value >= base - 0.5; units++)
        value /= base;
    if (value == 0)
        snprintf(number, sizeof number, "0");
    else if (value >= 999.5)
        snprintf(number, sizeof number, "%" PRIu64, value < 1e15 ? (uint64_t)llround(value) : 1000000000000000u);
    else
        significant(number, sizeof number, value);
    snprintf(buf, size, "%s%s%s", sign, number, units[0]);
    return buf;
}

char *kn_format_duration(char *buf, size_t size, double ns, bool ascii)
{
    static const char *const utf8[] = {" ns", " µs", " ms", " s", NULL};
    static const char *const plain[] = {" ns", " us", " ms", " s", NULL};
    if (!(ns >= 119.5e9 && ns < 1e18))
        return scaled(buf, size, ns, 1000, ascii ? plain : utf8);
    uint64_t s = (uint64_t)llround(ns / 1e9);
    if (s < 7200)
        snprintf(buf, size, "%um%02us", (unsigned)(s / 60), (unsigned)(s % 60));
    else
        snprintf(buf, size, "%uh%02um", (unsigned)((s + 30) / 3600), (unsigned)((s + 30) % 3600 / 60));
    return buf;
}

char *kn_format_bits(char *buf, size_t size, double bps)
{
    static const char *const units[] = {" bit/s", " kbit/s", " Mbit/s", " Gbit/s", " Tbit/s", NULL};
    return scaled(buf, size, bps, 1000, units);
}

char *kn_format_rate(char *buf, size_t size, double per_s)
{
    static const char *const units[] = {" /s", " k/s", " M/s", " G/s", NULL};
    return scaled(buf, size, per_s, 1000, units);
}

/* Sizes that are not whole multiples of a unit are shown in bytes: 1400, not "1.37 KiB". */
#define EXACT_BELOW 100000

char *kn_format_size(char *buf, size_t size, uint64_t bytes)
{
    static const char *const units[] = {" B", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB", NULL};
    unsigned i = 0;
    uint64_t whole = bytes;
    while (units[i + 1] && whole >= 1024 && whole % 1024 == 0) {
        whole /= 1024;
        i++;
    }
    if (whole >= 1024 && bytes >= EXACT_BELOW)
        return scaled(buf, size, (double)bytes, 1024, units);
    snprintf(buf, size, "%u%s", (unsigned)whole, units[i]);
    return buf;
}

/* ---- similar words ---- */

#define WORD_MAX 32

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

static unsigned least_of(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

/* Damerau-Levenshtein distance, in which swapping two neighbours is one edit; ignores case. Returns a large number for
 * words that are too long to be a name. */
static unsigned distance(const char *a, const char *b)
{
    size_t la = strlen(a), lb = strlen(b);
    unsigned row[3][WORD_MAX + 1];
    if (la > WORD_MAX || lb > WORD_MAX)
        return 1000;
    for (unsigned j = 0; j <= lb; j++)
        row[0][j] = j;
    for (unsigned i = 1; i <= la; i++) {
        unsigned *now = row[i % 3], *last = row[(i + 2) % 3], *before = row[(i + 1) % 3];
        now[0] = i;
        for (unsigned j = 1; j <= lb; j++) {
            bool same = lower(a[i - 1]) == lower(b[j - 1]);
            now[j] = least_of(least_of(last[j] + 1, now[j - 1] + 1), last[j - 1] + !same);
            if (i > 1 && j > 1 && lower(a[i - 1]) == lower(b[j - 2]) && lower(a[i - 2]) == lower(b[j - 1]))
                now[j] = least_of(now[j], before[j - 2] + 1);
        }
    }
    return row[la % 3][lb];
}

const char *kn_nearest(const char *word, const char *const *candidates, size_t n)
{
    size_t length = strlen(word);
    unsigned limit = length < 3 ? 1 : (unsigned)least_of((unsigned)(length + 1) / 3, 4), best = limit + 1;
    const char *nearest = NULL, *longer = NULL;
    for (size_t i = 0; i < n; i++) {
        unsigned d = distance(word, candidates[i]);
        /* one edit can replace all of a one-letter name */
        if (d < best && d < strlen(candidates[i])) {
            best = d;
            nearest = candidates[i];
        }
        if (!longer && length >= 2 && strncmp(word, candidates[i], length) == 0)
            longer = candidates[i];
    }
    return best > 1 && longer ? longer : nearest;
}
