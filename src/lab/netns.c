#include "lab/keeper.h"

#include <fcntl.h>
#include <linux/netlink.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>

/* What the keeper holds for each node and pod stays out of the first 1,024 descriptors: a library may call select(). */
static int move_up(int fd)
{
    int high = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, FD_SETSIZE);
    if (high >= 0)
        close(fd);
    return high < 0 ? fd : high;
}

int kn_netns_new(int *fd, struct kn_error *err)
{
    if (unshare(CLONE_NEWNET))
        return kn_fail_errno(err, "cannot make a network namespace");
    *fd = move_up(open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
    return *fd < 0 ? kn_fail_errno(err, "cannot open a network namespace") : 0;
}

int kn_netns_enter(int fd, struct kn_error *err)
{
    return setns(fd, CLONE_NEWNET) ? kn_fail_errno(err, "cannot enter a network namespace") : 0;
}

int kn_netns_back(const struct kn_lab_keeper *keeper, int bad, struct kn_error *err)
{
    struct kn_error second;
    return kn_netns_enter(keeper->netns, bad ? &second : err) || bad ? -1 : 0;
}

struct nl_sock *kn_netns_socket(struct kn_error *err)
{
    struct sockaddr_nl any = {.nl_family = AF_NETLINK};
    struct nl_sock *nl = nl_socket_alloc();
    int fd = move_up(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
    int bad = !nl ? -NLE_NOMEM : fd < 0 || bind(fd, (struct sockaddr *)&any, sizeof any) ? -NLE_BAD_SOCK : 0;
    if (!bad && !(bad = nl_socket_set_fd(nl, NETLINK_ROUTE, fd)) && !(bad = nl_socket_set_buffer_size(nl, 0, 0)))
        return nl;
    if (fd >= 0 && (!nl || nl_socket_get_fd(nl) != fd))
        close(fd);
    nl_socket_free(nl);
    return kn_null(kn_fail(err, KN_E_SYSTEM, "cannot open rtnetlink: %s", nl_geterror(bad)));
}

int kn_sysctl_write(const char *name, const char *value, struct kn_error *err)
{
    char path[256];
    snprintf(path, sizeof path, "/proc/sys/net/%s", name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : write(fd, value, strlen(value));
    if (n < 0)
        kn_fail_errno(err, "cannot set %s to %s", path, value);
    if (fd >= 0)
        close(fd);
    return n < 0 ? -1 : 0;
}

struct setting {
    const char *name, *value;
    bool forwards, ends, v4, v6, must;
};

/* New namespaces inherit IPv4's settings from the machine, so all that matter are set here.
 * Redirects are off: two pods of one node are on the same bridge, and a redirect would teach them a direct way that
 * bypasses the Services' NAT. TIME_WAIT in conntrack is short: a client that opens many connections a second would fill
 * the node's table, and in the lab nothing arrives late. */
static const struct setting settings[] = {
    {"ipv4/ip_forward", "1", true, false, true, false, true},
    {"ipv6/conf/all/forwarding", "1", true, false, false, true, true},
    {"ipv4/conf/all/rp_filter", "0", true, true, true, false, true},
    {"ipv4/conf/default/rp_filter", "0", true, true, true, false, true},
    {"ipv4/conf/all/send_redirects", "0", true, false, true, false, true},
    {"ipv4/conf/default/send_redirects", "0", true, false, true, false, true},
    {"ipv4/conf/all/accept_redirects", "0", true, true, true, false, true},
    {"ipv4/conf/default/accept_redirects", "0", true, true, true, false, true},
    {"ipv6/conf/all/accept_redirects", "0", true, true, false, true, true},
    {"ipv6/conf/default/accept_redirects", "0", true, true, false, true, true},
    {"ipv6/conf/all/disable_ipv6", "0", true, true, false, true, true},
    {"ipv6/conf/default/disable_ipv6", "0", true, true, false, true, true},
    {"ipv6/conf/all/accept_dad", "0", true, true, false, true, true},
    {"ipv6/conf/default/accept_dad", "0", true, true, false, true, true},
    {"ipv6/conf/default/accept_ra", "0", true, true, false, true, true},
    {"ipv6/conf/default/router_solicitations", "0", true, true, false, true, false},
    {"bridge/bridge-nf-call-iptables", "0", true, false, true, true, false},
    {"bridge/bridge-nf-call-ip6tables", "0", true, false, true, true, false},
    {"bridge/bridge-nf-call-arptables", "0", true, false, true, true, false},
    {"netfilter/nf_conntrack_tcp_timeout_time_wait", "5", true, false, true, true, false},
};

int kn_netns_sysctls(const struct kn_lab_options *options, bool forwards, struct kn_error *err)
{
    struct kn_error ignored;
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        const struct setting *s = &settings[i];
        if (!(forwards ? s->forwards : s->ends) || !((s->v4 && options->v4) || (s->v6 && options->v6)))
            continue;
        if (kn_sysctl_write(s->name, s->value, s->must ? err : &ignored) && s->must)
            return -1;
    }
    /* the machine may have IPv6 disabled */
    if (!options->v6)
        kn_sysctl_write("ipv6/conf/default/disable_ipv6", "1", &ignored);
    /* Masquerading reuses ports that the server still holds in TIME_WAIT. With a random timestamp offset for each pair
     * of ports, the server would drop half of those connections as old (PAWS), for a second. */
    kn_sysctl_write("ipv4/tcp_timestamps", "2", &ignored);
    /* lets ordinary users ping; a user namespace has only one group */
    if (kn_sysctl_write("ipv4/ping_group_range", "0 2147483647", &ignored))
        kn_sysctl_write("ipv4/ping_group_range", "0 0", &ignored);
    return 0;
}
