#include "lab/keeper.h"

#include <sys/utsname.h>

static int probe(struct kn_keeper *keeper, const struct kn_lab_runtime *runtime, json_t *about, struct kn_error *err)
{
    struct utsname kernel;
    (void)runtime;
    (void)err;
    if (uname(&kernel) == 0) json_object_set_new(about, "version", json_string(kernel.release));
    json_object_set_new(about, "platform", json_string("namespaces"));
    json_object_set_new(about, "network", json_string("the node's kernel, a veth pair"));
    json_object_set_new(about, "limits", json_string(kn_cgroup_limits(&keeper->options.cgroups)));
    return 0;
}

/* What containerd's runc gives a pod: namespaces of its own on the node's kernel. */
static int start(struct kn_keeper *keeper, struct kn_lab_pod *pod, const json_t *request, struct kn_error *err)
{
    struct kn_spawn spawn = { .name = pod->name, .node = pod->node->name, .netns = pod->netns, .port = pod->port,
                              .command = json_object_get(request, "command"),
                              .cpu_milli = pod->cpu_milli, .memory = pod->memory, .hardened = pod->hardened };
    pod->pid = kn_spawn(keeper, &spawn, err);
    return pod->pid < 0 ? -1 : 0;
}

const struct kn_lab_runtime kn_lab_runc = { .name = "runc", .probe = probe, .start = start };
