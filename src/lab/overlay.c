#include "lab/keeper.h"

#include <arpa/inet.h>

/* Routes between the pods of different nodes. Without an overlay each node has a route to every other node's range
 * through that node's address, as with Calico when the nodes share a network; the
 * others get it when a node has its first pod, so that a thousand nodes without pods need no million routes. With vxlan
 * each node has one vxlan device, with a permanent route, neighbour and forwarding entry for every other node, as with
 * Flannel. It carries both families, over IPv4 if the lab has IPv4. */

static const int families[2] = {AF_INET, AF_INET6};

/* From one node to the pods of another. */
static int route(struct kn_lab_keeper *keeper, struct kn_lab_node *from, struct kn_lab_node *to, struct kn_error *err)
{
    struct kn_mac mac;
    kn_lab_mac(LAB_MAC_OVERLAY, to->index, &mac);
    if (keeper->options.vxlan &&
        kn_link_forward(from->nl, LAB_IF_OVERLAY, &mac, &to->ip[keeper->options.v4 ? 0 : 1], err))
        return -1;
    for (int i = 0; i < 2; i++) {
        struct kn_ip range, end;
        if (!to->ip[i].family)
            continue;
        kn_lab_pod_range(to->index, families[i], &range);
        kn_lab_pod_ip(to->index, LAB_SLOT_LAST + 1, families[i], &end); /* the overlay's address on that node */
        if (keeper->options.vxlan && kn_link_neighbour(from->nl, LAB_IF_OVERLAY, &end, &mac, err))
            return -1;
        if (kn_link_route(from->nl, &range, kn_lab_range_bits(families[i]), keeper->options.vxlan ? &end : &to->ip[i],
                          keeper->options.vxlan ? LAB_IF_OVERLAY : LAB_IF_ETH0, err))
            return -1;
    }
    return 0;
}

static int device(struct kn_lab_keeper *keeper, struct kn_lab_node *node, struct kn_error *err)
{
    struct kn_mac mac;
    struct kn_ip own;
    kn_lab_mac(LAB_MAC_OVERLAY, node->index, &mac);
    if (kn_link_vxlan(node->nl, "overlay", LAB_IF_OVERLAY, node->mtu, &mac, &node->ip[keeper->options.v4 ? 0 : 1], err))
        return -1;
    for (int i = 0; i < 2; i++) {
        if (!node->ip[i].family)
            continue;
        kn_lab_pod_ip(node->index, LAB_SLOT_LAST + 1, families[i], &own);
        if (kn_link_address(node->nl, LAB_IF_OVERLAY, &own, kn_lab_host_bits(families[i]), err))
            return -1;
    }
    return 0;
}

int kn_overlay_join(struct kn_lab_keeper *keeper, struct kn_lab_node *node, struct kn_error *err)
{
    if (keeper->options.vxlan && device(keeper, node, err))
        return -1;
    for (struct kn_lab_node *other = keeper->nodes; other; other = other->next)
        if (other->announced && route(keeper, node, other, err))
            return -1;
    /* vxlan: packets that a node itself masquerades come from its overlay's address, so that answers need a route */
    return keeper->options.vxlan ? kn_overlay_announce(keeper, node, err) : 0;
}

int kn_overlay_announce(struct kn_lab_keeper *keeper, struct kn_lab_node *node, struct kn_error *err)
{
    for (struct kn_lab_node *other = keeper->nodes; other && !node->announced; other = other->next)
        if (other != node && route(keeper, other, node, err))
            return -1;
    node->announced = true;
    return 0;
}
