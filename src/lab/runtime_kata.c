#include "lab/vm.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/units.h"
#include "static/guest.h"

#if defined __x86_64__
#include <x86intrin.h>
#endif

/* A pod as kata runs one: a guest with a kernel of its own, whose agent has the pod's address. qemu runs in the pod's
 * namespaces; its output, the guest's console, is the pod's log. */

#define TRIAL_NS (5 * KN_NS_PER_S)
enum { TRIAL_TEXT = 1024, MEMORY_MB = 512, VCPUS_MAX = 64 };

/* ---- the probe ---- */

static const char *accelerator(bool kvm)
{
    return kvm ? "KVM" : "emulated (TCG)";
}

/* Replaces this process with qemu, which inherits descriptors by number. */
static int become(const struct kn_vm *vm, struct kn_error *err)
{
    struct kn_words words = {.n = 0};
    const int kept[] = {vm->tap_fd, vm->initramfs_fd, vm->vhost_fd};
    kn_qemu_command(vm, &words);
    if (words.failed)
        return kn_fail(err, KN_E_LIMIT, "the command line of " VM_PROGRAM " is too long");
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        if (kept[i] >= 0)
            fcntl(kept[i], F_SETFD, 0);
    execvp(words.argv[0], words.argv);
    return kn_fail_errno(err, "cannot run %s", words.argv[0]);
}

/* Boots a kernel that has nothing to run; with KVM it panics within moments. */
static void be_tried(const char *kernel, int out)
{
    struct kn_vm vm = {
        .kvm = true, .offloads = true, .memory_mb = 256, .vcpus = 1, .tap_fd = -1, .vhost_fd = -1, .initramfs_fd = -1};
    struct kn_error err;
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    snprintf(vm.machine, sizeof vm.machine, "%s", kn_vm_machines[0]);
    snprintf(vm.kernel, sizeof vm.kernel, "%s", kernel);
    snprintf(vm.append, sizeof vm.append, "console=ttyS0 " VM_ENDING);
    dup2(null, 0);
    dup2(out, 1);
    dup2(out, 2);
    become(&vm, &err);
    dprintf(2, "%s\n", err.message);
    _exit(127);
}

/* With nested virtualization switched off or broken, /dev/kvm can exist and open while no guest runs: so this boots
 * one. */
static bool kvm_works(const char *kernel)
{
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), fds[2];
    char text[TRIAL_TEXT];
    if (kvm < 0)
        return false;
    close(kvm);
    if (pipe2(fds, O_CLOEXEC))
        return false;
    pid_t pid = fork();
    if (pid == 0)
        be_tried(kernel, fds[1]);
    close(fds[1]);
    bool works = pid > 0 && kn_read_until(fds[0], "not syncing", TRIAL_NS, text, sizeof text) == 1;
    kn_end_process(&pid);
    close(fds[0]);
    return works;
}

/* The path of a guest's kernel, and the version of its modules. */
static int find_kernel(char path[PATH_MAX], char version[VM_VERSION_MAX], struct kn_error *err)
{
    if (kn_vm_kernel_find(version, err))
        return -1;
    if (!*path)
        snprintf(path, PATH_MAX, "/boot/vmlinuz-%s", version);
    return 0;
}

/* "version", "platform" and "network" are for people; "label" is for tables. */
static void tell(const char *version, const char *kernel, bool kvm, json_t *about)
{
    json_object_set_new(about, "version", json_sprintf("qemu %s, kernel %s", version, kernel));
    json_object_set_new(about, "platform", json_sprintf("%s, %s", kn_vm_machines[0], accelerator(kvm)));
    json_object_set_new(about, "accelerator", json_string(kvm ? "kvm" : "tcg"));
    json_object_set_new(about, "network", json_string("virtio-net, tap, tc redirect"));
    json_object_set_new(about, "label", json_sprintf("kata (qemu %s, %s)", version, kvm ? "kvm" : "emulated"));
}

static int probe(struct kn_lab_keeper *keeper, json_t *about, struct kn_error *err)
{
    char version[VM_VERSION_MAX], kernel[VM_VERSION_MAX], path[PATH_MAX] = "";
    (void)keeper;
    if (!kn_lab_installed(VM_PROGRAM))
        return kn_fail(err, KN_E_UNSUPPORTED,
                       "kata: " VM_PROGRAM " is not installed: install the package qemu-system-x86");
    if (find_kernel(path, kernel, err))
        return -1;
    int tun = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    if (tun < 0)
        return kn_vm_no_tun(err);
    close(tun);
    kn_qemu_version(version);
    tell(version, kernel, kvm_works(path), about);
    return 0;
}

