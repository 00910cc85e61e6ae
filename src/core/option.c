/* The table of options that several tests share. Increment KN_PROTOCOL when you add a member to struct kn_spec: it
 * changes the wire form. */
#include "core/option.h"

#include <string.h>

#include "core/clock.h"
#include "core/spec.h"

#define MS KN_NS_PER_MS
#define SEC KN_NS_PER_S
#define DAY (86400 * KN_NS_PER_S)

static const char *const kind_names[] = {
    [KN_KIND_DURATION] = "duration", [KN_KIND_SIZE] = "size",     [KN_KIND_COUNT] = "count", [KN_KIND_RATE] = "rate",
    [KN_KIND_FLAG] = "flag",         [KN_KIND_CHOICE] = "choice", [KN_KIND_TEXT] = "text",
};
static const char *const waits[] = {[KN_WAIT_BLOCK] = "block", [KN_WAIT_AUTO] = "auto", [KN_WAIT_SPIN] = "spin", NULL};
static const char *const tunes[] = {[KN_TUNE_PLAIN] = "plain", [KN_TUNE_AUTO] = "auto", NULL};

_Static_assert(offsetof(struct kn_spec, rate_bps) == offsetof(struct kn_spec, rate_per_1000s) + 8,
               "the two members of a rate must be adjacent");

const struct kn_spec_option kn_shared_options[KN_SHARED_OPTIONS] = {
    [KN_OPT_DURATION] = KN_OPTIONAL("duration", KN_KIND_DURATION, KN_AT(duration_ns), MS, DAY,
                                    "how long to measure, not counting the warm-up"),
    [KN_OPT_WARMUP] = KN_NUMBER("warmup", KN_KIND_DURATION, KN_AT(warmup_ns), 0, 3600 * SEC,
                                "how long to run before the measurement begins"),
    [KN_OPT_INTERVAL] = KN_NUMBER("interval", KN_KIND_DURATION, KN_AT(interval_ns), MS, 3600 * SEC,
                                  "step of the time series"),
    [KN_OPT_COUNT] = KN_OPTIONAL("count", KN_KIND_COUNT, KN_AT(count), 1, 1000000000000000,
                                 "operations to do, over all flows; with a duration, the first limit reached ends it"),
    [KN_OPT_FLOWS] = KN_NUMBER("flows", KN_KIND_COUNT, KN_AT(flows), 1, 65536, "connections at the same time"),
    [KN_OPT_THREADS] = KN_OPTIONAL("threads", KN_KIND_COUNT, KN_AT(threads), 1, 1024,
                                   "threads that drive the flows; default: as many as flows and CPUs allow"),
    [KN_OPT_SIZE] = KN_NUMBER("size", KN_KIND_SIZE, KN_AT(size), 1, KN_SIZE_MAX,
                              "bytes of a message, request or datagram"),
    [KN_OPT_RESPONSE] = KN_NUMBER("response", KN_KIND_SIZE, KN_AT(response_size), 1, KN_SIZE_MAX,
                                  "bytes of a response"),
    [KN_OPT_BURST] = KN_NUMBER("burst", KN_KIND_COUNT, KN_AT(burst), 1, 4096, "requests outstanding at once on a flow"),
    [KN_OPT_RATE] = {"rate", KN_KIND_RATE, offsetof(struct kn_spec, rate_per_1000s), 16, 0, UINT64_MAX, true, false,
                     NULL,
                     "open loop: requests (20k/s) or bits (1Gbit/s) a second over all flows; 0 is as fast as possible"},
    [KN_OPT_IP] = KN_OPTIONAL("ip", KN_KIND_COUNT, KN_AT(ip), 4, 6,
                              "IP version, 4 or 6; default: the first address that answers"),
    [KN_OPT_MSS] = KN_OPTIONAL("mss", KN_KIND_SIZE, KN_AT(mss), 88, 32767, "largest segment to ask for (TCP_MAXSEG)"),
    [KN_OPT_SNDBUF] = KN_OPTIONAL("sndbuf", KN_KIND_SIZE, KN_AT(sndbuf), 1024, KN_SIZE_MAX,
                                  "send buffer of each socket"),
    [KN_OPT_RCVBUF] = KN_OPTIONAL("rcvbuf", KN_KIND_SIZE, KN_AT(rcvbuf), 1024, KN_SIZE_MAX,
                                  "receive buffer of each socket"),
    [KN_OPT_NODELAY] = KN_FLAG("nodelay", KN_AT(nodelay), "send at once instead of waiting for more (TCP_NODELAY)"),
    [KN_OPT_REVERSE] = KN_FLAG("reverse", KN_AT(reverse), "the server sends"),
    [KN_OPT_BIDIR] = KN_FLAG("bidir", KN_AT(bidir), "both sides send at the same time"),
    [KN_OPT_WAIT] = KN_CHOICE("wait", KN_AT(wait), waits,
                              "how to wait for data: block, auto (spin a little, then block) or spin"),
    [KN_OPT_TUNE] = KN_CHOICE("tune", KN_AT(tune), tunes,
                              "plain: system calls as other tools make them; auto: what was fastest in the warm-up, "
                              "reported; a stream without a size sends 16 KiB out of the cache again and again"),
    [KN_OPT_TIMEOUT] = KN_NUMBER("timeout", KN_KIND_DURATION, KN_AT(timeout_ns), MS, 3600 * SEC,
                                 "after which an operation or a connect has failed"),
    [KN_OPT_DELAY] = KN_AGENTS("delay", KN_KIND_DURATION, KN_AT(delay_ns), 0, 60 * SEC,
                               "how long the server waits before each response"),
    [KN_OPT_EXTERNAL] = KN_FLAG("external", KN_AT(external), "the target is another server, not an agent"),
    [KN_OPT_CC] = {"cc", KN_KIND_TEXT, KN_AT(cc), 0, KN_CC_MAX - 1, true, false, NULL,
                   "congestion control; default: the system's"},
    [KN_OPT_CPUS] = {"cpus", KN_KIND_TEXT, KN_AT(cpus), 0, KN_CPUS_MAX - 1, true, false, NULL,
                     "CPUs of the client's threads, as in 2-5,8; default: any"},
    [KN_OPT_SERVER_CPUS] = {"server_cpus", KN_KIND_TEXT, KN_AT(server_cpus), 0, KN_CPUS_MAX - 1, true, true, NULL,
                            "CPUs of the agent's threads that serve the flows; default: any"},
};

const char *kn_kind_name(enum kn_option_kind kind)
{
    return kind_names[kind];
}

uint64_t kn_option_get(const struct kn_spec *spec, const struct kn_spec_option *option)
{
    uint64_t value;
    memcpy(&value, (const char *)spec + option->offset, sizeof value);
    return value;
}

void kn_option_set(struct kn_spec *spec, const struct kn_spec_option *option, uint64_t value)
{
    memcpy((char *)spec + option->offset, &value, sizeof value);
}
