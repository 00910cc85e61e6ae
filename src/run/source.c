#include "run/source.h"

#include <ifaddrs.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define PORTS_USUAL 28232
#define FILES_ELSE 64 /* open files for other purposes */

/* Without /proc, the kernel's default range. */
static unsigned ports_of_an_address(void)
{
    unsigned from = 0, to = 0;
    FILE *file = fopen("/proc/sys/net/ipv4/ip_local_port_range", "re");
    bool good = file && fscanf(file, "%u %u", &from, &to) == 2 && to >= from;
    if (file)
        fclose(file);
    return good ? to - from + 1 : PORTS_USUAL;
}

/* The local address that the kernel would choose. */
static int own_address(const struct kn_addr *peer, struct kn_addr *own)
{
    int fd = socket(peer->u.sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    own->len = sizeof own->u;
    int failed = connect(fd, &peer->u.sa, peer->len) || getsockname(fd, &own->u.sa, &own->len);
    close(fd);
    return failed ? -1 : 0;
}

static bool same_host(const struct kn_addr *a, const struct sockaddr *b)
{
    if (!b || a->u.sa.sa_family != b->sa_family)
        return false;
    if (b->sa_family == AF_INET)
        return a->u.v4.sin_addr.s_addr == ((const struct sockaddr_in *)(const void *)b)->sin_addr.s_addr;
    const struct in6_addr *in6 = &((const struct sockaddr_in6 *)(const void *)b)->sin6_addr;
    return IN6_ARE_ADDR_EQUAL(&a->u.v6.sin6_addr, in6);
}

static bool usable(const struct kn_addr *own, const struct sockaddr *a)
{
    if (!a || a->sa_family != own->u.sa.sa_family)
        return false;
    if (a->sa_family == AF_INET)
        return true;
    const struct in6_addr *in6 = &((const struct sockaddr_in6 *)(const void *)a)->sin6_addr;
    return !IN6_IS_ADDR_LINKLOCAL(in6) && !IN6_IS_ADDR_LOOPBACK(in6);
}

static void add(struct kn_sources *s, const struct sockaddr *a, unsigned most)
{
    bool v6 = a->sa_family == AF_INET6;
    if (s->n == KN_SOURCES_MAX || s->n >= most)
        return;
    struct kn_addr *to = &s->at[s->n++];
    memset(to, 0, sizeof *to);
    to->len = v6 ? sizeof to->u.v6 : sizeof to->u.v4;
    memcpy(&to->u, a, to->len);
    if (v6)
        to->u.v6.sin6_port = 0;
    else
        to->u.v4.sin_port = 0;
}

/* Its own address first, then the others of its interface. */
static void add_interface(struct kn_sources *s, const struct kn_addr *own, unsigned most)
{
    struct ifaddrs *all, *mine = NULL;
    if (getifaddrs(&all))
        return;
    for (struct ifaddrs *i = all; i && !mine; i = i->ifa_next)
        if (same_host(own, i->ifa_addr))
            mine = i;
    for (struct ifaddrs *i = all; i && mine; i = i->ifa_next)
        if (i != mine && !strcmp(i->ifa_name, mine->ifa_name) && usable(own, i->ifa_addr))
            add(s, i->ifa_addr, most);
    freeifaddrs(all);
}

static bool is_loopback(const struct kn_addr *a)
{
    return a->u.sa.sa_family == AF_INET && ntohl(a->u.v4.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
}

static void add_loopback(struct kn_sources *s, const struct kn_addr *own, unsigned most)
{
    struct kn_addr next = *own;
    while (s->n < most && s->n < KN_SOURCES_MAX) {
        next.u.v4.sin_addr.s_addr = htonl(ntohl(next.u.v4.sin_addr.s_addr) + 1);
        add(s, &next.u.sa, most);
    }
}

/* Each flow is an open file. */
int kn_sources_check_files(const struct kn_spec *spec, struct kn_error *err)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur == RLIM_INFINITY ||
        spec->flows + FILES_ELSE <= limit.rlim_cur)
        return 0;
    return kn_fail(err, KN_E_LIMIT,
                   "flows must be at most %llu, got %llu: this process may have %llu open files (ulimit -n)",
                   (unsigned long long)(limit.rlim_cur > FILES_ELSE ? limit.rlim_cur - FILES_ELSE : 0),
                   (unsigned long long)spec->flows, (unsigned long long)limit.rlim_cur);
}

static int take_given(const char *source, const struct kn_spec *spec, unsigned ports, struct kn_sources *out,
                      struct kn_error *err)
{
    struct kn_addr at;
    if (kn_addr_resolve(source, 0, kn_source_family(source), 0, &at, err))
        return -1;
    if (spec->flows > ports)
        return kn_fail(err, KN_E_LIMIT, "flows must be at most %u from %s, which has so many ports, got %llu", ports,
                       source, (unsigned long long)spec->flows);
    add(out, &at.u.sa, 1);
    return 0;
}

int kn_sources_find(const struct kn_spec *spec, const struct kn_addr *peer, const char *source, struct kn_sources *out,
                    struct kn_error *err)
{
    struct kn_addr own;
    out->n = 0;
    unsigned ports = ports_of_an_address(), needed = (unsigned)((spec->flows + ports - 1) / ports);
    if (*source)
        return take_given(source, spec, ports, out, err);
    /* Linux tries every other port first. When these are taken, each connect() searches all of them in vain. */
    unsigned wanted = (unsigned)((2 * spec->flows + ports - 1) / ports);
    if (wanted <= 1 || own_address(peer, &own))
        return 0;
    add(out, &own.u.sa, wanted);
    if (is_loopback(&own))
        add_loopback(out, &own, wanted);
    else
        add_interface(out, &own, wanted);
    if (out->n >= needed) {
        out->n = out->n > 1 ? out->n : 0; /* with one address the choice is the kernel's */
        return 0;
    }
    return kn_fail(
        err, KN_E_LIMIT,
        "flows must be at most %u from this host, got %llu: it has %u address%s to leave by, with %u ports each; "
        "to have more, add addresses to the interface, use IPv6 (ip = 6), which often has several, or widen "
        "net.ipv4.ip_local_port_range",
        out->n * ports, (unsigned long long)spec->flows, out->n, out->n == 1 ? "" : "es", ports);
}

unsigned kn_source_family(const char *source)
{
    return !*source ? 0 : strchr(source, ':') ? 6 : 4;
}

int kn_sources_bind(const struct kn_sources *s, unsigned flow, int fd)
{
    const int on = 1;
    if (!s->n)
        return 0;
    const struct kn_addr *at = &s->at[flow % s->n];
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    return bind(fd, &at->u.sa, at->len);
}
