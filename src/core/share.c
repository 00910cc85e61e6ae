#include "core/share.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

/* What the takers without a number yet share. */
struct rest {
    uint64_t total;
    long double shares;
};

static struct rest rest_of(uint64_t total, const double *shares, unsigned n, const uint64_t *out)
{
    struct rest rest = {.total = total};
    for (unsigned i = 0; i < n; i++)
        if (out[i])
            rest.total -= out[i];
        else
            rest.shares += shares[i];
    return rest;
}

static long double quota(const struct rest *rest, double share)
{
    return rest->total * (share / rest->shares);
}

/* Those whose share is less than 1 get 1, which leaves less for the others: until there are none of them. */
static struct rest give_least(uint64_t total, const double *shares, unsigned n, uint64_t *out)
{
    struct rest rest = rest_of(total, shares, n, out);
    for (bool again = true; again; rest = rest_of(total, shares, n, out)) {
        again = false;
        for (unsigned i = 0; i < n; i++)
            if (!out[i] && quota(&rest, shares[i]) < 1) {
                out[i] = 1;
                again = true;
            }
    }
    return rest;
}

static long double remainder_of(const struct rest *rest, double share)
{
    long double q = quota(rest, share);
    return q - floorl(q);
}

/* The one with the largest remainder that has not got one more; n: none. */
static unsigned next_of(const struct rest *rest, const double *shares, unsigned n, const bool *served)
{
    unsigned most = n;
    for (unsigned i = 0; i < n; i++)
        if (!served[i] && (most == n || remainder_of(rest, shares[i]) > remainder_of(rest, shares[most])))
            most = i;
    return most;
}

void kn_share_out(uint64_t total, const double *shares, unsigned n, uint64_t *out)
{
    bool served[n];
    memset(out, 0, n * sizeof *out);
    struct rest rest = give_least(total, shares, n, out);
    uint64_t left = rest.total;
    for (unsigned i = 0; i < n; i++) {
        served[i] = out[i] > 0;
        if (!served[i])
            left -= out[i] = (uint64_t)floorl(quota(&rest, shares[i]));
    }
    for (unsigned i; left && (i = next_of(&rest, shares, n, served)) < n; left--) {
        served[i] = true;
        out[i]++;
    }
}
