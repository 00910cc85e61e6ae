/* Cloud Hypervisor and Firecracker as the monitors of guests: what they are told, guests in what stands for them, and why
 * there is none. */
#include "guests.h"

#include <limits.h>
#include <sys/stat.h>

#include "lab/vm.h"

/* ---- what they are told ---- */

static void command_line(const struct kn_vmm *vmm, const struct kn_vm *vm, char *text, size_t size)
{
    struct kn_words words = { .n = 0 };
    vmm->command(vm, &words);
    assert_false(words.failed);
    text[0] = '\0';
    for (size_t i = 0, at = 0; i < words.n; i++)
        at += (size_t)snprintf(text + at, size - at, "%s%s", i ? "|" : "", words.argv[i]);
}

static const struct kn_vm asked = {
    .memory_mb = 300, .vcpus = 3, .kvm = true, .offloads = true, .card = true, .kernel = "/k", .append = "quiet -- x",
    .initramfs_fd = 5, .tap_fd = 6, .vhost_fd = -1, .config_fd = 7, .mac = { { 2, 0, 10, 0xab, 0xff, 1 } },
};

static void test_cloud_hypervisor_command(void **state)
{
    (void)state;
    struct kn_vm vm = asked;
    char text[1024];
    command_line(&kn_vmm_cloud_hypervisor, &vm, text, sizeof text);
    assert_string_equal(text, "cloud-hypervisor|--serial|tty|--console|off|--kernel|/k|--cmdline|quiet -- x|"
                              "--memory|size=300M|--cpus|boot=3|--initramfs|/dev/fd/5|"
                              "--net|fd=6,mac=02:00:0a:ab:ff:01");
    vm.offloads = false;
    command_line(&kn_vmm_cloud_hypervisor, &vm, text, sizeof text);
    assert_non_null(strstr(text, ":01,offload_csum=off,offload_tso=off,offload_ufo=off"));
    vm.card = false;
    vm.initramfs_fd = -1;
    command_line(&kn_vmm_cloud_hypervisor, &vm, text, sizeof text);
    assert_null(strstr(text, "--net"));
    assert_null(strstr(text, "--initramfs"));
}

static void test_firecracker_config(void **state)
{
    (void)state;
    struct kn_vm vm = asked;
    char text[1024];
    command_line(&kn_vmm_firecracker, &vm, text, sizeof text);
    assert_string_equal(text, "firecracker|--no-api|--level|Error|--config-file|/dev/fd/7");
    json_t *config = kn_vmm_firecracker.config(&vm);
    json_t *expected = json_pack("{s:{s:s,s:s,s:s},s:{s:i,s:i},s:[],s:[{s:s,s:s,s:s}]}", "boot-source",
                                 "kernel_image_path", "/k", "boot_args", "quiet -- x", "initrd_path", "/dev/fd/5",
                                 "machine-config", "vcpu_count", 3, "mem_size_mib", 300, "drives",
                                 "network-interfaces", "iface_id", "net", "host_dev_name", VM_TAP, "guest_mac",
                                 "02:00:0a:ab:ff:01");
    assert_non_null(expected);
    assert_true(json_equal(config, expected));
    json_decref(config);
    json_decref(expected);
    vm.card = false;
    vm.initramfs_fd = -1;
    config = kn_vmm_firecracker.config(&vm);
    assert_null(json_object_get(config, "network-interfaces"));
    assert_null(json_object_get(json_object_get(config, "boot-source"), "initrd_path"));
    json_decref(config);
}

/* ---- guests ---- */

/* Neither can be had here: what stands for one takes its command line or its file apart and does the same with qemu,
 * which boots an ELF kernel as they do, by PVH. On its own, it says what a kernel says that has nothing to run. The speed
 * of the clock is near enough: an emulated guest that measures it itself may hang. */
