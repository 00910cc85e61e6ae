#include "lab/keeper.h"

#include <string.h>

#include "core/units.h"

static const struct kn_lab_field named[] = {{"op", LAB_TEXT}, {"name", LAB_TEXT}};

static const char *name_of(const json_t *request, const char *what, struct kn_error *err)
{
    const char *name = json_string_value(json_object_get(request, "name"));
    if (kn_lab_check(request, what, named, 2, err))
        return NULL;
    if (!name)
        kn_fail(err, KN_E_ARGUMENT, "%s requires a name", what);
    return name;
}

static json_t *nothing(struct kn_lab_keeper *keeper, const char *name, struct kn_error *err)
{
    kn_fail(err, KN_E_ARGUMENT, "nothing in the lab is named '%.60s'", name);
    return kn_null(kn_lab_suggest(err, kn_lab_name_near(keeper, name, true, true)));
}

static json_t *node_op(struct kn_lab_keeper *keeper, const json_t *request, struct kn_error *err)
{
    return kn_lab_check(request, "a node", named, 2, err) ? NULL : kn_lab_node_add(keeper, request, err);
}

static json_t *delete_op(struct kn_lab_keeper *keeper, const json_t *request, struct kn_error *err)
{
    const char *name = name_of(request, "delete", err);
    struct kn_lab_node *node;
    struct kn_lab_pod *pod;
    struct kn_lab_service *service;
    struct kn_lab_policy *policy;
    int bad;
    if (!name)
        return NULL;
    if ((service = kn_lab_service_find(keeper, name)))
        bad = kn_lab_service_delete(keeper, service, err);
    else if ((policy = kn_lab_policy_find(keeper, name)))
        bad = kn_lab_policy_delete(keeper, policy, err);
    else if ((pod = kn_lab_pod_find(keeper, name)))
        bad = kn_lab_pod_delete(keeper, pod, err);
    else if ((node = kn_lab_node_find(keeper, name)))
        bad = kn_lab_node_delete(keeper, node, err);
    else
        return nothing(keeper, name, err);
    if (bad)
        return NULL;
    kn_names_write(keeper);
    return json_pack("{s:s}", "deleted", name);
}

/* For `exec`: the process whose namespaces to enter, by its PID in the keeper's namespace, and its cgroups. Without a
 * name: the keeper's. */
static json_t *place(struct kn_lab_keeper *keeper, const json_t *request, struct kn_error *err)
{
    const char *name = json_string_value(json_object_get(request, "name"));
    if (kn_lab_check(request, "exec", named, 2, err))
        return NULL;
    if (!name)
        return kn_place_json(&keeper->options.cgroups, 0, LAB_KEEPER_CGROUP);
    const struct kn_lab_node *node = kn_lab_node_find(keeper, name);
    const struct kn_lab_pod *pod = kn_lab_pod_find(keeper, name);
    if (!node && !pod)
        return nothing(keeper, name, err);
    pid_t pid = pod ? pod->pid : node->pid;
    if (pid > 0)
        return kn_place_json(&keeper->options.cgroups, pid, name);
    return kn_null(kn_fail(err, KN_E_LOST, "'%s' has ended", name));
}

static json_t *find_op(struct kn_lab_keeper *keeper, const json_t *request, struct kn_error *err)
{
    const char *name = json_string_value(json_object_get(request, "name"));
    const struct kn_lab_pod *pod = name ? kn_lab_pod_find(keeper, name) : NULL;
    if (!pod || !pod->runtime->guest)
        return place(keeper, request, err);
    return kn_null(kn_fail(err, KN_E_UNSUPPORTED, "cannot run programs in '%s': a guest runs only the agent", name));
}

static json_t *usage_op(struct kn_lab_keeper *keeper, const json_t *request, struct kn_error *err)
{
    json_t *at = place(keeper, request, err), *usage = NULL;
    const char *name = json_string_value(json_object_get(request, "name"));
    if (at && !name)
        kn_fail(err, KN_E_ARGUMENT, "usage requires a name");
    else if (at)
        usage = kn_lab_usage(keeper, (pid_t)json_integer_value(json_object_get(at, "pid")), name);
    json_decref(at);
    return usage;
}

