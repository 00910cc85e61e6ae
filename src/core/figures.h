/* core/figures - what was measured: counters, histograms and a time series.
 *
 * Each engine thread owns one struct kn_figures and is its only writer; kn_figures_merge combines them when the threads
 * are joined. A figure that a test does not measure is not set in `has` and is left out of the JSON: a figure that was
 * not measured is absent, never 0. */
#ifndef KN_CORE_FIGURES_H
#define KN_CORE_FIGURES_H

#include <jansson.h>
#include <stdint.h>

#include "core/error.h"
#include "core/hist.h"

/* One sum for each interval since the start of the measurement. The step doubles when there would be more than
 * KN_SERIES_MAX points. A step of 0 means that no series is kept. */
#define KN_SERIES_MAX 4096
#define KN_FIGURES_OWN 32 /* counters that a test can keep of its own */
struct kn_series {
    uint64_t step_ns;
    uint32_t n;            /* points so far: the index of the last point in use, plus one */
    uint64_t *bytes, *ops; /* KN_SERIES_MAX entries each, allocated at the start */
    uint64_t at_ns;
    uint32_t at; /* start and index of the current point; saves a division per operation */
};

enum kn_has {
    KN_HAS_LATENCY = 1 << 0,
    KN_HAS_LOSS = 1 << 1,
    KN_HAS_JITTER = 1 << 2,
    KN_HAS_CONNECT = 1 << 3,
    KN_HAS_HTTP = 1 << 4,
    KN_HAS_TCP = 1 << 5,
    KN_HAS_CPU = 1 << 6,
    KN_HAS_ORDER = 1 << 7, /* reordered, duplicated */
    KN_HAS_DROPS = 1 << 8  /* recv_drops, of a client that receives answers */
};

struct kn_figures {
    uint32_t has;                                                 /* enum kn_has */
    uint64_t window_ns;                                           /* measured time; after a merge the longest */
    uint64_t ops;                                                 /* completed operations, requests, datagrams */
    uint64_t tx_bytes, rx_bytes;                                  /* payload, inside the measured time */
    uint64_t tx_packets, rx_packets, lost, reordered, duplicated; /* datagrams, as counted by the receiver */
    uint64_t send_drops; /* rejected by the sender's own socket: never sent, not part of `lost` */
    uint64_t recv_drops; /* dropped by the receiver's own socket: part of `lost`, but not lost in the network */
    uint64_t late;       /* answers that arrived after their timeout */
    uint64_t errors, timeouts, connects, connect_errors;
    double jitter_ns; /* RFC 3550; after a merge the mean of the flows */
    uint32_t jitter_n;
    uint64_t segments, retransmits; /* segments with data: all that were sent, and those that were retransmitted */
    uint64_t needless;              /* retransmits of segments that the receiver already had, according to its DSACKs */
    uint64_t rtt_ns, cwnd;
    uint32_t tcp_n;                       /* TCP_INFO; rtt and cwnd are sums over tcp_n flows */
    uint64_t mss;                         /* effective MSS, the smallest of all flows */
    uint64_t cpu_ns;                      /* CPU time of the run's threads inside the measured time */
    struct kn_hist *latency;              /* of an operation; half the round trip for tcp_lat */
    struct kn_hist *connect, *first_byte; /* http, crr: NULL unless the test allocates them */
    struct kn_hist *handshake;            /* of TLS: after the connect, before the request */
    uint64_t status[6];                   /* http: [1] is 1xx … [5] 5xx, [0] anything else */
    uint64_t length_mismatch, header_bytes;
    uint64_t bad_responses;       /* http: the part of `errors` that got an invalid response */
    uint64_t own[KN_FIGURES_OWN]; /* counters of the test, defined in its file; merged as sums */
    struct kn_series series;
    /* What each flow moved inside the window, in operations or bytes: how evenly they were served. */
    uint64_t flow_n, flow_min, flow_max;
    double flow_sum, flow_squares;
};

/* Also allocates the latency histogram. */
int kn_figures_init(struct kn_figures *f, uint64_t interval_ns, struct kn_error *err);
void kn_figures_fini(struct kn_figures *f); /* accepts a zeroed struct */
/* Adds to the series what ended `since_ns` after the start of the measurement. Does not change the counters. */
void kn_figures_add(struct kn_figures *f, uint64_t since_ns, uint64_t bytes, uint64_t ops);
int kn_figures_series(struct kn_figures *f, uint64_t step_ns, struct kn_error *err); /* one of its own, empty */
void kn_figures_flow(struct kn_figures *f, uint64_t moved);                          /* one flow is over */
int kn_figures_merge(struct kn_figures *into, const struct kn_figures *from, struct kn_error *err);

/* Lossless: a server reports its figures in this form. kn_figures_to_json returns NULL if out of memory.
 * kn_figures_from_json initialises `f`; if it fails there is nothing to free. */
json_t *kn_figures_to_json(const struct kn_figures *f);
int kn_figures_from_json(const json_t *json, struct kn_figures *f, struct kn_error *err);

#endif
