/* The table of what can be asked: keys, the tests that have them, limits and defaults. A new option is a row here and a
 * member of struct kn_spec; JSON, wire, checks and help follow. The wire's form follows the order of the rows: adding
 * one raises KN_PROTOCOL. */
#include <string.h>

#include "core/clock.h"
#include "core/spec.h"
#include "core/units.h"

#define S (1u << KN_TCP_STREAM)
#define F (1u << KN_TCP_SENDFILE)
#define U (1u << KN_UDP_STREAM)
#define R (1u << KN_TCP_RR)
#define V (1u << KN_UDP_RR)
#define C (1u << KN_TCP_CRR)
#define B (1u << KN_TCP_BW)
#define L (1u << KN_TCP_LAT)
#define H (1u << KN_HTTP)
#define P (1u << KN_PING)
#define TCP (S | F | R | C | B | L | H)
#define ALL (TCP | U | V | P)

#define MS KN_NS_PER_MS
#define SEC KN_NS_PER_S
#define DAY (86400 * KN_NS_PER_S)
#define DATAGRAM_MOST 65507

static const char *const test_names[] = {
    [KN_TCP_STREAM] = "tcp_stream", [KN_TCP_SENDFILE] = "tcp_sendfile", [KN_UDP_STREAM] = "udp_stream",
    [KN_TCP_RR] = "tcp_rr", [KN_UDP_RR] = "udp_rr", [KN_TCP_CRR] = "tcp_crr", [KN_TCP_BW] = "tcp_bw",
    [KN_TCP_LAT] = "tcp_lat", [KN_HTTP] = "http", [KN_PING] = "ping",
};
static const char *const kind_names[] = {
    [KN_FIELD_DURATION] = "duration", [KN_FIELD_SIZE] = "size", [KN_FIELD_COUNT] = "count", [KN_FIELD_RATE] = "rate",
    [KN_FIELD_FLAG] = "flag", [KN_FIELD_CHOICE] = "choice", [KN_FIELD_TEXT] = "text",
};
static const char *const waits[] = {
    [KN_WAIT_BLOCK] = "block", [KN_WAIT_AUTO] = "auto", [KN_WAIT_SPIN] = "spin", NULL
};
static const char *const tunes[] = { [KN_TUNE_PLAIN] = "plain", [KN_TUNE_AUTO] = "auto", NULL };

#define OF(member) offsetof(struct kn_spec, member)
#define AT(member) offsetof(struct kn_spec, member), sizeof(((struct kn_spec *)0)->member)
#define NUMBER(name, kind, member, tests, least, most, help) \
    { name, kind, AT(member), tests, least, most, false, NULL, help }
#define OPTIONAL(name, kind, member, tests, least, most, help) \
    { name, kind, AT(member), tests, least, most, true, NULL, help }
#define DURATION(name, ...) NUMBER(name, KN_FIELD_DURATION, __VA_ARGS__)
#define FLAG(name, member, tests, help) NUMBER(name, KN_FIELD_FLAG, member, tests, 0, 1, help)
#define CHOICE(name, member, tests, names, help) \
    { name, KN_FIELD_CHOICE, AT(member), tests, 0, sizeof names / sizeof *names - 2, false, names, help }
#define TEXT(name, member, tests, help) \
    { name, KN_FIELD_TEXT, AT(member), tests, 0, sizeof(((struct kn_spec *)0)->member) - 1, true, NULL, help }

_Static_assert(offsetof(struct kn_spec, rate_bps) == offsetof(struct kn_spec, rate_per_1000s) + 8,
               "a rate's two numbers lie together");

