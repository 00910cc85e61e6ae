#include "lab/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"

/* gVisor's runsc on a bundle, without containerd. How it would run is found out by running it once: its platforms from
 * the quickest, and its own network stack ("sandbox") before the pod's ("host"). */

#define TRIAL_NS (10 * KN_NS_PER_S)
#define KVM_TRIAL_NS (2 * KN_NS_PER_S)      /* it starts at once, or hangs where KVM is but runs no guest */

struct way { const char *platform, *network; };

enum { OPTIONS = 8 };

/* A user has but one number in the lab, and runsc would be another in there: then it must do without its chroot, which
 * is no matter for measuring. */
static bool has_one_user(void)
{
    unsigned inside, outside, count = 0;
    FILE *file = fopen("/proc/self/uid_map", "re");
    bool one = file && fscanf(file, "%u %u %u", &inside, &outside, &count) == 3 && count == 1;
    if (file) fclose(file);
    return one;
}

/* Becomes runsc, in the namespaces of a pod. */
static int become(const struct kn_keeper *keeper, const struct way *way, const char *name, const json_t *argv,
                  struct kn_error *err)
{
    char platform[32], network[32], *words[OPTIONS + 5];
    size_t n = 0;
    if (kn_bundle_make(keeper, name, argv, err)) return -1;
    /* up to 2022 it takes a namespace that has these settings for the machine's own, as was right before Linux 6.15 */
    if (strcmp(way->network, "sandbox") == 0) mount("knbl", "/proc/sys/net/core", "tmpfs", MS_RDONLY, NULL);
    snprintf(platform, sizeof platform, "--platform=%s", way->platform);
    snprintf(network, sizeof network, "--network=%s", way->network);
    words[n++] = "runsc";
    words[n++] = "--root=" LAB_BUNDLE "/state";
    words[n++] = "--ignore-cgroups";        /* it is in the pod's already */
    words[n++] = platform;
    words[n++] = network;
    if (has_one_user()) words[n++] = "--TESTONLY-unsafe-nonroot";
    words[n++] = "run";
    words[n++] = "--bundle=" LAB_BUNDLE;
    words[n++] = (char *)(uintptr_t)name;
    words[n] = NULL;
    execvp(words[0], words);
    return kn_fail_errno(err, "runsc cannot be run");
}

/* ---- how would it run? ---- */

struct trial { bool ok, in_time; char words[400]; };

/* What it wrote, as one line; the last of it is what matters. */
static void listen_to(int fd, pid_t pid, uint64_t patience_ns, struct trial *t)
{
    uint64_t now = kn_now_ns(), deadline = now + patience_ns;
    size_t n = 0;
    for (ssize_t got = 1; got > 0 && now < deadline; now = kn_now_ns()) {
        struct pollfd ready = { .fd = fd, .events = POLLIN };
        if (poll(&ready, 1, (int)((deadline - now) / KN_NS_PER_MS) + 1) <= 0) continue;
        if (n > sizeof t->words / 2) n = 0;
        got = read(fd, t->words + n, sizeof t->words - 1 - n);
        if (got > 0) n += (size_t)got;
        t->in_time = got == 0;
    }
    t->words[n] = '\0';
    kn_lab_one_line(t->words);
    (void)pid;
}

static void be_tried(const struct kn_keeper *keeper, const struct way *way, int out)
{
    struct kn_error err;
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    json_t *nothing = json_pack("[s,s,s]", "/bin/sh", "-c", ":");
    dup2(kn_lab_empty_input(), 0);
    dup2(out, 1);
    dup2(out, 2);
    if (unshare(CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC)) kn_fail_errno(&err, "no namespaces for it");
    else if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) && errno != EPERM)
        kn_fail_errno(&err, "no /proc for it");
    else become(keeper, way, "trial", nothing, &err);
    dprintf(2, "%s\n", err.message);
    _exit(127);
}

static void try(const struct kn_keeper *keeper, const struct way *way, struct trial *t)
{
    struct kn_error err = { .message = "" };
    int fds[2], status = -1;
    *t = (struct trial){ .ok = false };
    if (pipe2(fds, O_CLOEXEC)) return;
    pid_t pid = kn_fork_apart(keeper, &err);
    if (pid == 0) be_tried(keeper, way, fds[1]);
    close(fds[1]);
    if (pid > 0) {
        listen_to(fds[0], pid, strcmp(way->platform, "kvm") == 0 ? KVM_TRIAL_NS : TRIAL_NS, t);
        if (!t->in_time) kill(pid, SIGKILL);
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR) { }
        t->ok = t->in_time && WIFEXITED(status) && WEXITSTATUS(status) == 0;
    } else {
        snprintf(t->words, sizeof t->words, "%.390s", err.message);
    }
    close(fds[0]);
}

