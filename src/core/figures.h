/* core/figures - what was measured: counters, a histogram and a time series, of one thread and merged.
 *
 * Each engine thread owns one and is its only writer; kn_figures_merge makes one of many at the join. What a test does
 * not measure stays 0 and unset in `has`, and is left out of the JSON: what was not measured is absent, never 0. */
#ifndef KN_CORE_FIGURES_H
#define KN_CORE_FIGURES_H

#include <jansson.h>
#include <stdint.h>

#include "core/error.h"
#include "core/hist.h"

/* A sum per interval since the window opened; its step doubles when it would exceed KN_SERIES_MAX points. Step 0: none
 * is kept. */
#define KN_SERIES_MAX 4096
struct kn_series {
    uint64_t step_ns;
    uint32_t n;                   /* points so far: the last one that anything fell into, plus one */
    uint64_t *bytes, *ops;        /* room for KN_SERIES_MAX each, from the start */
    uint64_t at_ns; uint32_t at;  /* where the current point begins, and which it is: saves a division per operation */
};

enum kn_has {
    KN_HAS_LATENCY = 1 << 0, KN_HAS_LOSS = 1 << 1, KN_HAS_JITTER = 1 << 2, KN_HAS_CONNECT = 1 << 3,
    KN_HAS_HTTP = 1 << 4, KN_HAS_TCP = 1 << 5, KN_HAS_CPU = 1 << 6, KN_HAS_ORDER = 1 << 7 /* reordered, duplicated */
};

struct kn_figures {
    uint32_t has;                 /* enum kn_has */
    uint64_t window_ns;           /* the length of what was measured; merged: the longest */
    uint64_t ops;                 /* completed operations, requests, datagrams */
    uint64_t tx_bytes, rx_bytes;  /* payload, inside the window */
    uint64_t tx_packets, rx_packets, lost, reordered, duplicated; /* datagrams, seen by their receiver */
    uint64_t send_drops;          /* refused by the sender's own socket: never sent, not part of `lost` */
    uint64_t recv_drops;          /* dropped by the receiver's own socket: a part of `lost` that is not the network's */
    uint64_t late;                /* answers that came after they had timed out */
    uint64_t errors, timeouts, connects, connect_errors;
    double jitter_ns;             /* RFC 3550; merged: the mean of the flows */
    uint32_t jitter_n;
    uint64_t segments, retransmits; /* with data: all that were sent, and those sent again */
    uint64_t rtt_ns, cwnd; uint32_t tcp_n; /* TCP_INFO; rtt and cwnd as sums over tcp_n flows */
    uint64_t mss;                 /* effective, the smallest seen */
    uint64_t cpu_ns;              /* of the threads that did this run, inside the window */
    struct kn_hist *latency;      /* an operation; half the round trip for tcp_lat */
    struct kn_hist *connect, *first_byte; /* http, crr: NULL until the test makes them (kn_hist_new) */
    uint64_t status[6];           /* http: [1] is 1xx … [5] 5xx, [0] anything else */
    uint64_t length_mismatch, header_bytes;
    uint64_t bad_responses;       /* http: the part of `errors` that was answered, but with nonsense */
    struct kn_series series;
};

int kn_figures_init(struct kn_figures *f, uint64_t interval_ns, struct kn_error *err); /* with a latency histogram */
void kn_figures_fini(struct kn_figures *f); /* what is all zeros is taken too */
/* Operations (or a call's worth of bytes) that ended `since_ns` after the window opened, into the series; the counters
 * are the caller's. */
void kn_figures_add(struct kn_figures *f, uint64_t since_ns, uint64_t bytes, uint64_t ops);
int kn_figures_merge(struct kn_figures *into, const struct kn_figures *from, struct kn_error *err);

/* The whole of it, lossless: what a server sends back in band. NULL: out of memory. Reading initialises `f`; a failure
 * leaves nothing to free. */
json_t *kn_figures_to_json(const struct kn_figures *f);
int kn_figures_from_json(const json_t *json, struct kn_figures *f, struct kn_error *err);

#endif
