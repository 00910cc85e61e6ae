#include "core/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const code_names[KN_E_COUNT] = {
    [KN_OK] = "ok",
    [KN_E_ARGUMENT] = "argument",
    [KN_E_SYSTEM] = "system",
    [KN_E_MEMORY] = "memory",
    [KN_E_PERMISSION] = "permission",
    [KN_E_RESOLVE] = "resolve",
    [KN_E_REFUSED] = "refused",
    [KN_E_UNREACHABLE] = "unreachable",
    [KN_E_TIMEOUT] = "timeout",
    [KN_E_AUTH] = "auth",
    [KN_E_VERSION] = "version",
    [KN_E_PROTOCOL] = "protocol",
    [KN_E_LIMIT] = "limit",
    [KN_E_LOST] = "lost",
    [KN_E_NO_DATA] = "no_data",
    [KN_E_INTERRUPTED] = "interrupted",
    [KN_E_UNSUPPORTED] = "unsupported",
    [KN_E_IN_USE] = "in_use",
};

/* The length of the UTF-8 sequence at `s`, or 0 if it is invalid (including overlong forms, surrogates and code points
 * above U+10FFFF). */
static size_t utf8_length(const unsigned char *s)
{
    if (s[0] < 0x80)
        return 1;
    size_t n = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
    if (s[0] < 0xc2 || s[0] > 0xf4)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) ||
        (s[0] == 0xf4 && s[1] > 0x8f))
        return 0;
    return n;
}

void kn_text_clean(char *text)
{
    for (unsigned char *s = (unsigned char *)text; *s;) {
        size_t n = utf8_length(s);
        if (n == 0 || *s < 0x20 || *s == 0x7f) {
            *s = n == 1 ? ' ' : '?';
            n = 1;
        }
        s += n;
    }
}

static void append(char *message, size_t size, const char *text)
{
    size_t used = strlen(message), n = strnlen(text, size - 1 - used);
    memcpy(message + used, text, n);
    message[used + n] = 0;
}

int kn_fail_with(struct kn_error *err, enum kn_code code, int sys_errno, const char *format, ...)
{
    va_list args;
    err->code = code;
    err->sys_errno = sys_errno;
    va_start(args, format);
    vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    kn_text_clean(err->message);
    return -1;
}

enum kn_code kn_code_from_errno(int sys_errno)
{
    switch (sys_errno) {
    case ECONNREFUSED: return KN_E_REFUSED;
    case EACCES:
    case EPERM: return KN_E_PERMISSION;
    case ENOMEM: return KN_E_MEMORY;
    case ETIMEDOUT: return KN_E_TIMEOUT;
    case ENETUNREACH:
    case EHOSTUNREACH:
    case ENETDOWN:
    case EHOSTDOWN: return KN_E_UNREACHABLE;
    case EADDRINUSE: return KN_E_IN_USE;
    case EINTR:
    case ECANCELED: return KN_E_INTERRUPTED;
    case ENOSYS:
    case EOPNOTSUPP:
    case EPROTONOSUPPORT:
    case EAFNOSUPPORT:
    case ENOPROTOOPT: return KN_E_UNSUPPORTED;
    case ECONNRESET:
    case EPIPE: return KN_E_LOST;
    case EMFILE:
    case ENFILE: return KN_E_LIMIT;
    default: return KN_E_SYSTEM;
    }
}

int kn_fail_from(struct kn_error *err, int sys_errno, const char *format, ...)
{
    va_list args;
    err->code = kn_code_from_errno(sys_errno);
    err->sys_errno = sys_errno;
    va_start(args, format);
    vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    append(err->message, sizeof err->message, ": ");
    append(err->message, sizeof err->message, strerror(sys_errno)); /* thread-safe in glibc and musl */
    kn_text_clean(err->message);
    return -1;
}

int kn_error_context(struct kn_error *err, const char *format, ...)
{
    char message[sizeof err->message];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    append(message, sizeof message, ": ");
    append(message, sizeof message, err->message);
    memcpy(err->message, message, sizeof message);
    kn_text_clean(err->message);
    return -1;
}

const char *kn_code_name(enum kn_code code)
{
    return (unsigned)code < KN_E_COUNT ? code_names[code] : code_names[KN_E_SYSTEM];
}

enum kn_code kn_code_from_name(const char *name)
{
    for (unsigned i = 0; i < KN_E_COUNT; i++)
        if (strcmp(name, code_names[i]) == 0)
            return (enum kn_code)i;
    return KN_E_SYSTEM;
}

const char *kn_quote(char buf[KN_QUOTE_MAX], const char *text)
{
    static const char cut[] = "…\"";
    const unsigned char *s = (const unsigned char *)text;
    size_t used = 0;
    buf[used++] = '"';
    while (*s && used + 4 + sizeof cut < KN_QUOTE_MAX) {
        size_t n = utf8_length(s);
        if (n == 0 || *s < 0x20 || *s == 0x7f) {
            buf[used++] = '?';
            s++;
            continue;
        }
        memcpy(buf + used, s, n);
        used += n;
        s += n;
    }
    strcpy(buf + used, *s ? cut : "\"");
    return buf;
}
