#include "net/addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/thread.h"

/* ---- text ---- */

static int parse_port(const char *text, const char *whole, uint16_t *port, struct kn_error *err)
{
    unsigned long value = 0;
    size_t n = strlen(text);
    if (n == 0 || n > 5 || strspn(text, "0123456789") != n || (value = strtoul(text, NULL, 10)) > 65535)
        return kn_fail(err, KN_E_ARGUMENT, "\"%.200s\": the port must be a number up to 65535, as in \"10.0.0.1:7099\"",
                       whole);
    *port = (uint16_t)value;
    return 0;
}

/* Finds the end of the host and the start of the port. A bare IPv6 address has several colons and no port. */
static int find_parts(const char *text, const char **host, size_t *length, const char **port, struct kn_error *err)
{
    *port = NULL;
    if (text[0] == '[') {
        const char *end = strchr(text, ']');
        if (!end || (end[1] != '\0' && end[1] != ':'))
            return kn_fail(err, KN_E_ARGUMENT,
                           "\"%.200s\": an IPv6 address with a port must be written as \"[fd00::1]:7099\"", text);
        *host = text + 1;
        *length = (size_t)(end - text - 1);
        if (end[1] == ':')
            *port = end + 2;
        return 0;
    }
    const char *first = strchr(text, ':'), *last = strrchr(text, ':');
    bool with_port = first && first == last;
    *host = text;
    *length = with_port ? (size_t)(first - text) : strlen(text);
    if (with_port)
        *port = first + 1;
    return 0;
}

int kn_addr_split(const char *text, char *host, size_t host_size, uint16_t *port, struct kn_error *err)
{
    const char *from = text, *port_text = NULL;
    size_t n = 0;
    if (text[0] == '\0')
        return kn_fail(err, KN_E_ARGUMENT, "empty address; expected for example \"10.0.0.1:7099\"");
    if (find_parts(text, &from, &n, &port_text, err))
        return -1;
    if (n >= host_size)
        return kn_fail(err, KN_E_ARGUMENT, "\"%.60s…\": the host name is too long: %zu characters", text, n);
    if (strcspn(text, " \t\r\n/@") != strlen(text))
        return kn_fail(err, KN_E_ARGUMENT, "\"%.200s\" is not an address; expected for example \"10.0.0.1:7099\"",
                       text);
    if (port_text && parse_port(port_text, text, port, err))
        return -1;
    memcpy(host, from, n);
    host[n] = '\0';
    return 0;
}

bool kn_addr_is_mapped(const struct kn_addr *a)
{
    return a->u.sa.sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&a->u.v6.sin6_addr);
}

char *kn_addr_host(const struct kn_addr *a, char *buf, size_t size)
{
    char text[INET6_ADDRSTRLEN] = "?";
    if (a->u.sa.sa_family == AF_INET)
        inet_ntop(AF_INET, &a->u.v4.sin_addr, text, sizeof text);
    else if (kn_addr_is_mapped(a))
        inet_ntop(AF_INET, &a->u.v6.sin6_addr.s6_addr[12], text, sizeof text);
    else if (a->u.sa.sa_family == AF_INET6)
        inet_ntop(AF_INET6, &a->u.v6.sin6_addr, text, sizeof text);
    snprintf(buf, size, "%s", text);
    return buf;
}

char *kn_addr_text(const struct kn_addr *a, char *buf, size_t size)
{
    char host[KN_ADDR_TEXT_MAX];
    bool brackets = kn_addr_is_v6(a) && !kn_addr_is_mapped(a);
    kn_addr_host(a, host, sizeof host);
    snprintf(buf, size, brackets ? "[%s]:%u" : "%s:%u", host, kn_addr_port(a));
    return buf;
}

uint16_t kn_addr_port(const struct kn_addr *a)
{
    if (a->u.sa.sa_family == AF_INET6)
        return ntohs(a->u.v6.sin6_port);
    return a->u.sa.sa_family == AF_INET ? ntohs(a->u.v4.sin_port) : 0;
}

bool kn_addr_is_v6(const struct kn_addr *a)
{
    return a->u.sa.sa_family == AF_INET6;
}

bool kn_addr_equal(const struct kn_addr *a, const struct kn_addr *b)
{
    if (a->u.sa.sa_family != b->u.sa.sa_family)
        return false;
    if (a->u.sa.sa_family == AF_INET)
        return a->u.v4.sin_port == b->u.v4.sin_port && a->u.v4.sin_addr.s_addr == b->u.v4.sin_addr.s_addr;
    return a->u.v6.sin6_port == b->u.v6.sin6_port && a->u.v6.sin6_scope_id == b->u.v6.sin6_scope_id &&
           !memcmp(&a->u.v6.sin6_addr, &b->u.v6.sin6_addr, sizeof a->u.v6.sin6_addr);
}

/* ---- names to addresses ---- */

/* getaddrinfo has no timeout and cannot be cancelled, so it runs in a thread, which is abandoned after the timeout. The
 * job belongs to both threads; the last one to release it frees it. */
struct lookup {
    pthread_mutex_t lock;
    pthread_cond_t done_cond;
    unsigned owners;
    bool done;
    int result;
    struct addrinfo hints, *found;
    char host[];
};

