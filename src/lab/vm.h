/* lab/vm - what a guest is made of: kernel, modules, initramfs, network card, and the monitor that runs it.
 *
 * A monitor (qemu, cloud-hypervisor, firecracker) is a file of its own: it says what it can do, and turns what is asked
 * of a guest into its command line. It gets open descriptors, so that nothing of a guest has a name in a file system,
 * but for a kernel that had to be unpacked. */
#ifndef KN_LAB_VM_H
#define KN_LAB_VM_H

#include <limits.h>

#include "lab/keeper.h"

/* ---- what is asked ---- */
enum { VM_VERSION_MAX = 128, VM_MODULES_MAX = 32, VM_WORDS_MAX = 64, VM_TEXT_MAX = 4096 };
struct kn_vm {
    unsigned memory_mb, vcpus, mtu;
    bool kvm, offloads, bridge;
    char machine[16];           /* one of the monitor's; empty where it has but one kind */
    char kernel[PATH_MAX], initramfs[PATH_MAX]; /* initramfs empty: packed here */
    uint64_t boot_ns;           /* the time that it has until its agent is ready */
    /* at the start */
    int initramfs_fd, tap_fd, vhost_fd, config_fd; /* -1: none */
    bool card;                  /* a network card: at tap_fd, or at VM_TAP */
    struct kn_mac mac;
    char append[1024];          /* the kernel's command line */
};

/* ---- monitors; vmm.c: what they share ---- */
struct kn_words { char *argv[VM_WORDS_MAX + 1]; size_t n, used; char text[VM_TEXT_MAX]; bool failed; };
void kn_words_add(struct kn_words *words, const char *format, ...) __attribute__((format(printf, 2, 3)));

struct kn_vmm {
    const char *name;           /* in results, before its version */
    const char *program, *install; /* in PATH; what to do where it is not */
    const char *least;          /* the first version that will do; NULL: any */
    const char *const *machines; /* NULL-terminated; the first is usual. NULL: it has but one kind */
    const char *driver;         /* the kernel's, of what its network card is plugged into */
    const char *ending;         /* words for the kernel's command line: when it ends or panics, so does the monitor */
    unsigned vcpus_most;
    bool emulates;              /* it runs guests without KVM too, slowly */
    bool vhost;                 /* it lets the host's kernel carry the packets where that can (vhost-net) */
    bool elf;                   /* it takes kernels that are not compressed */
    bool restarts;              /* a guest that restarts does not end it: it has to power off */
    bool opens_tap;             /* it opens the tap by its name, and no one else may have it open */
    bool offloads_always;
    json_t *(*config)(const struct kn_vm *vm); /* what it is to read at config_fd; NULL: nothing */
    void (*command)(const struct kn_vm *vm, struct kn_words *words);
};
extern const struct kn_vmm kn_vmm_qemu, kn_vmm_cloud_hypervisor, kn_vmm_firecracker;

/* "7.2.22", which the program says of itself; "of unknown version" where it does not. */
void kn_vmm_version(const struct kn_vmm *vmm, char version[VM_VERSION_MAX]);

/* ---- modules.c ---- */
struct kn_vm_modules { size_t n; char path[VM_MODULES_MAX][128]; };  /* below /lib/modules/VERSION */
int kn_vm_kernel_find(char version[VM_VERSION_MAX], struct kn_error *err);
int kn_vm_modules_find(const char *version, const char *driver, struct kn_vm_modules *modules, struct kn_error *err);
/* the same from modules.dep's text */
int kn_vm_modules_from(const char *dep, const char *driver, struct kn_vm_modules *modules, struct kn_error *err);

/* ---- vmlinux.c ---- */
#define VM_KERNEL_MAX (256u << 20)
/* `path` stays where it is an ELF file; of a compressed kernel it becomes that of the same unpacked, which is kept as
 * long as the lab is. */
int kn_vmlinux_file(char path[PATH_MAX], struct kn_error *err);
/* into *elf, which is the caller's to free */
int kn_vmlinux_unpack(const void *image, size_t size, void **elf, size_t *elf_size, struct kn_error *err);

/* ---- initramfs.c ---- */
/* A descriptor: the program itself as init, its libraries, the modules, `config` (guest.h). */
int kn_vm_initramfs(const char *version, const char *driver, const json_t *config, struct kn_error *err);

/* ---- tap.c: in the pod's namespace ---- */
/* A tap beside eth0, joined by redirecting what comes in at one to the other, or by a bridge. Returns the tap's
 * descriptor; a tap that stays without one is of this namespace, and goes with it. */
#define VM_TAP "tap0"
int kn_vm_tap(const struct kn_vm *vm, bool stays, struct kn_error *err);

int kn_vm_no_tun(struct kn_error *err); /* what errno says of /dev/net/tun, and what to do */

#endif
