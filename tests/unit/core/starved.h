/* Memory runs out: malloc and its relatives fail at the n-th call, in this program and in every library that it loads.
 *
 * The functions here take the place of libc's and call them, or those of the address sanitizer. A scenario runs with
 * n = 1, 2, 3, … until it ends before its n-th allocation:
 *
 *     STARVED(n)
 *     {
 *         starved_begin(n);
 *         … what allocates …
 *         starved_end();
 *         … an error, or the whole result; all is freed …
 *     }
 *
 * Without a sanitizer only every seventh n is tried, because crashes are all that would be seen. */
#ifndef KN_TESTS_STARVED_H
#define KN_TESTS_STARVED_H

#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

#ifdef __SANITIZE_ADDRESS__
#define STARVED_STEP 1
#else
#define STARVED_STEP 7
#endif
#define STARVED_FRAMES 24

static atomic_long starved_left;       /* allocations until one fails, in all threads; 0: none fails */
static _Thread_local bool starved_fed; /* what this thread allocates neither counts nor fails */
static long starved_at;
static atomic_int starved_depth; /* frames of the allocation that failed */
static void *starved_stack[STARVED_FRAMES];

static bool starves(void)
{
    if (atomic_load_explicit(&starved_left, memory_order_relaxed) <= 0 || starved_fed)
        return false;
    if (atomic_fetch_sub(&starved_left, 1) != 1)
        return false;
    starved_fed = true;
    atomic_store(&starved_depth, backtrace(starved_stack, STARVED_FRAMES));
    starved_fed = false;
    errno = ENOMEM;
    return true;
}

/* Of the sanitizer's library where there is one, else of libc. */
#define STARVED_REAL(name, parameters, arguments)                                               \
    void *__interceptor_##name parameters __attribute__((weak));                                \
    void *__libc_##name parameters __attribute__((weak));                                       \
    static void *real_##name parameters                                                         \
    {                                                                                           \
        return __interceptor_##name ? __interceptor_##name arguments : __libc_##name arguments; \
    }
STARVED_REAL(malloc, (size_t size), (size))
STARVED_REAL(calloc, (size_t n, size_t size), (n, size))
STARVED_REAL(realloc, (void *old, size_t size), (old, size))
STARVED_REAL(memalign, (size_t align, size_t size), (align, size))

#define STARVED_PUBLIC __attribute__((visibility("default")))

STARVED_PUBLIC void *malloc(size_t size)
{
    return starves() ? NULL : real_malloc(size);
}

STARVED_PUBLIC void *calloc(size_t n, size_t size)
{
    return starves() ? NULL : real_calloc(n, size);
}

STARVED_PUBLIC void *realloc(void *old, size_t size)
{
    return starves() ? NULL : real_realloc(old, size);
}

STARVED_PUBLIC void *aligned_alloc(size_t align, size_t size)
{
    return starves() ? NULL : real_memalign(align, size);
}

STARVED_PUBLIC int posix_memalign(void **out, size_t align, size_t size)
{
    void *memory = starves() ? NULL : real_memalign(align, size);
    *out = memory ? memory : *out;
    return memory ? 0 : ENOMEM;
}

/* The sanitizer's do not call malloc. */
STARVED_PUBLIC char *strndup(const char *text, size_t most)
{
    size_t size = strnlen(text, most);
    char *copy = malloc(size + 1);
    if (copy) {
        memcpy(copy, text, size);
        copy[size] = '\0';
    }
    return copy;
}

STARVED_PUBLIC char *strdup(const char *text)
{
    return strndup(text, strlen(text));
}

/* The sanitizer asks for the stack of each new thread, and ends the process where it learns nothing. */
STARVED_PUBLIC int pthread_getattr_np(pthread_t thread, pthread_attr_t *attr)
{
    int (*real)(pthread_t, pthread_attr_t *);
    bool fed = starved_fed;
    starved_fed = true;
    *(void **)&real = dlsym(RTLD_NEXT, "pthread_getattr_np");
    int failed = real(thread, attr);
    starved_fed = fed;
    return failed;
}

/* A dlopen() of glibc that fails halfway. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:dl_open_worker\n";
}

/* From here on, until starved_end(), the n-th allocation fails. */
static inline void starved_begin(long n)
{
    backtrace(starved_stack, STARVED_FRAMES); /* the first one loads a library */
    atomic_store(&starved_depth, 0);
    starved_at = n;
    atomic_store(&starved_left, n);
}

/* Whether it did fail. */
static inline bool starved_end(void)
{
    return atomic_exchange(&starved_left, 0) <= 0;
}

/* The next n; 0: the scenario ended before this one. */
static inline long starved_next(long n, long step)
{
    return n == 0 ? 1 : atomic_load(&starved_depth) ? n + step : 0;
}
#define STARVED_BY(n, step) for (long n = starved_next(0, 1); n; n = starved_next(n, step))
#define STARVED(n) STARVED_BY(n, STARVED_STEP)

/* Fails the test, and says where memory ran out. */
#define starved_fail(...)                                                                \
    do {                                                                                 \
        starved_fed = true;                                                              \
        fprintf(stderr, "memory ran out at allocation %ld:\n", starved_at);              \
        backtrace_symbols_fd(starved_stack, atomic_load(&starved_depth), STDERR_FILENO); \
        fail_msg(__VA_ARGS__);                                                           \
    } while (0)

/* The result of a function with an error: `ok`, or an error with a message. */
static inline void starved_expect(bool ok, const struct kn_error *err)
{
    if (!ok && (err->code == KN_OK || !*err->message))
        starved_fail("it failed without an error");
    if (!ok && !atomic_load(&starved_depth))
        fail_msg("it failed although memory was left: %s", err->message);
}

#endif
