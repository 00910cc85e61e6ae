#include "lab/keeper.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"

static const int families[2] = {AF_INET, AF_INET6};

/* ---- the network ---- */

/* Sets a pod's addresses and default routes on its link. The address is a /32 or /128, so that all traffic goes through
 * the node, even to a pod on the same bridge: the node's NAT sees both directions of every flow. */
static int set_addresses(struct nl_sock *nl, unsigned index, const struct kn_ip ip[2], const struct kn_ip gateway[2],
                         struct kn_error *err)
{
    for (int i = 0; i < 2; i++) {
        struct kn_ip any = {.family = families[i]};
        unsigned bits = kn_lab_host_bits(families[i]);
        if (ip[i].family &&
            (kn_link_address(nl, index, &ip[i], bits, err) || kn_link_route(nl, &gateway[i], bits, NULL, index, err) ||
             kn_link_route(nl, &any, 0, &gateway[i], index, err)))
            return -1;
    }
    return 0;
}

static int address_pod(struct kn_lab_pod *pod, struct nl_sock *nl, struct kn_error *err)
{
    struct kn_ip gateway[2] = {{.family = 0}};
    for (int i = 0; i < 2; i++) {
        if (!pod->node->ip[i].family)
            continue;
        kn_lab_pod_ip(pod->node->index, pod->slot, families[i], &pod->ip[i]);
        kn_lab_pod_ip(pod->node->index, 1, families[i], &gateway[i]);
    }
    return pod->runtime->guest ? 0 : set_addresses(nl, LAB_IF_ETH0, pod->ip, gateway, err);
}

/* In the pod's namespace. */
static int furnish(struct kn_lab_keeper *keeper, struct kn_lab_pod *pod, struct kn_error *err)
{
    char peer[16];
    struct kn_veth veth = {.name = "eth0",
                           .peer_name = peer,
                           .index = LAB_IF_ETH0,
                           .peer_index = LAB_IF_PORTS + pod->index,
                           .mtu = pod->mtu,
                           .peer_netns = pod->node->netns};
    snprintf(peer, sizeof peer, "pod%u", pod->index);
    kn_lab_mac(LAB_MAC_POD, pod->index, &veth.mac);
    struct nl_sock *nl = kn_netns_sysctls(&keeper->options, false, err) ? NULL : kn_netns_socket(err);
    if (!nl)
        return -1;
    int bad = kn_link_up(nl, LAB_IF_LO, 0, err) || kn_link_veth(nl, &veth, err) || address_pod(pod, nl, err) ||
              kn_lab_networks_furnish(keeper, pod, nl, err) ||
              (pod->bandwidth_bps && kn_link_shape(nl, LAB_IF_ETH0, pod->bandwidth_bps, pod->mtu, err));
    nl_socket_free(nl);
    return bad ? -1 : 0;
}

static int connect_pod(struct kn_lab_keeper *keeper, struct kn_lab_pod *pod, struct kn_error *err)
{
    unsigned port = LAB_IF_PORTS + pod->index;
    struct nl_sock *nl = pod->node->nl;
    if (kn_netns_back(keeper, kn_netns_new(&pod->netns, err) || furnish(keeper, pod, err), err) ||
        kn_link_up(nl, port, LAB_IF_BRIDGE, err) || kn_link_hairpin(nl, port, err) ||
        kn_lab_networks_connect(keeper, pod, err))
        return -1;
    for (int i = 0; i < 2 && pod->mtu < pod->node->mtu; i++)
        if (pod->ip[i].family && kn_link_narrow(nl, &pod->ip[i], LAB_IF_BRIDGE, pod->mtu, err))
            return -1;
    return pod->bandwidth_bps ? kn_link_shape(nl, port, pod->bandwidth_bps, pod->mtu, err) : 0;
}

/* ---- the pod ---- */

/* The lowest number that is free on the node, or with NULL in the lab. */
static unsigned free_number(const struct kn_lab_keeper *keeper, const struct kn_lab_node *node, unsigned first,
                            unsigned last)
{
    bool used[LAB_PODS_MAX + LAB_SLOT_LAST + 2] = {false};
    for (const struct kn_lab_pod *pod = keeper->pods; pod; pod = pod->next)
        if (!node || pod->node == node)
            used[node ? pod->slot : pod->index] = true;
    for (unsigned i = first; i <= last; i++)
        if (!used[i])
            return i;
    return 0;
}

