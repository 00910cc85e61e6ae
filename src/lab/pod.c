#include "lab/keeper.h"

#include "core/units.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAC_POD = 5 };

static const int families[2] = { AF_INET, AF_INET6 };

static const struct kn_lab_runtime *const runtimes[] = { &kn_lab_runc, &kn_lab_host };
enum { RUNTIMES = sizeof runtimes / sizeof *runtimes };

const struct kn_lab_runtime *kn_lab_runtime_find(const char *name, struct kn_error *err)
{
    const char *names[RUNTIMES];
    for (size_t i = 0; i < RUNTIMES; i++) {
        names[i] = runtimes[i]->name;
        if (strcmp(name, names[i]) == 0) return runtimes[i];
    }
    const char *near = kn_nearest(name, names, RUNTIMES);
    if (near) kn_fail(err, KN_E_UNSUPPORTED, "the lab has no runtime '%.40s'; did you mean '%s'?", name, near);
    else kn_fail(err, KN_E_UNSUPPORTED, "the lab has no runtime '%.40s'", name);
    return NULL;
}

/* ---- what was asked ---- */

struct wish { uint64_t bandwidth_bps; const json_t *request; };

static int find_node(struct kn_keeper *keeper, struct kn_lab_pod *pod, const char *name, struct kn_error *err)
{
    if (!keeper->nodes) return kn_fail(err, KN_E_ARGUMENT, "the lab has no node yet that could hold a pod");
    pod->node = name ? kn_lab_node_find(keeper, name) : keeper->nodes;
    if (pod->node) return 0;
    const char *near = kn_lab_name_near(keeper, name, true, false, false);
    if (near) return kn_fail(err, KN_E_ARGUMENT, "no node is named '%.60s'; did you mean '%s'?", name, near);
    return kn_fail(err, KN_E_ARGUMENT, "no node is named '%.60s'; there is '%s'", name, keeper->nodes->name);
}

static int read_bandwidth(const json_t *value, uint64_t *bps, struct kn_error *err)
{
    struct kn_rate rate = { .bps = 0 };
    if (!value || json_is_null(value)) return 0;
    if (json_is_string(value) && kn_rate_parse(json_string_value(value), &rate, err)) return -1;
    double number = json_is_string(value) ? (double)rate.bps : json_number_value(value);
    if (number < 8e3 || number > 1e12)
        return kn_fail(err, KN_E_ARGUMENT, "'bandwidth' must be bits a second from 8 kbit/s to 1 Tbit/s, like \"1G\"");
    *bps = (uint64_t)number;
    return 0;
}

static int read_command(const json_t *command, struct kn_error *err)
{
    size_t i;
    json_t *word;
    if (!command) return 0;
    if (json_array_size(command) == 0) return kn_fail(err, KN_E_ARGUMENT, "'command' must be a list of texts");
    json_array_foreach((json_t *)(uintptr_t)command, i, word)
        if (!json_is_string(word)) return kn_fail(err, KN_E_ARGUMENT, "'command' must be a list of texts");
    return 0;
}

static int read_mtu(const struct kn_keeper *keeper, struct kn_lab_pod *pod, const json_t *request, struct kn_error *err)
{
    long long mtu;
    if (pod->runtime->node_network && json_object_get(request, "mtu"))
        return kn_fail(err, KN_E_ARGUMENT, "a pod with runtime '%s' has its node's links: no MTU of its own",
                       pod->runtime->name);
    if (kn_lab_number(request, "mtu", keeper->options.v6 ? 1280 : 576, 65535, pod->node->mtu, &mtu, err)) return -1;
    if (mtu > pod->node->mtu)
        return kn_fail(
            err, KN_E_ARGUMENT,
            "a pod's MTU of %lld is beyond what its node's bridge carries, %u: open the lab with a larger 'mtu'", mtu,
            pod->node->mtu);
    pod->mtu = pod->runtime->node_network ? keeper->options.mtu : (unsigned)mtu;
    return 0;
}

/* Pods of the node's network share its ports: each gets one of its own. */
static int read_port(const struct kn_keeper *keeper, struct kn_lab_pod *pod, const json_t *request,
                     struct kn_error *err)
{
    long long missing = keeper->options.port + (pod->runtime->node_network ? (long long)pod->index : 0), port;
    if (missing > 65535) missing -= LAB_PODS_MAX + 1;
    if (!pod->agent) missing = 0;       /* a command without a port is not waited for */
    if (kn_lab_number(request, "port", 1, 65535, missing, &port, err)) return -1;
    pod->port = (uint16_t)port;
    return 0;
}

