#include "lab/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/units.h"
#include "lab/guest.h"

#if defined __x86_64__
#include <x86intrin.h>
#endif

/* A pod as kata runs one: a guest with a kernel of its own, whose agent has the pod's address. What runs on the machine
 * is the monitor, in the pod's namespaces; its output, which is the pod's log, is the guest's console. */

#define MEMORY_MB 512
#define TRIAL_NS (5 * KN_NS_PER_S)

/* ---- what can be had here ---- */

static const char *accelerator(bool kvm) { return kvm ? "KVM" : "emulated (TCG)"; }

/* The monitor, in place of this process. What it is to inherit is named by number. */
static int become(const struct kn_vmm *vmm, const struct kn_vm *vm, struct kn_error *err)
{
    struct kn_words words = { .n = 0 };
    const int kept[3] = { vm->tap_fd, vm->initramfs_fd, vm->vhost_fd };
    vmm->command(vm, &words);
    if (words.failed) return kn_fail(err, KN_E_LIMIT, "the command line of %s is too long", vmm->program);
    for (int i = 0; i < 3; i++)
        if (kept[i] >= 0) fcntl(kept[i], F_SETFD, 0);
    execvp(words.argv[0], words.argv);
    return kn_fail_errno(err, "%s cannot be run", words.argv[0]);
}

/* A guest that has nothing to run: with KVM its kernel is at that point in a moment. */
static void be_tried(const struct kn_vmm *vmm, const char *kernel, int out)
{
    struct kn_vm vm = { .kvm = true, .offloads = true, .memory_mb = 256, .vcpus = 1, .tap_fd = -1, .vhost_fd = -1,
                        .initramfs_fd = -1 };
    struct kn_error err;
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    snprintf(vm.machine, sizeof vm.machine, "%s", vmm->machines[0]);
    snprintf(vm.kernel, sizeof vm.kernel, "/boot/vmlinuz-%s", kernel);
    snprintf(vm.append, sizeof vm.append, "console=ttyS0 %s", vmm->ending);
    dup2(null, 0);
    dup2(out, 1);
    dup2(out, 2);
    become(vmm, &vm, &err);
    _exit(127);
}

static bool says(int fd, const char *word, uint64_t patience_ns)
{
    uint64_t now = kn_now_ns(), deadline = now + patience_ns;
    char text[1024] = "";
    size_t n = 0;
    for (; now < deadline; now = kn_now_ns()) {
        struct pollfd ready = { .fd = fd, .events = POLLIN };
        if (poll(&ready, 1, (int)((deadline - now) / KN_NS_PER_MS) + 1) <= 0) continue;
        ssize_t got = read(fd, text + n, sizeof text - 1 - n);
        if (got <= 0) return false;
        text[n += (size_t)got] = '\0';
        if (strstr(text, word)) return true;
        if (n > sizeof text / 2) memmove(text, text + n - 64, 65), n = 64;
    }
    return false;
}

/* /dev/kvm can be there, and be opened, where no guest will run: nested virtualization that is switched off or broken.
 * Only a guest tells. */
static bool kvm_works(const struct kn_vmm *vmm, const char *kernel)
{
    int fds[2];
    if (access("/dev/kvm", R_OK | W_OK) || pipe2(fds, O_CLOEXEC)) return false;
    pid_t pid = fork();
    if (pid == 0) be_tried(vmm, kernel, fds[1]);
    close(fds[1]);
    bool works = pid > 0 && says(fds[0], "not syncing", TRIAL_NS);
    kn_end_process(&pid);
    close(fds[0]);
    return works;
}

static int probe(struct kn_keeper *keeper, const struct kn_lab_runtime *runtime, json_t *about, struct kn_error *err)
{
    const struct kn_vmm *vmm = runtime->vmm;
    char version[VM_VERSION_MAX], kernel[VM_VERSION_MAX];
    (void)keeper;
    if (!kn_lab_installed(vmm->program))
        return kn_fail(err, KN_E_UNSUPPORTED, "%s: %s is not installed: %s", runtime->name, vmm->program, vmm->install);
    if (kn_vm_kernel_find(kernel, err)) return -1;
    int tun = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    if (tun < 0) return kn_vm_no_tun(err);
    close(tun);
    bool kvm = kvm_works(vmm, kernel);
    kn_vmm_version(vmm, version);
    json_object_set_new(about, "version", json_sprintf("%s %s, kernel %s", vmm->name, version, kernel));
    json_object_set_new(about, "platform", json_sprintf("%s, %s", vmm->machines[0], accelerator(kvm)));
    json_object_set_new(about, "accelerator", json_string(kvm ? "kvm" : "tcg"));
    json_object_set_new(about, "network", json_string("virtio-net, tap, tc redirect"));
    if (!kvm) json_object_set_new(about, "label", json_string("kata, emulated"));
    return 0;
}

/* ---- what is asked ---- */

