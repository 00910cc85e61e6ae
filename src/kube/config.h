/* kube/config - which server, as whom: kubeconfig as kubectl treats it, or the service account of the pod that this
 * runs in.
 *
 * An explicit path is read alone. Else the files of the KUBECONFIG list are merged, where the first file that names a
 * thing wins it; else
 * ~/.kube/config; else, inside a pod, its service account. Relative paths resolve against the file that holds them.
 * Certificates and keys come out as PEM text, never as files. A file or a value that is given and cannot be used is an
 * error: a certificate authority without PEM, a token that is a number. Nothing is asked of the network, and no plugin
 * is run here. */
#ifndef KN_KUBE_CONFIG_H
#define KN_KUBE_CONFIG_H

#include <jansson.h>

#include "core/error.h"

struct kn_kube_options {
    const char *kubeconfig, *context, *namespace, *as; /* NULL or "": not given */
    const char *cluster, *user;                        /* override the context's */
    const char *home;                                  /* $HOME */
    const char *kubeconfig_list;                       /* $KUBECONFIG */
    const char *service_host, *service_port;           /* $KUBERNETES_SERVICE_HOST, _PORT */
    const char *service_account;                       /* folder of token, ca.crt, namespace; NULL: the usual one */
};
/* Fills what comes from the environment. */
void kn_kube_options_environment(struct kn_kube_options *options);

/* {"server","namespace","context","cluster","user","source","in_cluster",
 *  "ca","insecure","tls_server_name","proxy_url","cert","key",
 *  "token","token_file","username","password","exec":{…},"as","as_groups"}: what is not set is absent. */
json_t *kn_kube_config(const struct kn_kube_options *options, struct kn_error *err);

#endif