static void release(struct kn_lab_keeper *keeper, struct kn_lab_pod *pod)
{
    struct kn_error ignored;
    kn_end_process(&pod->pid);
    if (*pod->name) {
        kn_place_remove(pod->name);
        kn_cgroup_pod_gone(&keeper->options.cgroups, pod->name);
    }
    for (int i = 0; i < 2 && pod->netns >= 0 && pod->mtu < pod->node->mtu; i++)
        if (pod->ip[i].family)
            kn_link_widen(pod->node->nl, &pod->ip[i], LAB_IF_BRIDGE);
    kn_lab_networks_leave(keeper, pod);
    if (pod->netns >= 0) {
        kn_link_delete(pod->node->nl, LAB_IF_PORTS + pod->index, &ignored);
        close(pod->netns);
    }
    json_decref(pod->own);
    free(pod);
}

static int start(struct kn_lab_keeper *keeper, struct kn_lab_pod *pod, const json_t *request, struct kn_error *err)
{
    uint64_t from_ns = kn_now_ns();
    if (pod->runtime->start(keeper, pod, request, err))
        return -1;
    pod->started_ms = (unsigned)((kn_now_ns() - from_ns + KN_NS_PER_MS / 2) / KN_NS_PER_MS);
    return 0;
}

static int build(struct kn_lab_keeper *keeper, struct kn_lab_pod *pod, const json_t *request, struct kn_error *err)
{
    if (kn_lab_pod_read(keeper, pod, request, err))
        return -1;
    if (!(pod->about = kn_lab_runtime_about(keeper, pod->runtime, err)))
        return -1;
    if (pod->runtime->node_network) {
        memcpy(pod->ip, pod->node->ip, sizeof pod->ip);
        return start(keeper, pod, request, err);
    }
    pod->slot = free_number(keeper, pod->node, LAB_SLOT_FIRST, LAB_SLOT_LAST);
    return kn_overlay_announce(keeper, pod->node, err) || connect_pod(keeper, pod, err) ||
                   start(keeper, pod, request, err)
               ? -1
               : 0;
}

json_t *kn_lab_pod_add(struct kn_lab_keeper *keeper, const json_t *request, struct kn_error *err)
{
    unsigned index = free_number(keeper, NULL, 1, LAB_PODS_MAX);
    if (index == 0)
        return kn_null(kn_fail(err, KN_E_LIMIT, "a lab holds at most %d pods", LAB_PODS_MAX));
    struct kn_lab_pod *pod = calloc(1, sizeof *pod), **end = &keeper->pods;
    if (!pod)
        return kn_null(kn_fail_memory(err));
    pod->index = index;
    pod->netns = -1;
    if (build(keeper, pod, request, err)) {
        release(keeper, pod);
        return NULL;
    }
    while (*end)
        end = &(*end)->next;
    *end = pod;
    kn_names_add(pod->name, pod->ip);
    json_t *json = kn_lab_pod_json(keeper, pod), *usage = kn_lab_usage(keeper, pod->pid, pod->name);
    json_object_update_missing(json, usage);
    json_decref(usage);
    return json;
}

json_t *kn_lab_pod_json(const struct kn_lab_keeper *keeper, const struct kn_lab_pod *pod)
{
    char control[128], interface[16];
    snprintf(interface, sizeof interface, "%s%u", pod->netns < 0 ? "node" : "pod",
             pod->netns < 0 ? pod->node->index : pod->index);
    json_t *json = json_pack("{s:s,s:s,s:s,s:s,s:o,s:i,s:i,s:s,s:b,s:i}", "name", pod->name, "kind", "pod", "node",
                             pod->node->name, "runtime", pod->runtime->name, "ip", kn_ip_list(pod->ip), "port",
                             pod->port, "mtu", (int)pod->mtu, "interface", interface, "alive", pod->pid > 0,
                             "started_ms", (int)pod->started_ms);
    if (pod->agent)
        json_object_set_new(json, "control", json_string(kn_control_path(keeper, pod->name, control, sizeof control)));
    kn_lab_networks_json(pod, json);
    json_t *sandbox = json_copy((json_t *)(uintptr_t)pod->about);
    if (pod->own)
        json_object_update(sandbox, pod->own);
    json_object_set_new(json, "sandbox", sandbox);
    if (pod->pid > 0)
        return json;
    char words[400];
    kn_lab_last_words(pod->name, words, sizeof words);
    json_object_set_new(json, "exit", json_integer(pod->exit_status));
    if (*words)
        json_object_set_new(json, "last", json_string(words));
    if (kn_cgroup_out_of_memory(&keeper->options.cgroups, pod->name))
        json_object_set_new(json, "out_of_memory", json_true());
    return json;
}

int kn_lab_pod_delete(struct kn_lab_keeper *keeper, struct kn_lab_pod *pod, struct kn_error *err)
{
    if (kn_lab_policy_free_of(keeper, pod, err) || kn_lab_services_leave(keeper, pod, err))
        return -1;
    struct kn_lab_pod **at = &keeper->pods;
    while (*at != pod)
        at = &(*at)->next;
    *at = pod->next;
    release(keeper, pod);
    return 0;
}
