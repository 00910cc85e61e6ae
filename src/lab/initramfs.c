#include "lab/vm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lab/agents.h"
#include "lab/cpio.h"
#include "static/guest.h"

struct packing {
    struct kn_cpio cpio;
    struct kn_error *err;
};

/* The guest's machine is the host's, and so is the agent's. */
static int pack_agent(struct packing *p)
{
#ifdef __aarch64__
    static const char arch[] = "arm64";
#else
    static const char arch[] = "amd64";
#endif
    size_t size;
    uint8_t *agent = kn_agent_binary(arch, &size, p->err);
    int bad = !agent || kn_cpio_bytes(&p->cpio, "init", 0755, agent, size, p->err);
    free(agent);
    return bad ? -1 : 0;
}

static int pack_modules(struct packing *p, const char *version, const struct kn_vm_modules *modules)
{
    char name[64], path[PATH_MAX];
    for (size_t i = 0; i < modules->n; i++) {
        snprintf(name, sizeof name, "%s/%zu.ko", &GUEST_MODULES[1], i);
        snprintf(path, sizeof path, "/lib/modules/%.200s/%s", version, modules->path[i]);
        if (kn_cpio_module(&p->cpio, name, path, p->err))
            return -1;
    }
    return 0;
}

static int pack_config(struct packing *p, const json_t *config, const struct kn_vm_modules *modules)
{
    json_t *all = json_copy((json_t *)(uintptr_t)config), *list = json_array();
    for (size_t i = 0; i < modules->n; i++)
        json_array_append_new(list, json_string(modules->path[i]));
    json_object_set_new(all, "modules", list);
    char *text = json_dumps(all, JSON_COMPACT);
    int bad = text ? kn_cpio_bytes(&p->cpio, &GUEST_CONFIG[1], 0600, text, strlen(text), p->err)
                   : kn_fail_memory(p->err);
    free(text);
    json_decref(all);
    return bad;
}

static int pack(struct packing *p, const char *version, const json_t *config, const struct kn_vm_modules *modules)
{
    static const char *const folders[] = {"dev", "proc", "sys", "run", "tmp", "modules"};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        if (kn_cpio_folder(&p->cpio, folders[i], p->err))
            return -1;
    return kn_cpio_device(&p->cpio, "dev/console", 5, 1, p->err) || pack_agent(p) ||
                   pack_modules(p, version, modules) || pack_config(p, config, modules) || kn_cpio_end(&p->cpio, p->err)
               ? -1
               : 0;
}

int kn_vm_initramfs(const char *version, const json_t *config, struct kn_error *err)
{
    struct kn_vm_modules *modules = malloc(sizeof *modules);
    struct packing p = {.err = err};
    if (!modules)
        return kn_fail_memory(err);
    p.cpio.fd = memfd_create("initramfs", MFD_CLOEXEC);
    int bad = p.cpio.fd < 0 ? kn_fail_errno(err, "cannot make a memfd for the initramfs")
                            : kn_vm_modules_find(version, modules, err) || pack(&p, version, config, modules);
    free(modules);
    if (bad && p.cpio.fd >= 0)
        close(p.cpio.fd);
    return bad ? -1 : p.cpio.fd;
}
