/* The executable mappings of processes, and the symbols of the mapped files. Each file is read once for all processes.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "meter/files.h"
#include "meter/symbols.h"

#define PROCESSES_MAX 4096u
#define BUCKETS 1024u
#define MAPS_MAX 512u /* executable mappings of a process */
#define FILES_MAX 256u
#define NAME_SIZE 64u

/* A mapped file. It stays open until its symbols are read, because the process may have ended by then. */
struct object {
    dev_t device;
    ino_t inode;
    int fd;
    struct kn_symbols *symbols;
    struct object *next;
};

struct line {
    uint64_t from, to, offset;
    char path[PATH_MAX];
}; /* of /proc/PID/maps */

/* Its file is opened at the first address in it. */
struct kn_mapping {
    uint64_t from, to, offset;
    char *path;
    bool looked;
    struct object *object;
    char label[NAME_SIZE];
};

struct kn_process {
    pid_t pid;
    char name[NAME_SIZE];
    struct kn_mapping *maps;
    size_t n;
    struct kn_process *next;
};

struct kn_processes {
    struct kn_process *buckets[BUCKETS];
    size_t n, n_objects;
    struct object *objects;
};

struct kn_processes *kn_processes_new(void)
{
    return calloc(1, sizeof(struct kn_processes));
}

static void free_process(struct kn_process *p)
{
    for (size_t i = 0; i < p->n; i++)
        free(p->maps[i].path);
    free(p->maps);
    free(p);
}

void kn_processes_free(struct kn_processes *all)
{
    if (!all)
        return;
    for (size_t b = 0; b < BUCKETS; b++)
        for (struct kn_process *p = all->buckets[b], *next; p; p = next) {
            next = p->next;
            free_process(p);
        }
    for (struct object *o = all->objects, *next; o; o = next) {
        next = o->next;
        if (o->fd >= 0)
            close(o->fd);
        kn_symbols_free(o->symbols);
        free(o);
    }
    free(all);
}

/* ---- a new process ---- */

/* "FROM-TO r-xp OFFSET DEVICE INODE   PATH"; false if it is not executable. */
static bool read_mapping(const char *line, struct line *m)
{
    unsigned long long from, to, offset;
    char flags[8];
    int path = 0;
    if (sscanf(line, "%llx-%llx %7s %llx %*s %*s %n", &from, &to, flags, &offset, &path) != 4 || flags[2] != 'x')
        return false;
    *m = (struct line){.from = from, .to = to, .offset = offset};
    snprintf(m->path, sizeof m->path, "%s", path ? line + path : "");
    m->path[strcspn(m->path, "\n")] = 0;
    return true;
}

/* "[libc.so.6]", "[vdso]", "[no file]": the name for addresses without a symbol. */
static void label_of(char *label, const char *path)
{
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    if (*path == '[')
        snprintf(label, NAME_SIZE, "%.*s", (int)NAME_SIZE - 1, path);
    else
        snprintf(label, NAME_SIZE, "[%.*s]", (int)NAME_SIZE - 3, *base ? base : "no file");
}

static void read_maps(struct kn_process *p)
{
    char path[64], *line = NULL;
    size_t room = 0;
    struct line *m = malloc(sizeof *m);
    snprintf(path, sizeof path, "/proc/%d/maps", (int)p->pid);
    FILE *file = m ? fopen(path, "re") : NULL;
    p->maps = file ? calloc(MAPS_MAX, sizeof *p->maps) : NULL;
    while (p->maps && p->n < MAPS_MAX && getline(&line, &room, file) > 0) {
        if (!read_mapping(line, m))
            continue;
        struct kn_mapping *k = &p->maps[p->n++];
        *k = (struct kn_mapping){.from = m->from, .to = m->to, .offset = m->offset};
        k->path = m->path[0] == '/' ? strdup(m->path) : NULL;
        label_of(k->label, m->path);
    }
    if (file)
        fclose(file);
    free(line);
    free(m);
}

/* A kernel thread has no mappings and one name for each CPU ("ksoftirqd/1"), which is cut to one for all. */
static void read_name(struct kn_process *p)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/comm", (int)p->pid);
    if (kn_file_read("", path, p->name, sizeof p->name) <= 0)
        snprintf(p->name, sizeof p->name, "a process that ended");
    p->name[strcspn(p->name, "\n")] = 0;
    if (p->n == 0)
        p->name[strcspn(p->name, "/")] = 0;
}

struct kn_process *kn_processes_get(struct kn_processes *all, pid_t pid)
{
    struct kn_process **at = &all->buckets[(unsigned)pid % BUCKETS];
    for (; *at; at = &(*at)->next)
        if ((*at)->pid == pid)
            return *at;
    if (all->n >= PROCESSES_MAX)
        return NULL;
    struct kn_process *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->pid = pid;
    read_maps(p);
    read_name(p);
    all->n++;
    return *at = p;
}

const char *kn_process_name(const struct kn_process *process)
{
    return process->name;
}

/* ---- mapped files ---- */

/* Takes ownership of the descriptor. */
static struct object *object_of(struct kn_processes *all, int fd)
{
    struct stat st;
    struct object *o = NULL;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
        for (o = all->objects; o; o = o->next)
            if (o->device == st.st_dev && o->inode == st.st_ino)
                break;
        struct object *fresh = !o && all->n_objects < FILES_MAX ? calloc(1, sizeof *fresh) : NULL;
        if (fresh) {
            *fresh = (struct object){.device = st.st_dev, .inode = st.st_ino, .fd = fd, .next = all->objects};
            all->n_objects++;
            return all->objects = fresh;
        }
    }
    close(fd);
    return o;
}

/* Opens the file as the process sees it, since a container has its own root. A replaced file is still in map_files,
 * with the permission to read that. */
static int open_mapped(const struct kn_process *p, const struct kn_mapping *k)
{
    char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "/proc/%d/map_files/%llx-%llx", (int)p->pid, (unsigned long long)k->from,
             (unsigned long long)k->to);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0)
        return fd;
    snprintf(path, sizeof path, "/proc/%d/root%s", (int)p->pid, k->path);
    return open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
}

struct kn_mapping *kn_process_map(struct kn_processes *all, struct kn_process *process, uint64_t address,
                                  uint64_t *offset)
{
    for (size_t i = 0; i < process->n; i++) {
        struct kn_mapping *k = &process->maps[i];
        if (address < k->from || address >= k->to)
            continue;
        int fd = !k->looked && k->path ? open_mapped(process, k) : -1;
        if (fd >= 0)
            k->object = object_of(all, fd);
        k->looked = true;
        *offset = address - k->from + k->offset;
        return k;
    }
    return NULL;
}

const char *kn_mapping_name(struct kn_mapping *mapping, uint64_t offset)
{
    struct object *o = mapping->object;
    if (o && o->fd >= 0) {
        o->symbols = kn_symbols_elf(o->fd);
        close(o->fd);
        o->fd = -1;
    }
    const char *name = o && o->symbols ? kn_symbols_find_offset(o->symbols, offset) : NULL;
    return name ? name : mapping->label;
}