/* ---- the request ---- */

static int read_path(const json_t *asked, const char *key, char path[PATH_MAX], struct kn_error *err)
{
    const char *text = json_string_value(json_object_get(asked, key));
    if (!text)
        return 0;
    if (access(text, R_OK))
        return kn_fail_errno(err, "cannot read the guest's %s %.200s", key, text);
    snprintf(path, PATH_MAX, "%s", text);
    return 0;
}

/* A guest has its pod's memory limit as memory, and a vCPU for each CPU of its limit, as with kata. */
static int read_size(const struct kn_lab_pod *pod, const json_t *asked, struct kn_vm *vm, struct kn_error *err)
{
    long long vcpus, memory = pod->memory ? (long long)(pod->memory >> 20) : MEMORY_MB;
    const char *boot = json_string_value(json_object_get(asked, "boot_timeout"));
    long long usual = pod->cpu_milli ? (long long)(pod->cpu_milli + 999) / 1000 : 1;
    if (kn_lab_number(asked, "vcpus", 1, VCPUS_MAX, usual, &vcpus, err))
        return -1;
    vm->vcpus = (unsigned)vcpus;
    vm->memory_mb = (unsigned)memory;
    vm->boot_ns = LAB_SANDBOX_NS;
    return boot ? kn_duration_parse(boot, &vm->boot_ns, err) : 0;
}

static int read_vm(const struct kn_lab_pod *pod, const json_t *request, struct kn_vm *vm, struct kn_error *err)
{
    static const struct kn_lab_field fields[] = {
        {"vcpus", LAB_NUMBER}, {"machine", LAB_TEXT},   {"offloads", LAB_BOOL},     {"join", LAB_TEXT},
        {"kernel", LAB_TEXT},  {"initramfs", LAB_TEXT}, {"boot_timeout", LAB_TEXT},
    };
    static const char *const joins[] = {"tc", "bridge"};
    size_t machine = 0, join = 0;
    const json_t *asked = json_object_get(request, "vm"), *offloads = json_object_get(asked, "offloads");
    if (json_object_get(request, "command"))
        return kn_fail(err, KN_E_UNSUPPORTED, "command does not apply to a kata pod: its guest runs only the agent");
    if (pod->hardened)
        return kn_fail(err, KN_E_UNSUPPORTED, "hardened does not apply to a kata pod: it is for runc and host");
    if (asked && kn_lab_check(asked, "vm", fields, sizeof fields / sizeof *fields, err))
        return -1;
    vm->offloads = !json_is_false(offloads);
    vm->mtu = pod->mtu;
    vm->kvm = strcmp(json_string_value(json_object_get(pod->about, "accelerator")), "kvm") == 0;
    if (kn_lab_choice(asked, "machine", kn_vm_machines, 2, &machine, err) ||
        kn_lab_choice(asked, "join", joins, 2, &join, err))
        return -1;
    snprintf(vm->machine, sizeof vm->machine, "%s", kn_vm_machines[machine]);
    vm->bridge = join == 1;
    return read_size(pod, asked, vm, err) || read_path(asked, "kernel", vm->kernel, err) ||
                   read_path(asked, "initramfs", vm->initramfs, err)
               ? -1
               : 0;
}

/* ---- a pod ---- */

/* The emulator passes the machine's TSC through. A guest that calibrates it on a busy machine gets a wrong frequency,
 * and its clock stays wrong. 0: unknown. */
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

static void write_append(struct kn_vm *vm)
{
    char clock[64] = "";
    unsigned khz = vm->kvm ? 0 : tsc_khz();
    if (khz)
        snprintf(clock, sizeof clock, " tsc=reliable tsc_early_khz=%u", khz);
    snprintf(vm->append, sizeof vm->append,
             "console=ttyS0 quiet " VM_ENDING " cryptomgr.notests i8042.noaux i8042.nokbd%s -- " GUEST_WORD, clock);
}

