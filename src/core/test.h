/* core/test - the descriptor of a test: one constant with all of its properties.
 *
 * Each test's file (src/engines) defines its descriptor, and one registry lists them. Options, wire protocol, agent,
 * run, result, help, reference, schema and the Lua library use the descriptors and compare no test names. The functions
 * of a test use types of src/run, which are only declared here. */
#ifndef KN_CORE_TEST_H
#define KN_CORE_TEST_H

#include <jansson.h>

#include "core/error.h"
#include "core/option.h"

#define KN_TEST_NAME_MAX 16 /* including the NUL; the wire protocol names a test by its name */

enum kn_transport { KN_TCP, KN_UDP, KN_ICMP };
enum kn_shape {
    KN_BULK,  /* one side sends as fast as it can */
    KN_RR,    /* requests and responses on a persistent connection */
    KN_SHORT, /* a new connection for each request */
    KN_ECHO,  /* answered by the kernel of the other host */
    KN_PROBE  /* attempts at fixed times, each with its own outcome */
};
/* What `rate` counts. */
enum kn_rate_kind { KN_RATE_NONE, KN_RATE_EVENTS, KN_RATE_BITS, KN_RATE_BOTH };
enum kn_warmup {
    KN_WARMUP_USUAL,
    KN_WARMUP_TIMED, /* no warm-up if only a count limits the run */
    KN_WARMUP_NONE
};

struct kn_target;
struct kn_worker;
struct kn_served;
struct kn_server;
struct kn_hello;
struct kn_view;
struct kn_desk_test;

/* The first member of a list's last row is 0. */
struct kn_preset {
    size_t offset; /* in struct kn_spec */
    uint64_t value;
};
struct kn_limit {
    size_t offset;
    uint64_t least, most;
};
struct kn_alias {
    const char *alias, *name;
};

struct kn_test {
    const char *name, *help;
    enum kn_transport transport;
    enum kn_shape shape;
    enum kn_rate_kind rate;
    enum kn_warmup warmup;
    const char *headline;        /* short name of the figure that a table shows first */
    const char *const *columns;  /* short names of the figures in a table, NULL-terminated */
    const char *const *compared; /* short names of the figures that `knbl compare` uses */
    bool sized;                  /* the size is part of a measurement's name */
    bool counts_bytes;           /* messages cannot be told apart, so `count` includes the warm-up */
    bool halves;                 /* latency is half of the round trip */
    bool both;                   /* flows over TCP and over UDP; serve() looks which its socket is */
    bool throughput;             /* reports the throughput of responses (a bulk test always does) */

    uint64_t options;                 /* shared options: KN_HAS(SIZE) | … */
    const struct kn_spec_option *own; /* own options, up to a NULL name; values are in spec.own and spec.text */
    const struct kn_preset *presets;  /* defaults that differ from kn_common_presets */
    const struct kn_limit *limits;    /* limits that are narrower than those of the option */
    const struct kn_alias *aliases;   /* other names of options, as in other tools */
    const char *text_preset;          /* default of the first own text option; NULL means empty */

    uint16_t port; /* of a server that is not an agent, if none is given; 0 means 80 */
    enum kn_transport (*transport_of)(const struct kn_spec *spec); /* if an option decides; NULL means `transport` */

    void (*complete)(struct kn_spec *spec); /* sets options that follow from others; idempotent */
    int (*check)(const struct kn_spec *spec, struct kn_error *err); /* checks rules between options */

    /* Finds the target of a run if its name has a meaning of the test's own; NULL if not. */
    int (*target)(const struct kn_spec *spec, struct kn_target *target, struct kn_error *err);
    /* The client, on a worker's thread (run/worker.h). */
    int (*client)(struct kn_worker *w, struct kn_error *err);
    /* The agent's side of a flow (run/served.h). NULL if the test needs no agent. */
    int (*serve)(struct kn_served *s, int fd, struct kn_error *err);
    /* The same where an agent has many flows (run/desk.h). NULL: each flow has a thread of its own. */
    const struct kn_desk_test *desk;
    /* Whether each connection carries one transaction. If so, the agent calls the next two functions instead of
     * serve(): serve_short(), which must not block and returns true if it served the connection, else serve_once().
     * Over UDP the hello is the transaction, and the welcome answers it. */
    bool (*is_short)(const struct kn_spec *spec);
    bool (*serve_short)(struct kn_server *server, int fd, const struct kn_hello *hello, const uint8_t *extra,
                        size_t extra_size);
    int (*serve_once)(struct kn_server *server, int fd, const struct kn_hello *hello, const uint8_t *extra,
                      size_t extra_size, struct kn_error *err);
    /* Adds the test's own figures to those that all tests have. */
    void (*metrics)(const struct kn_view *view, json_t *metrics);
};

struct kn_registry {
    const struct kn_test *const *tests; /* NULL-terminated */
};

/* NULL with an error that suggests the most similar name. */
const struct kn_test *kn_test_find(const struct kn_registry *registry, const char *name, struct kn_error *err);
bool kn_test_has(const struct kn_test *test, const struct kn_spec_option *option);
/* Option i: first all shared options (also those that the test does not have), then the test's own, then NULL. */
const struct kn_spec_option *kn_test_option(const struct kn_test *test, unsigned i);
void kn_test_limits(const struct kn_test *test, const struct kn_spec_option *option, uint64_t *least, uint64_t *most);
/* The name that an alias stands for; NULL if it is not an alias. */
const char *kn_test_alias(const struct kn_test *test, const char *key);

/* For language bindings: the tests, [{"name","help","transport","shape",…}, …] (docs/reference.md, core.tests), and the
 * options of all tests, [{"name","kind","choices"?,"tests","help"}, …]. NULL if out of memory. */
json_t *kn_tests_to_json(const struct kn_registry *registry);
json_t *kn_options_to_json(const struct kn_registry *registry);

#endif
