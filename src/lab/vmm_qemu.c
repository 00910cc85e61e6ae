#include "lab/vm.h"

#include <string.h>

/* qemu, with no device but a serial console and a network card. */

#define PROGRAM "qemu-system-x86_64"

static const char *const machines[] = { "microvm", "q35", NULL };

static void card(const struct kn_vm *vm, struct kn_words *words)
{
    const unsigned char *b = vm->mac.bytes;
    kn_words_add(words, "-netdev");
    if (vm->vhost_fd >= 0) kn_words_add(words, "tap,id=net,fd=%d,vhost=on,vhostfd=%d", vm->tap_fd, vm->vhost_fd);
    else kn_words_add(words, "tap,id=net,fd=%d", vm->tap_fd);
    kn_words_add(words, "-device");
    kn_words_add(words, "virtio-net-pci,netdev=net,romfile=,mac=%02x:%02x:%02x:%02x:%02x:%02x%s", b[0], b[1], b[2],
                 b[3], b[4], b[5],
                 vm->offloads ? "" : ",csum=off,gso=off,guest_csum=off,guest_tso4=off,guest_tso6=off,guest_ecn=off,"
                                     "guest_ufo=off,host_tso4=off,host_tso6=off,host_ecn=off,host_ufo=off");
}

static void command(const struct kn_vm *vm, struct kn_words *words)
{
    bool micro = strcmp(vm->machine, "microvm") == 0;
    static const char *const plain[] = { PROGRAM, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
                                         "-serial", "stdio", "-monitor", "none", "-name", "knbl" };
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) kn_words_add(words, "%s", plain[i]);
    kn_words_add(words, "-machine");
    kn_words_add(words, "%s%s", vm->machine, micro ? ",pcie=on,acpi=on,x-option-roms=off,rtc=on" : "");
    kn_words_add(words, "-accel");
    kn_words_add(words, "%s", vm->kvm ? "kvm" : "tcg");
    kn_words_add(words, "-cpu");
    kn_words_add(words, "%s", vm->kvm ? "host" : "qemu64,+rdrand");
    kn_words_add(words, "-m");
    kn_words_add(words, "%uM", vm->memory_mb);
    kn_words_add(words, "-smp");
    kn_words_add(words, "%u", vm->vcpus);
    kn_words_add(words, "-kernel");
    kn_words_add(words, "%s", vm->kernel);
    kn_words_add(words, "-append");
    kn_words_add(words, "%s", vm->append);
    if (vm->initramfs_fd >= 0) {
        kn_words_add(words, "-initrd");
        kn_words_add(words, "/dev/fd/%d", vm->initramfs_fd);
    }
    if (vm->card) card(vm, words);
}

const struct kn_vmm kn_vmm_qemu = {
    .name = "qemu", .program = PROGRAM, .install = "install the package qemu-system-x86", .machines = machines,
    .driver = "virtio_pci", .ending = "panic=-1 reboot=t", .vcpus_most = 64, .emulates = true, .vhost = true,
    .command = command,
};