static int read_machine(const struct kn_vmm *vmm, const json_t *asked, struct kn_vm *vm, struct kn_error *err)
{
    const char *machine = json_string_value(json_object_get(asked, "machine"));
    size_t n = 0;
    snprintf(vm->machine, sizeof vm->machine, "%s", machine ? machine : vmm->machines[0]);
    for (; vmm->machines[n]; n++)
        if (strcmp(vm->machine, vmm->machines[n]) == 0) return 0;
    const char *near = kn_nearest(machine, vmm->machines, n);
    if (near) return kn_fail(err, KN_E_ARGUMENT, "there is no machine '%.20s'; did you mean '%s'?", machine, near);
    return kn_fail(err, KN_E_ARGUMENT, "there is no machine '%.20s'; there is '%s'", machine, vmm->machines[0]);
}

static int read_join(const json_t *asked, struct kn_vm *vm, struct kn_error *err)
{
    const char *join = json_string_value(json_object_get(asked, "join"));
    vm->bridge = join && strcmp(join, "bridge") == 0;
    return !join || vm->bridge || strcmp(join, "tc") == 0
               ? 0
               : kn_fail(err, KN_E_ARGUMENT, "'join' of a guest is 'tc' or 'bridge', not '%.20s'", join);
}

static int read_path(const json_t *asked, const char *key, char path[PATH_MAX], struct kn_error *err)
{
    const char *text = json_string_value(json_object_get(asked, key));
    if (!text) return 0;
    if (access(text, R_OK)) return kn_fail_errno(err, "the guest's %s, %.200s, cannot be read", key, text);
    snprintf(path, PATH_MAX, "%s", text);
    return 0;
}

/* A guest has the memory that its pod is limited to, and a CPU for each that it may use, as kata does it. */
static int read_size(const struct kn_lab_pod *pod, const json_t *asked, struct kn_vm *vm, struct kn_error *err)
{
    long long vcpus, memory = pod->memory ? (long long)(pod->memory >> 20) : MEMORY_MB;
    const char *boot = json_string_value(json_object_get(asked, "boot_timeout"));
    long long usual = pod->cpu_milli ? (long long)(pod->cpu_milli + 999) / 1000 : 1;
    if (kn_lab_number(asked, "vcpus", 1, 64, usual, &vcpus, err)) return -1;
    vm->vcpus = (unsigned)vcpus;
    vm->memory_mb = (unsigned)memory;
    vm->boot_ns = LAB_BOX_READY_NS;
    return boot ? kn_duration_parse(boot, &vm->boot_ns, err) : 0;
}

static int read_vm(const struct kn_lab_pod *pod, const json_t *request, struct kn_vm *vm, struct kn_error *err)
{
    static const struct kn_lab_field fields[] = {
        { "vcpus", LAB_NUMBER }, { "machine", LAB_TEXT },   { "offloads", LAB_BOOL },    { "join", LAB_TEXT },
        { "kernel", LAB_TEXT },  { "initramfs", LAB_TEXT }, { "boot_timeout", LAB_TEXT },
    };
    const json_t *asked = json_object_get(request, "vm"), *offloads = json_object_get(asked, "offloads");
    if (json_object_get(request, "command"))
        return kn_fail(err, KN_E_UNSUPPORTED, "a guest holds nothing but the agent: a kata pod takes no 'command'");
    if (pod->hardened)
        return kn_fail(err, KN_E_UNSUPPORTED, "a guest has a kernel of its own: 'hardened' is for runc and host");
    if (asked && kn_lab_check(asked, "'vm'", fields, sizeof fields / sizeof *fields, err)) return -1;
    vm->offloads = !json_is_false(offloads);
    vm->kvm = strcmp(json_string_value(json_object_get(pod->about, "accelerator")), "kvm") == 0;
    return read_machine(pod->runtime->vmm, asked, vm, err) || read_join(asked, vm, err) || read_size(pod, asked, vm, err) ||
                   read_path(asked, "kernel", vm->kernel, err) || read_path(asked, "initramfs", vm->initramfs, err)
               ? -1
               : 0;
}

/* ---- a pod ---- */

/* The emulator's TSC is the machine's own; a guest that counts it for itself on a busy machine finds a wrong speed, and
 * keeps wrong time for good. 0: not known. */
static unsigned tsc_khz(void)
{
#if defined __x86_64__
    uint64_t from_ns = kn_now_ns(), from = __rdtsc();
    kn_sleep_until_ns(from_ns + 20 * KN_NS_PER_MS);
    uint64_t ticks = __rdtsc() - from, ns = kn_now_ns() - from_ns;
    return (unsigned)(ticks * 1000000 / ns);
#else
    return 0;
#endif
}

static void write_append(const struct kn_vmm *vmm, struct kn_vm *vm)
{
    char clock[64] = "";
    unsigned khz = vm->kvm ? 0 : tsc_khz();
    if (khz) snprintf(clock, sizeof clock, " tsc=reliable tsc_early_khz=%u", khz);
    snprintf(vm->append, sizeof vm->append,
             "console=ttyS0 quiet %s cryptomgr.notests i8042.noaux i8042.nokbd%s -- " GUEST_WORD, vmm->ending, clock);
}

