#include "lab/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include "core/clock.h"

/* A pod's own server is ready when something listens at its port: /proc/net tells for the namespace where the reader
 * is. */

#define STEP_NS (2 * KN_NS_PER_MS)
#define TCP_LISTEN_STATE 0x0a
#define UDP_OPEN_STATE 0x07

static bool listed(const char *path, unsigned port, unsigned state)
{
    FILE *file = fopen(path, "re");
    char line[256];
    bool found = false;
    while (file && !found && fgets(line, sizeof line, file)) {
        unsigned local, s;
        found =
            sscanf(line, " %*u: %*[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %x", &local, &s) == 2 && local == port && s == state;
    }
    if (file) fclose(file);
    return found;
}

static bool listens(unsigned port)
{
    return listed("/proc/thread-self/net/tcp", port, TCP_LISTEN_STATE) ||
           listed("/proc/thread-self/net/tcp6", port, TCP_LISTEN_STATE) ||
           listed("/proc/thread-self/net/udp", port, UDP_OPEN_STATE) ||
           listed("/proc/thread-self/net/udp6", port, UDP_OPEN_STATE);
}

int kn_lab_empty_input(void)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC)) return -1;
    close(fds[1]);
    return fds[0];
}

void kn_lab_one_line(char *text)
{
    size_t n = strlen(text);
    while (n > 0 && (unsigned char)text[n - 1] <= ' ') n--;
    text[n] = '\0';
    for (char *p = text; *p; p++)
        if ((unsigned char)*p < ' ') *p = ' ';
}

bool kn_lab_last_words(const char *name, char *buf, size_t size)
{
    char path[128], end[8192];
    snprintf(path, sizeof path, LAB_RUN "/%s.log", name);
    FILE *file = fopen(path, "re");
    size_t n = 0;
    if (file) {
        if (fseek(file, -(long)(sizeof end - 1), SEEK_END)) rewind(file);
        n = fread(end, 1, sizeof end - 1, file);
        fclose(file);
    }
    end[n] = '\0';
    for (size_t i = 0; i < n; i++)
        if (!end[i]) end[i] = ' ';
    const char *panic = strstr(end, "Kernel panic");  /* a guest's reason comes before its trace */
    const char *from = panic ? panic : n >= size ? end + n - size + 1 : end;
    snprintf(buf, size, "%s", from);
    if (panic) buf[strcspn(buf, "\n")] = '\0';
    kn_lab_one_line(buf);
    return panic && strchr(panic, '\n');
}

static int wait_here(const char *name, pid_t pid, unsigned port, uint64_t timeout_ns, struct kn_error *err)
{
    uint64_t now = kn_now_ns(), deadline = now + timeout_ns;
    char words[300];
    for (; !listens(port); now = kn_now_ns()) {
        siginfo_t info = { .si_pid = 0 };
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

int kn_lab_await_port(struct kn_keeper *keeper, const struct kn_spawn *spawn, pid_t pid, struct kn_error *err)
{
    struct kn_error back;
    int bad = kn_netns_enter(spawn->netns, err) || wait_here(spawn->name, pid, spawn->port, LAB_READY_NS, err);
    if (kn_netns_enter(keeper->netns, bad ? &back : err)) bad = -1;
    return bad ? -1 : 0;
}