static const struct kn_spec_field fields[] = {
    OPTIONAL("duration", KN_FIELD_DURATION, duration_ns, ALL, MS, DAY, "how long to measure, warm-up not counted"),
    DURATION("warmup", warmup_ns, ALL, 0, 3600 * SEC, "how long to run before the measurement begins"),
    DURATION("interval", interval_ns, ALL & ~P, MS, 3600 * SEC, "step of the time series"),
    OPTIONAL("count", KN_FIELD_COUNT, count, ALL, 1, 1000000000000000,
             "operations to do, over all flows; with a duration, what ends first"),
    NUMBER("flows", KN_FIELD_COUNT, flows, ALL & ~P, 1, 65536, "connections at the same time; one agent serves 2048"),
    OPTIONAL("threads", KN_FIELD_COUNT, threads, ALL & ~P, 1, 1024,
             "threads that drive them; as many as flows and CPUs allow unless given"),
    NUMBER("size", KN_FIELD_SIZE, size, ALL & ~H, 1, KN_SIZE_MAX, "bytes of a message, request or datagram"),
    NUMBER("response", KN_FIELD_SIZE, response_size, R | V | C, 1, KN_SIZE_MAX, "bytes of a response"),
    NUMBER("burst", KN_FIELD_COUNT, burst, R | V, 1, 4096, "requests outstanding at once on a flow"),
    { "rate", KN_FIELD_RATE, OF(rate_per_1000s), 16, S | F | U | R | V | C | H, 0, UINT64_MAX, true, NULL,
      "open loop: requests (20k/s) or bits (1Gbit/s) a second over all flows; 0 is as fast as possible" },
    DURATION("every", every_ns, P, 0, 3600 * SEC, "time from one echo to the next, also called interval; 0 is as soon as one is answered"),
    OPTIONAL("ip", KN_FIELD_COUNT, ip, ALL, 4, 6, "IP version, 4 or 6; the first address that answers unless given"),
    OPTIONAL("mss", KN_FIELD_SIZE, mss, TCP, 88, 32767, "largest segment to ask for (TCP_MAXSEG)"),
    OPTIONAL("sndbuf", KN_FIELD_SIZE, sndbuf, ALL & ~P, 1024, KN_SIZE_MAX, "send buffer of each socket"),
    OPTIONAL("rcvbuf", KN_FIELD_SIZE, rcvbuf, ALL & ~P, 1024, KN_SIZE_MAX, "receive buffer of each socket"),
    FLAG("nodelay", nodelay, TCP, "do not wait for more to send (TCP_NODELAY)"),
    FLAG("reverse", reverse, S | F | U, "the server sends"),
    FLAG("bidir", bidir, S, "both sides send at the same time"),
    FLAG("zerocopy", zerocopy, S, "send with MSG_ZEROCOPY"),
    FLAG("gso", gso, U, "segmentation offload when sending, coalescing when receiving (labelled in the result)"),
    CHOICE("wait", wait, U | R | V | C | L | H, waits,
           "how to wait for data: block, auto (spin a little, then block) or spin"),
    CHOICE("tune", tune, ALL & ~P, tunes,
           "plain: system calls as other tools make them; auto: what was fastest in the warm-up, reported; "
           "a stream without a size sends 16 KiB out of the cache again and again"),
    FLAG("fin", fin, C, "the FIN rides on the data (labelled in the result)"),
    DURATION("timeout", timeout_ns, ALL, MS, 3600 * SEC, "after which an operation or a connect has failed"),
    DURATION("delay", delay_ns, R | V | C | H, 0, 60 * SEC, "the server waits so long before each response"),
    FLAG("keepalive", keepalive, H, "several requests on a connection"),
    NUMBER("body", KN_FIELD_SIZE, body, H, 0, KN_SIZE_MAX, "bytes of the agent's response"),
    FLAG("external", external, H, "the target is a server of its own, not an agent"),
    TEXT("cc", cc, TCP, "congestion control; the system's unless given"),
    TEXT("path", path, H, "path to request"),
    TEXT("host", host, H, "Host header; the target's name unless given"),
};

/* Defaults by test; what no row gives is 0. Found by the member's offset: the limits are looked up for every hello of
 * tcp_crr. */
