/* In place of net/tls.c in the agent that is one static file: OpenSSL would make it 5 MB
 * large, and a ConfigMap holds 1 MiB. No context can be made, so the rest is never called. */
#include <errno.h>

#include "net/tls.h"

const char *const kn_tls_fault_names[KN_TLS_FAULTS] = {"name", "expired", "authority", "reset", "stalled", "protocol"};

struct kn_tls_context *kn_tls_context_new(const struct kn_tls_config *config, struct kn_error *err)
{
    return kn_null(kn_fail(
        err, KN_E_UNSUPPORTED,
        "https to %s: the static agent has no TLS; use the image (--image) on Kubernetes, or start `knbl agent` on "
        "the host",
        config->name));
}

void kn_tls_context_free(struct kn_tls_context *context)
{
    (void)context;
}

struct kn_tls *kn_tls_new(struct kn_tls_context *context, int fd, struct kn_error *err)
{
    (void)context, (void)fd;
    return kn_null(kn_fail(err, KN_E_UNSUPPORTED, "the static agent has no TLS"));
}

void kn_tls_free(struct kn_tls *tls)
{
    (void)tls;
}

int kn_tls_handshake(struct kn_tls *tls, enum kn_tls_fault *fault, struct kn_error *why)
{
    (void)tls;
    *fault = KN_TLS_PROTOCOL;
    return kn_fail(why, KN_E_UNSUPPORTED, "the static agent has no TLS");
}

bool kn_tls_wants_write(const struct kn_tls *tls)
{
    (void)tls;
    return false;
}

ssize_t kn_tls_send(struct kn_tls *tls, const void *buf, size_t size)
{
    (void)tls, (void)buf, (void)size;
    return errno = ENOTSUP, -1;
}

ssize_t kn_tls_recv(struct kn_tls *tls, void *buf, size_t size)
{
    (void)tls, (void)buf, (void)size;
    return errno = ENOTSUP, -1;
}

bool kn_tls_resumed(const struct kn_tls *tls)
{
    (void)tls;
    return false;
}

const char *kn_tls_version(const struct kn_tls *tls)
{
    (void)tls;
    return "";
}

const char *kn_tls_cipher(const struct kn_tls *tls)
{
    (void)tls;
    return "";
}

void kn_tls_alpn(const struct kn_tls *tls, char *text, size_t size)
{
    (void)tls;
    if (size)
        *text = '\0';
}
