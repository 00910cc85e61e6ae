#include "lab/vm.h"

/* Firecracker, which runs guests with KVM and carries their packets itself. What is asked of it is a file of JSON, with
 * the fields of its API (src/firecracker/swagger/firecracker.yaml in its source); unknown ones it refuses. */

static json_t *config(const struct kn_vm *vm)
{
    const unsigned char *b = vm->mac.bytes;
    json_t *boot = json_pack("{s:s,s:s}", "kernel_image_path", vm->kernel, "boot_args", vm->append);
    json_t *all = json_pack("{s:o,s:{s:i,s:i},s:[]}", "boot-source", boot, "machine-config", "vcpu_count",
                            (int)vm->vcpus, "mem_size_mib", (int)vm->memory_mb, "drives");
    if (vm->initramfs_fd >= 0)
        json_object_set_new(boot, "initrd_path", json_sprintf("/dev/fd/%d", vm->initramfs_fd));
    if (vm->card)
        json_object_set_new(all, "network-interfaces",
                            json_pack("[{s:s,s:s,s:o}]", "iface_id", "net", "host_dev_name", VM_TAP, "guest_mac",
                                      json_sprintf("%02x:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3], b[4],
                                                   b[5])));
    return all;
}

static void command(const struct kn_vm *vm, struct kn_words *words)
{
    static const char *const plain[] = { "firecracker", "--no-api", "--level", "Error", "--config-file" };
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) kn_words_add(words, "%s", plain[i]);
    kn_words_add(words, "/dev/fd/%d", vm->config_fd);
}

/* It ends with the guest that resets by the keyboard's controller. Its devices are told to the guest by ACPI from
 * version 1.8 on; Debian's kernel knows neither of the older ways (the command line, MP tables). */
const struct kn_vmm kn_vmm_firecracker = {
    .name = "firecracker", .program = "firecracker", .least = "1.8",
    .install = "Debian has none; its makers do: https://github.com/firecracker-microvm/firecracker/releases",
    .driver = "virtio_mmio", .ending = "panic=-1 reboot=k", .vcpus_most = 32, .elf = true, .opens_tap = true,
    .offloads_always = true, .config = config, .command = command,
};
