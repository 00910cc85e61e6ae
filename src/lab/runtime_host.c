#include "lab/keeper.h"

static int probe(struct kn_keeper *keeper, const struct kn_lab_runtime *runtime, json_t *about, struct kn_error *err)
{
    (void)keeper;
    (void)runtime;
    (void)err;
    json_object_set_new(about, "network", json_string("the node's own"));
    return 0;
}

/* A pod of the node's own network (hostNetwork): no veth, no bridge; its port is one of the node's. */
static int start(struct kn_keeper *keeper, struct kn_lab_pod *pod, const json_t *request, struct kn_error *err)
{
    struct kn_spawn spawn = { .name = pod->name, .node = pod->node->name, .netns = pod->node->netns, .port = pod->port,
                              .command = json_object_get(request, "command"),
                              .cpu_milli = pod->cpu_milli, .memory = pod->memory, .hardened = pod->hardened };
    pod->pid = kn_spawn(keeper, &spawn, err);
    return pod->pid < 0 ? -1 : 0;
}

const struct kn_lab_runtime kn_lab_host = { .name = "host", .node_network = true, .probe = probe, .start = start };