static json_t *config_of(const struct kn_keeper *keeper, const struct kn_lab_pod *pod)
{
    static const int families[2] = { AF_INET, AF_INET6 };
    struct kn_ip gateway[2];
    memset(gateway, 0, sizeof gateway);
    for (int i = 0; i < 2; i++)
        if (pod->ip[i].family) kn_lab_pod_ip(pod->node->index, 1, families[i], &gateway[i]);
    return json_pack("{s:s,s:s,s:s,s:i,s:b,s:i,s:o,s:o}", "name", pod->name, "node", pod->node->name, "token",
                     keeper->options.token, "port", pod->port, "v6", pod->ip[1].family != 0, "mtu", (int)pod->mtu, "ip",
                     kn_ip_list(pod->ip), "gateway", kn_ip_list(gateway));
}

static int open_initramfs(const struct kn_keeper *keeper, const struct kn_lab_pod *pod, struct kn_vm *vm,
                          const char *kernel, struct kn_error *err)
{
    if (*vm->initramfs) {
        vm->initramfs_fd = open(vm->initramfs, O_RDONLY | O_CLOEXEC);
        return vm->initramfs_fd < 0 ? kn_fail_errno(err, "the guest's initramfs, %.200s", vm->initramfs) : 0;
    }
    json_t *config = config_of(keeper, pod);
    vm->initramfs_fd = kn_vm_initramfs(kernel, pod->runtime->vmm->driver, config, err);
    json_decref(config);
    return vm->initramfs_fd < 0 ? -1 : 0;
}

/* What is asked, checked in the keeper already, is read once more: this is another process. */
static int become_pod(const struct kn_keeper *keeper, const struct kn_lab_pod *pod, const json_t *request,
                      struct kn_error *err)
{
    static const char *const silent[] = { "ipv6/conf/all/disable_ipv6", "ipv6/conf/default/disable_ipv6" };
    const struct kn_vmm *vmm = pod->runtime->vmm;
    struct kn_vm vm = { .tap_fd = -1 };
    char kernel[VM_VERSION_MAX];
    struct kn_error ignored;
    if (read_vm(pod, request, &vm, err) || kn_vm_kernel_find(kernel, err)) return -1;
    if (!*vm.kernel) snprintf(vm.kernel, sizeof vm.kernel, "/boot/vmlinuz-%s", kernel);
    for (int i = 0; i < 2; i++) kn_sysctl_write(silent[i], "1", &ignored);  /* the guest alone speaks for the pod */
    kn_pod_mac(pod, &vm.mac);
    if ((vm.tap_fd = kn_vm_tap(&vm, pod->mtu, err)) < 0 || open_initramfs(keeper, pod, &vm, kernel, err)) return -1;
    vm.vhost_fd = vmm->vhost ? open("/dev/vhost-net", O_RDWR | O_CLOEXEC) : -1;
    write_append(vmm, &vm);
    return become(vmm, &vm, err);
}

/* How this pod is, where that is not what the probe says. */
static json_t *describe(const struct kn_vmm *vmm, const struct kn_vm *vm)
{
    json_t *own = json_object();
    json_object_set_new(own, "platform", json_sprintf("%s, %s, %u MiB, %u vCPU%s", vm->machine, accelerator(vm->kvm),
                                                      vm->memory_mb, vm->vcpus, vm->vcpus == 1 ? "" : "s"));
    bool vhost = vmm->vhost && access("/dev/vhost-net", R_OK | W_OK) == 0;
    json_object_set_new(own, "network", json_sprintf("virtio-net%s, tap, %s%s", vhost ? " with vhost" : "",
                                                     vm->bridge ? "bridge" : "tc redirect",
                                                     vm->offloads ? "" : ", no offloads"));
    return own;
}

/* The guest's memory is the pod's limit; the monitor's own comes on top, as with kata. */
static int start(struct kn_keeper *keeper, struct kn_lab_pod *pod, const json_t *request, struct kn_error *err)
{
    struct kn_vm vm = { .kvm = false };
    if (read_vm(pod, request, &vm, err)) return -1;
    struct kn_spawn spawn = { .name = pod->name, .node = pod->node->name, .netns = pod->netns, .port = pod->port,
                              .cpu_milli = pod->cpu_milli, .box = become_pod, .pod = pod, .request = request,
                              .ready_ns = vm.boot_ns };
    pod->pid = kn_spawn(keeper, &spawn, err);
    if (pod->pid > 0) pod->own = describe(pod->runtime->vmm, &vm);
    return pod->pid > 0 ? 0 : -1;
}

const struct kn_lab_runtime kn_lab_kata = { .name = "kata", .vmm = &kn_vmm_qemu, .probe = probe, .start = start };
