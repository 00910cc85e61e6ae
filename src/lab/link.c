#include "lab/link.h"

#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netlink/route/addr.h>
#include <netlink/route/link.h>
#include <netlink/route/link/bridge.h>
#include <netlink/route/link/veth.h>
#include <netlink/route/link/vxlan.h>
#include <netlink/route/neighbour.h>
#include <netlink/route/nexthop.h>
#include <netlink/route/route.h>
#include <netlink/socket.h>

/* Each function sends one request and waits for its acknowledgement. A NULL from libnl means out of memory. */

#define DONE(what, code) ((code) < 0 ? kn_fail(err, KN_E_SYSTEM, "cannot %s: %s", (what), nl_geterror(code)) : 0)
#define NO_MEMORY kn_fail_memory(err)

static struct nl_addr *address(const struct kn_ip *ip, unsigned bits)
{
    struct nl_addr *addr = nl_addr_build(ip->family, ip->bytes, ip->family == AF_INET ? 4 : 16);
    if (addr)
        nl_addr_set_prefixlen(addr, (int)bits);
    return addr;
}

static struct nl_addr *hardware(const struct kn_mac *mac)
{
    return nl_addr_build(AF_LLC, mac->bytes, sizeof mac->bytes);
}

/* Sets what all new links have: number, name, MTU, hardware address and the flag "up". */
static int describe(struct rtnl_link *link, const char *name, unsigned index, unsigned mtu, const struct kn_mac *mac)
{
    rtnl_link_set_ifindex(link, (int)index);
    rtnl_link_set_name(link, name);
    rtnl_link_set_mtu(link, mtu);
    rtnl_link_set_flags(link, IFF_UP);
    if (!mac)
        return 0;
    struct nl_addr *addr = hardware(mac);
    if (!addr)
        return -1;
    rtnl_link_set_addr(link, addr);
    nl_addr_put(addr);
    return 0;
}

int kn_link_veth(struct nl_sock *nl, const struct kn_veth *veth, struct kn_error *err)
{
    struct rtnl_link *link = rtnl_link_veth_alloc(), *peer = link ? rtnl_link_veth_get_peer(link) : NULL;
    int code = -NLE_NOMEM;
    if (!peer)
        goto out;
    if (describe(link, veth->name, veth->index, veth->mtu, &veth->mac) ||
        describe(peer, veth->peer_name, veth->peer_index, veth->mtu, NULL))
        goto out;
    rtnl_link_unset_flags(peer, IFF_UP); /* up without its other end fails with ENOTCONN */
    rtnl_link_set_ns_fd(peer, veth->peer_netns);
    code = rtnl_link_add(nl, link, NLM_F_CREATE | NLM_F_EXCL);
out:
    rtnl_link_put(peer);
    rtnl_link_put(link);
    return DONE("make a pair of veth links", code);
}

static int set_mtu(struct nl_sock *nl, unsigned index, unsigned mtu)
{
    struct rtnl_link *link = rtnl_link_alloc();
    if (!link)
        return -NLE_NOMEM;
    rtnl_link_set_ifindex(link, (int)index);
    rtnl_link_set_mtu(link, mtu);
    int code = rtnl_link_add(nl, link, 0);
    rtnl_link_put(link);
    return code;
}

int kn_link_mtu(struct nl_sock *nl, unsigned index, unsigned mtu, struct kn_error *err)
{
    int code = set_mtu(nl, index, mtu);
    return DONE("set the MTU of a link", code);
}

int kn_link_hardware(struct nl_sock *nl, unsigned index, const struct kn_mac *mac, struct kn_error *err)
{
    struct rtnl_link *link = rtnl_link_alloc();
    struct nl_addr *addr = hardware(mac);
    int code = -NLE_NOMEM;
    if (link && addr) {
        rtnl_link_set_ifindex(link, (int)index);
        rtnl_link_set_addr(link, addr);
        code = rtnl_link_add(nl, link, 0);
    }
    nl_addr_put(addr);
    rtnl_link_put(link);
    return DONE("change the hardware address of a link", code);
}

/* A bridge takes the smallest MTU of its ports unless its own was changed, and the one that it is created with does not
 * count as a change. */
