/* core/spec - the specification of one measurement.
 *
 * A parsed specification is complete (defaults are filled in) and consistent. It contains no hosts. The options, their
 * units and their limits are defined in core/option.h and in the tests' descriptors (core/test.h). */
#ifndef KN_CORE_SPEC_H
#define KN_CORE_SPEC_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/test.h"

enum kn_wait { KN_WAIT_BLOCK, KN_WAIT_AUTO, KN_WAIT_SPIN };
/* plain: system calls as other tools make them; auto: calibrated in the warm-up and reported */
enum kn_tune { KN_TUNE_PLAIN, KN_TUNE_AUTO };

#define KN_CC_MAX 16 /* as TCP_CA_NAME_MAX */
#define KN_TEXT_MAX 128
#define KN_CPUS_MAX 64
#define KN_OWN_MAX 12  /* numeric options that a test can have of its own */
#define KN_TEXTS_MAX 2 /* text options that a test can have of its own */
#define KN_SIZE_MAX (1ull << 30)
#define KN_SIZES_MAX 64
#define KN_AGENT_FLOWS_MAX 131072 /* that one agent serves at once */
#define KN_AGENT_THREADS_MAX 2048 /* of these, with a thread of their own */

/* Every number is a uint64_t, which keeps the table of options and the wire form simple. 0 means "not set" unless a
 * comment says otherwise. */
struct kn_spec {
    const struct kn_test *test;
    uint64_t duration_ns; /* without the warm-up; 0 if only `count` limits the run */
    uint64_t warmup_ns;   /* default: a tenth of the duration within [100 ms, 1 s], less before a run below 100 ms */
    uint64_t interval_ns; /* step of the time series; default: a twentieth of the duration within [50 ms, 1 s] */
    uint64_t count;       /* operations or requests, over all flows */
    uint64_t flows;       /* connections */
    uint64_t threads;     /* 0: min(flows, allowed CPUs) */
    uint64_t size;        /* message, request, datagram or payload */
    uint64_t response_size;
    uint64_t burst;          /* requests outstanding at once on a flow */
    uint64_t rate_per_1000s; /* open loop: operations (or datagrams) per 1000 s over all flows; 0: closed loop */
    uint64_t rate_bps;       /* streams: bits per second over all flows */
    uint64_t ip;             /* 0, 4 or 6 */
    uint64_t mss;
    uint64_t sndbuf, rcvbuf;
    uint64_t nodelay, reverse, bidir;     /* flags */
    uint64_t wait;                        /* enum kn_wait */
    uint64_t tune;                        /* enum kn_tune */
    uint64_t timeout_ns;                  /* of an operation and of a connect */
    uint64_t delay_ns;                    /* how long the server waits before each response */
    uint64_t external;                    /* flag: the target is not an agent */
    uint64_t own[KN_OWN_MAX];             /* the test's own options, defined in its file */
    char cc[KN_CC_MAX];                   /* congestion control; "": the system's */
    char cpus[KN_CPUS_MAX];               /* of the client's threads; "": any */
    char server_cpus[KN_CPUS_MAX];        /* of the agent's threads that serve it */
    char text[KN_TEXTS_MAX][KN_TEXT_MAX]; /* the test's own texts */
};

/* The defaults of a test. `duration` is set; kn_spec_parse clears it if only `count` is given. */
void kn_spec_defaults(struct kn_spec *spec, const struct kn_test *test);
/* About twenty intervals in a run, enough to detect a change in the middle. */
uint64_t kn_spec_default_interval(const struct kn_spec *spec);
/* Sets options that follow from others, and clears options that the test does not have. */
void kn_spec_derive(struct kn_spec *spec);
/* Parses a JSON object, {"test":"tcp_rr","duration":"10s","flows":4,"wait":"auto",…}. Values are numbers or text with
 * units. A bare number is in seconds or bytes, or for `rate` in the test's unit. Unknown keys, keys that the test does
 * not have, bad units or values, and conflicting keys are errors that name the key. */
int kn_spec_parse(const json_t *object, const struct kn_registry *tests, struct kn_spec *spec, struct kn_error *err);
/* All options of the test in base units: durations in seconds (a real), sizes in bytes, flags as booleans, rates as
 * text ("20000/s", "1000000000bit/s"). Parsing the result gives the same specification. */
json_t *kn_spec_to_json(const struct kn_spec *spec);
/* Checks all limits and the rules between options. kn_spec_parse and kn_spec_unpack call it. */
int kn_spec_check(const struct kn_spec *spec, struct kn_error *err);

/* The wire form: the test's name, then every member in order; numbers have 8 bytes, little-endian, texts their full
 * size. Its length is fixed. */
size_t kn_spec_wire_size(void);
void kn_spec_pack(const struct kn_spec *spec, uint8_t *wire);
int kn_spec_unpack(const uint8_t *wire, size_t size, const struct kn_registry *tests, struct kn_spec *spec,
                   struct kn_error *err);

static inline enum kn_transport kn_spec_transport(const struct kn_spec *s)
{
    return s->test->transport_of ? s->test->transport_of(s) : s->test->transport;
}
static inline bool kn_spec_open_loop(const struct kn_spec *s)
{
    return s->rate_per_1000s || s->rate_bps;
}

#endif
