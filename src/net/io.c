#include "net/io.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/clock.h"

/* ---- waiting ---- */

/* Returns 1 if ready, 0 after the deadline, -1 with errno. Continues after a signal. */
static int wait_for(int fd, short events, uint64_t deadline_ns)
{
    struct pollfd p = {.fd = fd, .events = events};
    for (;;) {
        struct timespec left, *timeout = NULL;
        if (deadline_ns) {
            uint64_t now = kn_now_ns(), ns = now < deadline_ns ? deadline_ns - now : 0;
            left = kn_timespec(ns);
            timeout = &left;
        }
        int n = ppoll(&p, 1, timeout, NULL);
        if (n >= 0 || errno != EINTR)
            return n;
    }
}

static int wait_or_fail(int fd, short events, uint64_t deadline_ns, const char *what, struct kn_error *err)
{
    int n = wait_for(fd, events, deadline_ns);
    if (n > 0)
        return 0;
    return n ? kn_fail_errno(err, "poll") : kn_fail(err, KN_E_TIMEOUT, "timeout while waiting for %s", what);
}

/* Not all C libraries have a wrapper (musl 1.2.3, glibc 2.34). */
static int epoll_pwait2_call(int epoll, struct epoll_event *events, int most, const struct timespec *timeout)
{
    return (int)syscall(SYS_epoll_pwait2, epoll, events, most, timeout, NULL, (size_t)0);
}

int kn_epoll_wait(int epoll, struct epoll_event *events, int most, uint64_t timeout_ns)
{
    const struct timespec timeout = kn_timespec(timeout_ns);
    int n = epoll_pwait2_call(epoll, events, most, &timeout);
    if (n >= 0 || (errno != ENOSYS && errno != EPERM))
        return n;
    struct pollfd ready = {.fd = epoll, .events = POLLIN}; /* an epoll descriptor can itself be polled */
    n = ppoll(&ready, 1, &timeout, NULL);
    return n > 0 ? epoll_wait(epoll, events, most, 0) : n;
}

/* ---- reading and writing ---- */

static int hung_up(struct kn_error *err, size_t done, size_t size)
{
    return kn_fail(err, KN_E_PROTOCOL, "the peer closed the connection after %zu of %zu bytes", done, size);
}

int kn_read_full(int fd, void *buf, size_t size, uint64_t deadline_ns, struct kn_error *err)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = recv(fd, (char *)buf + done, size - done, deadline_ns ? MSG_DONTWAIT : 0);
        if (n > 0) {
            done += (size_t)n;
        } else if (n == 0 || errno == ECONNRESET) {
            return hung_up(err, done, size);
        } else if (errno == EAGAIN) {
            if (wait_or_fail(fd, POLLIN, deadline_ns, "the answer", err))
                return -1;
        } else if (errno != EINTR) {
            return kn_fail_errno(err, "recv");
        }
    }
    return 0;
}

int kn_write_full(int fd, const void *buf, size_t size, uint64_t deadline_ns, struct kn_error *err)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = send(fd, (const char *)buf + done, size - done, MSG_NOSIGNAL | (deadline_ns ? MSG_DONTWAIT : 0));
        if (n >= 0) {
            done += (size_t)n;
        } else if (errno == ECONNRESET || errno == EPIPE) {
            return hung_up(err, done, size);
        } else if (errno == EAGAIN) {
            if (wait_or_fail(fd, POLLOUT, deadline_ns, "sending", err))
                return -1;
        } else if (errno != EINTR) {
            return kn_fail_errno(err, "send");
        }
    }
    return 0;
}

/* ---- options ---- */

static int set_int(int fd, int level, int option, uint64_t value, const char *name, struct kn_error *err)
{
    int v = value > INT32_MAX ? INT32_MAX : (int)value;
    if (setsockopt(fd, level, option, &v, sizeof v))
        return kn_fail_errno(err, "%s %llu", name, (unsigned long long)value);
    return 0;
}

static int set_congestion_control(int fd, const char *cc, struct kn_error *err)
{
    if (!setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, cc, (socklen_t)strnlen(cc, KN_CC_MAX)))
        return 0;
    if (errno == ENOENT)
        return kn_fail(err, KN_E_UNSUPPORTED, "this kernel has no congestion control \"%s\"", cc);
    return kn_fail_errno(err, "congestion control \"%s\"", cc);
}

