#include "lab/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/units.h"
#include "lab/guest.h"

#if defined __x86_64__
#include <x86intrin.h>
#endif

/* A pod as kata runs one: a guest with a kernel of its own, whose agent has the pod's address. What runs on the machine
 * is the monitor, in the pod's namespaces; its output, which is the pod's log, is the guest's console. Each monitor has
 * a runtime of its own, called as kata calls its RuntimeClasses, so that a scenario finds it on a cluster too. */

#define MEMORY_MB 512
#define TRIAL_NS (5 * KN_NS_PER_S)
enum { TRIAL_TEXT = 1024 };

/* ---- what can be had here ---- */

static const char *accelerator(bool kvm) { return kvm ? "KVM" : "emulated (TCG)"; }

static int write_config(json_t *config, struct kn_error *err)
{
    int fd = memfd_create("config", MFD_CLOEXEC);
    bool written = fd >= 0 && json_dumpfd(config, fd, JSON_COMPACT) == 0;
    json_decref(config);
    return written ? fd : kn_fail_errno(err, "the monitor's configuration cannot be written");
}

/* The monitor, in place of this process. What it is to inherit is named by number. */
static int become(const struct kn_vmm *vmm, struct kn_vm *vm, struct kn_error *err)
{
    struct kn_words words = { .n = 0 };
    if (vmm->config && (vm->config_fd = write_config(vmm->config(vm), err)) < 0) return -1;
    const int kept[] = { vm->tap_fd, vm->initramfs_fd, vm->vhost_fd, vm->config_fd };
    vmm->command(vm, &words);
    if (words.failed) return kn_fail(err, KN_E_LIMIT, "the command line of %s is too long", vmm->program);
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        if (kept[i] >= 0) fcntl(kept[i], F_SETFD, 0);
    execvp(words.argv[0], words.argv);
    return kn_fail_errno(err, "%s cannot be run", words.argv[0]);
}

/* A guest that has nothing to run: with KVM its kernel is at that point in a moment. */
static void be_tried(const struct kn_vmm *vmm, const char *kernel, int out)
{
    struct kn_vm vm = { .kvm = true, .offloads = true, .memory_mb = 256, .vcpus = 1, .tap_fd = -1, .vhost_fd = -1,
                        .initramfs_fd = -1, .config_fd = -1 };
    struct kn_error err;
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (vmm->machines) snprintf(vm.machine, sizeof vm.machine, "%s", vmm->machines[0]);
    snprintf(vm.kernel, sizeof vm.kernel, "%s", kernel);
    snprintf(vm.append, sizeof vm.append, "console=ttyS0 %s", vmm->ending);
    dup2(null, 0);
    dup2(out, 1);
    dup2(out, 2);
    become(vmm, &vm, &err);
    dprintf(2, "%s\n", err.message);
    _exit(127);
}

/* `text` becomes the end of what it said. */
static bool says(int fd, const char *word, uint64_t patience_ns, char text[TRIAL_TEXT])
{
    uint64_t now = kn_now_ns(), deadline = now + patience_ns;
    size_t n = 0;
    for (*text = '\0'; now < deadline; now = kn_now_ns()) {
        struct pollfd ready = { .fd = fd, .events = POLLIN };
        if (poll(&ready, 1, (int)((deadline - now) / KN_NS_PER_MS) + 1) <= 0) continue;
        ssize_t got = read(fd, text + n, TRIAL_TEXT - 1 - n);
        if (got <= 0) return false;
        text[n += (size_t)got] = '\0';
        if (strstr(text, word)) return true;
        if (n > TRIAL_TEXT / 2) memmove(text, text + n - 64, 65), n = 64;
    }
    return false;
}

/* /dev/kvm can be there, and be opened, where no guest will run: nested virtualization that is switched off or broken.
 * Only a guest tells. */
static int try_kvm(const struct kn_vmm *vmm, const char *kernel, struct kn_error *err)
{
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), fds[2];
    char text[TRIAL_TEXT];
    if (kvm < 0)
        return kn_fail_with(err, KN_E_UNSUPPORTED, errno, "/dev/kvm cannot be opened: %s", strerror(errno));
    close(kvm);
    if (pipe2(fds, O_CLOEXEC)) return kn_fail_errno(err, "no pipe");
    pid_t pid = fork();
    if (pid == 0) be_tried(vmm, kernel, fds[1]);
    close(fds[1]);
    bool works = pid > 0 && says(fds[0], "not syncing", TRIAL_NS, text);
    kn_end_process(&pid);
    close(fds[0]);
    if (works) return 0;
    kn_lab_one_line(text);
    return kn_fail(err, KN_E_UNSUPPORTED, "no guest gets going with it%s%.200s", *text ? ": " : "", text);
}

/* The kernel of a guest, as its monitor takes it, and its version, which is that of the modules. */
static int find_kernel(const struct kn_vmm *vmm, char path[PATH_MAX], char version[VM_VERSION_MAX],
                       struct kn_error *err)
{
    if (kn_vm_kernel_find(version, err)) return -1;
    if (!*path) snprintf(path, PATH_MAX, "/boot/vmlinuz-%s", version);
    return vmm->elf ? kn_vmlinux_file(path, err) : 0;
}

static int refuse_old(const struct kn_vmm *vmm, const char *version, struct kn_error *err)
{
    if (!vmm->least || *version < '0' || *version > '9' || strverscmp(version, vmm->least) >= 0) return 0;
    return kn_fail(err, KN_E_UNSUPPORTED, "%s %s is too old: it takes %s or newer", vmm->name, version, vmm->least);
}

