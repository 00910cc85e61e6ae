#include "net/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "net/io.h"

#define NAME_MAX_BYTES 256
#define ALPN_MAX 32

struct kn_tls_context {
    SSL_CTX *ctx;
    BIO_METHOD *io;
    SSL_SESSION *session; /* the latest; NULL where none came, or none is to be resumed */
    bool verify, resume;
    char name[NAME_MAX_BYTES];
    uint8_t address[16];
    int address_size; /* 0: the name is no address */
};

struct kn_tls {
    struct kn_tls_context *context;
    SSL *ssl;
    int fd, sys_errno; /* of the socket's last call that failed, other than EAGAIN */
    bool ended;        /* the server closed */
};

const char *const kn_tls_fault_names[KN_TLS_FAULTS] = {
    [KN_TLS_NAME] = "name",   [KN_TLS_EXPIRED] = "expired", [KN_TLS_AUTHORITY] = "authority",
    [KN_TLS_RESET] = "reset", [KN_TLS_STALLED] = "stalled", [KN_TLS_PROTOCOL] = "protocol",
};

/* ---- the socket under it: OpenSSL's own would raise SIGPIPE ---- */

static int io_over(BIO *bio, ssize_t n, int retry)
{
    struct kn_tls *tls = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        BIO_set_flags(bio, retry | BIO_FLAGS_SHOULD_RETRY);
    else if (n < 0)
        tls->sys_errno = errno;
    return (int)n;
}

static int io_write(BIO *bio, const char *buf, int size)
{
    const struct kn_tls *tls = BIO_get_data(bio);
    return io_over(bio, kn_send(tls->fd, buf, (size_t)size, MSG_NOSIGNAL | MSG_DONTWAIT), BIO_FLAGS_WRITE);
}

static int io_read(BIO *bio, char *buf, int size)
{
    struct kn_tls *tls = BIO_get_data(bio);
    ssize_t n = kn_recv(tls->fd, buf, (size_t)size, MSG_DONTWAIT);
    tls->ended |= n == 0;
    return io_over(bio, n, BIO_FLAGS_READ);
}

static long io_control(BIO *bio, int command, long number, void *value)
{
    const struct kn_tls *tls = BIO_get_data(bio);
    (void)number, (void)value;
    if (command == BIO_CTRL_EOF)
        return tls->ended;
    return command == BIO_CTRL_FLUSH || command == BIO_CTRL_DUP;
}

static int io_create(BIO *bio)
{
    BIO_set_init(bio, 1);
    return 1;
}

static BIO_METHOD *io_method(void)
{
    BIO_METHOD *io = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "knbl socket");
    if (io && BIO_meth_set_write(io, io_write) && BIO_meth_set_read(io, io_read) && BIO_meth_set_ctrl(io, io_control) &&
        BIO_meth_set_create(io, io_create))
        return io;
    BIO_meth_free(io);
    return NULL;
}

/* ---- contexts ---- */

/* OpenSSL keeps a reference to the session for us where this returns 1. */
static int keep_session(SSL *ssl, SSL_SESSION *session)
{
    struct kn_tls_context *c = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    SSL_SESSION_free(c->session);
    c->session = session;
    return 1;
}

static int fail_openssl(struct kn_error *err, const char *what)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    ERR_clear_error();
    return kn_fail(err, KN_E_SYSTEM, "%s: %s", what, reason ? reason : "OpenSSL gives no reason");
}

/* Every certificate of a PEM text. */
static int trust_text(SSL_CTX *ctx, const char *pem, struct kn_error *err)
{
    X509 *certificate;
    int n = 0;
    BIO *bio = BIO_new_mem_buf(pem, -1);
    while (bio && (certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL))) {
        n += X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), certificate);
        X509_free(certificate);
    }
    BIO_free(bio);
    ERR_clear_error();
    return n ? 0 : kn_fail(err, KN_E_ARGUMENT, "ca: it contains no certificate in PEM form");
}

static int trust(struct kn_tls_context *c, const char *pem, struct kn_error *err)
{
    if (!c->verify)
        return 0;
    SSL_CTX_set_verify(c->ctx, SSL_VERIFY_PEER, NULL);
    if (*pem)
        return trust_text(c->ctx, pem, err);
    return SSL_CTX_set_default_verify_paths(c->ctx) ? 0 : fail_openssl(err, "the system's certificates");
}