static json_t *status_op(struct kn_lab_keeper *keeper, const json_t *request, struct kn_error *err)
{
    const struct kn_lab_options *o = &keeper->options;
    json_t *nodes = json_array(), *pods = json_array(), *services = json_array(), *families = json_array();
    (void)request;
    (void)err;
    for (struct kn_lab_node *node = keeper->nodes; node; node = node->next)
        json_array_append_new(nodes, kn_lab_node_json(keeper, node));
    for (struct kn_lab_pod *pod = keeper->pods; pod; pod = pod->next)
        json_array_append_new(pods, kn_lab_pod_json(keeper, pod));
    for (struct kn_lab_service *s = keeper->services; s; s = s->next)
        json_array_append_new(services, kn_lab_service_json(keeper, s));
    if (o->v4)
        json_array_append_new(families, json_integer(4));
    if (o->v6)
        json_array_append_new(families, json_integer(6));
    json_t *lab = json_pack("{s:i,s:i,s:s,s:o,s:i,s:s,s:i,s:s,s:i}", "mtu", (int)o->mtu, "pod_mtu",
                            (int)kn_lab_pod_mtu(o), "overlay", o->vxlan ? "vxlan" : "none", "families", families,
                            "services", (int)o->services, "mode", o->chains ? "chains" : "maps", "port", o->port,
                            "token", o->token, "keeper", (int)keeper->outer_pid);
    return json_pack("{s:o,s:o,s:o,s:o}", "lab", lab, "nodes", nodes, "pods", pods, "services", services);
}

/* The counters of the fabric's end of every uplink, and of each node's end of every pod's link. */
static json_t *links_op(struct kn_lab_keeper *keeper, const json_t *request, struct kn_error *err)
{
    json_t *links = json_array();
    (void)request;
    int bad = kn_link_counters(keeper->nl, "fabric", "fabric", links, err);
    for (struct kn_lab_node *node = keeper->nodes; node && !bad; node = node->next)
        bad = kn_link_counters(node->nl, node->name, "node", links, err);
    if (!bad)
        return json_pack("{s:o}", "links", links);
    json_decref(links);
    return NULL;
}

static json_t *backends_op(struct kn_lab_keeper *keeper, const json_t *request, struct kn_error *err)
{
    static const struct kn_lab_field fields[] = {{"op", LAB_TEXT}, {"service", LAB_TEXT}};
    if (kn_lab_check(request, "backends", fields, 2, err))
        return NULL;
    const char *service = json_string_value(json_object_get(request, "service"));
    if (service && !kn_lab_service_find(keeper, service))
        return nothing(keeper, service, err);
    json_t *backends = json_array();
    int bad = 0;
    for (struct kn_lab_node *node = keeper->nodes; node && !bad; node = node->next)
        bad = kn_netns_enter(node->netns, err) || kn_nft_backends(keeper, node, service, backends, err);
    if (!kn_netns_back(keeper, bad, err))
        return json_pack("{s:o}", "backends", backends);
    json_decref(backends);
    return NULL;
}

static json_t *runtimes_op(struct kn_lab_keeper *keeper, const json_t *request, struct kn_error *err)
{
    (void)request;
    (void)err;
    return json_pack("{s:o}", "runtimes", kn_lab_runtimes_json(keeper));
}

json_t *kn_lab_handle(struct kn_lab_keeper *keeper, const json_t *request, struct kn_error *err)
{
    static const struct {
        const char *name;
        json_t *(*act)(struct kn_lab_keeper *, const json_t *, struct kn_error *);
    } ops[] = {
        {"node", node_op},         {"pod", kn_lab_pod_add}, {"service", kn_lab_service_add}, {"delete", delete_op},
        {"status", status_op},     {"links", links_op},     {"backends", backends_op},       {"find", find_op},
        {"runtimes", runtimes_op}, {"usage", usage_op},     {"policy", kn_lab_policy_add},
    };
    enum { OPS = sizeof ops / sizeof *ops };
    const char *op = json_string_value(json_object_get(request, "op")), *names[OPS];
    for (size_t i = 0; i < OPS; i++) {
        names[i] = ops[i].name;
        if (op && strcmp(op, ops[i].name) == 0)
            return ops[i].act(keeper, request, err);
    }
    if (!op)
        return kn_null(kn_fail(err, KN_E_ARGUMENT, "op is required"));
    kn_fail(err, KN_E_ARGUMENT, "unknown op '%.40s'", op);
    return kn_null(kn_lab_suggest(err, kn_nearest(op, names, OPS)));
}