/* A line for who asks what there is, and a word for tables. */
static void tell(const struct kn_vmm *vmm, const char *version, const char *kernel, bool kvm, json_t *about)
{
    const char *machine = vmm->machines ? vmm->machines[0] : "";
    json_object_set_new(about, "version", json_sprintf("%s %s, kernel %s", vmm->name, version, kernel));
    json_object_set_new(about, "platform", json_sprintf("%s%s%s", machine, *machine ? ", " : "", accelerator(kvm)));
    json_object_set_new(about, "accelerator", json_string(kvm ? "kvm" : "tcg"));
    json_object_set_new(about, "network", json_string("virtio-net, tap, tc redirect"));
    json_object_set_new(about, "label", json_sprintf("kata (%s %s, %s)", vmm->name, version, kvm ? "kvm" : "emulated"));
}

static int probe(struct kn_keeper *keeper, const struct kn_lab_runtime *runtime, json_t *about, struct kn_error *err)
{
    const struct kn_vmm *vmm = runtime->vmm;
    char version[VM_VERSION_MAX], kernel[VM_VERSION_MAX], path[PATH_MAX] = "";
    struct kn_error why;
    (void)keeper;
    if (!kn_lab_installed(vmm->program))
        return kn_fail(err, KN_E_UNSUPPORTED, "%s: %s is not installed: %s", runtime->name, vmm->program, vmm->install);
    kn_vmm_version(vmm, version);
    if (refuse_old(vmm, version, err) || find_kernel(vmm, path, kernel, err)) return -1;
    int tun = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    if (tun < 0) return kn_vm_no_tun(err);
    close(tun);
    bool kvm = try_kvm(vmm, path, &why) == 0;
    if (!kvm && !vmm->emulates)
        return kn_fail(err, KN_E_UNSUPPORTED, "%s: %s %s is installed, but runs guests with KVM alone, and %s",
                       runtime->name, vmm->name, version, why.message);
    tell(vmm, version, kernel, kvm, about);
    return 0;
}

/* ---- what is asked ---- */

static int read_machine(const struct kn_vmm *vmm, const json_t *asked, struct kn_vm *vm, struct kn_error *err)
{
    const char *machine = json_string_value(json_object_get(asked, "machine"));
    size_t n = 0;
    if (!vmm->machines)
        return machine ? kn_fail(err, KN_E_ARGUMENT, "%s has no 'machine' to choose", vmm->name) : 0;
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
    if (kn_lab_number(asked, "vcpus", 1, pod->runtime->vmm->vcpus_most, usual, &vcpus, err)) return -1;
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
    vm->mtu = pod->mtu;
    if (!vm->offloads && pod->runtime->vmm->offloads_always)
        return kn_fail(err, KN_E_UNSUPPORTED, "%s cannot turn the 'offloads' of its card off", pod->runtime->vmm->name);
    vm->kvm = strcmp(json_string_value(json_object_get(pod->about, "accelerator")), "kvm") == 0;
    return read_machine(pod->runtime->vmm, asked, vm, err) || read_join(asked, vm, err) ||
                   read_size(pod, asked, vm, err) || read_path(asked, "kernel", vm->kernel, err) ||
                   read_path(asked, "initramfs", vm->initramfs, err)
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
    struct kn_ip ip[2], gateway[2];
    memcpy(ip, pod->ip, sizeof ip);
    memset(gateway, 0, sizeof gateway);
    for (int i = 0; i < 2; i++)
        if (ip[i].family) kn_lab_pod_ip(pod->node->index, 1, families[i], &gateway[i]);
    return json_pack("{s:s,s:s,s:s,s:i,s:b,s:b,s:i,s:o,s:o}", "name", pod->name, "node", pod->node->name, "token",
                     keeper->options.token, "port", pod->port, "v6", ip[1].family != 0, "power_off",
                     pod->runtime->vmm->restarts, "mtu", (int)pod->mtu, "ip",
                     kn_ip_list(ip), "gateway", kn_ip_list(gateway));
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
    struct kn_vm vm = { .tap_fd = -1, .config_fd = -1, .card = true };
    char kernel[VM_VERSION_MAX];
    struct kn_error ignored;
    if (read_vm(pod, request, &vm, err) || find_kernel(vmm, vm.kernel, kernel, err)) return -1;
    for (int i = 0; i < 2; i++) kn_sysctl_write(silent[i], "1", &ignored);  /* the guest alone speaks for the pod */
    kn_pod_mac(pod, &vm.mac);
    if ((vm.tap_fd = kn_vm_tap(&vm, vmm->opens_tap, err)) < 0) return -1;
    if (vmm->opens_tap) {
        close(vm.tap_fd);
        vm.tap_fd = -1;
    }
    if (open_initramfs(keeper, pod, &vm, kernel, err)) return -1;
    vm.vhost_fd = vmm->vhost ? open("/dev/vhost-net", O_RDWR | O_CLOEXEC) : -1;
    write_append(vmm, &vm);
    return become(vmm, &vm, err);
}

/* How this pod is, where that is not what the probe says. */
static json_t *describe(const struct kn_vmm *vmm, const struct kn_vm *vm)
{
    json_t *own = json_object();
    json_object_set_new(own, "platform", json_sprintf("%s%s%s, %u MiB, %u vCPU%s", vm->machine,
                                                      *vm->machine ? ", " : "", accelerator(vm->kvm), vm->memory_mb,
                                                      vm->vcpus, vm->vcpus == 1 ? "" : "s"));
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
const struct kn_lab_runtime kn_lab_kata_clh = { .name = "kata-clh", .vmm = &kn_vmm_cloud_hypervisor, .probe = probe,
                                                .start = start };
const struct kn_lab_runtime kn_lab_kata_fc = { .name = "kata-fc", .vmm = &kn_vmm_firecracker, .probe = probe,
                                               .start = start };
