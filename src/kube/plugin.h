/* kube/plugin - runs a kubeconfig's exec plugin: no shell, bounded in time, its standard output taken, its standard error the user's. */
#ifndef KN_KUBE_PLUGIN_H
#define KN_KUBE_PLUGIN_H

#include <stdint.h>

#include "core/error.h"

/* argv is NULL-ended; `extra` are "NAME=value" texts, NULL-ended, put over this process's environment. Returns what it printed (free() it), or NULL:
 * KN_E_ARGUMENT where the command is not there, KN_E_TIMEOUT, KN_E_AUTH where it ended with a code other than 0. */
char *kn_plugin_run(const char *const *argv, const char *const *extra, uint64_t timeout_ns, struct kn_error *err);

#endif
