/* kube/pem - the certificates and keys in a file, as PEM text.
 *
 * Everything outside of the blocks is left out, as Go does: comments in any encoding, other kinds of blocks. A file
 * without a block of the wanted kind (empty, DER, a key in place of a certificate) is refused and never taken for "not
 * given": the system's authorities would be trusted in its place. Whether a certificate can be used is found out by
 * TLS, which fails without one. */
#ifndef KN_KUBE_PEM_H
#define KN_KUBE_PEM_H

#include <stddef.h>

#include "core/error.h"

enum kn_pem { KN_PEM_CERTIFICATE, KN_PEM_KEY };

/* All certificates, or the first private key that is not encrypted, as PEM text; free() it. NULL: KN_E_ARGUMENT. */
char *kn_pem_extract(enum kn_pem kind, const char *bytes, size_t size, struct kn_error *err);

#endif
