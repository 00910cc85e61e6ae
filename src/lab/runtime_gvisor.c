#include "lab/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"

/* Runs gVisor's runsc on a bundle, without containerd. A trial run finds the way that works here: the fastest platform
 * first, and runsc's own network stack ("sandbox") before the pod's ("host"). */

#define TRIAL_NS (10 * KN_NS_PER_S)
#define KVM_TRIAL_NS (2 * KN_NS_PER_S) /* it starts at once, or hangs if KVM is present but broken */

struct way {
    const char *platform, *network;
};

enum { OPTIONS = 8 };

/* An ordinary user's lab maps one user ID, and runsc wants to change to another: without one it must run without its
 * chroot, which makes no difference to measurements. */
static bool has_one_user(void)
{
    unsigned inside, outside, count = 0;
    FILE *file = fopen("/proc/self/uid_map", "re");
    bool one = file && fscanf(file, "%u %u %u", &inside, &outside, &count) == 3 && count == 1;
    if (file)
        fclose(file);
    return one;
}

/* Becomes runsc, in the namespaces of a pod. */
static int become(const struct kn_lab_keeper *keeper, const struct way *way, const char *name, const json_t *argv,
                  struct kn_error *err)
{
    char platform[32], network[32], *words[OPTIONS + 5];
    size_t n = 0;
    if (kn_bundle_make(keeper, name, argv, err))
        return -1;
    /* until 2022 runsc took a namespace with these settings for the machine's own, as was right before Linux 6.15 */
    if (strcmp(way->network, "sandbox") == 0)
        mount("knbl", "/proc/sys/net/core", "tmpfs", MS_RDONLY, NULL);
    snprintf(platform, sizeof platform, "--platform=%s", way->platform);
    snprintf(network, sizeof network, "--network=%s", way->network);
    words[n++] = "runsc";
    words[n++] = "--root=" LAB_BUNDLE "/state";
    words[n++] = "--ignore-cgroups"; /* it is in the pod's already */
    words[n++] = platform;
    words[n++] = network;
    if (has_one_user())
        words[n++] = "--TESTONLY-unsafe-nonroot";
    words[n++] = "run";
    words[n++] = "--bundle=" LAB_BUNDLE;
    words[n++] = (char *)(uintptr_t)name;
    words[n] = NULL;
    execvp(words[0], words);
    return kn_fail_errno(err, "cannot run runsc");
}

/* ---- the probe ---- */

struct trial {
    bool ok, in_time;
    char words[400];
};

static void be_tried(const struct kn_lab_keeper *keeper, const struct way *way, int out)
{
    struct kn_error err;
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    json_t *nothing = json_pack("[s,s,s]", "/bin/sh", "-c", ":");
    dup2(kn_lab_empty_input(), 0);
    dup2(out, 1);
    dup2(out, 2);
    if (unshare(CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC))
        kn_fail_errno(&err, "cannot make its namespaces");
    else if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) && errno != EPERM)
        kn_fail_errno(&err, "cannot mount its /proc");
    else
        become(keeper, way, "trial", nothing, &err);
    dprintf(2, "%s\n", err.message);
    _exit(127);
}

static void try(const struct kn_lab_keeper *keeper, const struct way *way, struct trial *t)
{
    struct kn_error err = {.message = ""};
    int fds[2], status = -1;
    *t = (struct trial){.ok = false};
    if (pipe2(fds, O_CLOEXEC))
        return;
    pid_t pid = kn_fork_apart(keeper, &err);
    if (pid == 0)
        be_tried(keeper, way, fds[1]);
    close(fds[1]);
    if (pid > 0) {
        t->in_time = kn_read_until(fds[0], NULL, strcmp(way->platform, "kvm") == 0 ? KVM_TRIAL_NS : TRIAL_NS, t->words,
                                   sizeof t->words) == 0;
        kn_lab_one_line(t->words);
        if (!t->in_time)
            kill(pid, SIGKILL);
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
        }
        t->ok = t->in_time && WIFEXITED(status) && WEXITSTATUS(status) == 0;
    } else {
        snprintf(t->words, sizeof t->words, "%.390s", err.message);
    }
    close(fds[0]);
}

