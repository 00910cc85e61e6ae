/* net/io - blocking socket I/O with deadlines, used before and after the measurement.
 *
 * All sockets of knbl are close-on-exec, and blocking unless a comment says otherwise. MSG_NOSIGNAL prevents
 * SIGPIPE. */
#ifndef KN_NET_IO_H
#define KN_NET_IO_H

#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/error.h"
#include "core/spec.h"
#include "net/addr.h"

/* epoll_wait() with a timeout in nanoseconds. Also works without epoll_pwait2, as on Linux before 5.11. */
int kn_epoll_wait(int epoll, struct epoll_event *events, int most, uint64_t timeout_ns);

/* Connects a TCP socket before `deadline_ns` (0 means the kernel's timeout). Sets the options of `spec` before it
 * connects (buffers, MSS, congestion control, nodelay); `spec` may be NULL. */
int kn_tcp_connect(const struct kn_addr *to, const struct kn_spec *spec, uint64_t deadline_ns, struct kn_error *err);
/* From a local address; NULL: the kernel chooses. */
int kn_tcp_connect_from(const struct kn_addr *from, const struct kn_addr *to, const struct kn_spec *spec,
                        uint64_t deadline_ns, struct kn_error *err);
/* The same in two steps, for a caller whose socket others may shut down meanwhile. The end does not close it. */
int kn_tcp_connect_begin(const struct kn_addr *from, const struct kn_addr *to, const struct kn_spec *spec,
                         struct kn_error *err);
int kn_tcp_connect_end(int fd, const struct kn_addr *to, uint64_t deadline_ns, struct kn_error *err);
int kn_socket_error(int fd); /* what became of a connect: an errno, or 0; clears it */
/* Sets the options of `spec` on a socket, of the client or the server. */
int kn_tcp_options(int fd, const struct kn_spec *spec, struct kn_error *err);
/* send() and recv() without the overhead of the C library. Its functions are cancellation points, which costs two
 * locked instructions for each call in a program with threads. The sanitizers intercept only the library's
 * functions. */
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
static inline ssize_t kn_send(int fd, const void *buf, size_t size, int flags)
{
    return send(fd, buf, size, flags);
}
static inline ssize_t kn_recv(int fd, void *buf, size_t size, int flags)
{
    return recv(fd, buf, size, flags);
}
#else
static inline ssize_t kn_send(int fd, const void *buf, size_t size, int flags)
{
    return syscall(SYS_sendto, fd, buf, size, flags, NULL, 0);
}
static inline ssize_t kn_recv(int fd, void *buf, size_t size, int flags)
{
    return syscall(SYS_recvfrom, fd, buf, size, flags, NULL, NULL);
}
#endif
int kn_tcp_listen(const struct kn_addr *at, int backlog, struct kn_error *err); /* [::] accepts IPv4 too */

/* Transfer all `size` bytes. Errors are KN_E_TIMEOUT after the deadline (0 means none) and KN_E_PROTOCOL on an early
 * end. */
int kn_read_full(int fd, void *buf, size_t size, uint64_t deadline_ns, struct kn_error *err);
int kn_write_full(int fd, const void *buf, size_t size, uint64_t deadline_ns, struct kn_error *err);

#endif