static void lookup_release(struct lookup *job)
{
    pthread_mutex_lock(&job->lock);
    bool last = --job->owners == 0;
    pthread_mutex_unlock(&job->lock);
    if (!last)
        return;
    if (job->found)
        freeaddrinfo(job->found);
    pthread_cond_destroy(&job->done_cond);
    pthread_mutex_destroy(&job->lock);
    free(job);
}

static void *lookup_main(void *argument)
{
    struct lookup *job = argument;
    struct addrinfo *found = NULL;
    int result = getaddrinfo(job->host, NULL, &job->hints, &found);
    pthread_mutex_lock(&job->lock);
    job->result = result;
    job->found = result ? NULL : found;
    job->done = true;
    pthread_cond_signal(&job->done_cond);
    pthread_mutex_unlock(&job->lock);
    lookup_release(job);
    return NULL;
}

static struct lookup *lookup_new(const char *host, const struct addrinfo *hints)
{
    size_t n = strlen(host) + 1;
    struct lookup *job = calloc(1, sizeof *job + n);
    if (!job)
        return NULL;
    memcpy(job->host, host, n);
    job->hints = *hints;
    job->owners = 2;
    kn_lock_init(&job->lock, &job->done_cond);
    return job;
}

static bool lookup_wait(struct lookup *job, uint64_t timeout_ns)
{
    uint64_t until = kn_now_ns() + timeout_ns;
    struct timespec at = kn_timespec(until);
    pthread_mutex_lock(&job->lock);
    while (!job->done && pthread_cond_timedwait(&job->done_cond, &job->lock, &at) == 0)
        ;
    bool done = job->done;
    pthread_mutex_unlock(&job->lock);
    return done;
}

static int lookup_start(struct lookup *job)
{
    pthread_attr_t detached;
    pthread_t thread;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    int rc = pthread_create(&thread, &detached, lookup_main, job);
    pthread_attr_destroy(&detached);
    return rc;
}

static const char *family_name(unsigned ip)
{
    return ip == 4 ? "IPv4 " : ip == 6 ? "IPv6 " : "";
}

/* Resolves a name in another thread, with a timeout. */
static int resolve_name(const char *host, unsigned ip, const struct addrinfo *hints, uint64_t timeout_ns,
                        struct kn_addr *out, struct kn_error *err)
{
    int rc = 0;
    struct lookup *job = lookup_new(host, hints);
    if (!job)
        return kn_fail(err, KN_E_MEMORY, "out of memory while resolving %.200s", host);
    if ((errno = lookup_start(job)) != 0) {
        kn_fail_errno(err, "cannot start a thread to resolve %.200s", host);
        lookup_release(job);
        lookup_release(job);
        return -1;
    }
    if (!lookup_wait(job, timeout_ns))
        rc = kn_fail(err, KN_E_TIMEOUT, "cannot resolve %.200s: no answer within %.3g s", host,
                     (double)timeout_ns / 1e9);
    else if (job->result || !job->found)
        rc = kn_fail(err, KN_E_RESOLVE, "%.200s: no %saddress (%s)", host, family_name(ip),
                     job->result ? gai_strerror(job->result) : "none found");
    else {
        memcpy(&out->u, job->found->ai_addr, job->found->ai_addrlen);
        out->len = job->found->ai_addrlen;
    }
    lookup_release(job);
    return rc;
}

struct kn_addr kn_addr_any(bool v6, uint16_t port)
{
    struct kn_addr any = {.len = v6 ? sizeof any.u.v6 : sizeof any.u.v4};
    if (v6)
        any.u.v6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(port)};
    else
        any.u.v4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
    return any;
}

/* IPv6 takes both families; a kernel without it has IPv4 only. */
static bool has_v6(void)
{
    int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

/* True if `host` is a numeric address. Scopes ("fe80::1%eth0") need getaddrinfo, which sends no queries for them. */
static bool resolve_number(const char *host, struct kn_addr *out)
{
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM}, *found = NULL;
    if (getaddrinfo(host, NULL, &hints, &found) || !found)
        return false;
    memcpy(&out->u, found->ai_addr, found->ai_addrlen);
    out->len = found->ai_addrlen;
    freeaddrinfo(found);
    return true;
}

static void set_port(struct kn_addr *a, uint16_t port)
{
    if (kn_addr_is_v6(a))
        a->u.v6.sin6_port = htons(port);
    else
        a->u.v4.sin_port = htons(port);
}

int kn_addr_resolve(const char *host, uint16_t port, unsigned ip, uint64_t timeout_ns, struct kn_addr *out,
                    struct kn_error *err)
{
    int family = ip == 4 ? AF_INET : ip == 6 ? AF_INET6 : AF_UNSPEC;
    struct addrinfo hints = {.ai_family = family, .ai_socktype = SOCK_STREAM};
    memset(out, 0, sizeof *out);
    if (host[0] == '\0')
        *out = kn_addr_any(ip == 6 || (ip != 4 && has_v6()), port);
    else if (resolve_number(host, out)) {
        if (family != AF_UNSPEC && out->u.sa.sa_family != family)
            return kn_fail(err, KN_E_ARGUMENT, "%.200s is not an %saddress", host, family_name(ip));
    } else if (resolve_name(host, ip, &hints, timeout_ns, out, err))
        return -1;
    set_port(out, port);
    return 0;
}