int kn_tcp_options(int fd, const struct kn_spec *spec, struct kn_error *err)
{
    struct sockaddr_storage peer;
    socklen_t len = sizeof peer;
    bool connected = getpeername(fd, (struct sockaddr *)&peer, &len) == 0;
    /* the MSS is negotiated in the handshake; after that the kernel accepts the option but ignores it */
    if (spec->mss && !connected && set_int(fd, IPPROTO_TCP, TCP_MAXSEG, spec->mss, "mss", err))
        return -1;
    if (spec->sndbuf && set_int(fd, SOL_SOCKET, SO_SNDBUF, spec->sndbuf, "sndbuf", err))
        return -1;
    if (spec->rcvbuf && set_int(fd, SOL_SOCKET, SO_RCVBUF, spec->rcvbuf, "rcvbuf", err))
        return -1;
    if (spec->nodelay && set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1, "nodelay", err))
        return -1;
    return spec->cc[0] ? set_congestion_control(fd, spec->cc, err) : 0;
}

/* ---- connections ---- */

int kn_socket_error(int fd)
{
    int failure = 0;
    socklen_t size = sizeof failure;
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &failure, &size) ? errno : failure;
}

int kn_tcp_connect_end(int fd, const struct kn_addr *to, uint64_t deadline_ns, struct kn_error *err)
{
    char text[KN_ADDR_TEXT_MAX];
    kn_addr_text(to, text, sizeof text);
    int n = wait_for(fd, POLLOUT, deadline_ns);
    if (n == 0)
        return kn_fail(err, KN_E_TIMEOUT, "connect to %s: no answer in time", text);
    int failure = n < 0 ? errno : kn_socket_error(fd);
    errno = failure;
    if (failure || fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK) < 0)
        return kn_fail_errno(err, "connect to %s", text);
    return 0;
}

int kn_tcp_connect(const struct kn_addr *to, const struct kn_spec *spec, uint64_t deadline_ns, struct kn_error *err)
{
    return kn_tcp_connect_from(NULL, to, spec, deadline_ns, err);
}

static int bind_to(int fd, const struct kn_addr *from, struct kn_error *err)
{
    char text[KN_ADDR_TEXT_MAX];
    return from && bind(fd, &from->u.sa, from->len)
               ? kn_fail_errno(err, "bind to %s", kn_addr_host(from, text, sizeof text))
               : 0;
}

int kn_tcp_connect_begin(const struct kn_addr *from, const struct kn_addr *to, const struct kn_spec *spec,
                         struct kn_error *err)
{
    char text[KN_ADDR_TEXT_MAX];
    int fd = socket(to->u.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return kn_fail_errno(err, "socket");
    int failed = (spec && kn_tcp_options(fd, spec, err)) || bind_to(fd, from, err);
    if (!failed && connect(fd, &to->u.sa, to->len) && errno != EINPROGRESS && errno != EINTR)
        failed = kn_fail_errno(err, "connect to %s", kn_addr_text(to, text, sizeof text));
    if (!failed)
        return fd;
    close(fd);
    return -1;
}

int kn_tcp_connect_from(const struct kn_addr *from, const struct kn_addr *to, const struct kn_spec *spec,
                        uint64_t deadline_ns, struct kn_error *err)
{
    int fd = kn_tcp_connect_begin(from, to, spec, err);
    if (fd < 0 || !kn_tcp_connect_end(fd, to, deadline_ns, err))
        return fd;
    close(fd);
    return -1;
}

static int listen_on(int fd, const struct kn_addr *at, int backlog)
{
    int on = 1, off = 0;
    /* lets a restarted agent reuse its port while old connections are in TIME_WAIT */
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on))
        return -1;
    if (kn_addr_is_v6(at) && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off))
        return -1;
    return bind(fd, &at->u.sa, at->len) || listen(fd, backlog) ? -1 : 0;
}

int kn_tcp_listen(const struct kn_addr *at, int backlog, struct kn_error *err)
{
    char text[KN_ADDR_TEXT_MAX];
    int fd = socket(at->u.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return kn_fail_errno(err, "socket");
    if (listen_on(fd, at, backlog) == 0)
        return fd;
    kn_addr_text(at, text, sizeof text);
    if (errno == EADDRINUSE)
        kn_fail(err, KN_E_IN_USE, "%s: port %u is in use by another program", text, kn_addr_port(at));
    else
        kn_fail_errno(err, "listen on %s", text);
    close(fd);
    return -1;
}
