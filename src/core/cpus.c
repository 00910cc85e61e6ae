#include "core/cpus.h"

#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

static bool read_number(const char **at, unsigned long *value)
{
    char *end;
    if (**at < '0' || **at > '9')
        return false;
    *value = strtoul(*at, &end, 10);
    *at = end;
    return *value < CPU_SETSIZE;
}

static bool read_range(const char **at, cpu_set_t *set)
{
    unsigned long from, to;
    if (!read_number(at, &from))
        return false;
    to = from;
    if (**at == '-' && (++*at, !read_number(at, &to) || to < from))
        return false;
    for (; from <= to; from++)
        CPU_SET(from, set);
    return **at == ',' || **at == '\0';
}

int kn_cpus_parse(const char *option, const char *text, cpu_set_t *set, struct kn_error *err)
{
    char quoted[KN_QUOTE_MAX];
    const char *at = text;
    CPU_ZERO(set);
    while (read_range(&at, set)) {
        if (*at == '\0')
            return 0;
        at++;
    }
    return kn_fail(err, KN_E_ARGUMENT, "%s must be a list of CPUs as in 0-3,6, got %s", option, kn_quote(quoted, text));
}

static int none_there(const char *option, const char *text, struct kn_error *err)
{
    return kn_fail(err, KN_E_ARGUMENT, "%s: this host has none of the CPUs %s", option, text);
}

int kn_cpus_there(const char *option, const char *text, struct kn_error *err)
{
    cpu_set_t set, mine;
    if (kn_cpus_parse(option, text, &set, err))
        return -1;
    if (sched_getaffinity(getpid(), sizeof mine, &mine))
        return 0;
    CPU_AND(&set, &set, &mine);
    return CPU_COUNT(&set) ? 0 : none_there(option, text, err);
}

int kn_cpus_pin(const char *option, const char *text, struct kn_error *err)
{
    cpu_set_t set;
    if (kn_cpus_parse(option, text, &set, err))
        return -1;
    if (!sched_setaffinity(0, sizeof set, &set))
        return 0;
    return errno == EINVAL ? none_there(option, text, err) : kn_fail_errno(err, "%s %s", option, text);
}
