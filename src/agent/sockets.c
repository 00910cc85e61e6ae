#include "agent/sockets.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "net/io.h"

#define BACKLOG 4096  /* the kernel cuts it to net.core.somaxconn */
#define PORT_TRIES 16 /* a port that is free for TCP may be taken for UDP */

/* ---- TCP and UDP ---- */

static int open_tcp(const struct kn_addr *at, struct kn_error *err)
{
    /* a connection is accepted once it has data, or after this time */
    int defer_s = 3, fd = kn_tcp_listen(at, BACKLOG, err);
    if (fd >= 0)
        setsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &defer_s, sizeof defer_s);
    return fd;
}

static int open_pair(struct kn_sockets *s, const struct kn_addr *at, struct kn_error *err)
{
    s->tcp_fd = open_tcp(at, err);
    if (s->tcp_fd < 0)
        return -1;
    s->at = (struct kn_addr){.len = sizeof s->at.u};
    if (getsockname(s->tcp_fd, &s->at.u.sa, &s->at.len))
        kn_fail_errno(err, "getsockname");
    else if (kn_udp_socket_open(&s->udp, &s->at, err) == 0)
        return 0;
    close(s->tcp_fd);
    s->tcp_fd = -1;
    return -1;
}

static bool is_any_v6(const struct kn_addr *at)
{
    return kn_addr_is_v6(at) && IN6_IS_ADDR_UNSPECIFIED(&at->u.v6.sin6_addr);
}

static int open_port(struct kn_sockets *s, const struct kn_addr *at, struct kn_error *err)
{
    int rc = open_pair(s, at, err);
    for (int i = 1; rc && kn_addr_port(at) == 0 && err->code == KN_E_IN_USE && i < PORT_TRIES; i++)
        rc = open_pair(s, at, err);
    if (rc == 0 || !is_any_v6(at) || err->code == KN_E_IN_USE || err->code == KN_E_PERMISSION)
        return rc;
    struct kn_addr v4 = kn_addr_any(false, kn_addr_port(at));
    return open_pair(s, &v4, err); /* a machine without IPv6 */
}

/* ---- the Unix socket ---- */

static socklen_t unix_address(const char *path, struct sockaddr_un *at)
{
    size_t n = strlen(path);
    memset(at, 0, sizeof *at);
    at->sun_family = AF_UNIX;
    if (n == 0 || n >= sizeof at->sun_path)
        return 0;
    memcpy(at->sun_path, path, n);
    if (path[0] == '@') { /* abstract: no terminating zero, its length is part of the name */
        at->sun_path[0] = '\0';
        return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
    }
    return (socklen_t)sizeof *at;
}

/* A socket file on which no process listens is left from an agent that died. */
static bool is_stale(const struct sockaddr_un *at, socklen_t len)
{
    struct stat st;
    if (at->sun_path[0] == '\0' || lstat(at->sun_path, &st) || !S_ISSOCK(st.st_mode))
        return false;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool stale = fd >= 0 && connect(fd, (const struct sockaddr *)at, len) && errno == ECONNREFUSED;
    if (fd >= 0)
        close(fd);
    return stale;
}

static int open_unix(struct kn_sockets *s, const char *path, struct kn_error *err)
{
    struct sockaddr_un at;
    if (!path)
        return 0;
    socklen_t len = unix_address(path, &at);
    if (!len)
        return kn_fail(err, KN_E_ARGUMENT, "the path of a Unix socket must have 1 to %zu characters, got %zu",
                       sizeof at.sun_path - 1, strlen(path));
    if (is_stale(&at, len))
        unlink(at.sun_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && fchmod(fd, 0600) == 0 && bind(fd, (const struct sockaddr *)&at, len) == 0 && listen(fd, 128) == 0) {
        s->unix_fd = fd;
        s->unix_path = path;
        return 0;
    }
    kn_fail_errno(err, "Unix socket %s", path);
    if (fd >= 0)
        close(fd);
    return -1;
}

/* ---- both ---- */

int kn_sockets_open(struct kn_sockets *s, const struct kn_addr *at, const char *unix_path, struct kn_error *err)
{
    *s = (struct kn_sockets){.tcp_fd = -1, .unix_fd = -1, .udp = {.fd = -1}};
    return open_port(s, at, err) || open_unix(s, unix_path, err) ? -1 : 0;
}

void kn_sockets_fini(struct kn_sockets *s)
{
    int fds[] = {s->tcp_fd, s->udp.fd, s->unix_fd};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    if (s->unix_path && s->unix_path[0] != '@')
        unlink(s->unix_path);
}
