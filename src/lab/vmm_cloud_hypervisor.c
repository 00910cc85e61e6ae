#include "lab/vm.h"

/* Cloud Hypervisor, which runs guests with KVM and carries their packets itself: docs/device_model.md and the texts of
 * --help in its source. */

static void command(const struct kn_vm *vm, struct kn_words *words)
{
    const unsigned char *b = vm->mac.bytes;
    static const char *const plain[] = { "cloud-hypervisor", "--serial", "tty", "--console", "off", "--kernel" };
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) kn_words_add(words, "%s", plain[i]);
    kn_words_add(words, "%s", vm->kernel);
    kn_words_add(words, "--cmdline");
    kn_words_add(words, "%s", vm->append);
    kn_words_add(words, "--memory");
    kn_words_add(words, "size=%uM", vm->memory_mb);
    kn_words_add(words, "--cpus");
    kn_words_add(words, "boot=%u", vm->vcpus);
    if (vm->initramfs_fd >= 0) {
        kn_words_add(words, "--initramfs");
        kn_words_add(words, "/dev/fd/%d", vm->initramfs_fd);
    }
    if (!vm->card) return;
    kn_words_add(words, "--net");
    kn_words_add(words, "fd=%d,mac=%02x:%02x:%02x:%02x:%02x:%02x%s", vm->tap_fd, b[0], b[1], b[2], b[3], b[4], b[5],
                 vm->offloads ? "" : ",offload_csum=off,offload_tso=off,offload_ufo=off");
}

/* A guest that restarts is started anew in place, which nothing turns off: so it powers off, and one that panics stays
 * as it is. Offloads can be turned off from version 29 on, kernels be compressed from 39 on. */
const struct kn_vmm kn_vmm_cloud_hypervisor = {
    .name = "cloud-hypervisor", .program = "cloud-hypervisor", .least = "29",
    .install = "Debian has none; its makers do: https://github.com/cloud-hypervisor/cloud-hypervisor/releases",
    .driver = "virtio_pci", .ending = "panic=0", .vcpus_most = 64, .elf = true, .restarts = true, .command = command,
};