/* The first way that works; what the last one that failed had to say is in `t`. */
static bool find_way(const struct kn_keeper *keeper, struct way *way, struct trial *t)
{
    static const char *const platforms[] = { "systrap", "kvm", "ptrace" }, *const networks[] = { "sandbox", "host" };
    for (size_t p = 0; p < 3; p++) {
        if (strcmp(platforms[p], "kvm") == 0 && access("/dev/kvm", R_OK | W_OK)) continue;
        for (size_t n = 0; n < 2; n++) {
            *way = (struct way){ platforms[p], networks[n] };
            try(keeper, way, t);
            if (t->ok) return true;
            if (!t->in_time || strstr(t->words, "unknown platform")) break;
        }
    }
    return false;
}

static json_t *version(void)
{
    char line[128] = "";
    FILE *pipe = popen("exec runsc --version 2>/dev/null", "re");
    bool read = pipe && fgets(line, sizeof line, pipe);
    if (pipe) pclose(pipe);
    char *word = read && strncmp(line, "runsc version ", 14) == 0 ? line + 14 : line;
    word[strcspn(word, " \n")] = '\0';
    return *word ? json_sprintf("runsc %s", word) : NULL;
}

static int probe(struct kn_keeper *keeper, const struct kn_lab_runtime *runtime, json_t *about, struct kn_error *err)
{
    struct way way;
    struct trial t;
    (void)runtime;
    if (!kn_lab_installed("runsc"))
        return kn_fail(err, KN_E_UNSUPPORTED, "gvisor: runsc is not installed: install the package runsc");
    if (!find_way(keeper, &way, &t))
        return kn_fail(err, KN_E_UNSUPPORTED, "gvisor: runsc does not run here: %s",
                       *t.words ? t.words : t.in_time ? "it ends without a word" : "it does not end");
    bool own = strcmp(way.network, "sandbox") == 0;
    json_t *v = version();
    if (v) json_object_set_new(about, "version", v);
    json_object_set_new(about, "platform", json_string(way.platform));
    json_object_set_new(about, "network", json_string(own ? "its own stack" : "the pod's stack, on the node's kernel"));
    json_object_set_new(about, "label", json_sprintf("gvisor, %s%s", way.platform, own ? "" : ", the pod's stack"));
    return 0;
}

/* ---- a pod ---- */

static json_t *agent_words(const struct kn_keeper *keeper, const struct kn_lab_pod *pod, struct kn_error *err)
{
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = '\0';
    json_t *words = json_pack("[s,s,s,o,s,s,s,s]", self, "agent", "--listen",
                              json_sprintf("%s:%u", keeper->options.v6 ? "" : "0.0.0.0", pod->port), "--name",
                              pod->name, "--node", pod->node->name);
    if (n <= 0 || !words) kn_fail(err, KN_E_SYSTEM, "it is not known where knbl itself lies");
    return n > 0 ? words : NULL;
}

static int become_pod(const struct kn_keeper *keeper, const struct kn_lab_pod *pod, const json_t *request,
                      struct kn_error *err)
{
    bool own = strcmp(json_string_value(json_object_get(pod->about, "network")), "its own stack") == 0;
    struct way way = { json_string_value(json_object_get(pod->about, "platform")), own ? "sandbox" : "host" };
    json_t *command = json_object_get(request, "command");
    json_t *argv = command ? json_incref(command) : agent_words(keeper, pod, err);
    return argv ? become(keeper, &way, pod->name, argv, err) : -1;
}

static int start(struct kn_keeper *keeper, struct kn_lab_pod *pod, const json_t *request, struct kn_error *err)
{
    struct kn_spawn spawn = { .name = pod->name, .node = pod->node->name, .netns = pod->netns, .port = pod->port,
                              .command = json_object_get(request, "command"), .cpu_milli = pod->cpu_milli,
                              .memory = pod->memory, .box = become_pod, .pod = pod, .request = request };
    if (pod->hardened)
        return kn_fail(err, KN_E_UNSUPPORTED, "gvisor has filters of its own: 'hardened' is for runc and host");
    pod->pid = kn_spawn(keeper, &spawn, err);
    return pod->pid < 0 ? -1 : 0;
}

const struct kn_lab_runtime kn_lab_gvisor = { .name = "gvisor", .probe = probe, .start = start };
