#include "lab/keeper.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "net/io.h"

/* The outside of a pod in a sandbox. The pod's first process stays on the node's kernel and has two children: the
 * sandbox's program, which writes the pod's log, and the relay to its agent. All are in the pod's PID namespace and
 * cgroup: when the first process ends, the kernel ends the others and removes the pod's mounts. */

#define STEP_NS (5 * KN_NS_PER_MS)
#define CLOSED_PORT 9 /* discard, which is not in use any more */

/* A sandbox that has the pod's address cannot be reached from the pod's own namespace, only from the node. */
static int enter_node(struct kn_error *err)
{
    return setns(LAB_OUTSIDE_FD, CLONE_NEWNET) ? kn_fail_errno(err, "cannot enter the network namespace of the node")
                                               : 0;
}

static struct kn_addr address_of(const struct kn_lab_pod *pod)
{
    bool v4 = pod->ip[0].family;
    struct kn_addr addr = kn_addr_any(!v4, pod->port);
    if (v4)
        memcpy(&addr.u.v4.sin_addr, pod->ip[0].bytes, 4);
    else
        memcpy(&addr.u.v6.sin6_addr, pod->ip[1].bytes, 16);
    return addr;
}

static int listen_for_control(const char *name, struct kn_error *err)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(at.sun_path, sizeof at.sun_path, LAB_RUN "/%s.sock", name);
    unlink(at.sun_path);
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, 64))
        return kn_fail_errno(err, "cannot make the control socket of '%s'", name);
    return fd;
}

static void run_relay(int listener, const struct kn_addr *to)
{
    struct kn_error err;
    prctl(PR_SET_NAME, "knbl-relay", 0, 0, 0);
    if (enter_node(&err) == 0)
        kn_relay_run(listener, to);
    _exit(1);
}

/* An error before the program runs becomes the log's last line. */
static void run_program(const struct kn_lab_keeper *keeper, const struct kn_spawn *spawn)
{
    struct kn_error err;
    char path[128];
    snprintf(path, sizeof path, LAB_RUN "/%s.log", spawn->name);
    int log = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    dup2(kn_lab_empty_input(), 0);
    if (log >= 0 && dup2(log, 1) >= 0)
        dup2(log, 2);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGCHLD, SIG_DFL);
    if (spawn->sandbox(keeper, spawn->pod, spawn->request, &err))
        dprintf(2, "%s\n", err.message);
    _exit(127);
}

static bool has_ended(pid_t pid)
{
    siginfo_t info = {.si_pid = 0};
    return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == pid;
}

/* From the node: 0 if a connection is accepted or a datagram is not refused, else the error. A sandbox that is starting
 * may drop the first SYN, so tries are short, and get longer for a slow sandbox. */
static int try_port(const struct kn_addr *to, int type, int patience_ms)
{
    int fd = socket(to->u.sa.sa_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), error = 0;
    struct pollfd ready = {.fd = fd, .events = type == SOCK_STREAM ? POLLOUT : POLLIN};
    if (fd < 0 || (connect(fd, &to->u.sa, to->len) && errno != EINPROGRESS) ||
        (type == SOCK_DGRAM && send(fd, "", 1, MSG_NOSIGNAL) != 1))
        error = errno;
    else if (poll(&ready, 1, patience_ms) < 1)
        error = type == SOCK_STREAM ? ETIMEDOUT : 0;
    else
        error = kn_socket_error(fd);
    if (fd >= 0)
        close(fd);
    return error;
}

/* Whether something receives datagrams there. No answer means so only if the kernel does refuse datagrams for a closed
 * port, which is tried too. */
static bool takes_datagrams(const struct kn_addr *to, int patience_ms)
{
    struct kn_addr closed = *to;
    closed.u.v4.sin_port = htons(ntohs(to->u.v4.sin_port) == CLOSED_PORT ? CLOSED_PORT + 1 : CLOSED_PORT);
    return try_port(to, SOCK_DGRAM, patience_ms) == 0 && try_port(&closed, SOCK_DGRAM, patience_ms) == ECONNREFUSED;
}

bool kn_lab_answers(const struct kn_addr *to, bool udp, int patience_ms, uint64_t *udp_next_ns)
{
    int error = try_port(to, SOCK_STREAM, patience_ms);
    uint64_t now = kn_now_ns();
    if (error != ECONNREFUSED || !udp || now < *udp_next_ns)
        return error == 0;
    *udp_next_ns = now + 2 * KN_NS_PER_S;
    return takes_datagrams(to, patience_ms);
}

static int await_answer(const struct kn_spawn *spawn, pid_t program, const struct kn_addr *to, struct kn_error *err)
{
    uint64_t now = kn_now_ns(), patience_ns = spawn->ready_ns ? spawn->ready_ns : LAB_SANDBOX_NS,
             deadline = now + patience_ns, udp_next_ns = 0;
    char words[400];
    for (int patience_ms = 50; !kn_lab_answers(to, spawn->command, patience_ms, &udp_next_ns); now = kn_now_ns()) {
        patience_ms = patience_ms < 1000 ? patience_ms + 10 : 1000;
        bool panicked = kn_lab_last_words(spawn->name, words, sizeof words), ended = has_ended(program) || panicked;
        if (ended || now > deadline) {
            const char *sep = *words ? ": " : "";
            if (ended)
                return kn_fail(err, KN_E_LOST, "its sandbox ended before it was ready%s%s", sep, words);
            return kn_fail(err, KN_E_TIMEOUT, "its sandbox does not answer at port %u after %.3g s%s%s", spawn->port,
                           (double)patience_ns / 1e9, sep, words);
        }
        kn_sleep_until_ns(now + STEP_NS);
    }
    return 0;
}

/* Tries from the node's namespace, and returns to the pod's. */
static int await_ready(const struct kn_spawn *spawn, pid_t program, const struct kn_addr *to, struct kn_error *err)
{
    int own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    if (own < 0)
        return kn_fail_errno(err, "cannot open the pod's network namespace");
    int bad = enter_node(err) || await_answer(spawn, program, to, err);
    if (setns(own, CLONE_NEWNET) && !bad)
        bad = kn_fail_errno(err, "cannot return to the pod's network namespace");
    close(own);
    return bad ? -1 : 0;
}

/* Removes the log of an earlier pod of that name. */
static void forget_log(const char *name)
{
    char path[128];
    snprintf(path, sizeof path, LAB_RUN "/%s.log", name);
    unlink(path);
}

int kn_sandbox_run(const struct kn_lab_keeper *keeper, const struct kn_spawn *spawn)
{
    struct kn_error err;
    struct kn_addr to = address_of(spawn->pod);
    int listener = spawn->command ? -1 : listen_for_control(spawn->name, &err);
    pid_t program = -1;
    bool ready = spawn->command || listener >= 0;
    forget_log(spawn->name);
    if (ready && (program = fork()) == 0)
        run_program(keeper, spawn);
    if (ready && program > 0 && listener >= 0 && fork() == 0)
        run_relay(listener, &to);
    if (ready && program < 0)
        ready = kn_fail_errno(&err, "cannot fork") == 0;
    if (ready && spawn->port)
        ready = await_ready(spawn, program, &to, &err) == 0;
    kn_ready_report(ready ? NULL : &err);
    close(LAB_OUTSIDE_FD);
    if (listener >= 0)
        close(listener);
    return ready ? kn_reap_until(program) : 1;
}
