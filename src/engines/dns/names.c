#include "engines/dns/names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- patterns ---- */

/* One pattern of the list: up to a comma outside of braces. */
static size_t pattern_length(const char *text)
{
    bool inside = false;
    size_t n = 0;
    for (; text[n] && (inside || text[n] != ','); n++)
        inside = text[n] == '{' || (inside && text[n] != '}');
    return n;
}

struct brace {
    const char *words; /* of a list, behind the brace */
    uint64_t n, from;
    bool range;
};

/* What is between `{` and `}`. */
static bool brace_read(const char *at, size_t size, struct brace *b)
{
    char *end;
    *b = (struct brace){.words = at, .n = 1};
    if (size && at[0] >= '0' && at[0] <= '9') {
        unsigned long long from = strtoull(at, &end, 10), to;
        if (!strncmp(end, "..", 2) && end[2] >= '0' && end[2] <= '9') {
            to = strtoull(end + 2, &end, 10);
            if (end != at + size || to < from || to - from >= KN_DNS_NAMES_MAX)
                return false;
            *b = (struct brace){.range = true, .from = from, .n = to - from + 1};
            return true;
        }
    }
    for (size_t i = 0; i < size; i++)
        b->n += at[i] == ',';
    return size > 0 && !memchr(at, '{', size);
}

static uint64_t pattern_count(const char *text, size_t size, struct kn_error *err)
{
    uint64_t n = 1;
    struct brace b;
    for (size_t i = 0; i < size; i++) {
        if (text[i] != '{')
            continue;
        const char *end = memchr(text + i, '}', size - i);
        if (!end || !brace_read(text + i + 1, (size_t)(end - text) - i - 1, &b)) {
            kn_fail(err, KN_E_ARGUMENT,
                    "names: '%.*s': braces must hold a range or a list, for example {1..100} or {a,b}", (int)size,
                    text);
            return 0;
        }
        if (b.n > KN_DNS_NAMES_MAX / n) {
            kn_fail(err, KN_E_ARGUMENT, "names: '%.*s' stands for more than %llu names", (int)size, text,
                    KN_DNS_NAMES_MAX);
            return 0;
        }
        n *= b.n;
        i = (size_t)(end - text);
    }
    return n;
}

static void append(char *to, size_t *n, const char *from, size_t size)
{
    if (size > KN_DNS_TEXT_MAX - 1 - *n)
        size = KN_DNS_TEXT_MAX - 1 - *n;
    memcpy(to + *n, from, size);
    *n += size;
}

static void append_choice(char *to, size_t *n, const struct brace *b, uint64_t i)
{
    char number[24];
    const char *word = b->words;
    if (b->range) {
        append(to, n, number, (size_t)snprintf(number, sizeof number, "%llu", (unsigned long long)(b->from + i)));
        return;
    }
    while (i--)
        word += strcspn(word, ",}") + 1;
    append(to, n, word, strcspn(word, ",}"));
}

static void pattern_at(const char *text, size_t size, uint64_t i, uint64_t count, char *to)
{
    size_t n = 0;
    struct brace b;
    for (size_t at = 0; at < size; at++) {
        if (text[at] != '{') {
            append(to, &n, text + at, 1);
            continue;
        }
        size_t inside = (size_t)((const char *)memchr(text + at, '}', size - at) - text) - at - 1;
        brace_read(text + at + 1, inside, &b);
        count /= b.n;
        append_choice(to, &n, &b, i / count);
        i %= count;
        at += inside + 1;
    }
    to[n] = '\0';
}

uint64_t kn_dns_names_count(const char *text, struct kn_error *err)
{
    uint64_t sum = 0;
    for (size_t size;; text += size + 1) {
        size = pattern_length(text);
        uint64_t n = size ? pattern_count(text, size, err) : 0;
        if (!size)
            kn_fail(err, KN_E_ARGUMENT, "names must be a list of names or patterns, got an empty one");
        if (!n)
            return 0;
        sum += n;
        if (!text[size])
            return sum;
    }
}

void kn_dns_names_at(const char *text, uint64_t i, char name[KN_DNS_TEXT_MAX])
{
    struct kn_error ignored;
    for (size_t size;; text += size + 1) {
        size = pattern_length(text);
        uint64_t n = pattern_count(text, size, &ignored);
        if (i < n || !text[size]) {
            pattern_at(text, size, i < n ? i : 0, n ? n : 1, name);
            return;
        }
        i -= n;
    }
}

/* ---- resolv.conf(5) ---- */

static void take_search(struct kn_dns_resolv *r, char *words)
{
    char *save;
    r->n_search = 0; /* the last line counts */
    for (char *w = strtok_r(words, " \t", &save); w && r->n_search < KN_DNS_SEARCH_MAX;
         w = strtok_r(NULL, " \t", &save))
        snprintf(r->search[r->n_search++], sizeof r->search[0], "%.*s", (int)sizeof r->search[0] - 1, w);
}

static void take_options(struct kn_dns_resolv *r, char *words)
{
    char *save;
    for (char *w = strtok_r(words, " \t", &save); w; w = strtok_r(NULL, " \t", &save))
        if (!strncmp(w, "ndots:", 6)) {
            unsigned long n = strtoul(w + 6, NULL, 10);
            r->ndots = n > 15 ? 15 : (unsigned)n;
        }
}

static void take_line(struct kn_dns_resolv *r, char *line)
{
    char *words = line + strcspn(line, " \t");
    if (*words)
        *words++ = '\0';
    words += strspn(words, " \t");
    if (!strcmp(line, "nameserver") && !r->nameserver[0])
        snprintf(r->nameserver, sizeof r->nameserver, "%.*s", (int)strcspn(words, " \t"), words);
    else if (!strcmp(line, "search") || !strcmp(line, "domain"))
        take_search(r, words);
    else if (!strcmp(line, "options"))
        take_options(r, words);
}

void kn_dns_resolv_parse(const char *text, struct kn_dns_resolv *r)
{
    char line[1024];
    *r = (struct kn_dns_resolv){.ndots = 1};
    for (size_t n; *text; text += n + (text[n] != '\0')) {
        n = strcspn(text, "\n");
        snprintf(line, sizeof line, "%.*s", (int)(n < sizeof line ? n : sizeof line - 1), text);
        if (line[0] != '#' && line[0] != ';')
            take_line(r, line);
    }
}

int kn_dns_resolv_load(const char *path, struct kn_dns_resolv *r, struct kn_error *err)
{
    char text[16384];
    FILE *f = fopen(path, "re");
    if (!f)
        return kn_fail_errno(err, "cannot read %s", path);
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = '\0';
    kn_dns_resolv_parse(text, r);
    return 0;
}

bool kn_dns_candidate(const struct kn_dns_resolv *r, const char *name, unsigned i, char candidate[KN_DNS_TEXT_MAX])
{
    unsigned dots = 0;
    size_t n = strlen(name);
    for (const char *c = name; *c; c++)
        dots += *c == '.';
    bool absolute = n && name[n - 1] == '.', first = dots >= r->ndots;
    unsigned as_it_is = absolute || first ? 0 : r->n_search;
    if (i > r->n_search || (absolute && i))
        return false;
    if (i == as_it_is)
        snprintf(candidate, KN_DNS_TEXT_MAX, "%s", name);
    else
        snprintf(candidate, KN_DNS_TEXT_MAX, "%.760s.%s", name, r->search[i - (first ? 1 : 0)]);
    return true;
}