/* Finds the first way that works; `t` keeps the output of the last one that failed. */
static bool find_way(const struct kn_lab_keeper *keeper, struct way *way, struct trial *t)
{
    static const char *const platforms[] = {"systrap", "kvm", "ptrace"}, *const networks[] = {"sandbox", "host"};
    for (size_t p = 0; p < 3; p++) {
        if (strcmp(platforms[p], "kvm") == 0 && access("/dev/kvm", R_OK | W_OK))
            continue;
        for (size_t n = 0; n < 2; n++) {
            *way = (struct way){platforms[p], networks[n]};
            try(keeper, way, t);
            if (t->ok)
                return true;
            if (!t->in_time || strstr(t->words, "unknown platform"))
                break;
        }
    }
    return false;
}

static json_t *version(void)
{
    char line[128] = "";
    FILE *pipe = popen("exec runsc --version 2>/dev/null", "re");
    bool read = pipe && fgets(line, sizeof line, pipe);
    if (pipe)
        pclose(pipe);
    char *word = read && strncmp(line, "runsc version ", 14) == 0 ? line + 14 : line;
    word[strcspn(word, " \n")] = '\0';
    return *word ? json_sprintf("runsc %s", word) : NULL;
}

static int probe(struct kn_lab_keeper *keeper, json_t *about, struct kn_error *err)
{
    struct way way;
    struct trial t;
    if (!kn_lab_installed("runsc"))
        return kn_fail(err, KN_E_UNSUPPORTED, "gvisor: runsc is not installed: install the package runsc");
    if (!find_way(keeper, &way, &t))
        return kn_fail(err, KN_E_UNSUPPORTED, "gvisor: runsc failed: %s",
                       *t.words    ? t.words
                       : t.in_time ? "it ended without a message"
                                   : "it did not end");
    bool own = strcmp(way.network, "sandbox") == 0;
    json_t *v = version();
    if (v)
        json_object_set_new(about, "version", v);
    json_object_set_new(about, "platform", json_string(way.platform));
    json_object_set_new(about, "network", json_string(own ? "its own stack" : "the pod's stack, on the node's kernel"));
    json_object_set_new(about, "label", json_sprintf("gvisor, %s%s", way.platform, own ? "" : ", the pod's stack"));
    return 0;
}

/* ---- a pod ---- */

static json_t *agent_words(const struct kn_lab_keeper *keeper, const struct kn_lab_pod *pod, struct kn_error *err)
{
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = '\0';
    json_t *words = json_pack("[s,s,s,o,s,s,s,s]", self, "agent", "--listen",
                              json_sprintf("%s:%u", keeper->options.v6 ? "" : "0.0.0.0", pod->port), "--name",
                              pod->name, "--node", pod->node->name);
    if (n <= 0 || !words)
        kn_fail(err, KN_E_SYSTEM, "cannot find the path of the knbl program");
    return n > 0 ? words : NULL;
}

static int become_pod(const struct kn_lab_keeper *keeper, const struct kn_lab_pod *pod, const json_t *request,
                      struct kn_error *err)
{
    bool own = strcmp(json_string_value(json_object_get(pod->about, "network")), "its own stack") == 0;
    struct way way = {json_string_value(json_object_get(pod->about, "platform")), own ? "sandbox" : "host"};
    json_t *command = json_object_get(request, "command");
    json_t *argv = command ? json_incref(command) : agent_words(keeper, pod, err);
    return argv ? become(keeper, &way, pod->name, argv, err) : -1;
}

static int start(struct kn_lab_keeper *keeper, struct kn_lab_pod *pod, const json_t *request, struct kn_error *err)
{
    struct kn_spawn spawn = kn_spawn_of(pod, request);
    if (pod->hardened)
        return kn_fail(err, KN_E_UNSUPPORTED,
                       "hardened does not apply to runtime gvisor, which has filters of its own");
    spawn.sandbox = become_pod;
    pod->pid = kn_spawn(keeper, &spawn, err);
    return pod->pid < 0 ? -1 : 0;
}

const struct kn_lab_runtime kn_lab_gvisor = {.name = "gvisor", .probe = probe, .start = start};
