/* lab/agents - the agent's static binaries that knbl carries, one for each architecture: for guests, pods and machines
 * that have no knbl. */
#ifndef KN_LAB_AGENTS_H
#define KN_LAB_AGENTS_H

#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

/* The binary for "amd64" or "arm64"; free() it. NULL with KN_E_UNSUPPORTED where this build has none for `arch`. */
uint8_t *kn_agent_binary(const char *arch, size_t *size, struct kn_error *err);

#endif
