/* The profile as an observer: {"hz":99,"after_ns":…,"for_ns":…}, all optional. */
#include "core/json.h"
#include "meter/files.h"
#include "meter/observe.h"
#include "meter/stacks.h"

static void *profile_start(const json_t *options, struct kn_error *err)
{
    struct kn_stacks_options o = {.hz = 0};
    uint64_t hz = KN_STACKS_HZ;
    if (kn_json_u64_member(options, "hz", &hz, err) || kn_json_u64_member(options, "after_ns", &o.after_ns, err) ||
        kn_json_u64_member(options, "for_ns", &o.for_ns, err)) {
        err->code = KN_E_ARGUMENT;
        return NULL;
    }
    o.hz = hz > KN_STACKS_HZ_MAX ? KN_STACKS_HZ_MAX + 1 : (unsigned)hz;
    return kn_stacks_start(&o, err);
}

static json_t *profile_stop(void *observer)
{
    char machine[64];
    json_t *out = kn_stacks_stop(observer);
    if (out && kn_boot_id("", machine, sizeof machine) == 0)
        kn_json_set(out, "machine", json_string(machine));
    return out;
}

static void profile_free(void *observer)
{
    kn_stacks_free(observer);
}

const struct kn_observer_ops kn_profile = {"profile", profile_start, profile_stop, profile_free};
