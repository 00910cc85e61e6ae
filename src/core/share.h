/* core/share - deals whole things (flows, threads, operations) out by shares. */
#ifndef KN_CORE_SHARE_H
#define KN_CORE_SHARE_H

#include <stdint.h>

/* Deals `total` out to n takers (total >= n), in proportion to positive shares, as near to them as whole numbers allow
 * (largest remainder): each gets at least 1, and all of it is dealt out. */
void kn_share_out(uint64_t total, const double *shares, unsigned n, uint64_t *out);

#endif
