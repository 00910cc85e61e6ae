#include "agent/http_head.h"

#include <string.h>
#include <strings.h>

static bool may_be_method(const char *bytes, size_t n)
{
    static const char *const methods[] = {"GET ", "POST", "DELE", "HEAD", "PUT ", "OPTI", "PATC"};
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (!memcmp(bytes, methods[i], n < 4 ? n : 4))
            return true;
    return false;
}

/* A CR without its LF, or an LF alone, among the first n of `size` bytes: libmicrohttpd would end a line there, and
 * read other headers than this file does. */
static bool has_bare_break(const char *head, size_t n, size_t size)
{
    for (size_t i = 0; i < n; i++)
        if (head[i] == '\n' ? i == 0 || head[i - 1] != '\r' : head[i] == '\r' && i + 1 < size && head[i + 1] != '\n')
            return true;
    return false;
}

enum kn_head kn_head_look(const char *head, size_t size)
{
    const char *empty_line = memmem(head, size, "\r\n\r\n", 4);
    size_t n = empty_line ? (size_t)(empty_line - head) : size;
    if (!may_be_method(head, size) || memchr(head, '\0', n) || has_bare_break(head, n, size))
        return KN_HEAD_GARBAGE;
    if (empty_line)
        return KN_HEAD_WHOLE;
    return size < KN_HEAD_MAX ? KN_HEAD_PART : KN_HEAD_GARBAGE;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* The line after this one; NULL at the empty line. */
static const char *next_line(const char *at, const char *end)
{
    const char *line = memmem(at, (size_t)(end - at), "\r\n", 2);
    return line && end - line > 2 && line[2] != '\r' ? line + 2 : NULL;
}

bool kn_head_value(const char *head, size_t size, const char *name, char *value, size_t room)
{
    size_t length = strlen(name);
    const char *end = head + size, *line = head;
    while ((line = next_line(line, end))) {
        if ((size_t)(end - line) <= length || strncasecmp(line, name, length) || line[length] != ':')
            continue;
        const char *from = line + length + 1, *to = memmem(from, (size_t)(end - from), "\r\n", 2);
        if (!to)
            return false;
        while (from < to && is_blank(*from))
            from++;
        while (from < to && is_blank(to[-1]))
            to--;
        size_t n = (size_t)(to - from);
        if (n >= room)
            return false;
        memcpy(value, from, n);
        value[n] = '\0';
        return true;
    }
    return false;
}

bool kn_head_has_body(const char *head, size_t size)
{
    char value[64];
    if (kn_head_value(head, size, "Transfer-Encoding", value, sizeof value))
        return true;
    return kn_head_value(head, size, "Content-Length", value, sizeof value) && strspn(value, "0") != strlen(value);
}
