/* What became of each target of a run with several: its share of the operations, how fast it was, what failed. */
#include "core/json.h"
#include "run/result.h"

struct tally {
    struct kn_figures client;
    uint64_t moved; /* operations; of a bulk transfer bytes, as the receiver counted them */
    uint64_t window_ns;
};

static bool is_bulk(const struct kn_view *v)
{
    return v->spec->test->shape == KN_BULK;
}

static void count(struct tally *t, const struct kn_view *v, const struct kn_part *part)
{
    struct kn_error ignored;
    kn_json_note(!kn_figures_init(&t->client, 0, &ignored));
    for (unsigned i = 0; i < v->run->n_slots; i++)
        if (v->run->slots[i]->w.part == part)
            kn_json_note(!kn_figures_merge(&t->client, &v->run->slots[i]->w.figures, &ignored));
    bool at_client = !is_bulk(v) || v->spec->reverse;
    t->window_ns = at_client ? t->client.window_ns : part->window_ns;
    t->moved = !is_bulk(v) ? t->client.ops : (at_client ? t->client.rx_bytes : part->rx_bytes);
    if (v->spec->bidir)
        t->moved += t->client.rx_bytes;
}

static void put_pace(json_t *to, const struct kn_view *v, const struct tally *t, uint64_t all)
{
    kn_put_ratio(to, "share", (double)t->moved, (double)all);
    if (is_bulk(v)) {
        kn_put_int(to, "bytes", t->moved);
        kn_put_ratio(to, "throughput_bps", 8.0 * (double)t->moved, kn_seconds(t->window_ns));
        return;
    }
    kn_put_int(to, "ops", t->moved);
    if (t->moved)
        kn_put_ratio(to, "rate_per_s", (double)t->moved, kn_seconds(t->window_ns));
    if ((t->client.has & KN_HAS_LATENCY) && t->client.latency && kn_hist_count(t->client.latency)) {
        kn_put_int(to, "p50", kn_hist_percentile(t->client.latency, 50));
        kn_put_int(to, "p99", kn_hist_percentile(t->client.latency, 99));
    }
}

static json_t *describe(const struct kn_view *v, const struct kn_part *part, const struct tally *t, uint64_t all)
{
    char text[KN_ADDR_TEXT_MAX];
    json_t *to = json_pack("{s:s, s:f}", "address", kn_addr_text(&part->peer, text, sizeof text), "asked", part->share);
    kn_put_int(to, "flows", part->spec.flows);
    put_pace(to, v, t, all);
    kn_put_int(to, "errors", t->client.errors);
    kn_put_int(to, "timeouts", t->client.timeouts);
    kn_put_int(to, "connect_errors", t->client.connect_errors);
    if (*part->why.message)
        kn_json_set(to, "error", json_string(part->why.message));
    return to;
}

void kn_result_put_targets(json_t *metrics, const struct kn_view *v)
{
    struct tally tallies[KN_TARGETS_MAX] = {0};
    unsigned n = v->run->n_parts;
    uint64_t all = 0;
    json_t *targets = n > 1 ? json_object() : NULL;
    for (unsigned i = 0; n > 1 && i < n; i++) {
        count(&tallies[i], v, &v->run->parts[i]);
        all += tallies[i].moved;
    }
    for (unsigned i = 0; n > 1 && i < n; i++) {
        const struct kn_part *part = &v->run->parts[i];
        kn_json_set(targets, part->target.name, describe(v, part, &tallies[i], all));
        kn_figures_fini(&tallies[i].client);
    }
    if (n > 1)
        kn_json_set(metrics, "targets", targets);
}
