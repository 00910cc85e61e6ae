#include "meter/proc.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static bool ends_word(char c)
{
    return c == 0 || c == '\n' || is_blank(c);
}

/* The next word of the line, or its end. */
static const char *next_word(const char *s)
{
    while (!ends_word(*s))
        s++;
    while (is_blank(*s))
        s++;
    return s;
}

static const char *next_line(const char *s)
{
    s = strchr(s, '\n');
    return s && s[1] ? s + 1 : NULL;
}

static bool at_end(const char *s)
{
    return *s == 0 || *s == '\n';
}

static bool word_is(const char *s, const char *word)
{
    size_t n = strlen(word);
    return strncmp(s, word, n) == 0 && ends_word(s[n]);
}

static uint64_t number(const char *s, int base)
{
    char *end;
    if (base == 10 ? *s < '0' || *s > '9' : !*s || !strchr("0123456789abcdefABCDEF", *s))
        return KN_ABSENT;
    errno = 0;
    unsigned long long value = strtoull(s, &end, base);
    return errno || !ends_word(*end) ? KN_ABSENT : value;
}

uint64_t kn_sum(uint64_t a, uint64_t b)
{
    return a == KN_ABSENT ? b : b == KN_ABSENT ? a : a + b;
}

uint64_t kn_proc_number(const char *text)
{
    return number(text, 10);
}

/* ---- CPUs ---- */

/* user nice system idle iowait irq softirq steal; user and nice include guests */
void kn_proc_cpu(const char *s, uint64_t ticks[KN_CPU_KINDS])
{
    static const enum kn_cpu_kind kinds[] = {KN_CPU_USER, KN_CPU_USER,   KN_CPU_SYSTEM,  KN_CPU_IDLE,
                                             KN_CPU_IDLE, KN_CPU_SYSTEM, KN_CPU_SOFTIRQ, KN_CPU_STEAL};
    for (int i = 0; i < KN_CPU_KINDS; i++)
        ticks[i] = KN_ABSENT;
    s = next_word(s);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds && !at_end(s); i++, s = next_word(s))
        ticks[kinds[i]] = kn_sum(ticks[kinds[i]], number(s, 10));
}

unsigned kn_proc_cpus(const char *text, uint64_t *ticks, unsigned cpus)
{
    unsigned highest = 0;
    for (const char *line = text; line && strncmp(line, "cpu", 3) == 0; line = next_line(line)) {
        uint64_t cpu = number(line + 3, 10);
        if (cpu > 65535)
            continue; /* the line of the totals */
        if (cpu < cpus)
            kn_proc_cpu(line, ticks + cpu * KN_CPU_KINDS);
        if (cpu + 1 > highest)
            highest = (unsigned)cpu + 1;
    }
    return highest;
}

/* ---- named numbers ---- */

uint64_t kn_proc_pair(const char *text, const char *group, const char *name)
{
    const char *names = text;
    while (names && !word_is(names, group))
        names = next_line(names);
    const char *values = names ? next_line(names) : NULL;
    if (!values || !word_is(values, group))
        return KN_ABSENT;
    while (!at_end(names) && !at_end(values) && !word_is(names, name)) {
        names = next_word(names);
        values = next_word(values);
    }
    return at_end(names) || at_end(values) ? KN_ABSENT : number(values, 10);
}

uint64_t kn_proc_word(const char *text, const char *group, const char *name)
{
    const char *s = text;
    while (s && !word_is(s, group))
        s = next_line(s);
    if (!s)
        return KN_ABSENT;
    for (s = next_word(s); !at_end(s); s = next_word(next_word(s)))
        if (word_is(s, name))
            return number(next_word(s), 10);
    return KN_ABSENT;
}

uint64_t kn_proc_line(const char *text, const char *name)
{
    for (const char *line = text; line; line = next_line(line))
        if (word_is(line, name))
            return number(next_word(line), 10);
    return KN_ABSENT;
}

/* ---- columns of hexadecimal numbers ---- */

uint64_t kn_proc_hex_column(const char *text, unsigned column)
{
    uint64_t all = KN_ABSENT;
    for (const char *line = text; line; line = next_line(line)) {
        const char *s = line;
        for (unsigned i = 0; i < column && !at_end(s); i++)
            s = next_word(s);
        if (!at_end(s))
            all = kn_sum(all, number(s, 16));
    }
    return all;
}

uint64_t kn_proc_hex_named(const char *text, const char *name)
{
    unsigned column = 0;
    const char *s = text;
    for (; !at_end(s) && !word_is(s, name); s = next_word(s))
        column++;
    const char *rows = next_line(text);
    return at_end(s) || !rows ? KN_ABSENT : kn_proc_hex_column(rows, column);
}

/* ---- interfaces ---- */

/* "  eth0: 123 …"; old kernels have no space after the colon. The two header lines contain bars. */
const char *kn_proc_interface(const char *text, char name[IF_NAMESIZE], uint64_t counters[KN_DEV_COUNTERS])
{
    for (const char *line = text; line; line = next_line(line)) {
        const char *s = line;
        while (is_blank(*s))
            s++;
        size_t n = strcspn(s, ":| \t\n");
        if (s[n] != ':' || n == 0 || n >= IF_NAMESIZE)
            continue;
        memcpy(name, s, n);
        name[n] = 0;
        for (s += n + 1; is_blank(*s); s++)
            ;
        for (int i = 0; i < KN_DEV_COUNTERS; i++) {
            counters[i] = at_end(s) ? KN_ABSENT : number(s, 10);
            s = next_word(s);
        }
        line = next_line(line);
        return line ? line : "";
    }
    return NULL;
}