static json_t *config_of(const struct kn_lab_keeper *keeper, const struct kn_lab_pod *pod)
{
    static const int families[2] = {AF_INET, AF_INET6};
    struct kn_ip ip[2], gateway[2];
    memcpy(ip, pod->ip, sizeof ip);
    memset(gateway, 0, sizeof gateway);
    for (int i = 0; i < 2; i++)
        if (ip[i].family)
            kn_lab_pod_ip(pod->node->index, 1, families[i], &gateway[i]);
    return json_pack("{s:s,s:s,s:s,s:i,s:b,s:i,s:o,s:o}", "name", pod->name, "node", pod->node->name, "token",
                     keeper->options.token, "port", pod->port, "v6", ip[1].family != 0, "mtu", (int)pod->mtu, "ip",
                     kn_ip_list(ip), "gateway", kn_ip_list(gateway));
}

static int open_initramfs(const struct kn_lab_keeper *keeper, const struct kn_lab_pod *pod, struct kn_vm *vm,
                          const char *kernel, struct kn_error *err)
{
    if (*vm->initramfs) {
        vm->initramfs_fd = open(vm->initramfs, O_RDONLY | O_CLOEXEC);
        return vm->initramfs_fd < 0 ? kn_fail_errno(err, "the guest's initramfs, %.200s", vm->initramfs) : 0;
    }
    json_t *config = config_of(keeper, pod);
    vm->initramfs_fd = kn_vm_initramfs(kernel, config, err);
    json_decref(config);
    return vm->initramfs_fd < 0 ? -1 : 0;
}

/* In the pod's process, which reads the request once more. */
static int become_pod(const struct kn_lab_keeper *keeper, const struct kn_lab_pod *pod, const json_t *request,
                      struct kn_error *err)
{
    static const char *const silent[] = {"ipv6/conf/all/disable_ipv6", "ipv6/conf/default/disable_ipv6"};
    struct kn_vm vm = {.tap_fd = -1};
    char kernel[VM_VERSION_MAX];
    struct kn_error ignored;
    if (read_vm(pod, request, &vm, err) || find_kernel(vm.kernel, kernel, err))
        return -1;
    for (int i = 0; i < 2; i++)
        kn_sysctl_write(silent[i], "1", &ignored); /* the pod's addresses are the guest's alone */
    kn_lab_mac(LAB_MAC_POD, pod->index, &vm.mac);
    if ((vm.tap_fd = kn_vm_tap(&vm, err)) < 0)
        return -1;
    if (open_initramfs(keeper, pod, &vm, kernel, err))
        return -1;
    vm.vhost_fd = open("/dev/vhost-net", O_RDWR | O_CLOEXEC);
    write_append(&vm);
    return become(&vm, err);
}

/* What differs from the probe's answer. */
static json_t *describe(const struct kn_vm *vm)
{
    json_t *own = json_object();
    json_object_set_new(own, "platform",
                        json_sprintf("%s, %s, %u MiB, %u vCPU%s", vm->machine, accelerator(vm->kvm), vm->memory_mb,
                                     vm->vcpus, vm->vcpus == 1 ? "" : "s"));
    bool vhost = access("/dev/vhost-net", R_OK | W_OK) == 0;
    json_object_set_new(own, "network",
                        json_sprintf("virtio-net%s, tap, %s%s", vhost ? " with vhost" : "",
                                     vm->bridge ? "bridge" : "tc redirect", vm->offloads ? "" : ", no offloads"));
    return own;
}

/* The pod's memory limit is the guest's memory; qemu's own comes on top, as with kata. */
static int start(struct kn_lab_keeper *keeper, struct kn_lab_pod *pod, const json_t *request, struct kn_error *err)
{
    struct kn_vm vm = {.kvm = false};
    if (read_vm(pod, request, &vm, err))
        return -1;
    struct kn_spawn spawn = kn_spawn_of(pod, request);
    spawn.memory = 0;
    spawn.sandbox = become_pod;
    spawn.ready_ns = vm.boot_ns;
    pod->pid = kn_spawn(keeper, &spawn, err);
    if (pod->pid > 0)
        pod->own = describe(&vm);
    return pod->pid > 0 ? 0 : -1;
}

const struct kn_lab_runtime kn_lab_kata = {.name = "kata", .guest = true, .probe = probe, .start = start};