#define QEMU                                                                                                           \
    "[ -n \"$initrd\" ] || { echo 'Kernel panic - not syncing: no init'; exec sleep 10; }\n"                             \
    "while read -r a b c d; do [ \"$a $b\" = 'cpu MHz' ] && khz=${d%.*}000 && break; done </proc/cpuinfo\n"              \
    "append=\"${append%% -- *} tsc=reliable tsc_early_khz=$khz -- ${append#* -- }\"\n"                                   \
    "exec qemu-system-x86_64 -nodefaults -no-user-config -display none -serial stdio -monitor none -accel tcg "          \
    "-cpu qemu64,+rdrand -m $memory -smp $cpus -kernel $kernel -append \"$append\" -initrd $initrd "

static const char as_cloud_hypervisor[] =
    "[ \"$1\" != --version ] || { echo cloud-hypervisor v41.0.0; exit; }\n"
    "while [ $# -gt 1 ]; do case $1 in\n"
    "--kernel) kernel=$2;; --cmdline) append=$2;; --memory) memory=${2#size=};; --cpus) cpus=${2#boot=};;\n"
    "--initramfs) initrd=$2;; --net) net=$2;;\n"
    "esac; shift; done\n" QEMU
    "-machine microvm,pcie=on,acpi=on,x-option-roms=off,rtc=on "
    "-netdev tap,id=net,${net%%,*} -device virtio-net-pci,netdev=net,romfile=,${net#*,}\n";

static const char as_firecracker[] =
    "[ \"$1\" != --version ] || { echo Firecracker v1.8.0; exit; }\n"
    "for config; do :; done; read -r text <\"$config\"\n"
    "of() { t=${text#*\\\"$1\\\":}; [ \"$t\" = \"$text\" ] || { t=${t#\\\"}; t=${t%%[\\\",\\}]*}; echo \"$t\"; }; }\n"
    "kernel=$(of kernel_image_path) append=$(of boot_args) initrd=$(of initrd_path) memory=$(of mem_size_mib)M\n"
    "cpus=$(of vcpu_count) tap=$(of host_dev_name) mac=$(of guest_mac)\n" QEMU
    "-no-reboot -machine microvm,pcie=off,acpi=on,x-option-roms=off,rtc=on "
    "-netdev tap,id=net,ifname=$tap,script=no,downscript=no -device virtio-net-device,netdev=net,mac=$mac\n";

/* What a stand-in needs: all that the lab asks for before it tries KVM, and a /dev/kvm that opens. */
static void skip_without_guests(void)
{
    char version[VM_VERSION_MAX];
    struct kn_error err = { .message = "no /dev/kvm, no /dev/net/tun or no qemu" };
    if (kn_vm_kernel_find(version, &err) == 0 && access("/dev/kvm", R_OK | W_OK) == 0 &&
        access("/dev/net/tun", R_OK | W_OK) == 0 && kn_lab_installed("qemu-system-x86_64"))
        return;
    print_message("# skipped: %s\n", err.message);
    skip();
}

static struct kn_lab *lab_with(struct stand_in *s, const char *name, const char *script)
{
    stand_in_for(s, name, script, false);
    struct kn_lab *lab = open_lab("{}");
    tell(lab, "{\"op\":\"node\"}");
    tell(lab, "{\"op\":\"node\"}");
    return lab;
}

/* A guest of it, that is reached from where it matters. */
static void boots(struct kn_lab *lab, const char *runtime, const char *label)
{
    json_t *pod = ask(lab, "{\"op\":\"pod\",\"name\":\"guest\",\"node\":\"node-1\",\"runtime\":\"%s\"}", runtime);
    json_t *sandbox = json_object_get(pod, "sandbox");
    assert_string_equal(json_string_value(json_object_get(sandbox, "label")), label);
    assert_string_equal(json_string_value(json_object_get(sandbox, "platform")), "KVM, 512 MiB, 1 vCPU");
    agent_answers(pod);
    assert_true(reached(lab, "node-2", "10.244.0.2"));
    assert_true(reached(lab, "node-1", "fd00:10:244:1::2"));
    json_decref(pod);
}

