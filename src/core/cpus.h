/* core/cpus - lists of CPUs, "0-3,6" as taskset(1) has them, and threads that are pinned to one. */
#ifndef KN_CORE_CPUS_H
#define KN_CORE_CPUS_H

#include <sched.h>

#include "core/error.h"

/* `option` is the name that a message gives it. */
int kn_cpus_parse(const char *option, const char *text, cpu_set_t *set, struct kn_error *err);
/* KN_E_ARGUMENT where the process may run on none of these CPUs. */
int kn_cpus_there(const char *option, const char *text, struct kn_error *err);
/* Pins the calling thread. */
int kn_cpus_pin(const char *option, const char *text, struct kn_error *err);

#endif
