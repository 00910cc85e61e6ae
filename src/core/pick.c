#include "core/pick.h"

#include <stdbool.h>
#include <string.h>

/* `at` runs ahead of `out`: what is kept moves towards the front of the same text. */
struct pick {
    char *begin, *at, *end, *out;
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

static void skip_blanks(struct pick *p)
{
    while (p->at < p->end && is_blank(*p->at))
        p->at++;
}

/* From the opening quote to after the closing one; false if there is none. */
static bool skip_string(struct pick *p)
{
    for (char *s = p->at + 1; (s = memchr(s, '"', (size_t)(p->end - s))); s++) {
        char *last = s;
        while (last[-1] == '\\')
            last--;
        if ((s - last) % 2 == 0) {
            p->at = s + 1;
            return true;
        }
    }
    return false;
}

/* Ends of what a number or a word can be; the zero byte after the text is one. */
static bool ends_scalar(char c)
{
    return is_blank(c) || c == ',' || c == '}' || c == ']' || c == ':' || c == '"' || c == '{' || c == '[' || !c;
}

static bool skip_scalar(struct pick *p)
{
    char *begin = p->at;
    while (!ends_scalar(*p->at))
        p->at++;
    return p->at > begin;
}

/* What stops the search for the end of an object or array. */
static const bool stops[256] = {['"'] = true, ['{'] = true, ['['] = true, ['}'] = true, [']'] = true, [0] = true};

static bool skip_container(struct pick *p)
{
    for (size_t depth = 0;;) {
        while (!stops[(unsigned char)*p->at])
            p->at++;
        if (!*p->at)
            return false;
        if (*p->at == '"') {
            if (!skip_string(p))
                return false;
            continue;
        }
        depth += *p->at == '{' || *p->at == '[' ? 1 : (size_t)-1;
        p->at++;
        if (!depth)
            return true;
    }
}

static bool skip_value(struct pick *p)
{
    return *p->at == '{' || *p->at == '[' ? skip_container(p) : *p->at == '"' ? skip_string(p) : skip_scalar(p);
}

static void copy(struct pick *p, const char *from)
{
    size_t n = (size_t)(p->at - from);
    memmove(p->out, from, n);
    p->out += n;
}

static bool pick_value(struct pick *p, const json_t *shape);

/* `"name":` and its value, if the shape names it; `first` says whether a comma must come before it. */
static bool pick_member(struct pick *p, const json_t *shape, bool *first)
{
    char *name = p->at;
    if (*name != '"' || !skip_string(p))
        return false;
    const char *end = p->at;
    const json_t *inner = json_object_getn(shape, name + 1, (size_t)(end - name - 2));
    skip_blanks(p);
    if (*p->at != ':')
        return false;
    p->at++;
    skip_blanks(p);
    if (!inner)
        return skip_value(p);
    if (!*first)
        *p->out++ = ',';
    *first = false;
    memmove(p->out, name, (size_t)(end - name));
    p->out += end - name;
    *p->out++ = ':';
    return pick_value(p, inner);
}

static bool pick_element(struct pick *p, const json_t *shape, bool *first)
{
    if (!*first)
        *p->out++ = ',';
    *first = false;
    return pick_value(p, shape);
}

static bool pick_container(struct pick *p, const json_t *shape)
{
    bool object = *p->at == '{', first = true;
    char closing = object ? '}' : ']';
    *p->out++ = *p->at++;
    skip_blanks(p);
    while (*p->at != closing) {
        if (!(object ? pick_member(p, shape, &first) : pick_element(p, json_array_get(shape, 0), &first)))
            return false;
        skip_blanks(p);
        if (*p->at != ',' && *p->at != closing)
            return false;
        if (*p->at == ',')
            p->at++;
        skip_blanks(p);
    }
    p->at++;
    *p->out++ = closing;
    return true;
}

static bool pick_value(struct pick *p, const json_t *shape)
{
    if ((*p->at == '{' && json_is_object(shape)) || (*p->at == '[' && json_array_size(shape)))
        return pick_container(p, shape);
    const char *begin = p->at;
    if (!skip_value(p))
        return false;
    copy(p, begin);
    return true;
}

ptrdiff_t kn_json_pick(char *text, size_t size, const json_t *shape, struct kn_error *err)
{
    struct pick p = {.begin = text, .at = text, .end = text + size, .out = text};
    skip_blanks(&p);
    bool good = pick_value(&p, shape);
    skip_blanks(&p);
    if (!good || p.at != p.end)
        return kn_fail(err, KN_E_ARGUMENT, "not JSON: unexpected %s at byte %zu", p.at < p.end ? "text" : "end",
                       (size_t)(p.at - text));
    return p.out - text;
}