static int read_wish(struct kn_keeper *keeper, struct kn_lab_pod *pod, struct wish *wish, struct kn_error *err)
{
    static const struct kn_lab_field fields[] = { { "op", LAB_TEXT },     { "name", LAB_TEXT },
                                                  { "node", LAB_TEXT },   { "runtime", LAB_TEXT },
                                                  { "mtu", LAB_NUMBER },  { "bandwidth", LAB_QUANTITY },
                                                  { "port", LAB_NUMBER }, { "command", LAB_LIST } };
    const json_t *request = wish->request;
    if (kn_lab_check(request, "a pod", fields, sizeof fields / sizeof *fields, err)) return -1;
    const char *runtime = json_string_value(json_object_get(request, "runtime"));
    pod->runtime = kn_lab_runtime_find(runtime ? runtime : "runc", err);
    pod->agent = !json_object_get(request, "command");
    if (!pod->runtime || find_node(keeper, pod, json_string_value(json_object_get(request, "node")), err)) return -1;
    if (read_mtu(keeper, pod, request, err) || read_port(keeper, pod, request, err)) return -1;
    if (read_bandwidth(json_object_get(request, "bandwidth"), &wish->bandwidth_bps, err) ||
        read_command(json_object_get(request, "command"), err))
        return -1;
    if (wish->bandwidth_bps && pod->runtime->node_network)
        return kn_fail(err, KN_E_ARGUMENT, "a pod with runtime '%s' has its node's links: no bandwidth of its own",
                       pod->runtime->name);
    return kn_lab_name_take(keeper, request, "pod", pod->name, err);
}

/* ---- its network ---- */

/* Its address is alone (/32, /128): all it sends goes by the node, whose NAT thereby sees both ways of every flow, to a
 * neighbour of the same bridge too. */
static int address_pod(struct kn_lab_pod *pod, struct nl_sock *nl, struct kn_error *err)
{
    for (int i = 0; i < 2; i++) {
        struct kn_ip gateway, any = { .family = families[i] };
        if (!pod->node->ip[i].family) continue;
        kn_lab_pod_ip(pod->node->index, pod->slot, families[i], &pod->ip[i]);
        kn_lab_pod_ip(pod->node->index, 1, families[i], &gateway);
        if (kn_link_address(nl, LAB_IF_ETH0, &pod->ip[i], kn_lab_host_bits(families[i]), err) ||
            kn_link_route(nl, &gateway, kn_lab_host_bits(families[i]), NULL, LAB_IF_ETH0, err) ||
            kn_link_route(nl, &any, 0, &gateway, LAB_IF_ETH0, err))
            return -1;
    }
    return 0;
}

/* In the pod's namespace. */
static int furnish(struct kn_keeper *keeper, struct kn_lab_pod *pod, uint64_t bps, struct kn_error *err)
{
    char peer[16];
    struct kn_veth veth = { .name = "eth0",
                            .peer_name = peer,
                            .index = LAB_IF_ETH0,
                            .peer_index = LAB_IF_PORTS + pod->index,
                            .mtu = pod->mtu,
                            .peer_netns = pod->node->netns };
    snprintf(peer, sizeof peer, "pod%u", pod->index);
    kn_lab_mac(MAC_POD, pod->index, &veth.mac);
    struct nl_sock *nl = kn_netns_sysctls(&keeper->options, false, err) ? NULL : kn_netns_socket(err);
    if (!nl) return -1;
    int bad = kn_link_up(nl, LAB_IF_LO, 0, err) || kn_link_veth(nl, &veth, err) || address_pod(pod, nl, err) ||
              (bps && kn_link_shape(nl, LAB_IF_ETH0, bps, pod->mtu, err));
    nl_socket_free(nl);
    return bad ? -1 : 0;
}

