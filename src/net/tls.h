/* net/tls - TLS for a client's non-blocking sockets, by OpenSSL.
 *
 * A context belongs to one thread: the trusted certificates, the name that the server must prove, and the latest
 * session, which the next connection resumes. A connection uses a socket that the caller connected and closes. Nothing
 * here waits. The agent that is one static file has no TLS: src/static/no_tls.c stands in for tls.c, and no context can
 * be made. */
#ifndef KN_NET_TLS_H
#define KN_NET_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "core/error.h"

/* Why a handshake failed. */
enum kn_tls_fault {
    KN_TLS_NAME,      /* the certificate has another name */
    KN_TLS_EXPIRED,   /* it is not valid at this time */
    KN_TLS_AUTHORITY, /* no trusted authority signed it */
    KN_TLS_RESET,     /* the server closed or reset the connection */
    KN_TLS_STALLED,   /* it did not answer in time: the caller's to find out */
    KN_TLS_PROTOCOL,  /* an alert, no common version or protocol, no TLS at all */
    KN_TLS_FAULTS
};
extern const char *const kn_tls_fault_names[KN_TLS_FAULTS];

struct kn_tls_config {
    const char *name; /* host name or address: sent as SNI (a name only), and what the certificate must prove */
    const char *ca;   /* PEM; "" trusts what the system trusts */
    const char *alpn; /* the one protocol that is offered */
    bool verify, resume;
};

struct kn_tls_context;
struct kn_tls;

struct kn_tls_context *kn_tls_context_new(const struct kn_tls_config *config, struct kn_error *err);
void kn_tls_context_free(struct kn_tls_context *context);

struct kn_tls *kn_tls_new(struct kn_tls_context *context, int fd, struct kn_error *err);
void kn_tls_free(struct kn_tls *tls); /* sends nothing, and does not use the socket */

/* 1: it stands; 0: it waits for the socket; -1: it failed, and *fault and `why` say how. */
int kn_tls_handshake(struct kn_tls *tls, enum kn_tls_fault *fault, struct kn_error *why);
bool kn_tls_wants_write(const struct kn_tls *tls); /* what the handshake waits for */
/* As send() and recv() that do not wait: -1 with errno, EAGAIN too. The server's end of the connection is 0. */
ssize_t kn_tls_send(struct kn_tls *tls, const void *buf, size_t size);
ssize_t kn_tls_recv(struct kn_tls *tls, void *buf, size_t size);

/* Of a handshake that stands. */
bool kn_tls_resumed(const struct kn_tls *tls);
const char *kn_tls_version(const struct kn_tls *tls); /* "TLSv1.3" */
const char *kn_tls_cipher(const struct kn_tls *tls);
void kn_tls_alpn(const struct kn_tls *tls, char *text, size_t size); /* "": the server chose none */

#endif
