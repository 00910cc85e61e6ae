#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <unistd.h>

/* ---- _FORTIFY_SOURCE, as the libraries were built: the same checks ---- */

long __fdelt_chk(long fd);
int __vsnprintf_chk(char *to, size_t n, int flag, size_t room, const char *format, va_list args);
int __snprintf_chk(char *to, size_t n, int flag, size_t room, const char *format, ...);
int __vfprintf_chk(FILE *to, int flag, const char *format, va_list args);
int __fprintf_chk(FILE *to, int flag, const char *format, ...);
char *__strncpy_chk(char *to, const char *from, size_t n, size_t room);
void __explicit_bzero_chk(void *to, size_t n, size_t room);
void *__memcpy_chk(void *to, const void *from, size_t n, size_t room);

static void check(int within)
{
    if (!within)
        abort();
}

long __fdelt_chk(long fd)
{
    check(fd >= 0 && fd < FD_SETSIZE);
    return fd / (8 * (long)sizeof(long));
}

int __vsnprintf_chk(char *to, size_t n, int flag, size_t room, const char *format, va_list args)
{
    (void)flag;
    check(n <= room);
    return vsnprintf(to, n, format, args);
}

int __snprintf_chk(char *to, size_t n, int flag, size_t room, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int length = __vsnprintf_chk(to, n, flag, room, format, args);
    va_end(args);
    return length;
}

int __vfprintf_chk(FILE *to, int flag, const char *format, va_list args)
{
    (void)flag;
    return vfprintf(to, format, args);
}

int __fprintf_chk(FILE *to, int flag, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int length = __vfprintf_chk(to, flag, format, args);
    va_end(args);
    return length;
}

char *__strncpy_chk(char *to, const char *from, size_t n, size_t room)
{
    check(n <= room);
    return strncpy(to, from, n);
}

void __explicit_bzero_chk(void *to, size_t n, size_t room)
{
    check(n <= room);
    explicit_bzero(to, n);
}

void *__memcpy_chk(void *to, const void *from, size_t n, size_t room)
{
    check(n <= room);
    return memcpy(to, from, n);
}

/* ---- other names of the same functions: files are large here anyway, and C23 adds binary digits only ---- */

#undef pread64
#undef sendfile64
ssize_t pread64(int fd, void *buf, size_t size, off_t at);
ssize_t sendfile64(int to, int from, off_t *at, size_t size);
long long __isoc23_strtoll(const char *text, char **end, int base);

ssize_t pread64(int fd, void *buf, size_t size, off_t at)
{
    return pread(fd, buf, size, at);
}

ssize_t sendfile64(int to, int from, off_t *at, size_t size)
{
    return sendfile(to, from, at, size);
}

long long __isoc23_strtoll(const char *text, char **end, int base)
{
    return strtoll(text, end, base);
}

/* ---- libsodium's beginning, without what the agent does not use ----
 *
 * Its own refers to every primitive, to choose the fastest code for this CPU: 130 KB. BLAKE2b and the kernel's random
 * bytes, all that knbl takes, work without a choice. */

int sodium_init(void)
{
    randombytes_stir();
    return 0;
}

void sodium_misuse(void)
{
    abort();
}