static int offer(SSL_CTX *ctx, const char *protocol, struct kn_error *err)
{
    uint8_t list[ALPN_MAX];
    int n = snprintf((char *)list + 1, sizeof list - 1, "%s", protocol);
    list[0] = (uint8_t)n;
    return SSL_CTX_set_alpn_protos(ctx, list, (unsigned)n + 1) ? fail_openssl(err, "ALPN") : 0;
}

static void take_name(struct kn_tls_context *c, const char *name)
{
    snprintf(c->name, sizeof c->name, "%s", name);
    if (inet_pton(AF_INET, c->name, c->address) == 1)
        c->address_size = 4;
    else if (inet_pton(AF_INET6, c->name, c->address) == 1)
        c->address_size = 16;
}

static int set_up(struct kn_tls_context *c, const struct kn_tls_config *config, struct kn_error *err)
{
    c->io = io_method();
    c->ctx = SSL_CTX_new(TLS_client_method());
    if (!c->io || !c->ctx || !SSL_CTX_set_app_data(c->ctx, c))
        return fail_openssl(err, "TLS");
    SSL_CTX_set_mode(c->ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_options(c->ctx, SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_read_ahead(c->ctx, 1); /* a record's head and body in one call */
    SSL_CTX_set_session_cache_mode(c->ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    if (c->resume)
        SSL_CTX_sess_set_new_cb(c->ctx, keep_session);
    return offer(c->ctx, config->alpn, err) ? -1 : trust(c, config->ca, err);
}

struct kn_tls_context *kn_tls_context_new(const struct kn_tls_config *config, struct kn_error *err)
{
    struct kn_tls_context *c = calloc(1, sizeof *c);
    if (!c)
        return kn_null(kn_fail_memory(err));
    c->verify = config->verify;
    c->resume = config->resume;
    take_name(c, config->name);
    if (!set_up(c, config, err))
        return c;
    kn_tls_context_free(c);
    return NULL;
}

void kn_tls_context_free(struct kn_tls_context *c)
{
    if (!c)
        return;
    SSL_SESSION_free(c->session);
    SSL_CTX_free(c->ctx);
    BIO_meth_free(c->io);
    free(c);
}

/* ---- connections ---- */

static bool name_server(const struct kn_tls_context *c, SSL *ssl)
{
    X509_VERIFY_PARAM *rules = SSL_get0_param(ssl);
    if (c->address_size)
        return X509_VERIFY_PARAM_set1_ip(rules, c->address, (size_t)c->address_size);
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return SSL_set1_host(ssl, c->name) && SSL_set_tlsext_host_name(ssl, c->name);
}

static int attach(struct kn_tls *tls)
{
    struct kn_tls_context *c = tls->context;
    tls->ssl = SSL_new(c->ctx);
    BIO *bio = tls->ssl ? BIO_new(c->io) : NULL;
    if (!bio)
        return -1;
    BIO_set_data(bio, tls);
    SSL_set_bio(tls->ssl, bio, bio);
    SSL_set_connect_state(tls->ssl);
    if (!name_server(c, tls->ssl))
        return -1;
    return !c->session || SSL_set_session(tls->ssl, c->session) ? 0 : -1;
}

struct kn_tls *kn_tls_new(struct kn_tls_context *context, int fd, struct kn_error *err)
{
    struct kn_tls *tls = calloc(1, sizeof *tls);
    if (!tls)
        return kn_null(kn_fail_memory(err));
    tls->context = context;
    tls->fd = fd;
    if (!attach(tls))
        return tls;
    fail_openssl(err, "TLS");
    kn_tls_free(tls);
    return NULL;
}

/* A session of a connection that was not shut down may be resumed all the same: it did not fail. */
void kn_tls_free(struct kn_tls *tls)
{
    if (!tls)
        return;
    if (tls->ssl)
        SSL_set_quiet_shutdown(tls->ssl, 1), SSL_shutdown(tls->ssl);
    SSL_free(tls->ssl);
    free(tls);
}

static enum kn_tls_fault certificate_fault(long result)
{
    switch (result) {
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH: return KN_TLS_NAME;
    case X509_V_ERR_CERT_HAS_EXPIRED:
    case X509_V_ERR_CERT_NOT_YET_VALID: return KN_TLS_EXPIRED;
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_CERT_UNTRUSTED: return KN_TLS_AUTHORITY;
    default: return KN_TLS_PROTOCOL;
    }
}

static enum kn_tls_fault explain_certificate(const struct kn_tls *tls, long result, struct kn_error *why)
{
    enum kn_tls_fault fault = certificate_fault(result);
    const char *reason = X509_verify_cert_error_string(result);
    if (fault == KN_TLS_NAME)
        kn_fail(why, KN_E_PROTOCOL, "the certificate is not valid for %s (%s)", tls->context->name, reason);
    else if (fault == KN_TLS_AUTHORITY)
        kn_fail(why, KN_E_PROTOCOL,
                "the certificate of %s is not signed by a trusted authority (%s); name its authority with ca, or "
                "switch verify off",
                tls->context->name, reason);
    else
        kn_fail(why, KN_E_PROTOCOL, "the certificate of %s was rejected: %s", tls->context->name, reason);
    return fault;
}

static enum kn_tls_fault explain(const struct kn_tls *tls, struct kn_error *why)
{
    unsigned long code = ERR_peek_error();
    long verified = SSL_get_verify_result(tls->ssl);
    const char *reason = ERR_reason_error_string(code);
    if (ERR_GET_LIB(code) == ERR_LIB_SSL && ERR_GET_REASON(code) == SSL_R_CERTIFICATE_VERIFY_FAILED)
        return explain_certificate(tls, verified, why);
    if (tls->sys_errno || tls->ended) {
        kn_fail(why, KN_E_PROTOCOL, "the server %s the connection in the TLS handshake",
                tls->sys_errno ? "reset" : "closed");
        return KN_TLS_RESET;
    }
    bool plain = ERR_GET_LIB(code) == ERR_LIB_SSL && ERR_GET_REASON(code) == SSL_R_WRONG_VERSION_NUMBER;
    kn_fail(why, KN_E_PROTOCOL, "the TLS handshake failed: %s%s", reason ? reason : "no reason is known",
            plain ? " (the server may not speak TLS)" : "");
    return KN_TLS_PROTOCOL;
}

int kn_tls_handshake(struct kn_tls *tls, enum kn_tls_fault *fault, struct kn_error *why)
{
    ERR_clear_error();
    int done = SSL_do_handshake(tls->ssl);
    if (done == 1)
        return 1;
    int reason = SSL_get_error(tls->ssl, done);
    if (reason == SSL_ERROR_WANT_READ || reason == SSL_ERROR_WANT_WRITE)
        return 0;
    *fault = explain(tls, why);
    ERR_clear_error();
    return -1;
}

bool kn_tls_wants_write(const struct kn_tls *tls)
{
    return SSL_want_write(tls->ssl);
}

static ssize_t outcome(struct kn_tls *tls, int n)
{
    int reason = SSL_get_error(tls->ssl, n);
    ERR_clear_error();
    if (reason == SSL_ERROR_WANT_READ || reason == SSL_ERROR_WANT_WRITE)
        return errno = EAGAIN, -1;
    if (reason == SSL_ERROR_ZERO_RETURN)
        return 0;
    return errno = tls->sys_errno ? tls->sys_errno : EPROTO, -1;
}

ssize_t kn_tls_send(struct kn_tls *tls, const void *buf, size_t size)
{
    int n = SSL_write(tls->ssl, buf, size > INT32_MAX ? INT32_MAX : (int)size);
    return n > 0 ? n : outcome(tls, n);
}

ssize_t kn_tls_recv(struct kn_tls *tls, void *buf, size_t size)
{
    int n = SSL_read(tls->ssl, buf, size > INT32_MAX ? INT32_MAX : (int)size);
    return n > 0 ? n : outcome(tls, n);
}

bool kn_tls_resumed(const struct kn_tls *tls)
{
    return SSL_session_reused(tls->ssl);
}

const char *kn_tls_version(const struct kn_tls *tls)
{
    return SSL_get_version(tls->ssl);
}

const char *kn_tls_cipher(const struct kn_tls *tls)
{
    return SSL_get_cipher_name(tls->ssl);
}

void kn_tls_alpn(const struct kn_tls *tls, char *text, size_t size)
{
    const uint8_t *protocol = NULL;
    unsigned n = 0;
    SSL_get0_alpn_selected(tls->ssl, &protocol, &n);
    snprintf(text, size, "%.*s", (int)n, protocol ? (const char *)protocol : "");
}