int kn_link_bridge(struct nl_sock *nl, const char *name, unsigned index, unsigned mtu, const struct kn_mac *mac,
                   struct kn_error *err)
{
    struct rtnl_link *link = rtnl_link_bridge_alloc();
    int code = -NLE_NOMEM;
    if (link && !describe(link, name, index, mtu < 65535 ? mtu + 1 : mtu - 1, mac))
        code = rtnl_link_add(nl, link, NLM_F_CREATE | NLM_F_EXCL);
    rtnl_link_put(link);
    if (code >= 0)
        code = set_mtu(nl, index, mtu);
    return DONE("make a bridge", code);
}

int kn_link_vxlan(struct nl_sock *nl, const char *name, unsigned index, unsigned mtu, const struct kn_mac *mac,
                  const struct kn_ip *local, struct kn_error *err)
{
    struct rtnl_link *link = rtnl_link_vxlan_alloc();
    struct nl_addr *addr = address(local, kn_lab_host_bits(local->family));
    int code = -NLE_NOMEM;
    if (link && addr && !describe(link, name, index, mtu, mac)) {
        rtnl_link_vxlan_set_id(link, LAB_VNI);
        rtnl_link_vxlan_set_link(link, LAB_IF_ETH0);
        rtnl_link_vxlan_set_local(link, addr);
        rtnl_link_vxlan_set_port(link, LAB_VXLAN_PORT);
        rtnl_link_vxlan_set_learning(link, 0);
        code = rtnl_link_add(nl, link, NLM_F_CREATE | NLM_F_EXCL);
    }
    nl_addr_put(addr);
    rtnl_link_put(link);
    return DONE("make a vxlan link", code);
}

/* rtnl_link_add on an existing link is a plain change; rtnl_link_change would need the old state to compare with. */
int kn_link_up(struct nl_sock *nl, unsigned index, unsigned master, struct kn_error *err)
{
    struct rtnl_link *link = rtnl_link_alloc();
    if (!link)
        return NO_MEMORY;
    rtnl_link_set_ifindex(link, (int)index);
    rtnl_link_set_flags(link, IFF_UP);
    if (master)
        rtnl_link_set_master(link, (int)master);
    int code = rtnl_link_add(nl, link, 0);
    rtnl_link_put(link);
    return DONE("bring a link up", code);
}

/* libnl 3.7 cannot set the flags of a bridge's port. */
static int set_port(struct nl_sock *nl, unsigned index, int flag, uint8_t value)
{
    struct ifinfomsg info = {.ifi_family = AF_BRIDGE, .ifi_index = (int)index};
    struct nl_msg *message = nlmsg_alloc_simple(RTM_SETLINK, NLM_F_REQUEST);
    int code = -NLE_NOMEM;
    if (message && !nlmsg_append(message, &info, sizeof info, NLMSG_ALIGNTO)) {
        struct nlattr *port = nla_nest_start(message, IFLA_PROTINFO | NLA_F_NESTED);
        if (port && !nla_put_u8(message, flag, value)) {
            nla_nest_end(message, port);
            code = nl_send_sync(nl, message); /* frees the message */
            message = NULL;
        }
    }
    nlmsg_free(message);
    return code;
}

int kn_link_hairpin(struct nl_sock *nl, unsigned index, struct kn_error *err)
{
    int code = set_port(nl, index, IFLA_BRPORT_MODE, 1);
    return DONE("set a port of a bridge to hairpin mode", code);
}

int kn_link_no_learning(struct nl_sock *nl, unsigned index, struct kn_error *err)
{
    int code = set_port(nl, index, IFLA_BRPORT_LEARNING, 0);
    return DONE("keep a port of a bridge from learning", code);
}

int kn_link_delete(struct nl_sock *nl, unsigned index, struct kn_error *err)
{
    struct rtnl_link *link = rtnl_link_alloc();
    if (!link)
        return NO_MEMORY;
    rtnl_link_set_ifindex(link, (int)index);
    int code = rtnl_link_delete(nl, link);
    rtnl_link_put(link);
    return code == -NLE_NODEV || code == -NLE_OBJ_NOTFOUND ? 0 : DONE("remove a link", code);
}

