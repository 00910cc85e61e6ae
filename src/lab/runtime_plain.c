#include "lab/keeper.h"

#include <sys/utsname.h>

/* The runtimes whose pods run on the node's kernel: runc, with namespaces of their own as containerd's runc gives them,
 * and host, on the node's network (hostNetwork): no veth, no bridge, and its port is one of the node's. */

static int probe_runc(struct kn_lab_keeper *keeper, json_t *about, struct kn_error *err)
{
    struct utsname kernel;
    (void)err;
    if (uname(&kernel) == 0)
        json_object_set_new(about, "version", json_string(kernel.release));
    json_object_set_new(about, "platform", json_string("namespaces"));
    json_object_set_new(about, "network", json_string("the node's kernel, a veth pair"));
    json_object_set_new(about, "limits", json_string(kn_cgroup_limits(&keeper->options.cgroups)));
    return 0;
}

static int probe_host(struct kn_lab_keeper *keeper, json_t *about, struct kn_error *err)
{
    (void)keeper;
    (void)err;
    json_object_set_new(about, "network", json_string("the node's own"));
    return 0;
}

const struct kn_lab_runtime kn_lab_runc = {.name = "runc", .probe = probe_runc, .start = kn_spawn_plain};
const struct kn_lab_runtime kn_lab_host = {
    .name = "host", .node_network = true, .probe = probe_host, .start = kn_spawn_plain};
