#include "static/guest.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/route.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/agent.h"
#include "core/clock.h"
#include "core/file.h"
#include "core/json.h"

#define CONFIG_MOST 65536
#define LINK "eth0"
#define LINK_NS (10 * KN_NS_PER_S)
#define COMPRESSED 4 /* MODULE_INIT_COMPRESSED_FILE of linux/module.h, which is newer than some headers */

static int mount_all(struct kn_error *err)
{
    static const struct {
        const char *type, *at;
        bool must;
    } mounts[] = {
        {"devtmpfs", "/dev", false},
        {"proc", "/proc", true},
        {"sysfs", "/sys", true},
        {"tmpfs", "/run", true},
    };
    for (size_t i = 0; i < sizeof mounts / sizeof *mounts; i++)
        if (mount(mounts[i].type, mounts[i].at, mounts[i].type, MS_NOSUID, NULL) && mounts[i].must)
            return kn_fail_errno(err, "the guest cannot mount %s", mounts[i].at);
    return 0;
}

/* A module that is built in or loaded already is no error. */
static int load_modules(const json_t *modules, struct kn_error *err)
{
    char path[64];
    size_t i;
    json_t *name;
    json_array_foreach((json_t *)(uintptr_t)modules, i, name)
    {
        const char *text = json_string_value(name), *dot = text ? strrchr(text, '.') : NULL;
        snprintf(path, sizeof path, GUEST_MODULES "/%zu.ko", i);
        int fd = open(path, O_RDONLY | O_CLOEXEC), flags = dot && strcmp(dot, ".ko") != 0 ? COMPRESSED : 0;
        int bad = fd < 0 || syscall(SYS_finit_module, fd, "", flags);
        if (bad && errno != EEXIST)
            return kn_fail_errno(err, "the guest cannot load %s", text ? text : path);
        if (fd >= 0)
            close(fd);
    }
    return 0;
}

static int await_link(unsigned *index, struct kn_error *err)
{
    uint64_t deadline = kn_now_ns() + LINK_NS;
    while (!(*index = if_nametoindex(LINK)) && kn_now_ns() < deadline)
        kn_sleep_until_ns(kn_now_ns() + KN_NS_PER_MS);
    return *index ? 0 : kn_fail(err, KN_E_UNSUPPORTED, "the guest has no network card: its kernel lacks a driver");
}

/* As in the lab's other pods (lab/netns.c). They come first: a card copies the defaults when it appears. */
static void write_sysctls(bool v6)
{
    const char *const settings[][2] = {
        {"ipv4/conf/all/rp_filter", "0"},
        {"ipv4/conf/default/rp_filter", "0"},
        {"ipv4/conf/all/accept_redirects", "0"},
        {"ipv4/conf/default/accept_redirects", "0"},
        {"ipv6/conf/all/accept_redirects", "0"},
        {"ipv6/conf/default/accept_redirects", "0"},
        {"ipv6/conf/all/accept_dad", "0"},
        {"ipv6/conf/default/accept_dad", "0"},
        {"ipv6/conf/default/accept_ra", "0"},
        {"ipv6/conf/default/router_solicitations", "0"},
        {"ipv4/tcp_timestamps", "2"},
        {"ipv4/ping_group_range", "0 2147483647"},
        {"ipv6/conf/default/disable_ipv6", v6 ? "0" : "1"},
    };
    char path[96];
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        snprintf(path, sizeof path, "/proc/sys/net/%s", settings[i][0]);
        int fd = open(path, O_WRONLY | O_CLOEXEC);
        ssize_t n = fd >= 0 ? write(fd, settings[i][1], strlen(settings[i][1])) : 0;
        (void)n; /* a kernel without IPv6 has fewer of them */
        if (fd >= 0)
            close(fd);
    }
}

static int bring_up(int fd, const char *name, int mtu, struct kn_error *err)
{
    struct ifreq r = {.ifr_mtu = mtu};
    snprintf(r.ifr_name, sizeof r.ifr_name, "%s", name);
    if (mtu && ioctl(fd, SIOCSIFMTU, &r))
        return kn_fail_errno(err, "the guest cannot set the MTU of %s to %d", name, mtu);
    r.ifr_flags = IFF_UP;
    return ioctl(fd, SIOCSIFFLAGS, &r) ? kn_fail_errno(err, "the guest cannot bring %s up", name) : 0;
}

static struct sockaddr v4_of(in_addr_t address)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr.s_addr = address};
    struct sockaddr any;
    memcpy(&any, &v4, sizeof any);
    return any;
}

/* The address alone, a route to the gateway, and through it to everywhere. */
static int address_v4(int fd, const char *address, const char *gateway, struct kn_error *err)
{
    struct ifreq own = {.ifr_name = LINK, .ifr_addr = v4_of(inet_addr(address))},
                 mask = {.ifr_name = LINK, .ifr_netmask = v4_of(INADDR_NONE)};
    struct rtentry near = {.rt_dst = v4_of(inet_addr(gateway)), .rt_genmask = v4_of(INADDR_NONE)},
                   all = {.rt_dst = v4_of(0), .rt_genmask = v4_of(0), .rt_gateway = v4_of(inet_addr(gateway))};
    near.rt_dev = all.rt_dev = (char[]){LINK};
    near.rt_flags = RTF_UP | RTF_HOST;
    all.rt_flags = RTF_UP | RTF_GATEWAY;
    return ioctl(fd, SIOCSIFADDR, &own) || ioctl(fd, SIOCSIFNETMASK, &mask) || ioctl(fd, SIOCADDRT, &near) ||
                   ioctl(fd, SIOCADDRT, &all)
               ? kn_fail_errno(err, "the guest cannot have the address %s with the gateway %s", address, gateway)
               : 0;
}