/* Its guest stays as it is where the kernel panics; and what that pod left is not in the next one's way. */
static void test_cloud_hypervisor_boots(void **state)
{
    (void)state;
    struct stand_in s;
    skip_without_guests();
    struct kn_lab *lab = lab_with(&s, "cloud-hypervisor", as_cloud_hypervisor);
    refuses(lab, KN_E_LOST, "Kernel panic",
            "{\"op\":\"pod\",\"name\":\"guest\",\"runtime\":\"kata-clh\",\"vm\":{\"initramfs\":\"/etc/passwd\"}}");
    boots(lab, "kata-clh", "kata (cloud-hypervisor 41.0.0, kvm)");
    kn_lab_close(lab);
    stand_down(&s);
}

static void test_firecracker_boots(void **state)
{
    (void)state;
    struct stand_in s;
    skip_without_guests();
    struct kn_lab *lab = lab_with(&s, "firecracker", as_firecracker);
    boots(lab, "kata-fc", "kata (firecracker 1.8.0, kvm)");
    kn_lab_close(lab);
    stand_down(&s);
}

/* ---- what they are not, and cannot ---- */

/* What it says of itself, and all that follows. */
static void without(const char *runtime, const char *name, const char *script, const char *says)
{
    struct stand_in s;
    struct kn_lab *lab = lab_with(&s, name, script);
    refuses(lab, KN_E_UNSUPPORTED, says, "{\"op\":\"pod\",\"name\":\"p\",\"runtime\":\"%s\"}", runtime);
    kn_lab_close(lab);
    stand_down(&s);
}

static void test_monitors_that_will_not_do(void **state)
{
    (void)state;
    without("kata-clh", "unrelated", "exit 1", "kata-clh: cloud-hypervisor is not installed: Debian has none");
    without("kata-fc", "unrelated", "exit 1", "kata-fc: firecracker is not installed: Debian has none");
    skip_without_guests();
    without("kata-clh", "cloud-hypervisor", "echo cloud-hypervisor v28.1", "cloud-hypervisor 28.1 is too old: it takes 29");
    without("kata-fc", "firecracker", "echo Firecracker v1.7.0", "firecracker 1.7.0 is too old: it takes 1.8");
    without("kata-fc", "firecracker", "echo Firecracker v1.10.1; echo no such CPU >&2",
            "firecracker 1.10.1 is installed, but runs guests with KVM alone, and ");
}

static void test_what_they_cannot_do(void **state)
{
    (void)state;
    struct stand_in s;
    static const struct { enum kn_code code; const char *says, *more; } cases[] = {
        { KN_E_UNSUPPORTED, "firecracker cannot turn the 'offloads'", "\"vm\":{\"offloads\":false}" },
        { KN_E_ARGUMENT, "firecracker has no 'machine' to choose", "\"vm\":{\"machine\":\"q35\"}" },
        { KN_E_ARGUMENT, "'vcpus' must be a whole number from 1 to 32", "\"vm\":{\"vcpus\":33}" },
        { KN_E_LOST, "neither an ELF file nor a compressed kernel", "\"vm\":{\"kernel\":\"/etc/passwd\"}" },
    };
    skip_without_guests();
    struct kn_lab *lab = lab_with(&s, "firecracker", as_firecracker);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        refuses(lab, cases[i].code, cases[i].says, "{\"op\":\"pod\",\"name\":\"p\",\"runtime\":\"kata-fc\",%s}",
                cases[i].more);
    kn_lab_close(lab);
    stand_down(&s);
}

int main(int argc, char **argv)
{
    inside_main(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cloud_hypervisor_command), cmocka_unit_test(test_firecracker_config),
        cmocka_unit_test(test_cloud_hypervisor_boots), cmocka_unit_test(test_firecracker_boots),
        cmocka_unit_test(test_monitors_that_will_not_do), cmocka_unit_test(test_what_they_cannot_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
