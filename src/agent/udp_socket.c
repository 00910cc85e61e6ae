#include "agent/udp_socket.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

static int set(int fd, int option, int on)
{
    return setsockopt(fd, SOL_SOCKET, option, &on, sizeof on);
}

/* Flows share the port among themselves by SO_REUSEADDR, which is safe: a stranger would have to share it with the
 * agent's socket too. */
static int bind_flow(struct kn_udp_socket *s, int fd, const struct kn_addr *to)
{
    if (set(fd, SO_REUSEADDR, 1))
        return -1;
    if (s->shares_always)
        return bind(fd, &to->u.sa, to->len);
    int rc = set(fd, SO_REUSEPORT, 1) || set(s->fd, SO_REUSEPORT, 1) || bind(fd, &to->u.sa, to->len) ? -1 : 0;
    int before = errno;
    set(s->fd, SO_REUSEPORT, 0);
    set(fd, SO_REUSEPORT, 0);
    errno = before;
    return rc;
}

int kn_udp_socket_flow(struct kn_udp_socket *s, const struct kn_addr *to, const struct kn_addr *from)
{
    int fd = socket(to->u.sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    if (bind_flow(s, fd, to) == 0 && (!from || connect(fd, &from->u.sa, from->len) == 0))
        return fd;
    int before = errno;
    close(fd);
    errno = before;
    return -1;
}

static int open_at(struct kn_udp_socket *s, const struct kn_addr *at)
{
    int on = 1, off = 0;
    bool v6 = kn_addr_is_v6(at);
    s->fd = socket(at->u.sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (s->fd < 0 || (v6 && setsockopt(s->fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off)))
        return -1;
    /* where a sandbox does not have this, the kernel's choice of our address has to do */
    setsockopt(s->fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_RECVPKTINFO : IP_PKTINFO, &on, sizeof on);
    return (s->shares_always && set(s->fd, SO_REUSEADDR, 1)) || bind(s->fd, &at->u.sa, at->len) ? -1 : 0;
}

/* Whether a flow's socket can be bound beside it. */
static bool takes_flows(struct kn_udp_socket *s, const struct kn_addr *at)
{
    int fd = kn_udp_socket_flow(s, at, NULL);
    if (fd >= 0)
        close(fd);
    return fd >= 0 || errno != EADDRINUSE;
}

int kn_udp_socket_open(struct kn_udp_socket *s, const struct kn_addr *at, struct kn_error *err)
{
    *s = (struct kn_udp_socket){.fd = -1};
    int rc = open_at(s, at);
    if (rc == 0 && !takes_flows(s, at)) {
        close(s->fd);
        s->shares_always = true;
        rc = open_at(s, at);
    }
    if (rc == 0)
        return 0;
    if (errno == EADDRINUSE)
        kn_fail(err, KN_E_IN_USE, "UDP port %u is in use by another program", kn_addr_port(at));
    else
        kn_fail_errno(err, "UDP port %u", kn_addr_port(at));
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
    return -1;
}
