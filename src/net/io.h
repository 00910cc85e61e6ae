/* net/io - blocking sockets with deadlines, for what happens before and after the measured part.
 *
 * All sockets of knbl are close-on-exec and blocking unless said. SIGPIPE never comes: MSG_NOSIGNAL throughout. */
#ifndef KN_NET_IO_H
#define KN_NET_IO_H

#include <stdint.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/error.h"
#include "core/spec.h"
#include "net/addr.h"

/* A TCP socket with the specification's options set before connect (buffers, MSS, congestion control, nodelay); `spec`
 * may be NULL. Connected before `deadline_ns` (0: the kernel's own time). */
int kn_tcp_connect(const struct kn_addr *to, const struct kn_spec *spec, uint64_t deadline_ns, struct kn_error *err);
/* The options of `spec` on a socket, both sides use it; `connected` tells which can still be set. */
int kn_tcp_options(int fd, const struct kn_spec *spec, struct kn_error *err);
/* send() and recv() where each call counts. Those of the C library are points of cancellation, which in a program of several threads
 * costs two locked instructions a call; nothing here is ever cancelled. (The sanitizers know only the library's.) */
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
static inline ssize_t kn_send(int fd, const void *buf, size_t size, int flags) { return send(fd, buf, size, flags); }
static inline ssize_t kn_recv(int fd, void *buf, size_t size, int flags) { return recv(fd, buf, size, flags); }
#else
static inline ssize_t kn_send(int fd, const void *buf, size_t size, int flags) { return syscall(SYS_sendto, fd, buf, size, flags, NULL, 0); }
static inline ssize_t kn_recv(int fd, void *buf, size_t size, int flags) { return syscall(SYS_recvfrom, fd, buf, size, flags, NULL, NULL); }
#endif
int kn_tcp_listen(const struct kn_addr *at, int backlog, struct kn_error *err); /* dual-stack for [::] */

/* All of it before the deadline or an error: KN_E_TIMEOUT, KN_E_PROTOCOL on an early end. A deadline of 0 is none. */
int kn_read_full(int fd, void *buf, size_t size, uint64_t deadline_ns, struct kn_error *err);
int kn_write_full(int fd, const void *buf, size_t size, uint64_t deadline_ns, struct kn_error *err);

#endif
