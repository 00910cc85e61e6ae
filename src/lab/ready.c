#include "lab/keeper.h"

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "core/clock.h"

/* How the keeper learns that a new process is ready. An agent or a sandbox reports it through a pipe. A pod's own
 * server is ready when something listens at its port, as /proc/net shows for the reader's namespace. */

#define STEP_NS (2 * KN_NS_PER_MS)
#define TCP_LISTEN_STATE 0x0a
#define UDP_OPEN_STATE 0x07

void kn_ready_report(const struct kn_error *err)
{
    struct kn_error ready = {.code = KN_OK};
    ssize_t n = write(LAB_READY_FD, err ? err : &ready, sizeof ready);
    (void)n; /* without a keeper there is no pod either */
    close(LAB_READY_FD);
}

/* A pipe that closes without a report is right for a command (exec closed it), but not for an agent. */
int kn_ready_await(int fd, const struct kn_spawn *spawn, struct kn_error *err)
{
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    struct kn_error report;
    uint64_t patience_ns = LAB_READY_NS + (spawn->ready_ns ? spawn->ready_ns : spawn->sandbox ? LAB_SANDBOX_NS : 0);
    if (poll(&ready, 1, (int)(patience_ns / KN_NS_PER_MS)) <= 0)
        return kn_fail(err, KN_E_TIMEOUT, "'%s' was not ready after %llu s", spawn->name,
                       (unsigned long long)(patience_ns / KN_NS_PER_S));
    ssize_t size = read(fd, &report, sizeof report);
    if (size == 0 && spawn->command && !spawn->sandbox)
        return 0;
    if (size != (ssize_t)sizeof report)
        return kn_fail(err, KN_E_LOST, "'%s' ended before it was ready", spawn->name);
    if (report.code == KN_OK)
        return 0;
    return kn_fail_with(err, report.code, report.sys_errno, "'%s': %s", spawn->name, report.message);
}

static bool listed(const char *path, unsigned port, unsigned state)
{
    FILE *file = fopen(path, "re");
    char line[256];
    bool found = false;
    while (file && !found && fgets(line, sizeof line, file)) {
        unsigned local, s;
        found = sscanf(line, " %*u: %*[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %x", &local, &s) == 2 && local == port &&
                s == state;
    }
    if (file)
        fclose(file);
    return found;
}

static bool listens(unsigned port)
{
    return listed("/proc/thread-self/net/tcp", port, TCP_LISTEN_STATE) ||
           listed("/proc/thread-self/net/tcp6", port, TCP_LISTEN_STATE) ||
           listed("/proc/thread-self/net/udp", port, UDP_OPEN_STATE) ||
           listed("/proc/thread-self/net/udp6", port, UDP_OPEN_STATE);
}

void kn_lab_one_line(char *text)
{
    size_t n = strlen(text);
    while (n > 0 && (unsigned char)text[n - 1] <= ' ')
        n--;
    text[n] = '\0';
    for (char *p = text; *p; p++)
        if ((unsigned char)*p < ' ')
            *p = ' ';
}

/* The end of a text that fits into `size`, from the start of a line if there is one. */
static const char *last_lines(const char *text, size_t n, size_t size)
{
    if (n < size)
        return text;
    const char *end = text + n - size + 1, *line = strchr(end, '\n');
    return line && line[1] ? line + 1 : end;
}

bool kn_lab_last_words(const char *name, char *buf, size_t size)
{
    char path[128], end[8192];
    snprintf(path, sizeof path, LAB_RUN "/%s.log", name);
    FILE *file = fopen(path, "re");
    size_t n = 0;
    if (file) {
        if (fseek(file, -(long)(sizeof end - 1), SEEK_END))
            rewind(file);
        n = fread(end, 1, sizeof end - 1, file);
        fclose(file);
    }
    end[n] = '\0';
    for (size_t i = 0; i < n; i++)
        if (!end[i])
            end[i] = ' ';
    const char *panic = strstr(end, "Kernel panic"); /* in a guest's log the reason precedes the trace */
    snprintf(buf, size, "%s", panic ? panic : last_lines(end, n, size));
    if (panic)
        buf[strcspn(buf, "\n")] = '\0';
    kn_lab_one_line(buf);
    return panic && strchr(panic, '\n');
}

static int wait_here(const char *name, pid_t pid, unsigned port, uint64_t timeout_ns, struct kn_error *err)
{
    uint64_t now = kn_now_ns(), deadline = now + timeout_ns;
    char words[300];
    for (; !listens(port); now = kn_now_ns()) {
        siginfo_t info = {.si_pid = 0};
        if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == pid) {
            kn_lab_last_words(name, words, sizeof words);
            return kn_fail(err, KN_E_LOST, "'%s' ended before it listened at port %u%s%s", name, port,
                           *words ? ": " : "", words);
        }
        if (now > deadline)
            return kn_fail(err, KN_E_TIMEOUT, "'%s' does not listen at port %u after %llu s", name, port,
                           (unsigned long long)(timeout_ns / KN_NS_PER_S));
        kn_sleep_until_ns(now + STEP_NS);
    }
    return 0;
}

int kn_ready_await_port(struct kn_lab_keeper *keeper, const struct kn_spawn *spawn, pid_t pid, struct kn_error *err)
{
    int bad = kn_netns_enter(spawn->netns, err) || wait_here(spawn->name, pid, spawn->port, LAB_READY_NS, err);
    return kn_netns_back(keeper, bad, err);
}
