/* meter/files - small files of /proc and /sys under a root that tests can choose, and where this process's cgroup lies.
 * For the meter's own files and their tests. */
#ifndef KN_METER_FILES_H
#define KN_METER_FILES_H

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

#include "meter/meter.h"

/* The whole of a small file, NUL-ended, cut at size - 1. Its length, or -1. */
long kn_file_read(const char *root, const char *path, char *buf, size_t size);
/* The first number in a file; KN_ABSENT where there is none. */
uint64_t kn_file_number(const char *root, const char *folder, const char *name);
/* The number after "KEY " at the start of a line. */
uint64_t kn_file_member(const char *root, const char *folder, const char *name, const char *key);

/* What tells a folder from others of its file system; KN_ABSENT where it is not there. */
uint64_t kn_file_id(const char *root, const char *folder);

/* What tells one machine from another, or from itself before it was started anew. */
int kn_boot_id(const char *root, char *buf, size_t size);

struct kn_cgroup {
    int version;              /* 1 or 2; 0: not to be seen */
    char mount[PATH_MAX];     /* where its hierarchy is mounted */
    char folder[PATH_MAX];    /* the cgroup itself: mount, or a folder below it */
};
/* The cgroup of this process that has `controller` ("cpu", "cpuacct", "memory"): that of v1 where it is there, else
 * v2's. */
void kn_cgroup_find(const char *root, const char *controller, struct kn_cgroup *cgroup);
/* One level up within the mount; 0 where there is none. */
int kn_cgroup_up(struct kn_cgroup *cgroup);

/* Where this process is held, found once; reading it again and again is cheap then. */
struct kn_cgroups { struct kn_cgroup cpu, cpuacct, memory; };
void kn_cgroups_find(const char *root, struct kn_cgroups *c);
void kn_cpu_read_cgroups(const char *root, const struct kn_cgroups *c, struct kn_cpu_reading *r); /* all but the node */

/* What the public functions do, under a root ("" is the machine's). */
void kn_cpu_read_under(const char *root, struct kn_cpu_reading *r);
double kn_cpu_quota_under(const char *root);
void *kn_monitor_start_under(const char *root, const json_t *options, struct kn_error *err);

#endif
