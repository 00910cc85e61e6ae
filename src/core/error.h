/* core/error - the one way in which a function says what went wrong.
 *
 * A function that can fail takes a `struct kn_error *` (never NULL) last and returns 0 or -1, a pointer or NULL.
 * Whoever knows the context writes the message, once. It is always one line of valid UTF-8. Nothing here prints. */
#ifndef KN_CORE_ERROR_H
#define KN_CORE_ERROR_H

#include <errno.h>
#include <stddef.h>

enum kn_code {
    KN_OK = 0,
    KN_E_ARGUMENT,    /* what was asked cannot be asked: unknown key, bad unit, absurd size */
    KN_E_SYSTEM,      /* the kernel said no; sys_errno says how */
    KN_E_MEMORY,
    KN_E_PERMISSION,
    KN_E_RESOLVE,     /* a host name without an address */
    KN_E_REFUSED,     /* nobody listens there */
    KN_E_UNREACHABLE,
    KN_E_TIMEOUT,
    KN_E_AUTH,        /* wrong token or key */
    KN_E_VERSION,     /* the other side speaks another version */
    KN_E_PROTOCOL,    /* the other side speaks nonsense, or hung up in the middle */
    KN_E_LIMIT,       /* more than the agent allows */
    KN_E_LOST,        /* an agent that answered before answers no more */
    KN_E_NO_DATA,     /* the run went through, and nothing arrived */
    KN_E_INTERRUPTED,
    KN_E_UNSUPPORTED, /* this machine, kernel or build cannot do it */
    KN_E_IN_USE,
    KN_E_COUNT
};

struct kn_error {
    enum kn_code code;
    int sys_errno;         /* 0 where the kernel had no part in it */
    char message[512];
};

/* Fills `err` and returns -1, so that `return kn_fail(...)` reads well. */
int kn_fail_with(struct kn_error *err, enum kn_code code, int sys_errno, const char *format, ...) __attribute__((format(printf, 4, 5)));
#define kn_fail(err, code, ...) kn_fail_with((err), (code), 0, __VA_ARGS__)
/* The same for a failed system call: appends strerror(), and picks the code from errno
 * (ECONNREFUSED is KN_E_REFUSED, EACCES KN_E_PERMISSION, and so on). Read errno before anything else can change it. */
int kn_fail_from(struct kn_error *err, int sys_errno, const char *format, ...) __attribute__((format(printf, 3, 4)));
#define kn_fail_errno(err, ...) kn_fail_from((err), errno, __VA_ARGS__)
#define kn_fail_memory(err) kn_fail((err), KN_E_MEMORY, "out of memory")

/* Puts "context: " before the message. */
void kn_error_context(struct kn_error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* "refused", "timeout", …: the names that scripts and files see. */
const char *kn_code_name(enum kn_code code);
enum kn_code kn_code_from_name(const char *name); /* KN_E_SYSTEM for a name nobody knows */
enum kn_code kn_code_from_errno(int sys_errno);

/* Somebody else's text, fit for a message: in double quotes, cut, control characters and broken UTF-8 as "?". */
#define KN_QUOTE_MAX 80
const char *kn_quote(char buf[KN_QUOTE_MAX], const char *text);

#endif
