/* lab/link - addresses, interfaces and routes: which ones a lab has, and how they are made over rtnetlink. */
#ifndef KN_LAB_LINK_H
#define KN_LAB_LINK_H

#include <jansson.h>
#include <netlink/netlink.h>
#include <stdint.h>

#include "core/error.h"

/* interface numbers, the same in every namespace */
enum { LAB_IF_LO = 1, LAB_IF_ETH0 = 2, LAB_IF_BRIDGE = 3, LAB_IF_OVERLAY = 4, LAB_IF_EXTRA = 10, LAB_IF_PORTS = 100 };
/* in the fabric: the bridges of secondary networks, and the ports of pods on them */
enum { LAB_IF_NETWORKS = 5000, LAB_IF_NETWORK_PORTS = 10000 };

struct kn_ip {
    int family;
    uint8_t bytes[16];
}; /* family 0: none */
struct kn_mac {
    uint8_t bytes[6];
};
#define LAB_IP_TEXT 48
#define LAB_VNI 1
#define LAB_VXLAN_PORT 8472
/* the third byte of hardware addresses */
enum {
    LAB_MAC_FABRIC = 1,
    LAB_MAC_UPLINK,
    LAB_MAC_BRIDGE,
    LAB_MAC_OVERLAY,
    LAB_MAC_POD,
    LAB_MAC_BRIDGE_OF_GUEST,
    LAB_MAC_VETH,
    LAB_MAC_NETWORK,
    LAB_MAC_EXTRA
};

/* ---- address.c ---- */
void kn_lab_fabric_ip(int family, struct kn_ip *ip);
void kn_lab_node_ip(unsigned node, int family, struct kn_ip *ip);
void kn_lab_pod_range(unsigned node, int family, struct kn_ip *ip);             /* the base; see kn_lab_range_bits */
void kn_lab_pod_ip(unsigned node, unsigned slot, int family, struct kn_ip *ip); /* slot 1 is the node's bridge */
void kn_lab_service_ip(unsigned service, int family, struct kn_ip *ip);
void kn_lab_network_ip(unsigned network, unsigned pod, int family, struct kn_ip *ip);
void kn_lab_idle_ip(unsigned i, int family, struct kn_ip *ip);
void kn_lab_mac(unsigned kind, unsigned number, struct kn_mac *mac);
char *kn_ip_text(const struct kn_ip *ip, char *buf, size_t size);
json_t *kn_ip_list(const struct kn_ip ip[2]);
unsigned kn_lab_range_bits(int family); /* a node's pod range */
unsigned kn_lab_fabric_bits(int family);
unsigned kn_lab_host_bits(int family); /* 32, 128 */
#define LAB_ALL_PODS_4 "10.240.0.0/12"
#define LAB_ALL_PODS_6 "fd00:10:244::/48"
#define LAB_SLOT_FIRST 2
#define LAB_SLOT_LAST 1020

/* ---- link.c: rtnetlink ---- */
struct kn_veth {
    const char *name, *peer_name;
    unsigned index, peer_index, mtu;
    struct kn_mac mac;
    int peer_netns;
};
/* The link is up; its peer is not. */
int kn_link_veth(struct nl_sock *nl, const struct kn_veth *veth, struct kn_error *err);
int kn_link_bridge(struct nl_sock *nl, const char *name, unsigned index, unsigned mtu, const struct kn_mac *mac,
                   struct kn_error *err);
int kn_link_mtu(struct nl_sock *nl, unsigned index, unsigned mtu, struct kn_error *err);
int kn_link_hardware(struct nl_sock *nl, unsigned index, const struct kn_mac *mac, struct kn_error *err);
int kn_link_up(struct nl_sock *nl, unsigned index, unsigned master, struct kn_error *err);
/* Lets the bridge send a frame back through the port that it came from, so that a pod can reach itself. */
int kn_link_hairpin(struct nl_sock *nl, unsigned index, struct kn_error *err);
int kn_link_no_learning(struct nl_sock *nl, unsigned index, struct kn_error *err);
int kn_link_delete(struct nl_sock *nl, unsigned index, struct kn_error *err);
int kn_link_address(struct nl_sock *nl, unsigned index, const struct kn_ip *ip, unsigned bits, struct kn_error *err);
int kn_link_route(struct nl_sock *nl, const struct kn_ip *to, unsigned bits, const struct kn_ip *via, unsigned index,
                  struct kn_error *err);
/* A smaller path MTU for one host on the link, so that senders get "packet too big"; and its removal. */
int kn_link_narrow(struct nl_sock *nl, const struct kn_ip *to, unsigned index, unsigned mtu, struct kn_error *err);
void kn_link_widen(struct nl_sock *nl, const struct kn_ip *to, unsigned index);
int kn_link_vxlan(struct nl_sock *nl, const char *name, unsigned index, unsigned mtu, const struct kn_mac *mac,
                  const struct kn_ip *local, struct kn_error *err);
int kn_link_neighbour(struct nl_sock *nl, unsigned index, const struct kn_ip *ip, const struct kn_mac *mac,
                      struct kn_error *err);
/* vxlan: the node that has `mac` */
int kn_link_forward(struct nl_sock *nl, unsigned index, const struct kn_mac *mac, const struct kn_ip *to,
                    struct kn_error *err);
int kn_link_shape(struct nl_sock *nl, unsigned index, uint64_t bps, unsigned mtu, struct kn_error *err);
int kn_link_counters(struct nl_sock *nl, const char *owner, const char *kind, json_t *into, struct kn_error *err);

#endif
