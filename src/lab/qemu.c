#include "lab/vm.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* qemu's command line: the only devices are a serial console and a network card. */

const char *const kn_vm_machines[] = {"microvm", "q35", NULL};

static void add(struct kn_words *words, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add(struct kn_words *words, const char *format, ...)
{
    va_list list;
    size_t room = sizeof words->text - words->used;
    va_start(list, format);
    int n = vsnprintf(words->text + words->used, room, format, list);
    va_end(list);
    if (n < 0 || (size_t)n >= room || words->n == VM_WORDS_MAX) {
        words->failed = true;
        return;
    }
    words->argv[words->n++] = words->text + words->used;
    words->used += (size_t)n + 1;
}

static void card(const struct kn_vm *vm, struct kn_words *words)
{
    const unsigned char *b = vm->mac.bytes;
    add(words, "-netdev");
    if (vm->vhost_fd >= 0)
        add(words, "tap,id=net,fd=%d,vhost=on,vhostfd=%d", vm->tap_fd, vm->vhost_fd);
    else
        add(words, "tap,id=net,fd=%d", vm->tap_fd);
    add(words, "-device");
    add(words, "virtio-net-pci,netdev=net,romfile=,mac=%02x:%02x:%02x:%02x:%02x:%02x%s", b[0], b[1], b[2], b[3], b[4],
        b[5],
        vm->offloads ? ""
                     : ",csum=off,gso=off,guest_csum=off,guest_tso4=off,guest_tso6=off,guest_ecn=off,"
                       "guest_ufo=off,host_tso4=off,host_tso6=off,host_ecn=off,host_ufo=off");
}

void kn_qemu_command(const struct kn_vm *vm, struct kn_words *words)
{
    bool micro = strcmp(vm->machine, "microvm") == 0;
    static const char *const plain[] = {VM_PROGRAM, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
                                        "-serial",  "stdio",       "-monitor",        "none",       "-name",    "knbl"};
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        add(words, "%s", plain[i]);
    add(words, "-machine");
    add(words, "%s%s", vm->machine, micro ? ",pcie=on,acpi=on,x-option-roms=off,rtc=on" : "");
    add(words, "-accel");
    add(words, "%s", vm->kvm ? "kvm" : "tcg");
    add(words, "-cpu");
    add(words, "%s", vm->kvm ? "host" : "qemu64,+rdrand");
    add(words, "-m");
    add(words, "%uM", vm->memory_mb);
    add(words, "-smp");
    add(words, "%u", vm->vcpus);
    add(words, "-kernel");
    add(words, "%s", vm->kernel);
    add(words, "-append");
    add(words, "%s", vm->append);
    if (vm->initramfs_fd >= 0) {
        add(words, "-initrd");
        add(words, "/dev/fd/%d", vm->initramfs_fd);
    }
    if (vm->tap_fd >= 0)
        card(vm, words);
}

/* The first number in the first line of "QEMU emulator version 7.2.22 (Debian ...)". */
void kn_qemu_version(char version[VM_VERSION_MAX])
{
    char line[256] = "";
    FILE *pipe = popen("exec " VM_PROGRAM " --version 2>/dev/null </dev/null", "re");
    if (pipe && !fgets(line, sizeof line, pipe))
        line[0] = '\0';
    if (pipe)
        pclose(pipe);
    const char *number = line + strcspn(line, "0123456789");
    int n = (int)strcspn(number, " \n(");
    snprintf(version, VM_VERSION_MAX, "%.*s", *number ? n : VM_VERSION_MAX, *number ? number : "of unknown version");
}
