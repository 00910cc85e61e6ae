#include "agent/environment.h"

#include <limits.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/json.h"
#include "meter/meter.h"
#include "net/io.h"

#define PROXY_PORT 10249 /* kube-proxy's metrics, which only its node can reach */
#define PROXY_TIMEOUT_NS KN_NS_PER_S

static bool read_line(const char *path, char *line, size_t size)
{
    FILE *f = fopen(path, "re");
    bool ok = f && fgets(line, (int)size, f);
    if (f)
        fclose(f);
    if (ok)
        line[strcspn(line, "\n")] = '\0';
    return ok;
}

static void put_text(json_t *out, const char *key, const char *text)
{
    if (text[0])
        kn_json_set(out, key, json_stringn_nocheck(text, strlen(text)));
}

/* ---- CPU ---- */

static void put_cpu(json_t *out)
{
    char line[256];
    FILE *f = fopen("/proc/cpuinfo", "re");
    while (f && fgets(line, sizeof line, f)) {
        char *value = strchr(line, ':');
        if (value && !strncmp(line, "model name", 10)) {
            value[strcspn(value, "\n")] = '\0';
            put_text(out, "cpu_model", value + 1 + strspn(value + 1, " "));
            break;
        }
    }
    if (f)
        fclose(f);
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    if (online > 0)
        kn_json_set(out, "cpus", json_integer(online));
    kn_json_set(out, "cpus_allowed", json_integer(kn_cpus_allowed()));
    if (kn_cpu_quota() > 0)
        kn_json_set(out, "quota", json_real(kn_cpu_quota()));
}

static void put_cgroup(json_t *out)
{
    bool v2 = access("/sys/fs/cgroup/cgroup.controllers", R_OK) == 0;
    bool v1 = access("/sys/fs/cgroup/cpu", F_OK) == 0 || access("/sys/fs/cgroup/cpuacct", F_OK) == 0;
    if (v1 || v2)
        kn_json_set(out, "cgroup", json_string(v1 ? "v1" : "v2"));
}

/* ---- network ---- */

/* The routes of the thread that asks: in the lab the process's others may live in other namespaces. */
static FILE *open_routes(const char *name)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/thread-self/net/%s", name);
    FILE *f = fopen(path, "re");
    if (f)
        return f;
    snprintf(path, sizeof path, "/proc/net/%s", name);
    return fopen(path, "re");
}

static bool is_default_v4(const char *line, char interface[IF_NAMESIZE])
{
    unsigned long to, mask;
    return sscanf(line, "%15s %lx %*x %*x %*d %*d %*d %lx", interface, &to, &mask) == 3 && to == 0 && mask == 0;
}

static bool is_default_v6(const char *line, char interface[IF_NAMESIZE])
{
    unsigned length;
    return sscanf(line, "%*32s %x %*32s %*x %*32s %*x %*x %*x %*x %15s", &length, interface) == 2 && length == 0 &&
           strcmp(interface, "lo") != 0;
}

/* Of the machine's table of that name. */
static bool default_route(const char *table, bool (*is_default)(const char *line, char interface[IF_NAMESIZE]),
                          char name[IF_NAMESIZE])
{
    char line[256], interface[IF_NAMESIZE];
    bool found = false;
    FILE *f = open_routes(table);
    while (f && !found && fgets(line, sizeof line, f))
        found = is_default(line, interface);
    if (f)
        fclose(f);
    if (found)
        memcpy(name, interface, IF_NAMESIZE);
    return found;
}

static void put_interface(json_t *out)
{
    struct ifreq request;
    char name[IF_NAMESIZE] = "";
    if (!default_route("route", is_default_v4, name) && !default_route("ipv6_route", is_default_v6, name))
        return;
    memset(&request, 0, sizeof request);
    memcpy(request.ifr_name, name, IF_NAMESIZE - 1);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0); /* not /sys: it may show another namespace */
    put_text(out, "interface", name);
    if (fd >= 0 && ioctl(fd, SIOCGIFMTU, &request) == 0)
        kn_json_set(out, "mtu", json_integer(request.ifr_mtu));
    if (fd >= 0)
        close(fd);
}

