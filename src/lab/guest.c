#include "lab/guest.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/agent.h"
#include "core/clock.h"
#include "core/file.h"
#include "lab/keeper.h"

#define CONFIG_MOST 65536
#define LINK_NS (10 * KN_NS_PER_S)
#define COMPRESSED 4 /* MODULE_INIT_COMPRESSED_FILE of linux/module.h, which is newer than some headers */

static int mount_all(struct kn_error *err)
{
    static const struct { const char *type, *at; bool must; } mounts[] = {
        { "devtmpfs", "/dev", false }, { "proc", "/proc", true }, { "sysfs", "/sys", true }, { "tmpfs", "/run", true },
    };
    for (size_t i = 0; i < sizeof mounts / sizeof *mounts; i++)
        if (mount(mounts[i].type, mounts[i].at, mounts[i].type, MS_NOSUID, NULL) && mounts[i].must)
            return kn_fail_errno(err, "the guest cannot mount its %s", mounts[i].at);
    return 0;
}

/* Those that this kernel has built in, or another has brought, are no fault. */
static int load_modules(const json_t *modules, struct kn_error *err)
{
    char path[64];
    size_t i;
    json_t *name;
    json_array_foreach((json_t *)(uintptr_t)modules, i, name) {
        const char *text = json_string_value(name), *dot = text ? strrchr(text, '.') : NULL;
        snprintf(path, sizeof path, GUEST_MODULES "/%zu.ko", i);
        int fd = open(path, O_RDONLY | O_CLOEXEC), flags = dot && strcmp(dot, ".ko") != 0 ? COMPRESSED : 0;
        int bad = fd < 0 || syscall(SYS_finit_module, fd, "", flags);
        if (bad && errno != EEXIST) return kn_fail_errno(err, "the guest cannot load %s", text ? text : path);
        if (fd >= 0) close(fd);
    }
    return 0;
}

static unsigned await_link(struct kn_error *err)
{
    uint64_t deadline = kn_now_ns() + LINK_NS;
    unsigned index;
    while (!(index = if_nametoindex("eth0")) && kn_now_ns() < deadline) kn_sleep_until_ns(kn_now_ns() + KN_NS_PER_MS);
    if (!index) kn_fail(err, KN_E_UNSUPPORTED, "the guest sees no network card: its kernel lacks a driver for it");
    return index;
}

/* Whoever already asks for this guest's hardware address asks but once a second: a word to the node, and it knows. */
static void announce(const struct kn_ip gateway[2])
{
    for (int i = 0; i < 2; i++) {
        char text[LAB_IP_TEXT];
        struct kn_error ignored;
        struct kn_addr to;
        if (!gateway[i].family || kn_addr_resolve(kn_ip_text(&gateway[i], text, sizeof text), 9, 0, 0, &to, &ignored))
            continue;
        int fd = socket(gateway[i].family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (fd < 0) continue;
        ssize_t n = sendto(fd, "", 1, 0, &to.u.sa, to.len);
        (void)n;
        close(fd);
    }
}

/* The settings come first: a card takes its own from what is the default when it appears. */
static int set_up_network(const json_t *config, struct kn_error *err)
{
    struct kn_ip ip[2] = { { .family = 0 } }, gateway[2] = { { .family = 0 } };
    kn_ip_unlist(json_object_get(config, "ip"), ip);
    kn_ip_unlist(json_object_get(config, "gateway"), gateway);
    struct kn_lab_options options = { .v4 = ip[0].family != 0, .v6 = ip[1].family != 0 };
    if (kn_netns_sysctls(&options, false, err) || load_modules(json_object_get(config, "modules"), err)) return -1;
    unsigned index = await_link(err), mtu = (unsigned)json_integer_value(json_object_get(config, "mtu"));
    struct nl_sock *nl = index ? kn_netns_socket(err) : NULL;
    if (!nl) return -1;
    int bad = kn_link_up(nl, LAB_IF_LO, 0, err) || kn_link_mtu(nl, index, mtu, err) ||
              kn_link_up(nl, index, 0, err) || kn_pod_address(nl, index, ip, gateway, err);
    nl_socket_free(nl);
    if (!bad) announce(gateway);
    return bad ? -1 : 0;
}

static int run_agent(const json_t *config, struct kn_error *err)
{
    struct kn_agent_config agent_config;
    const char *name, *node, *token;
    int port, v6;
    if (json_unpack((json_t *)(uintptr_t)config, "{s:s,s:s,s:s,s:i,s:b}", "name", &name, "node", &node, "token",
                    &token, "port", &port, "v6", &v6))
        return kn_fail(err, KN_E_PROTOCOL, GUEST_CONFIG " is not what this version of knbl reads");
    kn_agent_defaults(&agent_config);
    kn_lab_listen(v6, (uint16_t)port, &agent_config.listen);
    agent_config.token = token;
    snprintf(agent_config.me.name, sizeof agent_config.me.name, "%s", name);
    snprintf(agent_config.me.node, sizeof agent_config.me.node, "%s", node);
    sethostname(name, strlen(name));
    signal(SIGCHLD, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    struct kn_agent *agent = kn_agent_new(&agent_config, err);
    if (!agent) return -1;
    dprintf(1, "\n" GUEST_SAYS GUEST_READY "\n");
    kn_agent_wait(agent);
    kn_agent_free(agent);
    return 0;
}

static int live(bool *power_off, struct kn_error *err)
{
    if (mount_all(err)) return -1;
    char *text = kn_read_file(GUEST_CONFIG, CONFIG_MOST, err);
    json_t *config = text ? json_loads(text, 0, NULL) : NULL;
    free(text);
    if (!config) return text ? kn_fail(err, KN_E_PROTOCOL, GUEST_CONFIG " is not JSON") : -1;
    *power_off = json_is_true(json_object_get(config, "power_off"));
    int bad = set_up_network(config, err) || run_agent(config, err);
    json_decref(config);
    return bad ? -1 : 0;
}

int kn_guest_main(void)
{
    struct kn_error err;
    bool power_off = false;
    if (getpid() != 1) return 1;
    if (live(&power_off, &err)) dprintf(1, "\n" GUEST_SAYS "%s\n", err.message);
    fsync(1);
    reboot(power_off ? RB_POWER_OFF : RB_AUTOBOOT); /* whichever ends the monitor */
    return 1;
}
