/* core/spec - what was asked: the specification of one measurement.
 *
 * One table of fields (kn_spec_fields) gives the keys that scripts use, their units, limits, defaults and help, the
 * JSON form, and the form on the wire; a new option is one new row. A specification that was parsed is complete
 * (defaults filled in) and consistent. It knows nothing of hosts: where from and where to is the target's matter. */
#ifndef KN_CORE_SPEC_H
#define KN_CORE_SPEC_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

enum kn_test {
    KN_TCP_STREAM, KN_TCP_SENDFILE, KN_UDP_STREAM, KN_TCP_RR, KN_UDP_RR, KN_TCP_CRR, KN_TCP_BW, KN_TCP_LAT,
    KN_HTTP, KN_PING,
    KN_TEST_COUNT
};
enum kn_wait { KN_WAIT_BLOCK, KN_WAIT_AUTO, KN_WAIT_SPIN };
/* plain: calls as the peers make them; auto: calibrated in the warm-up, reported */
enum kn_tune { KN_TUNE_PLAIN, KN_TUNE_AUTO };

#define KN_CC_MAX 16    /* as TCP_CA_NAME_MAX */
#define KN_TEXT_MAX 128
#define KN_SIZE_MAX (1ull << 30)
#define KN_SIZES_MAX 64
#define KN_AGENT_FLOWS_MAX 2048 /* that one agent serves at once: a thread each */

/* Every number is a u64, so that a row of the table can say where it lies and the wire form is plain. 0 means "not set"
 * unless said. */
struct kn_spec {
    uint64_t test;          /* enum kn_test */
    uint64_t duration_ns;   /* of the measurement, warm-up not counted; 0 where `count` alone limits it. With both: what
                             * ends first */
    uint64_t warmup_ns;     /* default: a tenth of the duration within [50 ms, 1 s]; 100 ms with count alone; none for
                             * ping, nor for http with count */
    uint64_t interval_ns;   /* step of the time series; default: a twentieth of the duration within [50 ms, 1 s] */
    uint64_t count;         /* operations or requests, over all flows */
    uint64_t flows;         /* connections; default 1, http 100 */
    uint64_t threads;       /* 0: min(flows, allowed CPUs) */
    uint64_t size;          /* message, request or datagram; ping: its payload */
    uint64_t response_size; /* rr, crr: default 1; tcp_lat: always as size */
    uint64_t burst;         /* requests outstanding at once on a flow, default 1 */
    uint64_t rate_per_1000s;/* open loop: operations (or datagrams) per 1000 s over all flows; 0: closed loop */
    uint64_t rate_bps;      /* streams: bits per second over all flows */
    uint64_t every_ns;      /* ping: between two echoes; default 200 ms */
    uint64_t ip;            /* 0, 4 or 6 */
    uint64_t mss;
    uint64_t sndbuf, rcvbuf;
    uint64_t nodelay;       /* flag; default 1 where there are requests, 0 for streams */
    uint64_t reverse, bidir, zerocopy;
    uint64_t gso;           /* flag: UDP segmentation offload on send, GRO on receive */
    uint64_t wait;          /* enum kn_wait */
    uint64_t tune;          /* enum kn_tune */
    uint64_t fin;           /* flag, tcp_crr: the FIN rides on the data (MSG_MORE before close) */
    uint64_t timeout_ns;    /* of an operation (udp_rr, http, ping) and of a connect; default 1 s (udp_rr, ping) or 5 s */
    uint64_t delay_ns;      /* the server waits so long before each response (rr, crr, http of the agent) */
    uint64_t keepalive;     /* http; default 1 */
    uint64_t body;          /* http against the agent: bytes of the response body; default 45; 0 where external */
    uint64_t external;      /* flag, http: the target is a server of somebody else's, no agent */
    char cc[KN_CC_MAX];     /* congestion control; "" is the system's */
    char path[KN_TEXT_MAX]; /* http; default "/" */
    char host[KN_TEXT_MAX]; /* http Host header; "" is the target's */
};

enum kn_field_kind {
    KN_FIELD_DURATION, KN_FIELD_SIZE, KN_FIELD_COUNT, KN_FIELD_RATE, KN_FIELD_FLAG, KN_FIELD_CHOICE, KN_FIELD_TEXT
};
const char *kn_field_kind_name(enum kn_field_kind kind); /* "duration", "size", … */

struct kn_spec_field {
    const char *name;           /* the key in scripts and JSON */
    enum kn_field_kind kind;
    size_t offset, size;        /* in struct kn_spec; a RATE has two numbers: rate_per_1000s, then rate_bps */
    uint32_t tests;             /* 1u << KN_TCP_RR | …: where the key means something */
    uint64_t least, most;       /* inclusive; kn_spec_limits has what is narrower for a test */
    bool optional;              /* 0 is "not set", and left out of the JSON; it need not lie within the limits */
    const char *const *choices; /* CHOICE: names, NULL-ended; the value is the index */
    const char *help;
};

const struct kn_spec_field *kn_spec_fields(size_t *n);
/* Some twenty intervals, which is what a change in the middle needs to be seen. ping's is always this: its `interval` is the time between
 * echoes. */
uint64_t kn_spec_default_interval(const struct kn_spec *spec);
void kn_spec_limits(const struct kn_spec_field *field, enum kn_test test, uint64_t *least, uint64_t *most);
/* Other names of a key, for who comes from ab: http has `requests` for count, `connections` for flows. NULL: there is
 * none. */
const char *kn_spec_alias(const char *key, enum kn_test test);

const char *kn_test_name(enum kn_test test);
int kn_test_parse(const char *name, enum kn_test *test, struct kn_error *err); /* suggests the nearest */

/* What a test does when nothing is said. `duration` is set; kn_spec_parse drops it where only `count` is given. */
void kn_spec_defaults(struct kn_spec *spec, enum kn_test test);
/* From a JSON object {"test":"tcp_rr","duration":"10s","flows":4,"wait":"auto",…}: numbers or text with units. A bare
 * number is seconds, bytes, or for `rate` what the test takes. An unknown key, one that this test has not, a bad unit
 * or value, and keys that exclude one another are refused by name. */
int kn_spec_parse(const json_t *object, struct kn_spec *spec, struct kn_error *err);
/* Complete, in base units: durations in seconds (a real), sizes in bytes, flags as booleans, rates as text ("20000/s",
 * "1000000000bit/s"); only keys that this test has. Reading it back gives the same specification. */
json_t *kn_spec_to_json(const struct kn_spec *spec);
/* Every limit, and the rules that hold between fields; kn_spec_parse ends with it, and so does whoever received one by
 * wire. */
int kn_spec_check(const struct kn_spec *spec, struct kn_error *err);

/* The wire form: the test, then every field in the table's order, numbers as 8 bytes little-endian, texts in full. Its
 * length is fixed. */
size_t kn_spec_wire_size(void);
void kn_spec_pack(const struct kn_spec *spec, uint8_t *wire);
/* Ends with kn_spec_check. */
int kn_spec_unpack(const uint8_t *wire, size_t size, struct kn_spec *spec, struct kn_error *err);

static inline bool kn_spec_open_loop(const struct kn_spec *s) { return s->rate_per_1000s || s->rate_bps; }

#endif
