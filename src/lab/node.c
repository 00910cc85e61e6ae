#include "lab/keeper.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const int families[2] = {AF_INET, AF_INET6};

/* The fabric is a bridge in the keeper's own namespace; its address is the nodes' default route. */
int kn_lab_fabric_make(struct kn_lab_keeper *keeper, struct kn_error *err)
{
    struct kn_mac mac;
    struct kn_ip ip;
    kn_lab_mac(LAB_MAC_FABRIC, 1, &mac);
    keeper->nl = kn_netns_socket(err);
    if (!keeper->nl || kn_netns_sysctls(&keeper->options, true, err))
        return -1;
    if (kn_link_up(keeper->nl, LAB_IF_LO, 0, err))
        return -1;
    if (kn_link_bridge(keeper->nl, "fabric", LAB_IF_BRIDGE, keeper->options.mtu, &mac, err))
        return -1;
    for (int i = 0; i < 2; i++) {
        if (!kn_lab_has(&keeper->options, i))
            continue;
        kn_lab_fabric_ip(families[i], &ip);
        if (kn_link_address(keeper->nl, LAB_IF_BRIDGE, &ip, kn_lab_fabric_bits(families[i]), err))
            return -1;
    }
    return 0;
}

static int address_node(struct kn_lab_keeper *keeper, struct kn_lab_node *node, struct kn_error *err)
{
    for (int i = 0; i < 2; i++) {
        struct kn_ip fabric, bridge, any = {.family = families[i]};
        if (!kn_lab_has(&keeper->options, i))
            continue;
        kn_lab_fabric_ip(families[i], &fabric);
        kn_lab_node_ip(node->index, families[i], &node->ip[i]);
        kn_lab_pod_ip(node->index, 1, families[i], &bridge);
        if (kn_link_address(node->nl, LAB_IF_ETH0, &node->ip[i], kn_lab_fabric_bits(families[i]), err) ||
            kn_link_address(node->nl, LAB_IF_BRIDGE, &bridge, kn_lab_range_bits(families[i]), err) ||
            kn_link_route(node->nl, &any, 0, &fabric, LAB_IF_ETH0, err))
            return -1;
    }
    return 0;
}

/* In the new namespace: an uplink with its other end in the fabric, and a bridge for the pods. */
static int furnish(struct kn_lab_keeper *keeper, struct kn_lab_node *node, struct kn_error *err)
{
    struct kn_veth uplink = {.name = "eth0",
                             .index = LAB_IF_ETH0,
                             .peer_index = LAB_IF_PORTS + node->index,
                             .mtu = keeper->options.mtu,
                             .peer_netns = keeper->netns};
    struct kn_text rules = {.data = NULL};
    struct kn_mac mac;
    char peer[16];
    snprintf(peer, sizeof peer, "node%u", node->index);
    uplink.peer_name = peer;
    kn_lab_mac(LAB_MAC_UPLINK, node->index, &uplink.mac);
    kn_lab_mac(LAB_MAC_BRIDGE, node->index, &mac);
    if (kn_netns_sysctls(&keeper->options, true, err) || !(node->nl = kn_netns_socket(err)))
        return -1;
    if (kn_link_up(node->nl, LAB_IF_LO, 0, err) || kn_link_veth(node->nl, &uplink, err))
        return -1;
    if (kn_link_bridge(node->nl, "pods", LAB_IF_BRIDGE, node->mtu, &mac, err) || address_node(keeper, node, err))
        return -1;
    kn_nft_base(&rules, &keeper->options);
    for (struct kn_lab_service *service = keeper->services; service; service = service->next)
        kn_nft_service(&rules, &keeper->options, service, node);
    return kn_nft_run(node, &rules, err);
}

static int start_agent(struct kn_lab_keeper *keeper, struct kn_lab_node *node, struct kn_error *err)
{
    struct kn_spawn spawn = {
        .name = node->name, .node = node->name, .netns = node->netns, .port = keeper->options.port};
    node->port = spawn.port;
    node->pid = kn_spawn(keeper, &spawn, err);
    return node->pid < 0 ? -1 : 0;
}

static void release(struct kn_lab_keeper *keeper, struct kn_lab_node *node)
{
    struct kn_error ignored;
    kn_end_process(&node->pid);
    kn_place_remove(node->name);
    kn_cgroup_pod_gone(&keeper->options.cgroups, node->name);
    kn_link_delete(keeper->nl, LAB_IF_PORTS + node->index, &ignored);
    if (node->nl)
        nl_socket_free(node->nl);
    if (node->netns >= 0)
        close(node->netns);
    free(node);
}

static unsigned free_index(const struct kn_lab_keeper *keeper)
{
    bool used[LAB_NODES_MAX + 1] = {false};
    for (const struct kn_lab_node *node = keeper->nodes; node; node = node->next)
        used[node->index] = true;
    for (unsigned index = 1; index <= LAB_NODES_MAX; index++)
        if (!used[index])
            return index;
    return 0;
}

static int build(struct kn_lab_keeper *keeper, struct kn_lab_node *node, struct kn_error *err)
{
    if (kn_netns_back(keeper, kn_netns_new(&node->netns, err) || furnish(keeper, node, err), err) ||
        kn_link_up(keeper->nl, LAB_IF_PORTS + node->index, LAB_IF_BRIDGE, err))
        return -1;
    return kn_overlay_join(keeper, node, err) || start_agent(keeper, node, err) ? -1 : 0;
}

json_t *kn_lab_node_add(struct kn_lab_keeper *keeper, const json_t *request, struct kn_error *err)
{
    unsigned index = free_index(keeper);
    if (index == 0)
        return kn_null(kn_fail(err, KN_E_LIMIT, "a lab holds at most %d nodes", LAB_NODES_MAX));
    struct kn_lab_node *node = calloc(1, sizeof *node), **end = &keeper->nodes;
    if (!node)
        return kn_null(kn_fail_memory(err));
    node->index = index;
    node->netns = -1;
    node->mtu = kn_lab_pod_mtu(&keeper->options);
    if (kn_lab_name_take(keeper, request, "node", node->name, err) || build(keeper, node, err)) {
        release(keeper, node);
        return NULL;
    }
    while (*end)
        end = &(*end)->next;
    *end = node;
    kn_names_add(node->name, node->ip);
    return kn_lab_node_json(keeper, node);
}

json_t *kn_lab_node_json(const struct kn_lab_keeper *keeper, const struct kn_lab_node *node)
{
    char control[128], interface[16];
    snprintf(interface, sizeof interface, "node%u", node->index);
    return json_pack("{s:s,s:s,s:s,s:o,s:i,s:i,s:s,s:s,s:b}", "name", node->name, "kind", "node", "node", node->name,
                     "ip", kn_ip_list(node->ip), "port", node->port, "mtu", (int)keeper->options.mtu, "interface",
                     interface, "control", kn_control_path(keeper, node->name, control, sizeof control), "alive",
                     node->pid > 0);
}

int kn_lab_node_delete(struct kn_lab_keeper *keeper, struct kn_lab_node *node, struct kn_error *err)
{
    for (const struct kn_lab_pod *pod = keeper->pods; pod; pod = pod->next)
        if (pod->node == node)
            return kn_fail(err, KN_E_IN_USE, "node '%s' still has pods: '%s'", node->name, pod->name);
    if (kn_lab_service_free_of(keeper, node, node->name, err))
        return -1;
    struct kn_lab_node **at = &keeper->nodes;
    while (*at != node)
        at = &(*at)->next;
    *at = node->next;
    release(keeper, node);
    return 0;
}
