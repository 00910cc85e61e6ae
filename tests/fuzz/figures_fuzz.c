/* What another side reports of itself: figures and histograms from any JSON. What is taken survives a round trip and a
 * merge. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/figures.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(int truth)
{
    if (!truth)
        abort();
}

static void use_hist(struct kn_hist *h)
{
    if (!h)
        return;
    for (double p = 0; p <= 100; p += 12.5)
        demand(kn_hist_percentile(h, p) >= kn_hist_min(h) && kn_hist_percentile(h, p) <= kn_hist_max(h));
    demand(isfinite(kn_hist_mean(h)) && isfinite(kn_hist_stddev(h)));
}

static void demand_round_trip(const struct kn_figures *f)
{
    struct kn_error err;
    struct kn_figures again;
    json_t *one = kn_figures_to_json(f);
    demand(one && kn_figures_from_json(one, &again, &err) == 0);
    json_t *two = kn_figures_to_json(&again);
    demand(json_equal(one, two));
    json_decref(one);
    json_decref(two);
    kn_figures_fini(&again);
}

static void use(struct kn_figures *f)
{
    struct kn_error err;
    struct kn_figures sum;
    demand_round_trip(f);
    demand(kn_figures_init(&sum, 1000, &err) == 0);
    kn_figures_add(&sum, 5000, 1, 1);
    demand(kn_figures_merge(&sum, f, &err) == 0 && kn_figures_merge(&sum, f, &err) == 0 &&
           kn_figures_merge(f, &sum, &err) == 0);
    use_hist(sum.latency);
    use_hist(f->latency);
    use_hist(f->connect);
    kn_figures_add(f, 1ull << 40, 1, 1);
    kn_figures_fini(&sum);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kn_error err = {.message = ""};
    struct kn_figures f;
    json_t *json = json_loadb((const char *)data, size, JSON_DECODE_ANY, NULL);
    if (!json)
        return 0;
    if (kn_figures_from_json(json, &f, &err) == 0) {
        use(&f);
        kn_figures_fini(&f);
    } else {
        demand(*err.message != 0);
    }
    json_decref(json);
    return 0;
}
