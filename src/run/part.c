/* Parts of a run: made by the targets' shares, and how each finds its target. */
#include "run/part.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "core/share.h"
#include "net/io.h"
#include "run/inside.h"

#define RESOLVE_TIMEOUT_NS (5 * KN_NS_PER_S)
#define FAMILY_TIMEOUT_NS KN_NS_PER_S

/* ---- by shares ---- */

static int check_targets(const struct kn_spec *spec, const struct kn_target *targets, unsigned n, struct kn_error *err)
{
    if (n < 1 || n > KN_TARGETS_MAX)
        return kn_fail(err, KN_E_ARGUMENT, "to must have 1 to %u targets, got %u", KN_TARGETS_MAX, n);
    if (n > 1 && !(spec->test->options & KN_HAS(FLOWS)))
        return kn_fail(err, KN_E_ARGUMENT, "to must be one target for %s, which has no flows to share, got %u",
                       spec->test->name, n);
    if (n > spec->flows)
        return kn_fail(err, KN_E_ARGUMENT, "to has %u targets, but flows is %llu: each target needs a flow", n,
                       (unsigned long long)spec->flows);
    for (unsigned i = 0; i < n; i++)
        if (!(targets[i].share >= 0) || isinf(targets[i].share))
            return kn_fail(err, KN_E_ARGUMENT, "share must be a positive number, got %g", targets[i].share);
    return 0;
}

static void name_part(struct kn_part *part)
{
    struct kn_target *to = &part->target;
    const char *format = strchr(to->host, ':') ? "[%.50s]:%u" : "%.50s:%u";
    if (!*to->name)
        snprintf(to->name, sizeof to->name, format, to->host, to->port);
}

static int check_names(const struct kn_part *parts, unsigned n, struct kn_error *err)
{
    for (unsigned i = 1; i < n; i++)
        for (unsigned k = 0; k < i; k++)
            if (!strcmp(parts[i].target.name, parts[k].target.name))
                return kn_fail(err, KN_E_ARGUMENT, "targets must have different names, got %s twice",
                               parts[i].target.name);
    return 0;
}

/* Every flow needs an operation of the count. */
static void share_count(uint64_t count, const double *shares, unsigned n, const uint64_t *flows, uint64_t *out)
{
    kn_share_out(count, shares, n, out);
    for (unsigned i = 0; i < n; i++)
        for (unsigned from = 0; from < n && out[i] < flows[i]; from++)
            for (; out[i] < flows[i] && out[from] > flows[from]; out[from]--)
                out[i]++;
}

static uint64_t rate_of(uint64_t rate, double share)
{
    uint64_t part = (uint64_t)((double)rate * share + 0.5);
    return rate && !part ? 1 : part;
}

/* The specification of a part, as if it were a run of its own. */
static int specify(struct kn_part *part, const struct kn_spec *whole, uint64_t flows, uint64_t count,
                   struct kn_error *err)
{
    part->spec = *whole;
    part->spec.flows = flows;
    part->spec.count = count;
    part->spec.rate_per_1000s = rate_of(whole->rate_per_1000s, part->share);
    part->spec.rate_bps = rate_of(whole->rate_bps, part->share);
    if (flows == 1 && whole->flows > 1 && kn_spec_open_loop(whole) && whole->wait == KN_WAIT_AUTO)
        part->spec.wait = KN_WAIT_BLOCK; /* one flow of several, not a run with one: run/loop.h */
    if (flows != whole->flows)
        kn_spec_derive(&part->spec); /* what the test makes of the number of flows */
    if (flows == whole->flows || !kn_spec_check(&part->spec, err))
        return 0;
    return kn_error_context(err, "to: the part of %s", part->target.name);
}

static int divide(struct kn_run *run, struct kn_error *err)
{
    unsigned n = run->n_parts, first = 0;
    double shares[KN_TARGETS_MAX] = {0}, sum = 0;
    uint64_t flows[KN_TARGETS_MAX], counts[KN_TARGETS_MAX] = {0};
    for (unsigned i = 0; i < n; i++)
        sum += shares[i] = run->parts[i].target.share > 0 ? run->parts[i].target.share : 1;
    kn_share_out(run->spec.flows, shares, n, flows);
    if (run->spec.count)
        share_count(run->spec.count, shares, n, flows, counts);
    for (unsigned i = 0; i < n; i++) {
        struct kn_part *part = &run->parts[i];
        part->share = shares[i] / sum;
        if (specify(part, &run->spec, flows[i], counts[i], err))
            return -1;
        atomic_store(&part->left, part->spec.count);
        part->first_flow = first;
        first += (unsigned)flows[i];
    }
    return 0;
}

