#include "lab/keeper.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Secondary networks, as Multus attaches them to pods: each is one link that all nodes share, a bridge in the fabric,
 * and a pod joins it with an interface of its own. Neither the nodes' rules nor the overlay see its traffic. */

static const int families[2] = {AF_INET, AF_INET6};

/* ---- the request ---- */

/* A pod's own interfaces are lo and eth0; links have names of at most 15 characters. */
static int check_interface(const struct kn_lab_pod *pod, const struct kn_lab_extra *extra, size_t length,
                           struct kn_error *err)
{
    const char *name = extra->interface;
    if (length == 0 || length >= sizeof extra->interface ||
        strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") < length)
        return kn_fail(err, KN_E_ARGUMENT,
                       "networks: an interface must have 1 to %zu small letters, digits, '-', '_' or '.', got '%.40s'",
                       sizeof extra->interface - 1, name);
    bool taken = strcmp(name, "lo") == 0 || strcmp(name, "eth0") == 0;
    for (const struct kn_lab_extra *other = pod->extra; other < extra; other++)
        taken = taken || strcmp(other->interface, name) == 0;
    return taken ? kn_fail(err, KN_E_ARGUMENT, "networks: the pod has two interfaces '%s'", name) : 0;
}

/* NETWORK or NETWORK@INTERFACE */
static int read_one(struct kn_lab_pod *pod, const char *text, struct kn_error *err)
{
    struct kn_lab_extra *extra = &pod->extra[pod->n_extra];
    const char *at = strchr(text, '@');
    int length = at ? (int)(at - text) : (int)strlen(text);
    snprintf(extra->network, sizeof extra->network, "%.*s", length, text);
    if (length > LAB_NAME_MAX)
        return kn_fail(err, KN_E_ARGUMENT, "networks: a name must have at most %d characters, got '%.80s'",
                       LAB_NAME_MAX, text);
    if (kn_lab_name_check(extra->network, err))
        return kn_error_context(err, "networks");
    for (const struct kn_lab_extra *other = pod->extra; other < extra; other++)
        if (strcmp(other->network, extra->network) == 0)
            return kn_fail(err, KN_E_ARGUMENT, "networks: '%s' is listed twice", extra->network);
    if (at)
        snprintf(extra->interface, sizeof extra->interface, "%s", at + 1);
    else
        snprintf(extra->interface, sizeof extra->interface, "net%zu", pod->n_extra + 1);
    if (check_interface(pod, extra, at ? strlen(at + 1) : strlen(extra->interface), err))
        return -1;
    pod->n_extra++;
    return 0;
}

int kn_lab_networks_read(struct kn_lab_pod *pod, const json_t *request, struct kn_error *err)
{
    const json_t *list = json_object_get(request, "networks");
    size_t n = json_array_size(list);
    if (n == 0)
        return 0;
    if (pod->runtime->node_network)
        return kn_fail(err, KN_E_ARGUMENT, "networks does not apply to runtime %s, which uses its node's network",
                       pod->runtime->name);
    if (pod->runtime->guest)
        return kn_fail(err, KN_E_UNSUPPORTED, "networks does not apply to a %s pod: its guest has one interface",
                       pod->runtime->name);
    if (n > LAB_POD_NETWORKS_MAX)
        return kn_fail(err, KN_E_ARGUMENT, "networks must list at most %d, got %zu", LAB_POD_NETWORKS_MAX, n);
    for (size_t i = 0; i < n; i++) {
        const char *text = json_string_value(json_array_get(list, i));
        if (!text)
            return kn_fail(err, KN_E_ARGUMENT, "networks must be a list of names");
        if (read_one(pod, text, err))
            return -1;
    }
    return 0;
}

/* ---- the links ---- */

static int make_bridge(struct kn_lab_keeper *keeper, unsigned index, struct kn_error *err)
{
    struct kn_mac mac;
    char name[16];
    snprintf(name, sizeof name, "network%u", index);
    kn_lab_mac(LAB_MAC_NETWORK, index, &mac);
    return kn_link_bridge(keeper->nl, name, LAB_IF_NETWORKS + index, keeper->options.mtu, &mac, err);
}

/* The network of that name; made when the first pod asks for it. */
static struct kn_lab_network *network_named(struct kn_lab_keeper *keeper, const char *name, struct kn_error *err)
{
    struct kn_lab_network **end = &keeper->networks;
    unsigned index = 1;
    for (; *end; end = &(*end)->next, index++)
        if (strcmp((*end)->name, name) == 0)
            return *end;
    if (index > LAB_NETWORKS_MAX)
        return kn_null(kn_fail(err, KN_E_LIMIT, "a lab holds at most %d secondary networks", LAB_NETWORKS_MAX));
    struct kn_lab_network *network = calloc(1, sizeof *network);
    if (!network)
        return kn_null(kn_fail_memory(err));
    network->index = index;
    snprintf(network->name, sizeof network->name, "%s", name);
    if (make_bridge(keeper, index, err)) {
        free(network);
        return NULL;
    }
    return *end = network;
}

static int furnish_one(struct kn_lab_keeper *keeper, struct kn_lab_pod *pod, size_t i, struct nl_sock *nl,
                       struct kn_error *err)
{
    struct kn_lab_extra *extra = &pod->extra[i];
    struct kn_lab_network *network = network_named(keeper, extra->network, err);
    char peer[16];
    struct kn_veth veth = {.name = extra->interface,
                           .peer_name = peer,
                           .index = LAB_IF_EXTRA + (unsigned)i,
                           .peer_index = LAB_IF_NETWORK_PORTS + pod->index * LAB_POD_NETWORKS_MAX + (unsigned)i,
                           .mtu = keeper->options.mtu,
                           .peer_netns = keeper->netns};
    snprintf(peer, sizeof peer, "pod%unet%zu", pod->index, i + 1);
    kn_lab_mac(LAB_MAC_EXTRA, pod->index * LAB_POD_NETWORKS_MAX + (unsigned)i, &veth.mac);
    if (!network || kn_link_veth(nl, &veth, err))
        return -1;
    extra->port = veth.peer_index;
    for (int f = 0; f < 2; f++) {
        if (!pod->node->ip[f].family)
            continue;
        kn_lab_network_ip(network->index, pod->index, families[f], &extra->ip[f]);
        if (kn_link_address(nl, veth.index, &extra->ip[f], kn_lab_fabric_bits(families[f]), err))
            return -1;
    }
    return 0;
}

int kn_lab_networks_furnish(struct kn_lab_keeper *keeper, struct kn_lab_pod *pod, struct nl_sock *nl,
                            struct kn_error *err)
{
    for (size_t i = 0; i < pod->n_extra; i++)
        if (furnish_one(keeper, pod, i, nl, err))
            return -1;
    return 0;
}

int kn_lab_networks_connect(struct kn_lab_keeper *keeper, struct kn_lab_pod *pod, struct kn_error *err)
{
    for (size_t i = 0; i < pod->n_extra; i++) {
        struct kn_lab_network *network = network_named(keeper, pod->extra[i].network, err);
        if (!network || kn_link_up(keeper->nl, pod->extra[i].port, LAB_IF_NETWORKS + network->index, err))
            return -1;
    }
    return 0;
}

void kn_lab_networks_leave(struct kn_lab_keeper *keeper, struct kn_lab_pod *pod)
{
    struct kn_error ignored;
    for (size_t i = 0; i < pod->n_extra; i++)
        if (pod->extra[i].port)
            kn_link_delete(keeper->nl, pod->extra[i].port, &ignored);
}

void kn_lab_networks_json(const struct kn_lab_pod *pod, json_t *into)
{
    json_t *list = pod->n_extra ? json_array() : NULL;
    for (size_t i = 0; i < pod->n_extra; i++) {
        const struct kn_lab_extra *extra = &pod->extra[i];
        json_array_append_new(list, json_pack("{s:s,s:s,s:o}", "name", extra->network, "interface", extra->interface,
                                              "ip", kn_ip_list(extra->ip)));
    }
    if (list)
        json_object_set_new(into, "networks", list);
}
