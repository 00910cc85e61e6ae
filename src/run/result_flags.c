/* Flags: why a figure is doubtful, by the names of lua/knbl/results/doubt.lua. */
#include <math.h>
#include <string.h>

#include "core/json.h"
#include "run/result.h"

#define FEW_SAMPLES 100
/* Share of segments that were lost. A sender that looks for the limit of a path loses a few segments even on a sound
 * path, but not so many. */
#define RESENT 0.001
#define BUSY 0.95            /* share of the CPUs that the generator's threads may use … */
#define HELD_BACK (1 - BUSY) /* … or share of the time in which a quota stopped them */
#define RATE_REACHED 0.98
#define TIMESTAMP_OPTION 12 /* bytes that TCP's timestamps take from the MSS (RFC 7323, padded) */

static void flag(json_t *flags, bool doubtful, const char *name)
{
    size_t i;
    json_t *have;
    json_array_foreach(flags, i, have) if (!strcmp(json_string_value(have), name)) return;
    if (doubtful)
        kn_json_append(flags, json_string(name));
}

/* How long quotas kept an end's threads from running. */
static double throttled_s(const json_t *cpu)
{
    return json_number_value(json_object_get(cpu, "throttled_s"));
}

static double servers_throttled_s(const struct kn_run *run)
{
    double longest = 0;
    for (unsigned i = 0; i < run->n_servers; i++)
        longest = fmax(longest, throttled_s(run->servers[i].cpu));
    return longest;
}

static double rate_share(const struct kn_view *v, const json_t *metrics)
{
    if (v->spec->rate_per_1000s)
        return json_number_value(json_object_get(metrics, "rate_per_s")) * 1000 / (double)v->spec->rate_per_1000s;
    if (v->spec->rate_bps)
        return json_number_value(json_object_get(metrics, "throughput_bps")) / (double)v->spec->rate_bps;
    return 1;
}

/* Of a worker's operations one can be due and not over at either end of the window, which is no lack of speed. A
 * datagram is an operation too. */
static bool lacks_operations(const struct kn_view *v, const json_t *metrics)
{
    const struct kn_spec *spec = v->spec;
    double asked = (double)spec->rate_per_1000s / 1000,
           done = json_number_value(json_object_get(metrics, "rate_per_s"));
    if (!spec->rate_per_1000s && kn_view_is_tcp(v))
        return true;
    if (!spec->rate_per_1000s) {
        asked = (double)spec->rate_bps / 8 / (double)spec->size;
        done = json_number_value(json_object_get(metrics, "throughput_bps")) / 8 / (double)spec->size;
    }
    return (asked - done) * kn_seconds(v->window_ns) > v->run->n_slots;
}

static bool rate_missed(const struct kn_view *v, const json_t *metrics)
{
    if (v->spec->test->shape == KN_PROBE) /* unanswered attempts are outages; attempts not sent have another flag */
        return false;
    return kn_spec_open_loop(v->spec) && rate_share(v, metrics) < RATE_REACHED && lacks_operations(v, metrics);
}

static bool cpu_bound(const struct kn_figures *f, double cpus)
{
    return (f->has & KN_HAS_CPU) && f->window_ns && (double)f->cpu_ns / (double)f->window_ns >= BUSY * cpus;
}

/* A stream that reached its rate was not limited, even if its sender was busy between sends. */
static bool client_bound(const struct kn_view *v, const json_t *metrics)
{
    bool as_asked = v->sender && kn_spec_open_loop(v->spec) && !rate_missed(v, metrics);
    return !as_asked && cpu_bound(&v->client, fmin(v->run->n_slots, kn_cpus_allowed()));
}

static bool mss_differs(const struct kn_view *v)
{
    uint64_t mss = kn_view_mss(v), asked = v->spec->mss;
    return asked && mss && mss != asked && mss + TIMESTAMP_OPTION != asked;
}

/* Whether responses of a test with status codes had others than 2xx and 3xx. */
static bool bad_status(const json_t *metrics)
{
    const json_t *status = json_object_get(metrics, "status");
    return json_object_get(status, "4xx") || json_object_get(status, "5xx") || json_object_get(status, "other");
}

json_t *kn_result_flags(const struct kn_view *v, const json_t *metrics, const json_t *cpu)
{
    const struct kn_run *run = v->run;
    json_t *flags = kn_json_copy(run->flags);
    double mine_s = throttled_s(cpu), theirs_s = servers_throttled_s(run),
           held_back_s = HELD_BACK * kn_seconds(v->window_ns);
    flag(flags, atomic_load(&run->asked_to_stop), "stopped");
    if (!kn_view_begun(v))
        return flags;
    bool blocks = v->spec->wait == KN_WAIT_BLOCK;
    flag(flags, (blocks && client_bound(v, metrics)) || mine_s > held_back_s, "generator_cpu_bound");
    flag(flags, (blocks && cpu_bound(&v->server, (double)v->spec->flows)) || theirs_s > held_back_s,
         "server_cpu_bound");
    flag(flags, mine_s > 0 || theirs_s > 0, "throttled");
    flag(flags, mss_differs(v), "mss_differs");
    flag(flags, json_object_get(metrics, "step") != NULL, "step");
    flag(flags, (v->client.has & KN_HAS_LATENCY) && kn_hist_count(v->client.latency) < FEW_SAMPLES, "too_few_samples");
    flag(flags, (double)(kn_view_resent(v) - kn_view_needless(v)) >= RESENT * (double)(kn_view_segments(v) + 1),
         "retransmits");
    flag(flags, (v->sender ? v->sender : &v->client)->send_drops > 0, "send_drops");
    flag(flags, v->receiver && v->receiver->recv_drops > 0, "receiver_drops");
    flag(flags, (v->client.has & KN_HAS_DROPS) && v->client.recv_drops > 0, "client_drops");
    /* a datagram without an answer is a loss */
    uint64_t late = kn_view_is_tcp(v) ? v->client.timeouts : 0;
    flag(flags, v->client.errors + v->server.errors + v->client.connect_errors + late > 0, "errors");
    flag(flags, bad_status(metrics), "bad_status");
    flag(flags, rate_missed(v, metrics), "rate_not_reached");
    return flags;
}
