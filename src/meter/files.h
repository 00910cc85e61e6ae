/* meter/files - reads small files of /proc and /sys, and finds this process's cgroup. Tests choose another root.
 * For the meter's own files and their tests. */
#ifndef KN_METER_FILES_H
#define KN_METER_FILES_H

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

#include "meter/meter.h"

/* Reads what there is from `offset` on, up to `size` bytes; returns how many. */
size_t kn_file_part(int fd, void *into, size_t size, uint64_t offset);
/* Reads a small file, cut at size - 1 and NUL-terminated. Returns its length, or -1. */
long kn_file_read(const char *root, const char *path, char *buf, size_t size);
/* The number that a file starts with, or KN_ABSENT. */
uint64_t kn_file_number(const char *root, const char *folder, const char *name);
/* The number after "KEY " at the start of a line. */
uint64_t kn_file_member(const char *root, const char *folder, const char *name, const char *key);

/* A folder's inode number, or KN_ABSENT. */
uint64_t kn_file_id(const char *root, const char *folder);

/* An identifier of this machine that changes at every boot. */
int kn_boot_id(const char *root, char *buf, size_t size);

struct kn_cgroup {
    int version;           /* 1 or 2; 0: unknown */
    char mount[PATH_MAX];  /* where its hierarchy is mounted */
    char folder[PATH_MAX]; /* the cgroup: the mount or a folder below it */
};
/* This process's cgroup for `controller` ("cpu", "cpuacct", "memory"): v1's if there is one, else v2's. */
void kn_cgroup_find(const char *root, const char *controller, struct kn_cgroup *cgroup);
/* Moves one level up within the mount; 0 at the top. */
int kn_cgroup_up(struct kn_cgroup *cgroup);

/* This process's cgroups, found once to make repeated readings cheap. */
struct kn_cgroups {
    struct kn_cgroup cpu, cpuacct, memory;
};
void kn_cgroups_find(const char *root, struct kn_cgroups *c);
void kn_cpu_read_cgroups(const char *root, const struct kn_cgroups *c,
                         struct kn_cpu_reading *r); /* all but the node_ members */

/* The public functions under a root ("": the machine's). */
void kn_cpu_read_under(const char *root, struct kn_cpu_reading *r);
double kn_cpu_quota_under(const char *root);
void *kn_monitor_start_under(const char *root, const json_t *options, struct kn_error *err);

#endif
