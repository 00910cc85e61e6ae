/* engines/http/options - the options that http alone has, where its specification keeps them. */
#ifndef KN_ENGINES_HTTP_OPTIONS_H
#define KN_ENGINES_HTTP_OPTIONS_H

#include "core/spec.h"

enum {
    KN_HTTP_KEEPALIVE,
    KN_HTTP_BODY,
    KN_HTTP_TLS,
    KN_HTTP_VERIFY,
    KN_HTTP_RESUME,
    KN_HTTP_VERSION_2,
    KN_HTTP_STREAMS,
    KN_HTTP_RESET
};
enum { KN_HTTP_PATH, KN_HTTP_HOST };

static inline bool kn_http_keepalive(const struct kn_spec *spec)
{
    return spec->own[KN_HTTP_KEEPALIVE];
}
/* Bytes of the agent's response. */
static inline uint64_t kn_http_body(const struct kn_spec *spec)
{
    return spec->own[KN_HTTP_BODY];
}
static inline const char *kn_http_path(const struct kn_spec *spec)
{
    return spec->text[KN_HTTP_PATH];
}
static inline bool kn_http_tls(const struct kn_spec *spec)
{
    return spec->own[KN_HTTP_TLS];
}
/* The Host header; "": the target's name. With TLS it is also the server's name. */
static inline const char *kn_http_host(const struct kn_spec *spec)
{
    return spec->text[KN_HTTP_HOST];
}

#endif