static const struct preset { size_t offset; uint32_t tests; uint64_t value; } presets[] = {
    { OF(duration_ns), ALL, 10 * SEC },
    { OF(interval_ns), ALL, SEC },
    { OF(flows), ALL & ~H, 1 },
    { OF(flows), H, 100 },
    { OF(size), S | F, 128 << 10 },
    { OF(size), B, 64 << 10 },
    { OF(size), U, 1400 },
    { OF(size), R | V | C | L, 1 },
    { OF(size), P, 56 },
    { OF(response_size), R | V | C | L, 1 },
    { OF(burst), R | V, 1 },
    { OF(tune), S | F | U | B | H, KN_TUNE_AUTO },
    { OF(every_ns), P, 200 * MS },
    { OF(nodelay), R | C | L | H, 1 },
    { OF(timeout_ns), V | P, SEC },
    { OF(timeout_ns), ALL & ~(V | P), 5 * SEC },
    { OF(keepalive), H, 1 },
    { OF(body), H, 45 },
};

/* Limits that are narrower for a test than the row says. */
static const struct limit { size_t offset; uint32_t tests; uint64_t least, most; } limits[] = {
    { OF(size), P, 16, DATAGRAM_MOST },             /* whose echo it is, and its number */
    { OF(size), U | V, 1, DATAGRAM_MOST },
    { OF(response_size), V, 1, DATAGRAM_MOST },
};

static const struct alias { const char *alias, *name; uint32_t tests; } aliases[] = {
    { "requests", "count", H }, { "connections", "flows", H }, { "request", "size", R | V | C },
    { "interval", "every", P },                     /* as ping -i */
};

const struct kn_spec_field *kn_spec_fields(size_t *n)
{
    *n = sizeof fields / sizeof *fields;
    return fields;
}

const char *kn_field_kind_name(enum kn_field_kind kind)
{
    return kind_names[kind];
}

const char *kn_test_name(enum kn_test test)
{
    return (unsigned)test < KN_TEST_COUNT ? test_names[test] : "unknown";
}

int kn_test_parse(const char *name, enum kn_test *test, struct kn_error *err)
{
    char quoted[KN_QUOTE_MAX];
    for (unsigned i = 0; i < KN_TEST_COUNT; i++) {
        if (strcmp(name, test_names[i]) != 0) continue;
        *test = (enum kn_test)i;
        return 0;
    }
    const char *near = kn_nearest(name, test_names, KN_TEST_COUNT);
    if (near)
        return kn_fail(err, KN_E_ARGUMENT, "there is no test %s; did you mean \"%s\"?", kn_quote(quoted, name), near);
    return kn_fail(err, KN_E_ARGUMENT,
                   "there is no test %s; there are tcp_stream, tcp_sendfile, udp_stream, tcp_rr, udp_rr, tcp_crr, "
                   "tcp_bw, tcp_lat, http and ping",
                   kn_quote(quoted, name));
}

const char *kn_spec_alias(const char *key, enum kn_test test)
{
    for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++)
        if (aliases[i].tests >> test & 1 && strcmp(aliases[i].alias, key) == 0) return aliases[i].name;
    return NULL;
}

void kn_spec_limits(const struct kn_spec_field *field, enum kn_test test, uint64_t *least, uint64_t *most)
{
    *least = field->least;
    *most = field->most;
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        if (limits[i].offset != field->offset || !(limits[i].tests >> test & 1)) continue;
        *least = limits[i].least;
        *most = limits[i].most;
    }
}

void kn_spec_defaults(struct kn_spec *spec, enum kn_test test)
{
    memset(spec, 0, sizeof *spec);
    spec->test = test;
    for (size_t i = 0; i < sizeof presets / sizeof *presets; i++)
        if (presets[i].tests >> test & 1)
            memcpy((char *)spec + presets[i].offset, &presets[i].value, sizeof presets[i].value);
    if (test == KN_HTTP) strcpy(spec->path, "/");
    spec->warmup_ns = test == KN_PING ? 0 : SEC;
}