static int connect_pod(struct kn_keeper *keeper, struct kn_lab_pod *pod, uint64_t bps, struct kn_error *err)
{
    struct kn_error back;
    unsigned port = LAB_IF_PORTS + pod->index;
    struct nl_sock *nl = pod->node->nl;
    int bad = kn_netns_new(&pod->netns, err) || furnish(keeper, pod, bps, err);
    if (kn_netns_enter(keeper->netns, bad ? &back : err)) bad = -1;
    if (bad || kn_link_up(nl, port, LAB_IF_BRIDGE, err) || kn_link_hairpin(nl, port, err)) return -1;
    return bps ? kn_link_shape(nl, port, bps, pod->mtu, err) : 0;
}

/* ---- the pod ---- */

/* The lowest number that no pod has; `node` NULL: in the whole lab. */
static unsigned free_number(const struct kn_keeper *keeper, const struct kn_lab_node *node, unsigned first,
                            unsigned last)
{
    bool used[LAB_PODS_MAX + LAB_SLOT_LAST + 2] = { false };
    for (const struct kn_lab_pod *pod = keeper->pods; pod; pod = pod->next)
        if (!node || pod->node == node) used[node ? pod->slot : pod->index] = true;
    for (unsigned i = first; i <= last; i++)
        if (!used[i]) return i;
    return 0;
}

static void release(struct kn_lab_pod *pod)
{
    struct kn_error ignored;
    kn_end_process(&pod->pid);
    if (pod->netns >= 0) {
        kn_link_delete(pod->node->nl, LAB_IF_PORTS + pod->index, &ignored);
        close(pod->netns);
    }
    free(pod);
}

static int build(struct kn_keeper *keeper, struct kn_lab_pod *pod, const json_t *request, struct kn_error *err)
{
    struct wish wish = { .request = request };
    if (read_wish(keeper, pod, &wish, err)) return -1;
    if (pod->runtime->node_network) {
        memcpy(pod->ip, pod->node->ip, sizeof pod->ip);
        return pod->runtime->start(keeper, pod, request, err);
    }
    pod->slot = free_number(keeper, pod->node, LAB_SLOT_FIRST, LAB_SLOT_LAST);
    return connect_pod(keeper, pod, wish.bandwidth_bps, err) || pod->runtime->start(keeper, pod, request, err) ? -1 : 0;
}

json_t *kn_lab_pod_add(struct kn_keeper *keeper, const json_t *request, struct kn_error *err)
{
    unsigned index = free_number(keeper, NULL, 1, LAB_PODS_MAX);
    if (index == 0) {
        kn_fail(err, KN_E_LIMIT, "a lab holds at most %d pods", LAB_PODS_MAX);
        return NULL;
    }
    struct kn_lab_pod *pod = calloc(1, sizeof *pod), **end = &keeper->pods;
    if (!pod) {
        kn_fail(err, KN_E_MEMORY, "out of memory");
        return NULL;
    }
    pod->index = index;
    pod->netns = -1;
    if (build(keeper, pod, request, err)) {
        release(pod);
        return NULL;
    }
    while (*end) end = &(*end)->next;
    *end = pod;
    return kn_lab_pod_json(keeper, pod);
}

json_t *kn_lab_pod_json(const struct kn_keeper *keeper, const struct kn_lab_pod *pod)
{
    char control[128], interface[16];
    snprintf(interface, sizeof interface, "%s%u", pod->netns < 0 ? "node" : "pod",
             pod->netns < 0 ? pod->node->index : pod->index);
    json_t *json = json_pack("{s:s,s:s,s:s,s:s,s:o,s:i,s:i,s:s,s:b}", "name", pod->name, "kind", "pod", "node",
                             pod->node->name, "runtime", pod->runtime->name, "ip", kn_ip_list(pod->ip), "port",
                             pod->port, "mtu", (int)pod->mtu, "interface", interface, "alive", pod->pid > 0);
    if (pod->agent)
        json_object_set_new(json, "control", json_string(kn_control_path(keeper, pod->name, control, sizeof control)));
    if (pod->pid == 0) json_object_set_new(json, "exit", json_integer(pod->exit_status));
    return json;
}

int kn_lab_pod_delete(struct kn_keeper *keeper, struct kn_lab_pod *pod, struct kn_error *err)
{
    if (kn_lab_service_free_of(keeper, pod, pod->name, err)) return -1;
    struct kn_lab_pod **at = &keeper->pods;
    while (*at != pod) at = &(*at)->next;
    *at = pod->next;
    release(pod);
    return 0;
}
