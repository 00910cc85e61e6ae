/* Where the agent runs: what a result must say of its machine to be understood later. What is not known is left out. */
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "agent/inside.h"
#include "core/json.h"
#include "meter/meter.h"

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
        json_object_set_new(out, key, json_stringn_nocheck(text, strlen(text)));
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
        json_object_set_new(out, "cpus", json_integer(online));
    json_object_set_new(out, "cpus_allowed", json_integer(kn_cpus_allowed()));
    if (kn_cpu_quota() > 0)
        json_object_set_new(out, "quota", json_real(kn_cpu_quota()));
}

static void put_cgroup(json_t *out)
{
    bool v2 = access("/sys/fs/cgroup/cgroup.controllers", R_OK) == 0;
    bool v1 = access("/sys/fs/cgroup/cpu", F_OK) == 0 || access("/sys/fs/cgroup/cpuacct", F_OK) == 0;
    if (v1 || v2)
        json_object_set_new(out, "cgroup", json_string(v1 ? "v1" : "v2"));
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

static bool default_route_v4(char name[IF_NAMESIZE])
{
    char line[256], interface[IF_NAMESIZE];
    unsigned long to, gateway, mask;
    unsigned flags;
    bool found = false;
    FILE *f = open_routes("route");
    while (f && !found && fgets(line, sizeof line, f))
        if (sscanf(line, "%15s %lx %lx %x %*d %*d %*d %lx", interface, &to, &gateway, &flags, &mask) == 5)
            found = to == 0 && mask == 0;
    if (f)
        fclose(f);
    if (found)
        memcpy(name, interface, IF_NAMESIZE);
    return found;
}

static bool default_route_v6(char name[IF_NAMESIZE])
{
    char line[256], interface[IF_NAMESIZE], to[33];
    unsigned length;
    bool found = false;
    FILE *f = open_routes("ipv6_route");
    while (f && !found && fgets(line, sizeof line, f))
        if (sscanf(line, "%32s %x %*32s %*x %*32s %*x %*x %*x %*x %15s", to, &length, interface) == 3)
            found = length == 0 && strcmp(interface, "lo") != 0;
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
    if (!default_route_v4(name) && !default_route_v6(name))
        return;
    memset(&request, 0, sizeof request);
    memcpy(request.ifr_name, name, IF_NAMESIZE - 1);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0); /* not /sys: it may show another namespace */
    put_text(out, "interface", name);
    if (fd >= 0 && ioctl(fd, SIOCGIFMTU, &request) == 0)
        json_object_set_new(out, "mtu", json_integer(request.ifr_mtu));
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
        json_array_append_new(list, json_string(word));
    json_object_set_new(out, "congestion_controls", list);
}

/* How this node's kube-proxy works, by its own word: it tells that on loopback, which only those in the node's network see. */
static void put_proxy_mode(json_t *out)
{
    static const char ask[] = "GET /proxyMode HTTP/1.0\r\n\r\n";
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(10249), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    struct timeval patience = { .tv_sec = 1 };  /* on a busy node; where there is no kube-proxy the answer comes at once */
    char answer[2048];
    size_t size = 0;
    ssize_t n = 0;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0 && send(fd, ask, sizeof ask - 1, MSG_NOSIGNAL) > 0)
        while (size < sizeof answer - 1 && (n = recv(fd, answer + size, sizeof answer - 1 - size, 0)) > 0) size += (size_t)n;
    if (fd >= 0)
        close(fd);
    answer[size] = '\0';
    const char *mode = strncmp(answer, "HTTP/1.", 7) == 0 && strstr(answer, " 200 ") ? strstr(answer, "\r\n\r\n") : NULL;
    size_t length = mode ? strspn(mode + 4, "abcdefghijklmnopqrstuvwxyz") : 0;
    if (length && length < 16 && strspn(mode + 4 + length, "\r\n") == strlen(mode + 4 + length))
        json_object_set_new(out, "proxy_mode", json_stringn(mode + 4, length));
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
    put_cpu(out);
    put_cgroup(out);
    put_interface(out);
    put_congestion_control(out);
    put_proxy_mode(out);
    return out;
}

/* ---- the meter ---- */

static void put_number(json_t *out, const char *key, uint64_t value)
{
    if (value != KN_ABSENT)
        json_object_set_new(out, key, kn_json_u64(value));
}

static uint64_t read_number(const char *path)
{
    char line[64];
    return read_line(path, line, sizeof line) ? strtoull(line, NULL, 10) : KN_ABSENT;
}

json_t *kn_meter_json(void)
{
    struct kn_cpu_reading r;
    json_t *out = json_object();
    kn_cpu_read(&r);
    put_number(out, "at_ns", r.at_ns);
    put_number(out, "process_ns", r.process_ns);
    put_number(out, "process_user_ns", r.process_user_ns);
    put_number(out, "cgroup_ns", r.cgroup_ns);
    put_number(out, "node_busy_ns", r.node_busy_ns);
    put_number(out, "node_user_ns", r.node_user_ns);
    put_number(out, "node_softirq_ns", r.node_softirq_ns);
    put_number(out, "node_steal_ns", r.node_steal_ns);
    put_number(out, "throttled_ns", r.throttled_ns);
    put_number(out, "throttled_n", r.throttled_n);
    put_number(out, "cgroup_memory", r.cgroup_memory);
    put_number(out, "process_memory", r.process_memory);
    put_number(out, "conntrack_count", read_number("/proc/sys/net/netfilter/nf_conntrack_count"));
    put_number(out, "conntrack_max", read_number("/proc/sys/net/netfilter/nf_conntrack_max"));
    return out;
}