static void put_congestion_control(json_t *out)
{
    char line[256], *rest = NULL;
    if (read_line("/proc/sys/net/ipv4/tcp_congestion_control", line, sizeof line))
        put_text(out, "congestion_control", line);
    if (!read_line("/proc/sys/net/ipv4/tcp_available_congestion_control", line, sizeof line))
        return;
    json_t *list = json_array();
    for (char *word = strtok_r(line, " ", &rest); word; word = strtok_r(NULL, " ", &rest))
        kn_json_append(list, json_string(word));
    kn_json_set(out, "congestion_controls", list);
}

/* ---- kube-proxy ---- */

/* "HTTP/1.0 200 OK … iptables" */
static bool take_mode(const char *answer, char mode[KN_PROXY_MODE_SIZE])
{
    const char *body = strncmp(answer, "HTTP/1.", 7) == 0 && strstr(answer, " 200 ") ? strstr(answer, "\r\n\r\n")
                                                                                     : NULL;
    size_t length = body ? strspn(body += 4, "abcdefghijklmnopqrstuvwxyz") : 0;
    if (!length || length >= KN_PROXY_MODE_SIZE || strspn(body + length, "\r\n") != strlen(body + length))
        return false;
    memcpy(mode, body, length);
    mode[length] = '\0';
    return true;
}

/* Whatever comes until the other side closes or the deadline; without it a server that sends a byte now and then would
 * be waited for for ever. */
static void read_until(int fd, char *answer, size_t size, uint64_t deadline_ns)
{
    size_t have = 0;
    ssize_t n = 1;
    for (uint64_t now_ns = kn_now_ns(); n > 0 && have < size - 1 && now_ns < deadline_ns; now_ns = kn_now_ns()) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, (int)((deadline_ns - now_ns) / KN_NS_PER_MS) + 1) <= 0)
            break;
        n = recv(fd, answer + have, size - 1 - have, MSG_DONTWAIT);
        have += n > 0 ? (size_t)n : 0;
    }
    answer[have] = '\0';
}

bool kn_proxy_mode(uint16_t port, uint64_t timeout_ns, char mode[KN_PROXY_MODE_SIZE])
{
    static const char ask[] = "GET /proxyMode HTTP/1.0\r\n\r\n";
    struct kn_addr to = kn_addr_any(false, port);
    char answer[2048] = "";
    struct kn_error ignored;
    uint64_t deadline_ns = kn_now_ns() + timeout_ns;
    to.u.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = kn_tcp_connect(&to, NULL, deadline_ns, &ignored);
    if (fd < 0)
        return false;
    if (kn_write_full(fd, ask, sizeof ask - 1, deadline_ns, &ignored) == 0)
        read_until(fd, answer, sizeof answer, deadline_ns);
    close(fd);
    return take_mode(answer, mode);
}

static void put_proxy_mode(json_t *out)
{
    char mode[KN_PROXY_MODE_SIZE];
    if (kn_proxy_mode(PROXY_PORT, PROXY_TIMEOUT_NS, mode))
        put_text(out, "proxy_mode", mode);
}

/* Which file this process runs from: who put it there sees whether it runs from memory. */
static void put_executable(json_t *out)
{
    char path[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    if (n <= 0)
        return;
    path[n] = '\0';
    put_text(out, "executable", path);
}

json_t *kn_environment(void)
{
    struct utsname system;
    json_t *out = json_object();
    if (uname(&system) == 0) {
        put_text(out, "kernel", system.release);
        put_text(out, "machine", system.machine);
        put_text(out, "hostname", system.nodename);
    }
    put_executable(out);
    put_cpu(out);
    put_cgroup(out);
    put_interface(out);
    put_congestion_control(out);
    put_proxy_mode(out);
    return out;
}