static int address_v6(unsigned index, const char *address, const char *gateway, struct kn_error *err)
{
    struct { /* in6_ifreq of linux/ipv6.h */
        struct in6_addr address;
        uint32_t bits;
        int index;
    } own = {.bits = 128, .index = (int)index};
    struct in6_rtmsg near = {.rtmsg_dst_len = 128, .rtmsg_metric = 1, .rtmsg_flags = RTF_UP | RTF_HOST},
                     all = {.rtmsg_metric = 1, .rtmsg_flags = RTF_UP | RTF_GATEWAY};
    near.rtmsg_ifindex = all.rtmsg_ifindex = (int)index;
    inet_pton(AF_INET6, address, &own.address);
    inet_pton(AF_INET6, gateway, &near.rtmsg_dst);
    inet_pton(AF_INET6, gateway, &all.rtmsg_gateway);
    int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int bad = fd < 0 || ioctl(fd, SIOCSIFADDR, &own) || ioctl(fd, SIOCADDRT, &near) || ioctl(fd, SIOCADDRT, &all)
                  ? kn_fail_errno(err, "the guest cannot have the address %s with the gateway %s", address, gateway)
                  : 0;
    if (fd >= 0)
        close(fd);
    return bad;
}

/* Sends a datagram to the node, so that it learns the guest's hardware address at once: it asks for it only once a
 * second. */
static void announce(const char *gateway)
{
    struct kn_error ignored;
    struct kn_addr to;
    if (kn_addr_resolve(gateway, 9, 0, 0, &to, &ignored))
        return;
    int fd = socket(to.u.sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ssize_t n = fd >= 0 ? sendto(fd, "", 1, 0, &to.u.sa, to.len) : 0;
    (void)n;
    if (fd >= 0)
        close(fd);
}

/* "ip" and "gateway" are lists that belong together, at most one address of each family. */
static int set_addresses(int fd, unsigned index, const json_t *config, struct kn_error *err)
{
    const json_t *own = json_object_get(config, "ip"), *gateways = json_object_get(config, "gateway");
    for (size_t i = 0; i < json_array_size(own); i++) {
        const char *address = json_string_value(json_array_get(own, i)), *gateway;
        if (!address || !(gateway = json_string_value(json_array_get(gateways, i))))
            return kn_fail(err, KN_E_PROTOCOL, GUEST_CONFIG " is of another version of knbl");
        if (strchr(address, ':') ? address_v6(index, address, gateway, err) : address_v4(fd, address, gateway, err))
            return -1;
        announce(gateway);
    }
    return 0;
}

static int set_up_network(const json_t *config, struct kn_error *err)
{
    unsigned index;
    write_sysctls(json_is_true(json_object_get(config, "v6")));
    if (load_modules(json_object_get(config, "modules"), err) || await_link(&index, err))
        return -1;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return kn_fail_errno(err, "the guest cannot open a socket");
    int bad = bring_up(fd, "lo", 0, err) ||
              bring_up(fd, LINK, (int)json_integer_value(json_object_get(config, "mtu")), err) ||
              set_addresses(fd, index, config, err);
    close(fd);
    return bad ? -1 : 0;
}

static int run_agent(const json_t *config, struct kn_error *err)
{
    struct kn_agent_config agent_config;
    const char *name, *node, *token;
    int port, v6;
    if (json_unpack((json_t *)(uintptr_t)config, "{s:s,s:s,s:s,s:i,s:b}", "name", &name, "node", &node, "token", &token,
                    "port", &port, "v6", &v6))
        return kn_fail(err, KN_E_PROTOCOL, GUEST_CONFIG " is of another version of knbl");
    kn_agent_defaults(&agent_config);
    agent_config.listen = kn_addr_any(v6, (uint16_t)port);
    agent_config.token = token;
    snprintf(agent_config.me.name, sizeof agent_config.me.name, "%s", name);
    snprintf(agent_config.me.node, sizeof agent_config.me.node, "%s", node);
    sethostname(name, strlen(name));
    signal(SIGCHLD, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    struct kn_agent *agent = kn_agent_new(&agent_config, err);
    if (!agent)
        return -1;
    dprintf(1, "\n" GUEST_SAYS GUEST_READY "\n");
    kn_agent_wait(agent);
    kn_agent_free(agent);
    return 0;
}

static int live(struct kn_error *err)
{
    if (mount_all(err))
        return -1;
    char *text = kn_read_file(GUEST_CONFIG, CONFIG_MOST, err);
    json_t *config = text ? kn_json_load(text, strlen(text), 0, NULL) : NULL;
    free(text);
    if (!config)
        return text ? kn_fail(err, KN_E_PROTOCOL, GUEST_CONFIG " is not JSON") : -1;
    int bad = set_up_network(config, err) || run_agent(config, err);
    json_decref(config);
    return bad ? -1 : 0;
}

int kn_guest_main(void)
{
    struct kn_error err;
    if (getpid() != 1)
        return 1;
    if (live(&err))
        dprintf(1, "\n" GUEST_SAYS "%s\n", err.message);
    fsync(1);
    reboot(RB_AUTOBOOT); /* ends qemu (-no-reboot) */
    return 1;
}
