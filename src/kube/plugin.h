/* kube/plugin - runs a kubeconfig's exec plugin: no shell, bounded in time, its standard output taken, its standard
 * error the user's, its standard input /dev/null. It gets a process group of its own, which is killed when the plugin
 * has ended: nothing that it started outlives it, unless it has left the group (setsid). */
#ifndef KN_KUBE_PLUGIN_H
#define KN_KUBE_PLUGIN_H

#include <stdint.h>

#include "core/error.h"

/* argv is NULL-ended; `extra` are "NAME=value" strings, NULL-ended, put over this process's environment. Returns what
 * the plugin printed (free() it), or NULL: KN_E_ARGUMENT where the command does not exist, KN_E_TIMEOUT,
 * KN_E_INTERRUPTED where `wake_fd` (-1: none) became readable, KN_E_AUTH where its exit code is not 0 or it printed
 * more than 1 MiB. */
char *kn_plugin_run(const char *const *argv, const char *const *extra, uint64_t timeout_ns, int wake_fd,
                    struct kn_error *err);

#endif
