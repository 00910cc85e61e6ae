/* lab/vm - the parts of a guest: kernel, modules, initramfs, network card, and qemu, which runs it.
 *
 * qemu gets open descriptors, so that nothing of a guest has a name in a file system. */
#ifndef KN_LAB_VM_H
#define KN_LAB_VM_H

#include <limits.h>

#include "lab/keeper.h"

enum { VM_VERSION_MAX = 128, VM_MODULES_MAX = 32, VM_WORDS_MAX = 64, VM_TEXT_MAX = 4096 };
struct kn_vm {
    unsigned memory_mb, vcpus, mtu;
    bool kvm, offloads, bridge;
    char machine[16];
    char kernel[PATH_MAX], initramfs[PATH_MAX]; /* initramfs empty: the lab packs one */
    uint64_t boot_ns;                           /* time limit until its agent is ready */
    int initramfs_fd, tap_fd, vhost_fd;         /* -1: none */
    struct kn_mac mac;
    char append[1024]; /* the kernel's command line */
};

/* ---- qemu.c ---- */
#define VM_PROGRAM "qemu-system-x86_64"
#define VM_ENDING "panic=-1 reboot=t"      /* on the kernel's command line: qemu ends when the guest ends or panics */
extern const char *const kn_vm_machines[]; /* NULL-terminated; the first is the default */
struct kn_words {
    char *argv[VM_WORDS_MAX + 1];
    size_t n, used;
    char text[VM_TEXT_MAX];
    bool failed;
};
void kn_qemu_command(const struct kn_vm *vm, struct kn_words *words);
/* "7.2.22", as qemu prints it; "of unknown version" if it prints none. */
void kn_qemu_version(char version[VM_VERSION_MAX]);

/* ---- modules.c ---- */
struct kn_vm_modules {
    size_t n;
    char path[VM_MODULES_MAX][128];
}; /* below /lib/modules/VERSION */
int kn_vm_kernel_find(char version[VM_VERSION_MAX], struct kn_error *err);
int kn_vm_modules_find(const char *version, struct kn_vm_modules *modules, struct kn_error *err);
/* the same from modules.dep's text */
int kn_vm_modules_from(const char *dep, struct kn_vm_modules *modules, struct kn_error *err);

/* ---- initramfs.c ---- */
/* Returns a descriptor. Packs the static agent as init, the modules and `config` (guest.h). */
int kn_vm_initramfs(const char *version, const json_t *config, struct kn_error *err);

/* ---- tap.c: in the pod's namespace ---- */
/* Makes a tap and joins it to eth0, by redirecting the frames of each to the other or by a bridge. Returns its
 * descriptor. */
int kn_vm_tap(const struct kn_vm *vm, struct kn_error *err);
/* Reports errno as the reason why /dev/net/tun cannot be opened, with the remedy. */
int kn_vm_no_tun(struct kn_error *err);

#endif
