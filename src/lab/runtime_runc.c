#include "lab/keeper.h"

/* What containerd's runc gives a pod: namespaces of its own on the node's kernel. */
static int start(struct kn_keeper *keeper, struct kn_lab_pod *pod, const json_t *request, struct kn_error *err)
{
    struct kn_spawn spawn = { .name = pod->name, .node = pod->node->name, .netns = pod->netns, .port = pod->port,
                              .command = json_object_get(request, "command"),
                              .cpu_milli = pod->cpu_milli, .memory = pod->memory, .hardened = pod->hardened };
    pod->pid = kn_spawn(keeper, &spawn, err);
    return pod->pid < 0 ? -1 : 0;
}

const struct kn_lab_runtime kn_lab_runc = { .name = "runc", .start = start };
