/* engines/flow - what the tests' files share: the worker they run on, flows, the window, waiting.
 *
 * A test offers a `struct kn_test_ops`. Its client function runs on a worker's thread and goes through four steps:
 * open its flows (kn_flow_open), kn_worker_ready, the measured loop until kn_worker_over, kn_flow_close. */
#ifndef KN_ENGINES_FLOW_H
#define KN_ENGINES_FLOW_H

#include "core/clock.h"
#include "core/figures.h"
#include "engines/engine.h"

struct kn_worker {
    struct kn_run *run;
    const struct kn_spec *spec;
    unsigned index;                 /* of this worker */
    unsigned first_flow, n_flows;   /* the flows that are this worker's: first_flow … first_flow + n_flows - 1 */
    struct kn_addr peer;            /* resolved target */
    struct kn_figures figures;      /* only this thread writes it */
    /* The window, valid after kn_worker_ready. Work done before open_ns is warm-up. */
    uint64_t start_ns, open_ns, end_ns;   /* end_ns is UINT64_MAX where `count` limits the run */
    _Atomic uint64_t live_ops, live_bytes; /* for progress: stored now and then, relaxed */
};

struct kn_test_ops {
    enum kn_test test;
    int (*client)(struct kn_worker *w, struct kn_error *err);
    /* TCP tests: after the welcome was sent. `f` is this flow's figures; what it holds at the return goes into the trailer. */
    int (*serve)(struct kn_server *server, int fd, const struct kn_hello *hello, struct kn_figures *f, struct kn_error *err);
};

/* TCP: connect, hello, welcome. Returns the socket or -1. The run shuts it down when it must stop in the middle. */
int kn_flow_open(struct kn_worker *w, unsigned flow, struct kn_error *err);
/* UDP: the cookie exchange; a connected socket. */
int kn_flow_open_udp(struct kn_worker *w, unsigned flow, struct kn_error *err);
/* After the loop: half-close, read the trailer (tail: the last bytes already read by the test, for reverse flows), keep the
 * server's report in the run; takes TCP_INFO; closes fd. */
int kn_flow_close(struct kn_worker *w, int fd, unsigned flow, const uint8_t *tail, size_t tail_size, struct kn_error *err);
int kn_flow_close_udp(struct kn_worker *w, int fd, unsigned flow, struct kn_error *err);
void kn_flow_abandon(struct kn_worker *w, int fd);          /* closes without asking for anything */

/* Waits until all workers' flows are open; fills the window. -1: the run is being stopped. `needs_go`: nothing is sent here,
 * the test's own first byte (KN_GO on TCP) tells its server. */
int kn_worker_ready(struct kn_worker *w, struct kn_error *err);
bool kn_worker_stopped(const struct kn_worker *w);          /* a relaxed load: cheap enough for every operation */
/* For `count`: takes up to `n` of what is left to do over all workers; 0: none left. UINT64_MAX-like plenty where there is no count. */
uint64_t kn_worker_take(struct kn_worker *w, uint64_t n);
/* One operation that ended at now_ns: counts it if the window is open; latency where it has one. */
void kn_worker_op(struct kn_worker *w, uint64_t now_ns, uint64_t latency_ns, uint64_t tx_bytes, uint64_t rx_bytes);
/* Names what was calibrated or differs, once a run: lands in "chosen", or in "flags". */
void kn_worker_chosen(struct kn_worker *w, const char *key, const char *format, ...) __attribute__((format(printf, 3, 4)));
void kn_worker_flag(struct kn_worker *w, const char *flag);
/* CPU of this thread at the edges of the window: call at the first operation past open_ns and at the end (idempotent). */
void kn_worker_cpu_open(struct kn_worker *w);
void kn_worker_cpu_close(struct kn_worker *w);

extern const struct kn_test_ops kn_tcp_stream_ops, kn_tcp_sendfile_ops, kn_tcp_bw_ops, kn_udp_stream_ops, kn_tcp_rr_ops, kn_tcp_lat_ops,
    kn_udp_rr_ops, kn_tcp_crr_ops, kn_http_ops, kn_ping_ops;

/* engines/wait: receive by the way that `wait` says. Auto: try without waiting and yield, up to 50 µs, then block; stops spinning by
 * itself where the hits fall under half, the round trip exceeds the budget, or the cgroup is throttled. */
struct kn_waiter { uint64_t mode, budget_ns; uint32_t tries, hits; bool off; uint64_t spun, blocked; };
void kn_waiter_init(struct kn_waiter *w, enum kn_wait mode);
ssize_t kn_recv_wait(struct kn_waiter *w, int fd, void *buf, size_t size, int flags); /* as recv() */

#endif
