/* core/option - describes one option of a test: its key, unit, limits, help, and where its value is stored.
 *
 * The options that several tests share are in one table. A test lists those that it has (core/test.h) and adds its own.
 * To add a shared option, add a row to the table, a member to struct kn_spec and a name to enum kn_option. JSON, wire
 * form, checks, help and reference use the table. */
#ifndef KN_CORE_OPTION_H
#define KN_CORE_OPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* In the order of the table's rows. */
enum kn_option {
    KN_OPT_DURATION,
    KN_OPT_WARMUP,
    KN_OPT_INTERVAL,
    KN_OPT_COUNT,
    KN_OPT_FLOWS,
    KN_OPT_THREADS,
    KN_OPT_SIZE,
    KN_OPT_RESPONSE,
    KN_OPT_BURST,
    KN_OPT_RATE,
    KN_OPT_IP,
    KN_OPT_MSS,
    KN_OPT_SNDBUF,
    KN_OPT_RCVBUF,
    KN_OPT_NODELAY,
    KN_OPT_REVERSE,
    KN_OPT_BIDIR,
    KN_OPT_WAIT,
    KN_OPT_TUNE,
    KN_OPT_TIMEOUT,
    KN_OPT_DELAY,
    KN_OPT_EXTERNAL,
    KN_OPT_CC,
    KN_OPT_CPUS,
    KN_OPT_SERVER_CPUS,
    KN_SHARED_OPTIONS
};
#define KN_HAS(option) (1ull << KN_OPT_##option)

enum kn_option_kind {
    KN_KIND_DURATION,
    KN_KIND_SIZE,
    KN_KIND_COUNT,
    KN_KIND_RATE,
    KN_KIND_FLAG,
    KN_KIND_CHOICE,
    KN_KIND_TEXT
};
const char *kn_kind_name(enum kn_option_kind kind); /* "duration", "size", … */

struct kn_spec;
struct kn_spec_option {
    const char *name; /* the key in scripts and JSON */
    enum kn_option_kind kind;
    size_t offset, size;        /* in struct kn_spec; a rate has two members: rate_per_1000s, then rate_bps */
    uint64_t least, most;       /* limits, inclusive; a test can narrow them */
    bool optional;              /* 0 means "not set": allowed outside the limits and left out of the JSON */
    bool agents;                /* requires an agent: not allowed with an external server */
    const char *const *choices; /* names of a choice, NULL-terminated; the value is the index */
    const char *help;
};
extern const struct kn_spec_option kn_shared_options[KN_SHARED_OPTIONS];

/* Rows for tables of options. `at` is a member of struct kn_spec: KN_AT(size), KN_AT(own[2]). */
#define KN_AT(member) offsetof(struct kn_spec, member), sizeof(((struct kn_spec *)0)->member)
#define KN_NUMBER(name, kind, at, least, most, help)          \
    {                                                         \
        name, kind, at, least, most, false, false, NULL, help \
    }
#define KN_OPTIONAL(name, kind, at, least, most, help)       \
    {                                                        \
        name, kind, at, least, most, true, false, NULL, help \
    }
#define KN_AGENTS(name, kind, at, least, most, help)         \
    {                                                        \
        name, kind, at, least, most, false, true, NULL, help \
    }
#define KN_FLAG(name, at, help)                                \
    {                                                          \
        name, KN_KIND_FLAG, at, 0, 1, false, false, NULL, help \
    }
#define KN_CHOICE(name, at, names, help)                                                         \
    {                                                                                            \
        name, KN_KIND_CHOICE, at, 0, sizeof names / sizeof *names - 2, false, false, names, help \
    }
#define KN_TEXT(name, at, help)                                             \
    {                                                                       \
        name, KN_KIND_TEXT, at, 0, KN_TEXT_MAX - 1, true, false, NULL, help \
    }

/* Read and write the value of a numeric option. */
uint64_t kn_option_get(const struct kn_spec *spec, const struct kn_spec_option *option);
void kn_option_set(struct kn_spec *spec, const struct kn_spec_option *option, uint64_t value);

#endif