int kn_link_address(struct nl_sock *nl, unsigned index, const struct kn_ip *ip, unsigned bits, struct kn_error *err)
{
    struct rtnl_addr *entry = rtnl_addr_alloc();
    struct nl_addr *addr = address(ip, bits);
    int code = -NLE_NOMEM;
    if (entry && addr) {
        rtnl_addr_set_ifindex(entry, (int)index);
        rtnl_addr_set_local(entry, addr);
        if (ip->family == AF_INET6)
            rtnl_addr_set_flags(entry, IFA_F_NODAD);
        code = rtnl_addr_add(nl, entry, NLM_F_CREATE | NLM_F_EXCL);
    }
    nl_addr_put(addr);
    rtnl_addr_put(entry);
    return DONE("give a link its address", code);
}

/* `via` NULL: the destination is on the link. Gateways are always on the link, since pods have /32 addresses. */
static struct rtnl_nexthop *next_hop(const struct kn_ip *via, unsigned index)
{
    struct rtnl_nexthop *hop = rtnl_route_nh_alloc();
    if (!hop)
        return NULL;
    rtnl_route_nh_set_ifindex(hop, (int)index);
    if (!via)
        return hop;
    struct nl_addr *gateway = address(via, kn_lab_host_bits(via->family));
    if (gateway)
        rtnl_route_nh_set_gateway(hop, gateway);
    rtnl_route_nh_set_flags(hop, RTNH_F_ONLINK);
    nl_addr_put(gateway);
    return hop;
}

static struct rtnl_route *route_to(const struct kn_ip *to, unsigned bits, const struct kn_ip *via, unsigned index)
{
    struct rtnl_route *route = rtnl_route_alloc();
    struct rtnl_nexthop *hop = next_hop(via, index);
    struct nl_addr *destination = address(to, bits);
    if (route && hop && destination) {
        rtnl_route_set_dst(route, destination);
        rtnl_route_set_family(route, (uint8_t)to->family);
        rtnl_route_set_scope(route, via ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK);
        rtnl_route_add_nexthop(route, hop);
        nl_addr_put(destination);
        return route;
    }
    nl_addr_put(destination);
    if (hop)
        rtnl_route_nh_free(hop);
    rtnl_route_put(route);
    return NULL;
}

int kn_link_route(struct nl_sock *nl, const struct kn_ip *to, unsigned bits, const struct kn_ip *via, unsigned index,
                  struct kn_error *err)
{
    struct rtnl_route *route = route_to(to, bits, via, index);
    if (!route)
        return NO_MEMORY;
    int code = rtnl_route_add(nl, route, NLM_F_CREATE | NLM_F_REPLACE); /* a deleted node's index is used again */
    rtnl_route_put(route);
    return DONE("add a route", code);
}

int kn_link_narrow(struct nl_sock *nl, const struct kn_ip *to, unsigned index, unsigned mtu, struct kn_error *err)
{
    struct rtnl_route *route = route_to(to, kn_lab_host_bits(to->family), NULL, index);
    int code = route ? rtnl_route_set_metric(route, RTAX_MTU, mtu) : -NLE_NOMEM;
    if (code >= 0)
        code = rtnl_route_add(nl, route, NLM_F_CREATE | NLM_F_REPLACE);
    rtnl_route_put(route);
    return DONE("add a route", code);
}

void kn_link_widen(struct nl_sock *nl, const struct kn_ip *to, unsigned index)
{
    struct rtnl_route *route = route_to(to, kn_lab_host_bits(to->family), NULL, index);
    if (route)
        rtnl_route_delete(nl, route, 0); /* it may be gone already */
    rtnl_route_put(route);
}

static int neighbour(struct nl_sock *nl, unsigned index, int family, const struct kn_ip *ip, const struct kn_mac *mac,
                     struct kn_error *err)
{
    struct rtnl_neigh *entry = rtnl_neigh_alloc();
    struct nl_addr *lladdr = hardware(mac), *addr = address(ip, kn_lab_host_bits(ip->family));
    int code = -NLE_NOMEM;
    if (entry && lladdr && addr) {
        rtnl_neigh_set_ifindex(entry, (int)index);
        rtnl_neigh_set_lladdr(entry, lladdr);
        rtnl_neigh_set_dst(entry, addr);
        rtnl_neigh_set_family(entry, family); /* after the address, which sets another one */
        rtnl_neigh_set_state(entry, NUD_PERMANENT | (family == AF_BRIDGE ? NUD_NOARP : 0));
        if (family == AF_BRIDGE)
            rtnl_neigh_set_flags(entry, NTF_SELF);
        code = rtnl_neigh_add(nl, entry, NLM_F_CREATE | NLM_F_REPLACE);
    }
    nl_addr_put(addr);
    nl_addr_put(lladdr);
    rtnl_neigh_put(entry);
    return DONE("add a neighbour", code);
}

