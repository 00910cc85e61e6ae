#include "lab/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/tc_act/tc_mirred.h>
#include <net/if.h>
#include <netlink/route/act/mirred.h>
#include <netlink/route/classifier.h>
#include <netlink/route/cls/u32.h>
#include <netlink/route/qdisc.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* Connects a guest's network card to the pod's network as kata does: the pod's veth and the guest's tap each have an
 * ingress queue with one filter that redirects every frame to the other. The namespace has no address of its own: the
 * pod's addresses are the guest's. */

#define TAP "tap0"
enum { IF_JOINT = LAB_IF_PORTS };

int kn_vm_no_tun(struct kn_error *err)
{
    return kn_fail_with(err, KN_E_UNSUPPORTED, errno,
                        "kata requires /dev/net/tun: %s; run modprobe tun, or give the container the device",
                        strerror(errno));
}

static int open_tap(struct kn_error *err)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return kn_vm_no_tun(err);
    strcpy(request.ifr_name, TAP);
    if (ioctl(fd, TUNSETIFF, &request) == 0)
        return fd;
    kn_fail_errno(err, "cannot make a tap for the guest");
    close(fd);
    return -1;
}

#define DONE(what, code) ((code) < 0 ? kn_fail(err, KN_E_UNSUPPORTED, "cannot %s: %s", (what), nl_geterror(code)) : 0)

static int ingress(struct nl_sock *nl, unsigned index, struct kn_error *err)
{
    struct rtnl_qdisc *qdisc = rtnl_qdisc_alloc();
    int code = -NLE_NOMEM;
    if (qdisc) {
        rtnl_tc_set_ifindex(TC_CAST(qdisc), (int)index);
        rtnl_tc_set_parent(TC_CAST(qdisc), TC_H_INGRESS);
        rtnl_tc_set_handle(TC_CAST(qdisc), 0xffff0000u);
        code = rtnl_tc_set_kind(TC_CAST(qdisc), "ingress");
        if (code >= 0)
            code = rtnl_qdisc_add(nl, qdisc, NLM_F_CREATE);
        rtnl_qdisc_put(qdisc);
    }
    return DONE("give a link an ingress queue", code);
}

static struct rtnl_act *redirection(unsigned to)
{
    struct rtnl_act *act = rtnl_act_alloc();
    if (!act)
        return NULL;
    if (rtnl_tc_set_kind(TC_CAST(act), "mirred") >= 0) {
        rtnl_mirred_set_action(act, TCA_EGRESS_REDIR);
        rtnl_mirred_set_ifindex(act, to);
        rtnl_mirred_set_policy(act, TC_ACT_STOLEN);
        return act;
    }
    rtnl_act_put(act);
    return NULL;
}

/* A filter that matches every frame: 0 under a mask of 0. */
static int redirect(struct nl_sock *nl, unsigned from, unsigned to, struct kn_error *err)
{
    struct rtnl_cls *cls = rtnl_cls_alloc();
    struct rtnl_act *act = redirection(to);
    int code = -NLE_NOMEM;
    if (cls && act) {
        rtnl_tc_set_ifindex(TC_CAST(cls), (int)from);
        rtnl_tc_set_parent(TC_CAST(cls), 0xffff0000u);
        rtnl_cls_set_prio(cls, 1);
        rtnl_cls_set_protocol(cls, ETH_P_ALL);
        code = rtnl_tc_set_kind(TC_CAST(cls), "u32");
        if (code >= 0)
            code = rtnl_u32_add_key_uint32(cls, 0, 0, 0, 0);
        if (code >= 0)
            code = rtnl_u32_set_cls_terminal(cls);
        if (code >= 0)
            code = rtnl_u32_add_action(cls, act);
        if (code >= 0)
            code = rtnl_cls_add(nl, cls, NLM_F_CREATE);
    }
    if (act)
        rtnl_act_put(act);
    if (cls)
        rtnl_cls_put(cls);
    return DONE("redirect one link's frames to another (act_mirred, cls_u32)", code);
}

static int join_by_redirect(struct nl_sock *nl, unsigned tap, struct kn_error *err)
{
    return ingress(nl, LAB_IF_ETH0, err) || ingress(nl, tap, err) || redirect(nl, LAB_IF_ETH0, tap, err) ||
                   redirect(nl, tap, LAB_IF_ETH0, err)
               ? -1
               : 0;
}

/* The guest has the pod's hardware address, so the veth, now a port of the bridge, gets another one. The port does not
 * learn, because the node's bridge sends the pod's own broadcasts back (hairpin): from those the guest would seem to be
 * on the wrong side. */
static int join_by_bridge(struct nl_sock *nl, const struct kn_vm *vm, unsigned tap, struct kn_error *err)
{
    struct kn_mac mac = vm->mac, veth = vm->mac;
    mac.bytes[2] = LAB_MAC_BRIDGE_OF_GUEST;
    veth.bytes[2] = LAB_MAC_VETH;
    return kn_link_hardware(nl, LAB_IF_ETH0, &veth, err) || kn_link_bridge(nl, "guest", IF_JOINT, vm->mtu, &mac, err) ||
                   kn_link_up(nl, LAB_IF_ETH0, IF_JOINT, err) || kn_link_no_learning(nl, LAB_IF_ETH0, err) ||
                   kn_link_up(nl, tap, IF_JOINT, err)
               ? -1
               : 0;
}

int kn_vm_tap(const struct kn_vm *vm, struct kn_error *err)
{
    int fd = open_tap(err);
    struct nl_sock *nl = fd < 0 ? NULL : kn_netns_socket(err);
    unsigned index = nl ? if_nametoindex(TAP) : 0;
    int bad = !nl || kn_link_mtu(nl, index, vm->mtu, err) || kn_link_up(nl, index, 0, err) ||
              (vm->bridge ? join_by_bridge(nl, vm, index, err) : join_by_redirect(nl, index, err));
    nl_socket_free(nl);
    if (!bad)
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}
