/* core/error - how functions report errors.
 *
 * A function that can fail takes a `struct kn_error *` (never NULL) as its last parameter and returns 0 or -1, or a
 * pointer or NULL. The function that knows the context writes the message, once. A message is always one line of valid
 * UTF-8. Nothing here prints. */
#ifndef KN_CORE_ERROR_H
#define KN_CORE_ERROR_H

#include <errno.h>
#include <stddef.h>

enum kn_code {
    KN_OK = 0,
    KN_E_ARGUMENT, /* invalid input: unknown key, bad unit, value out of range */
    KN_E_SYSTEM,   /* a system call failed; sys_errno has its errno */
    KN_E_MEMORY,
    KN_E_PERMISSION,
    KN_E_RESOLVE, /* the host name has no address */
    KN_E_REFUSED, /* connection refused */
    KN_E_UNREACHABLE,
    KN_E_TIMEOUT,
    KN_E_AUTH,     /* wrong token or key */
    KN_E_VERSION,  /* the peer has another protocol version */
    KN_E_PROTOCOL, /* the peer sent invalid data, or closed the connection early */
    KN_E_LIMIT,    /* a limit of the agent was exceeded */
    KN_E_LOST,     /* an agent stopped answering */
    KN_E_NO_DATA,  /* the run completed, but no data arrived */
    KN_E_INTERRUPTED,
    KN_E_UNSUPPORTED, /* this machine, kernel or build cannot do it */
    KN_E_IN_USE,
    KN_E_COUNT
};

struct kn_error {
    enum kn_code code;
    int sys_errno; /* errno of a failed system call, otherwise 0 */
    char message[512];
};

/* Fills `err` and returns -1, so that callers can write `return kn_fail(...)`. */
int kn_fail_with(struct kn_error *err, enum kn_code code, int sys_errno, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
#define kn_fail(err, code, ...) kn_fail_with((err), (code), 0, __VA_ARGS__)
/* For a failed system call: appends strerror() and derives the code from errno (ECONNREFUSED gives KN_E_REFUSED, EACCES
 * gives KN_E_PERMISSION, and so on). Call it before anything can change errno. */
int kn_fail_from(struct kn_error *err, int sys_errno, const char *format, ...) __attribute__((format(printf, 3, 4)));
#define kn_fail_errno(err, ...) kn_fail_from((err), errno, __VA_ARGS__)
#define kn_fail_memory(err) kn_fail((err), KN_E_MEMORY, "out of memory")
/* For functions that return a pointer: `return kn_null(kn_fail(...))`. */
static inline void *kn_null(int failed)
{
    (void)failed;
    return NULL;
}

/* Prefixes the message with "context: "; returns -1. */
int kn_error_context(struct kn_error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The names of codes in scripts and files: "refused", "timeout", … */
const char *kn_code_name(enum kn_code code);
enum kn_code kn_code_from_name(const char *name); /* KN_E_SYSTEM for an unknown name */
enum kn_code kn_code_from_errno(int sys_errno);

/* For text that is written to JSON, which must be UTF-8, and to terminals: replaces control characters with spaces and
 * invalid UTF-8 with "?". All messages are cleaned; snprintf may cut a sequence in two. */
void kn_text_clean(char *text);

/* Quotes untrusted text for a message: adds double quotes, shortens it, and replaces control characters and invalid
 * UTF-8 with "?". */
#define KN_QUOTE_MAX 80
const char *kn_quote(char buf[KN_QUOTE_MAX], const char *text);

#endif
