/* net/addr - parses, resolves and formats socket addresses. */
#ifndef KN_NET_ADDR_H
#define KN_NET_ADDR_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <netinet/in.h>

#include "core/error.h"

struct kn_addr {
    union {
        struct sockaddr sa;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } u;
    socklen_t len;
};

#define KN_ADDR_TEXT_MAX 64
#define KN_DEFAULT_PORT 7099

/* "10.0.0.1", "10.0.0.1:7099", "[fd00::1]:7099", "fd00::1", "name:80", ":7099" (all addresses: host is ""). If the
 * text has no port, *port is unchanged. */
int kn_addr_split(const char *text, char *host, size_t host_size, uint16_t *port, struct kn_error *err);
/* The first address of `host` in the family `ip` (4, 6, or 0 for any). Fails after `timeout_ns`. */
int kn_addr_resolve(const char *host, uint16_t port, unsigned ip, uint64_t timeout_ns, struct kn_addr *out,
                    struct kn_error *err);
char *kn_addr_text(const struct kn_addr *a, char *buf, size_t size); /* "10.0.0.1:7099", "[fd00::1]:7099" */
/* Without the port; IPv4-mapped addresses as IPv4. */
char *kn_addr_host(const struct kn_addr *a, char *buf, size_t size);
uint16_t kn_addr_port(const struct kn_addr *a);
bool kn_addr_equal(const struct kn_addr *a, const struct kn_addr *b);
bool kn_addr_is_v6(const struct kn_addr *a);
bool kn_addr_is_mapped(const struct kn_addr *a); /* IPv4 in the form of IPv6 */
/* Every address of this host: of both families, or of IPv4. */
struct kn_addr kn_addr_any(bool v6, uint16_t port);

#endif
