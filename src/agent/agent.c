#include "agent/agent.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sodium.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/inside.h"
#include "net/io.h"

#define TOKEN_MIN 16
#define BACKLOG 4096                 /* the kernel cuts it to net.core.somaxconn */
#define PORT_TRIES 16                /* a port that is free for TCP may be taken for UDP */

void kn_agent_defaults(struct kn_agent_config *config)
{
    memset(config, 0, sizeof *config);
    config->max_duration_ns = 3600 * KN_NS_PER_S;
    config->max_runs = 64;
    config->orphan_ns = 30 * KN_NS_PER_S;
    config->hello_ns = 5 * KN_NS_PER_S;
}

/* ---- sockets ---- */

static int open_udp(const struct kn_addr *at, struct kn_error *err)
{
    int on = 1, off = 0;
    bool v6 = kn_addr_is_v6(at);
    int fd = socket(at->u.sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return kn_fail_errno(err, "socket");
    if (v6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off))
        goto failed;
    /* flows' sockets take the same address and port */
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on))
        goto failed;
    /* where a sandbox has not got this, the kernel's choice of our address has to do */
    setsockopt(fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_RECVPKTINFO : IP_PKTINFO, &on, sizeof on);
    if (bind(fd, &at->u.sa, at->len) == 0)
        return fd;
    if (errno == EADDRINUSE) {
        kn_fail(err, KN_E_IN_USE, "UDP port %u is in use by another program", kn_addr_port(at));
        close(fd);
        return -1;
    }
failed:
    kn_fail_errno(err, "UDP port %u", kn_addr_port(at));
    close(fd);
    return -1;
}

static int open_tcp(const struct kn_addr *at, struct kn_error *err)
{
    /* wakes nobody for a connection that has said nothing yet; those that never do come out after the time */
    int defer_s = 3, fd = kn_tcp_listen(at, BACKLOG, err);
    if (fd >= 0)
        setsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &defer_s, sizeof defer_s);
    return fd;
}

static int open_pair(struct kn_agent *agent, const struct kn_addr *at, struct kn_error *err)
{
    agent->tcp_fd = open_tcp(at, err);
    if (agent->tcp_fd < 0)
        return -1;
    agent->at = (struct kn_addr){ .len = sizeof agent->at.u };
    if (getsockname(agent->tcp_fd, &agent->at.u.sa, &agent->at.len))
        kn_fail_errno(err, "getsockname");
    else if ((agent->udp_fd = open_udp(&agent->at, err)) >= 0)
        return 0;
    close(agent->tcp_fd);
    agent->tcp_fd = -1;
    return -1;
}

static bool is_any_v6(const struct kn_addr *at)
{
    return kn_addr_is_v6(at) && IN6_IS_ADDR_UNSPECIFIED(&at->u.v6.sin6_addr);
}

static int open_sockets(struct kn_agent *agent, struct kn_error *err)
{
    struct kn_addr at = agent->config.listen;
    int rc = open_pair(agent, &at, err);
    for (int i = 1; rc && kn_addr_port(&at) == 0 && err->code == KN_E_IN_USE && i < PORT_TRIES; i++)
        rc = open_pair(agent, &at, err);
    if (rc == 0 || !is_any_v6(&at) || err->code == KN_E_IN_USE || err->code == KN_E_PERMISSION)
        return rc;
    struct kn_addr v4 = { .u.v4 = { .sin_family = AF_INET, .sin_port = at.u.v6.sin6_port }, .len = sizeof v4.u.v4 };
    return open_pair(agent, &v4, err); /* a machine without IPv6 */
}

/* ---- the Unix socket ---- */

static socklen_t unix_address(const char *path, struct sockaddr_un *at)
{
    size_t n = strlen(path);
    memset(at, 0, sizeof *at);
    at->sun_family = AF_UNIX;
    if (n == 0 || n >= sizeof at->sun_path)
        return 0;
    memcpy(at->sun_path, path, n);
    if (path[0] == '@') { /* abstract: no terminating zero, its length is part of the name */
        at->sun_path[0] = '\0';
        return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
    }
    return (socklen_t)sizeof *at;
}

/* A socket file that nobody listens on is left from an agent that died. */
static bool is_stale(const struct sockaddr_un *at, socklen_t len)
{
    struct stat st;
    if (at->sun_path[0] == '\0' || lstat(at->sun_path, &st) || !S_ISSOCK(st.st_mode))
        return false;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool stale = fd >= 0 && connect(fd, (const struct sockaddr *)at, len) && errno == ECONNREFUSED;
    if (fd >= 0)
        close(fd);
    return stale;
}

static int open_unix(struct kn_agent *agent, struct kn_error *err)
{
    struct sockaddr_un at;
    const char *path = agent->config.unix_path;
    if (!path)
        return 0;
    socklen_t len = unix_address(path, &at);
    if (!len)
        return kn_fail(err, KN_E_ARGUMENT, "\"%.200s\": the path of a Unix socket has 1 to %zu characters", path,
                       sizeof at.sun_path - 1);
    if (is_stale(&at, len))
        unlink(at.sun_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && fchmod(fd, 0600) == 0 && bind(fd, (const struct sockaddr *)&at, len) == 0 && listen(fd, 128) == 0) {
        agent->unix_fd = fd;
        return 0;
    }
    kn_fail_errno(err, "Unix socket %s", path);
    if (fd >= 0)
        close(fd);
    return -1;
}

/* ---- beginning ---- */