int kn_link_neighbour(struct nl_sock *nl, unsigned index, const struct kn_ip *ip, const struct kn_mac *mac,
                      struct kn_error *err)
{
    return neighbour(nl, index, ip->family, ip, mac, err);
}

int kn_link_forward(struct nl_sock *nl, unsigned index, const struct kn_mac *mac, const struct kn_ip *to,
                    struct kn_error *err)
{
    return neighbour(nl, index, AF_BRIDGE, to, mac, err);
}

/* A token bucket must hold one full segment of 64 KB; the kernel splits larger ones. */
int kn_link_shape(struct nl_sock *nl, unsigned index, uint64_t bps, unsigned mtu, struct kn_error *err)
{
    struct tcmsg head = {
        .tcm_family = AF_UNSPEC, .tcm_ifindex = (int)index, .tcm_parent = TC_H_ROOT, .tcm_handle = 1 << 16};
    uint64_t rate = bps / 8, burst = rate / 250;
    if (burst < 4 * (uint64_t)mtu)
        burst = 4 * (uint64_t)mtu;
    if (burst < 65536 && rate > 1250000)
        burst = 65536;
    if (burst > 16u << 20)
        burst = 16u << 20;
    struct tc_tbf_qopt options = {
        .rate = {.rate = rate > UINT32_MAX ? UINT32_MAX : (uint32_t)rate, .linklayer = TC_LINKLAYER_ETHERNET}};
    uint64_t limit = burst + rate / 20; /* 50 ms of queue */
    options.limit = limit > UINT32_MAX ? UINT32_MAX : (uint32_t)limit;
    options.buffer = (uint32_t)(burst * 1000000000ull / rate / 64); /* in the kernel's ticks of 64 ns */
    struct nl_msg *message = nlmsg_alloc_simple(RTM_NEWQDISC, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_REPLACE);
    int code = -NLE_NOMEM;
    if (message && !nlmsg_append(message, &head, sizeof head, NLMSG_ALIGNTO) &&
        !nla_put_string(message, TCA_KIND, "tbf")) {
        struct nlattr *nest = nla_nest_start(message, TCA_OPTIONS);
        if (nest && !nla_put(message, TCA_TBF_PARMS, sizeof options, &options) &&
            !nla_put_u64(message, TCA_TBF_RATE64, rate) && !nla_put_u32(message, TCA_TBF_BURST, (uint32_t)burst)) {
            nla_nest_end(message, nest);
            code = nl_send_sync(nl, message);
            message = NULL;
        }
    }
    nlmsg_free(message);
    return DONE("limit the bandwidth of a link", code);
}

static void note(struct rtnl_link *link, const char *owner, const char *kind, json_t *into)
{
    json_t *entry = json_pack("{s:s,s:s,s:s,s:i}", "owner", owner, "kind", kind, "name", rtnl_link_get_name(link),
                              "mtu", (int)rtnl_link_get_mtu(link));
    static const struct {
        const char *name;
        rtnl_link_stat_id_t id;
    } counters[] = {
        {"rx_bytes", RTNL_LINK_RX_BYTES},     {"tx_bytes", RTNL_LINK_TX_BYTES},
        {"rx_packets", RTNL_LINK_RX_PACKETS}, {"tx_packets", RTNL_LINK_TX_PACKETS},
        {"rx_dropped", RTNL_LINK_RX_DROPPED}, {"tx_dropped", RTNL_LINK_TX_DROPPED},
    };
    for (size_t i = 0; i < sizeof counters / sizeof *counters; i++)
        json_object_set_new(entry, counters[i].name,
                            json_integer((json_int_t)rtnl_link_get_stat(link, counters[i].id)));
    json_array_append_new(into, entry);
}

int kn_link_counters(struct nl_sock *nl, const char *owner, const char *kind, json_t *into, struct kn_error *err)
{
    struct nl_cache *cache = NULL;
    int code = rtnl_link_alloc_cache(nl, AF_UNSPEC, &cache);
    if (code < 0)
        return DONE("read the counters of its links", code);
    for (struct nl_object *o = nl_cache_get_first(cache); o; o = nl_cache_get_next(o))
        note((struct rtnl_link *)o, owner, kind, into);
    nl_cache_free(cache);
    return 0;
}
