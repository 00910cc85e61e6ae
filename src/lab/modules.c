#include "lab/vm.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"

/* Finds the guest's kernel and the modules of its network card, in loading order, from depmod's modules.dep. Modules
 * that are built in are not listed there. */

#define BOOT "/boot"
#define DEP_MOST (16u << 20)

/* Compares numbers as numbers: "6.1.0-9" is older than "6.1.0-56". A cloud kernel is preferred. */
static bool newer(const char *a, const char *b)
{
    if (!*b)
        return true;
    bool cloud_a = strstr(a, "cloud") != NULL, cloud_b = strstr(b, "cloud") != NULL;
    return cloud_a != cloud_b ? cloud_a : strverscmp(a, b) > 0;
}

static bool has_modules(const char *version)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "/lib/modules/%.200s/modules.dep", version);
    return access(path, R_OK) == 0;
}

int kn_vm_kernel_find(char version[VM_VERSION_MAX], struct kn_error *err)
{
    static const char stem[] = "vmlinuz-";
    char path[PATH_MAX], unreadable[VM_VERSION_MAX] = "";
    DIR *dir = opendir(BOOT);
    *version = '\0';
    for (struct dirent *e; dir && (e = readdir(dir));) {
        const char *name = e->d_name + sizeof stem - 1;
        if (strncmp(e->d_name, stem, sizeof stem - 1) != 0 || strlen(name) >= VM_VERSION_MAX || !has_modules(name))
            continue;
        snprintf(path, sizeof path, BOOT "/%.255s", e->d_name);
        if (access(path, R_OK))
            snprintf(unreadable, sizeof unreadable, "%s", name);
        else if (newer(name, version))
            snprintf(version, VM_VERSION_MAX, "%s", name);
    }
    if (dir)
        closedir(dir);
    if (*version)
        return 0;
    if (*unreadable)
        return kn_fail(err, KN_E_UNSUPPORTED,
                       "kata: cannot read the kernel " BOOT
                       "/vmlinuz-%s: run sudo chmod a+r on it, or run knbl with sudo",
                       unreadable);
    return kn_fail(err, KN_E_UNSUPPORTED,
                   "kata: no kernel with modules in " BOOT ": install the package linux-image-cloud-amd64");
}

/* Finds a module's line in modules.dep: "kernel/a/b.ko: kernel/c.ko kernel/d.ko", with the modules that it requires,
 * to be loaded from the last to the first. */
static const char *line_of(const char *dep, const char *module)
{
    size_t n = strlen(module);
    for (const char *line = dep, *end; *line; line = *end ? end + 1 : end) {
        end = line + strcspn(line, "\n");
        const char *colon = memchr(line, ':', (size_t)(end - line)), *name = colon;
        while (name && name > line && name[-1] != '/')
            name--;
        if (colon && strncmp(name, module, n) == 0 && strncmp(name + n, ".ko", 3) == 0)
            return line;
    }
    return NULL;
}

static int add(struct kn_vm_modules *modules, const char *path, size_t n, struct kn_error *err)
{
    for (size_t i = 0; i < modules->n; i++)
        if (strncmp(modules->path[i], path, n) == 0 && !modules->path[i][n])
            return 0;
    if (modules->n == VM_MODULES_MAX || n >= sizeof modules->path[0])
        return kn_fail(err, KN_E_LIMIT, "the guest's kernel requires too many modules");
    snprintf(modules->path[modules->n++], sizeof modules->path[0], "%.*s", (int)n, path);
    return 0;
}

static int add_with_needs(struct kn_vm_modules *modules, const char *dep, const char *name, struct kn_error *err)
{
    const char *line = line_of(dep, name);
    if (!line)
        return 0; /* built in */
    const char *colon = strchr(line, ':'), *end = line + strcspn(line, "\n");
    while (end > colon + 1) {
        const char *word = end;
        while (word > colon + 1 && word[-1] != ' ')
            word--;
        if (end > word && add(modules, word, (size_t)(end - word), err))
            return -1;
        end = word > colon + 1 ? word - 1 : word;
    }
    return add(modules, line, (size_t)(colon - line), err);
}

int kn_vm_modules_from(const char *dep, struct kn_vm_modules *modules, struct kn_error *err)
{
    static const char *const wanted[] = {"virtio_pci", "virtio_net", "tcp_bbr"};
    modules->n = 0;
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        if (add_with_needs(modules, dep, wanted[i], err))
            return -1;
    return 0;
}

int kn_vm_modules_find(const char *version, struct kn_vm_modules *modules, struct kn_error *err)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "/lib/modules/%.200s/modules.dep", version);
    char *dep = kn_read_file(path, DEP_MOST, err);
    int bad = !dep || kn_vm_modules_from(dep, modules, err);
    free(dep);
    return bad ? -1 : 0;
}