int kn_parts_new(struct kn_run *run, const struct kn_target *targets, unsigned n, struct kn_error *err)
{
    if (check_targets(&run->spec, targets, n, err))
        return -1;
    run->parts = calloc(n, sizeof *run->parts);
    if (!run->parts)
        return kn_fail(err, KN_E_MEMORY, "no memory for %u targets", n);
    run->n_parts = n;
    for (unsigned i = 0; i < n; i++) {
        run->parts[i].target = targets[i];
        if (!*targets[i].ca)
            memcpy(run->parts[i].target.ca, targets[0].ca, sizeof targets[0].ca);
        name_part(&run->parts[i]);
        if (getrandom(&run->parts[i].id, sizeof run->parts[i].id, 0) < 0)
            return kn_fail_errno(err, "no random numbers");
    }
    return check_names(run->parts, n, err) || divide(run, err) ? -1 : 0;
}

/* Deals the threads by flows: at least one for each part, at most one for each flow. */
void kn_parts_threads(struct kn_run *run, unsigned threads)
{
    unsigned n = run->n_parts;
    double shares[KN_TARGETS_MAX] = {0};
    uint64_t workers[KN_TARGETS_MAX];
    for (unsigned i = 0; i < n; i++)
        shares[i] = (double)run->parts[i].spec.flows;
    kn_share_out(threads > n ? threads : n, shares, n, workers);
    for (unsigned i = 0; i < n; i++) {
        uint64_t flows = run->parts[i].spec.flows;
        run->parts[i].n_workers = (unsigned)(workers[i] < flows ? workers[i] : flows);
    }
}

/* ---- where they are ---- */

/* A name may have addresses of both families, with a server on only one. Takes the first that accepts a connection,
 * like curl and ab. */
static void choose_family(struct kn_part *part)
{
    struct kn_addr other;
    struct kn_error ignored;
    const struct kn_spec *spec = &part->spec;
    if (spec->ip || part->target.source[0] || spec->test->transport != KN_TCP)
        return;
    if (kn_addr_resolve(part->target.host, part->target.port, kn_addr_is_v6(&part->peer) ? 4 : 6, RESOLVE_TIMEOUT_NS,
                        &other, &ignored))
        return;
    int fd = kn_tcp_connect(&part->peer, spec, kn_now_ns() + FAMILY_TIMEOUT_NS, &ignored);
    if (fd < 0 && (fd = kn_tcp_connect(&other, spec, kn_now_ns() + FAMILY_TIMEOUT_NS, &ignored)) >= 0)
        part->peer = other;
    if (fd >= 0)
        close(fd);
}

/* All have the family of the first. */
static int join_family(struct kn_part *part, const struct kn_part *first, struct kn_error *err)
{
    struct kn_error ignored;
    unsigned family = kn_addr_is_v6(&first->peer) ? 6 : 4;
    if (kn_addr_is_v6(&part->peer) == kn_addr_is_v6(&first->peer) ||
        !kn_addr_resolve(part->target.host, part->target.port, family, RESOLVE_TIMEOUT_NS, &part->peer, &ignored))
        return 0;
    return kn_fail(err, KN_E_ARGUMENT, "all targets must have one address family: %s has IPv%u, %s has only IPv%u",
                   first->target.name, family, part->target.name, 10 - family);
}

static int find(struct kn_part *part, const struct kn_part *first, struct kn_error *err)
{
    struct kn_target *to = &part->target;
    const struct kn_spec *spec = &part->spec;
    unsigned ip = spec->ip ? (unsigned)spec->ip : kn_source_family(to->source);
    if ((spec->test->target && spec->test->target(spec, to, err)) ||
        kn_addr_resolve(to->host, to->port, ip, RESOLVE_TIMEOUT_NS, &part->peer, err))
        return -1;
    choose_family(part);
    if (join_family(part, first, err))
        return -1;
    return kn_sources_find(spec, &part->peer, to->source, &part->sources, err);
}

int kn_parts_find(struct kn_run *run, struct kn_error *err)
{
    if (kn_sources_check_files(&run->spec, err))
        return -1;
    for (unsigned i = 0; i < run->n_parts; i++)
        if (find(&run->parts[i], &run->parts[0], err))
            return -1;
    return 0;
}