static void fill_identity(struct kn_identity *me, const struct kn_identity *given)
{
    char host[64] = "";
    if (gethostname(host, sizeof host - 1))
        host[0] = '\0';
    *me = *given;
    me->name[sizeof me->name - 1] = me->node[sizeof me->node - 1] = '\0';
    if (!me->name[0])
        memcpy(me->name, host, sizeof me->name);
    if (!me->node[0])
        memcpy(me->node, host, sizeof me->node);
}

static void fill_defaults(struct kn_agent_config *config)
{
    struct kn_agent_config usual;
    kn_agent_defaults(&usual);
    config->max_duration_ns = config->max_duration_ns ? config->max_duration_ns : usual.max_duration_ns;
    config->max_runs = config->max_runs ? config->max_runs : usual.max_runs;
    config->orphan_ns = config->orphan_ns ? config->orphan_ns : usual.orphan_ns;
    config->hello_ns = config->hello_ns ? config->hello_ns : usual.hello_ns;
}

static int copy_config(struct kn_agent *agent, const struct kn_agent_config *config, struct kn_error *err)
{
    if (!config->token || strlen(config->token) < TOKEN_MIN)
        return kn_fail(err, KN_E_ARGUMENT, "the token needs at least %d characters", TOKEN_MIN);
    agent->config = *config;
    fill_defaults(&agent->config);
    agent->config.token = NULL; /* what is needed of it is the key */
    agent->config.unix_path = config->unix_path ? strdup(config->unix_path) : NULL;
    if (config->unix_path && !agent->config.unix_path)
        return kn_fail_memory(err);
    kn_wire_key(config->token, &agent->key);
    randombytes_buf(agent->cookie_key.bytes, sizeof agent->cookie_key.bytes);
    fill_identity(&agent->server.me, &config->me);
    agent->server.limits.max_duration_ns = agent->config.max_duration_ns;
    agent->server.stop = &agent->stop;
    agent->server.crr = kn_crr_ledger_new();
    agent->server.http = kn_http_desk_new();
    return agent->server.crr && agent->server.http ? 0 : kn_fail_memory(err);
}

static int open_events(struct kn_agent *agent, struct kn_error *err)
{
    agent->asked_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    agent->quit_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return agent->asked_event < 0 || agent->quit_event < 0 ? kn_fail_errno(err, "eventfd") : 0;
}

static int start_parts(struct kn_agent *agent, struct kn_error *err)
{
    agent->flows = kn_flows_new(agent);
    agent->runs = kn_runs_new(agent);
    agent->watches = kn_watches_new(agent);
    if (!agent->flows || !agent->runs || !agent->watches)
        return kn_fail_memory(err);
    if (!(agent->http = kn_control_new(agent, err)) || !kn_keeper_new(agent, err))
        return -1;
    agent->udp = kn_udp_door_new(agent, err);
    agent->acceptors = agent->udp ? kn_acceptors_new(agent, err) : NULL;
    return agent->acceptors ? 0 : -1;
}

struct kn_agent *kn_agent_new(const struct kn_agent_config *config, struct kn_error *err)
{
    struct kn_agent *agent = sodium_init() < 0 ? NULL : calloc(1, sizeof *agent);
    if (!agent) {
        kn_fail_memory(err);
        return NULL;
    }
    agent->asked_event = agent->quit_event = agent->tcp_fd = agent->udp_fd = agent->unix_fd = -1;
    agent->started_ns = kn_now_ns();
    if (copy_config(agent, config, err) || open_events(agent, err) || open_sockets(agent, err) ||
        open_unix(agent, err) || start_parts(agent, err)) {
        kn_agent_free(agent);
        return NULL;
    }
    return agent;
}

uint16_t kn_agent_port(const struct kn_agent *agent)
{
    return kn_addr_port(&agent->at);
}

/* ---- end ---- */

static void set_event(int fd)
{
    uint64_t one = 1;
    if (fd >= 0 && write(fd, &one, sizeof one) < 0) /* set already */
        return;
}

void kn_agent_stop(struct kn_agent *agent)
{
    int before = errno; /* a signal handler leaves it as it was */
    set_event(agent->asked_event);
    errno = before;
}

void kn_agent_wait(struct kn_agent *agent)
{
    struct pollfd p = { .fd = agent->asked_event, .events = POLLIN };
    while (poll(&p, 1, -1) < 0 && errno == EINTR)
        ;
}

/* Threads first, from those that bring work to those that do it; memory and sockets when nobody is left. */
static void end_threads(struct kn_agent *agent)
{
    atomic_store(&agent->stop, true);
    set_event(agent->quit_event);
    kn_acceptors_free(agent->acceptors);
    kn_udp_door_free(agent->udp);
    if (agent->runs)
        kn_runs_stop(agent->runs);
    if (agent->flows)
        kn_flows_stop(agent->flows);
    kn_keeper_stop(agent->keeper);
    kn_control_free(agent->http);
}

void kn_agent_free(struct kn_agent *agent)
{
    if (!agent)
        return;
    end_threads(agent);
    kn_runs_free(agent->runs);
    kn_watches_free(agent->watches);
    kn_flows_free(agent->flows);
    kn_keeper_free(agent->keeper);
    kn_crr_ledger_free(agent->server.crr);
    kn_http_desk_free(agent->server.http);
    int fds[] = { agent->tcp_fd, agent->udp_fd, agent->unix_fd, agent->asked_event, agent->quit_event };
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    if (agent->unix_fd >= 0 && agent->config.unix_path[0] != '@')
        unlink(agent->config.unix_path);
    free((char *)agent->config.unix_path);
    sodium_memzero(&agent->key, sizeof agent->key);
    free(agent);
}
