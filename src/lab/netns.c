#include "lab/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int kn_netns_new(int *fd, struct kn_error *err)
{
    if (unshare(CLONE_NEWNET)) return kn_fail_errno(err, "the lab cannot make a network namespace");
    *fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    return *fd < 0 ? kn_fail_errno(err, "the lab cannot hold a network namespace") : 0;
}

int kn_netns_enter(int fd, struct kn_error *err)
{
    return setns(fd, CLONE_NEWNET) ? kn_fail_errno(err, "the lab cannot enter a network namespace") : 0;
}

struct nl_sock *kn_netns_socket(struct kn_error *err)
{
    struct nl_sock *nl = nl_socket_alloc();
    int bad = nl ? nl_connect(nl, NETLINK_ROUTE) : -NLE_NOMEM;
    if (!bad) return nl;
    nl_socket_free(nl);
    kn_fail(err, KN_E_SYSTEM, "the lab cannot speak rtnetlink: %s", nl_geterror(bad));
    return NULL;
}

int kn_sysctl_write(const char *name, const char *value, struct kn_error *err)
{
    char path[256];
    snprintf(path, sizeof path, "/proc/sys/net/%s", name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : write(fd, value, strlen(value));
    if (n < 0) kn_fail_errno(err, "the lab cannot set %s to %s", path, value);
    if (fd >= 0) close(fd);
    return n < 0 ? -1 : 0;
}

struct setting { const char *name, *value; bool forwards, ends, v4, v6, must; };

/* IPv4's settings come from the machine's own, so nothing is taken for granted.
 * Two pods of one node are routed past each other by the node's bridge, and a redirect would teach them a shorter way
 * that evades the Services' NAT. A client that opens many connections a second would fill the conntrack table of a node
 * with the dead, in a lab where nothing arrives late. */
static const struct setting settings[] = {
    { "ipv4/ip_forward", "1", true, false, true, false, true },
    { "ipv6/conf/all/forwarding", "1", true, false, false, true, true },
    { "ipv4/conf/all/rp_filter", "0", true, true, true, false, true },
    { "ipv4/conf/default/rp_filter", "0", true, true, true, false, true },
    { "ipv4/conf/all/send_redirects", "0", true, false, true, false, true },
    { "ipv4/conf/default/send_redirects", "0", true, false, true, false, true },
    { "ipv4/conf/all/accept_redirects", "0", true, true, true, false, true },
    { "ipv4/conf/default/accept_redirects", "0", true, true, true, false, true },
    { "ipv6/conf/all/accept_redirects", "0", true, true, false, true, true },
    { "ipv6/conf/default/accept_redirects", "0", true, true, false, true, true },
    { "ipv6/conf/all/disable_ipv6", "0", true, true, false, true, true },
    { "ipv6/conf/default/disable_ipv6", "0", true, true, false, true, true },
    { "ipv6/conf/all/accept_dad", "0", true, true, false, true, true },
    { "ipv6/conf/default/accept_dad", "0", true, true, false, true, true },
    { "ipv6/conf/default/accept_ra", "0", true, true, false, true, true },
    { "ipv6/conf/default/router_solicitations", "0", true, true, false, true, false },
    { "bridge/bridge-nf-call-iptables", "0", true, false, true, true, false },
    { "bridge/bridge-nf-call-ip6tables", "0", true, false, true, true, false },
    { "bridge/bridge-nf-call-arptables", "0", true, false, true, true, false },
    { "netfilter/nf_conntrack_tcp_timeout_time_wait", "5", true, false, true, true, false },
};

int kn_netns_sysctls(const struct kn_lab_options *options, bool forwards, struct kn_error *err)
{
    struct kn_error ignored;
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        const struct setting *s = &settings[i];
        if (!(forwards ? s->forwards : s->ends) || !((s->v4 && options->v4) || (s->v6 && options->v6))) continue;
        if (kn_sysctl_write(s->name, s->value, s->must ? err : &ignored) && s->must) return -1;
    }
    /* the machine may keep IPv6 for itself */
    if (!options->v6) kn_sysctl_write("ipv6/conf/default/disable_ipv6", "1", &ignored);
    /* Masquerading takes ports again that the server still holds in TIME_WAIT. Where the kernel gives each pair of ports an
     * offset of its timestamps, half of those connections would be refused as old (PAWS) and wait a second. */
    kn_sysctl_write("ipv4/tcp_timestamps", "2", &ignored);
    /* ping by an ordinary user; in a user namespace there is but one group */
    if (kn_sysctl_write("ipv4/ping_group_range", "0 2147483647", &ignored))
        kn_sysctl_write("ipv4/ping_group_range", "0 0", &ignored);
    return 0;
}
