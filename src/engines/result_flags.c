/* Flags: why a figure is doubtful, by the names of lua/knbl/doubt.lua. */
#include <math.h>
#include <string.h>

#include "engines/result.h"

#define FEW_SAMPLES 100
/* A sender that looks for the limit of a path loses a few segments there, on a sound one too; so large a share is no part
 * of that. */
#define RESENT 0.001
#define BUSY 0.95             /* of the CPUs that the generator's threads could have had … */
#define HELD_BACK (1 - BUSY)  /* … or of the time, in which a quota let them have none */
#define RATE_REACHED 0.98
#define SYN_RESENT_NS (KN_NS_PER_S - 10 * KN_NS_PER_MS) /* a first packet without an answer is sent again after a second */
#define TIMESTAMP_OPTION 12   /* bytes that TCP's timestamps take from the MSS (RFC 7323, padded) */

static void flag(json_t *flags, bool doubtful, const char *name)
{
    size_t i;
    json_t *have;
    json_array_foreach(flags, i, have)
        if (!strcmp(json_string_value(have), name))
            return;
    if (doubtful)
        json_array_append_new(flags, json_string(name));
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

static bool rate_missed(const struct kn_view *v, const json_t *metrics)
{
    return kn_spec_open_loop(v->spec) && rate_share(v, metrics) < RATE_REACHED;
}

static bool cpu_bound(const struct kn_figures *f, double cpus)
{
    return (f->has & KN_HAS_CPU) && f->window_ns && (double)f->cpu_ns / (double)f->window_ns >= BUSY * cpus;
}

/* A stream that came at its rate was not limited, busy as its sender was between sends. */
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

json_t *kn_result_flags(const struct kn_view *v, const json_t *metrics, const json_t *cpu)
{
    const struct kn_run *run = v->run;
    json_t *flags = json_copy(run->flags);
    double mine_s = throttled_s(cpu), theirs_s = servers_throttled_s(run), held_back_s = HELD_BACK * kn_seconds(v->window_ns);
    flag(flags, atomic_load(&run->asked_to_stop), "stopped");
    if (!kn_view_begun(v))
        return flags;
    bool blocks = v->spec->wait == KN_WAIT_BLOCK;
    flag(flags, (blocks && client_bound(v, metrics)) || mine_s > held_back_s, "generator_cpu_bound");
    flag(flags, (blocks && cpu_bound(&v->server, (double)v->spec->flows)) || theirs_s > held_back_s, "server_cpu_bound");
    flag(flags, mine_s > 0 || theirs_s > 0, "throttled");
    flag(flags, kn_result_cpus_shared(v, cpu), "other_work");
    flag(flags, mss_differs(v), "mss_differs");
    flag(flags, json_object_get(metrics, "step") != NULL, "step");
    flag(flags, (v->client.has & KN_HAS_LATENCY) && kn_hist_count(v->client.latency) < FEW_SAMPLES, "too_few_samples");
    flag(flags, (double)kn_view_resent(v) >= RESENT * (double)(kn_view_segments(v) + 1), "retransmits");
    flag(flags, v->client.connect && kn_hist_count(v->client.connect) && kn_hist_max(v->client.connect) >= SYN_RESENT_NS,
         "syn_resent");
    flag(flags, (v->sender ? v->sender : &v->client)->send_drops > 0, "send_drops");
    flag(flags, v->receiver && v->receiver->recv_drops > 0, "receiver_drops");
    /* a datagram that no answer came to is a loss */
    uint64_t late = kn_view_is_tcp(v) ? v->client.timeouts : 0;
    flag(flags, v->client.errors + v->server.errors + late > 0, "errors");
    flag(flags, run->n_servers > 1, "several_backends");
    flag(flags, rate_missed(v, metrics), "rate_not_reached");
    return flags;
}
