/* What the tests of the lower floors share: cmocka with its headers, random numbers that are the same at every run,
 * errors, whether there is IPv6. */
#ifndef KN_TESTS_CHECK_H
#define KN_TESTS_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "core/error.h"

struct random {
    uint64_t state;
};

/* splitmix64 */
static inline uint64_t random_next(struct random *r)
{
    uint64_t z = r->state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* In (0, 1]. */
static inline double random_unit(struct random *r)
{
    return (double)((random_next(r) >> 11) + 1) / 9007199254740992.0;
}

/* A refusal has a code, and one line of valid UTF-8 that says these things. */
static inline void check_refusal(const struct kn_error *err, enum kn_code code, const char *says)
{
    json_t *text = json_string(err->message);
    if (err->code != code || !text || !*err->message || strchr(err->message, '\n') ||
        (says && !strstr(err->message, says)))
        fail_msg("\"%s\" (%s) should be %s and say \"%s\"", err->message, kn_code_name(err->code), kn_code_name(code),
                 says ? says : "");
    json_decref(text);
}

/* Whether this machine has IPv6, on its loopback at least. */
static inline bool has_ipv6(void)
{
    struct sockaddr_in6 at = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int fd = socket(AF_INET6, SOCK_DGRAM, 0);
    bool has = fd >= 0 && !bind(fd, (struct sockaddr *)&at, sizeof at);
    if (fd >= 0)
        close(fd);
    return has;
}

#endif
