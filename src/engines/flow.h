/* engines/flow - what the tests' files share: the worker they run on, flows, the window, waiting.
 *
 * A test offers a `struct kn_test_ops`. Its client function runs on a worker's thread and goes through four steps:
 * open its flows (kn_flow_open), kn_worker_ready, the measured loop until kn_worker_over, kn_flow_close. */
#ifndef KN_ENGINES_FLOW_H
#define KN_ENGINES_FLOW_H

#include <sys/types.h>

#include "core/clock.h"
#include "core/figures.h"
#include "engines/engine.h"
#include "meter/meter.h"
#include "net/io.h"

struct kn_worker {
    struct kn_run *run;
    const struct kn_spec *spec;
    const atomic_bool *stop;        /* the run's; read by kn_worker_stopped */
    unsigned index, n_workers;      /* which one this is, of how many */
    unsigned first_flow, n_flows;   /* the flows that are this worker's: first_flow … first_flow + n_flows - 1 */
    struct kn_addr peer;            /* resolved target */
    const struct kn_target *target; /* as it was named */
    struct kn_figures figures;      /* only this thread writes it */
    /* The window, valid after kn_worker_ready. Work done before open_ns is warm-up. */
    uint64_t start_ns, open_ns, end_ns;   /* end_ns is UINT64_MAX where `count` limits the run */
    uint64_t untracked;             /* `count`: operations that were taken in the warm-up; they are not counted */
    uint64_t cpu_open_ns;           /* this thread's CPU time where the window opened; 0: not open yet */
    bool cpu_closed, loop_over;
    _Atomic uint64_t begun_ns;      /* of an operation that blocks without a timeout of its own: the run ends it at spec.timeout_ns; 0: none */
    _Atomic uint64_t live_ops, live_bytes; /* for progress: stored now and then, relaxed; kn_worker_op does it by itself */
};

/* What a server has of one flow. `figures` goes into the report as it stands when serve() returns. */
struct kn_served {
    struct kn_server *server;
    const struct kn_hello *hello;
    const struct kn_spec *spec;     /* hello->spec */
    struct kn_figures figures;
    uint64_t start_ns, open_ns, end_ns; /* the server's own window: start is the first byte that came after the welcome */
    uint64_t cpu_open_ns;
    struct kn_cpu_reading at_open, at_close;
    bool opened, closed;
    json_t *chosen;                 /* what was calibrated here, for the report; NULL: nothing */
    /* UDP alone. A flow's client marks its datagrams measured or not, so the window is not the server's clock's matter here. */
    const struct kn_key *key;
    uint64_t measured_sent;         /* told by the client's fetch or steer */
    uint32_t phase;                 /* of the last steer; steered_ns: when it came */
    uint64_t steered_ns;
};
/* TCP: kn_serve_tcp does it on the go byte, before serve(). UDP: the test does, on its first datagram. */
void kn_served_start(struct kn_served *s, uint64_t now_ns);
void kn_served_open(struct kn_served *s);    /* the window opens: CPU readings */
void kn_served_close(struct kn_served *s, uint64_t now_ns);   /* it is over (idempotent): CPU, figures.window_ns */
/* To be called now and then by serve(): opens and closes the window at its time. True while it is open. */
static inline bool kn_served_tick(struct kn_served *s, uint64_t now_ns)
{
    if (!s->opened && now_ns >= s->open_ns)
        kn_served_open(s);
    if (!s->closed && now_ns >= s->end_ns)
        kn_served_close(s, s->end_ns);
    return s->opened && !s->closed;
}
static inline bool kn_served_stopped(const struct kn_served *s)
{
    return atomic_load_explicit(s->server->stop, memory_order_relaxed);
}
/* spec.delay_ns before an answer; in steps, so that a stop is heard. */
void kn_serve_delay(const struct kn_server *server, const struct kn_spec *spec);
/* What serve.c does the same for TCP and UDP. */
void kn_serve_welcome_fill(const struct kn_server *server, int fd, struct kn_welcome *w);
json_t *kn_served_report(const struct kn_served *s, int fd);   /* NULL: out of memory */
int kn_serve_limits(const struct kn_server *server, const struct kn_spec *spec, struct kn_error *err);
/* UDP (udp.c, and kn_serve_udp with it): what to do with a datagram that came on the flow's socket. */
enum kn_udp_next { KN_UDP_IS_TEST, KN_UDP_WAS_CONTROL, KN_UDP_WANTS_REPORT };
/* A hello that came again is answered again, a steer is taken; a fetch means that the client is done: serve() returns 0,
 * kn_serve_udp answers it (the client asks again). */
enum kn_udp_next kn_served_datagram(struct kn_served *s, int fd, const uint8_t *datagram, size_t size);

struct kn_test_ops {
    int (*client)(struct kn_worker *w, struct kn_error *err);
    /* After the welcome was sent, and on TCP after the go byte came. Returns 0 at the client's half-close (TCP) or its
     * fetch (UDP); the report follows. NULL where an agent has no part (ping). */
    int (*serve)(struct kn_served *s, int fd, struct kn_error *err);
    bool sends; /* a worker that hangs past its end is in send(): closing the sending side frees it, what is queued still arrives */
};
const struct kn_test_ops *kn_test_ops(enum kn_test test);

/* TCP: connect, hello, welcome. Returns the socket or -1. The run shuts it down when it must stop in the middle.
 * Where spec.external: connect alone. */
int kn_flow_open(struct kn_worker *w, unsigned flow, struct kn_error *err);
/* The hello of a flow, packed: for who sends it himself. `wire` has kn_hello_size() bytes. */
void kn_flow_hello(const struct kn_worker *w, unsigned flow, enum kn_hello_kind kind, uint8_t *wire);
/* Sockets that a test opened itself (reconnecting, non-blocking): the run shuts down what it knows of. Unwatch before close. */
void kn_flow_watch(struct kn_worker *w, unsigned flow, int fd);
void kn_flow_unwatch(struct kn_worker *w, unsigned flow);
int kn_flow_go(int fd, struct kn_error *err);   /* TCP: sends the go byte; the server's clock starts */
/* UDP: the cookie exchange; a connected socket. */
int kn_flow_open_udp(struct kn_worker *w, unsigned flow, struct kn_error *err);
/* After the loop: half-close, read the trailer (tail: the last bytes already read by the test, for reverse flows), keep the
 * server's report in the run; takes TCP_INFO; closes fd. */
int kn_flow_close(struct kn_worker *w, int fd, unsigned flow, const uint8_t *tail, size_t tail_size, struct kn_error *err);
/* `sent`: measured datagrams that this side has sent, so that the server knows what is still on its way (0: does not matter). */
int kn_flow_close_udp(struct kn_worker *w, int fd, unsigned flow, uint64_t sent, struct kn_error *err);
void kn_flow_abandon(struct kn_worker *w, int fd, unsigned flow);   /* closes without asking for anything */
/* A server's report that came some other way than the two closes; the run keeps it. */
int kn_flow_report(struct kn_worker *w, const json_t *report, struct kn_error *err);

/* Waits until all workers' flows are open; fills the window. Nothing is sent here: the test's own first byte (kn_flow_go
 * on TCP) tells its server. -1: the run is being stopped. */
int kn_worker_ready(struct kn_worker *w, struct kn_error *err);
static inline bool kn_worker_stopped(const struct kn_worker *w)   /* cheap enough for every operation */
{
    return atomic_load_explicit(w->stop, memory_order_relaxed);
}
static inline bool kn_worker_over(const struct kn_worker *w, uint64_t now_ns)
{
    return now_ns >= w->end_ns || kn_worker_stopped(w);
}
/* For `count`: takes up to `n` of what is left to do over all workers; 0: none left. Gives `n` where there is no count, and
 * in the warm-up. Every operation taken ends in kn_worker_op or kn_worker_drop (failed, timed out: counted by the test). */
uint64_t kn_worker_take(struct kn_worker *w, uint64_t n);
void kn_worker_drop(struct kn_worker *w, uint64_t n);
/* What the first of all workers said here: the value that all others are held against. */
uint64_t kn_worker_first(struct kn_worker *w, uint64_t value);
/* One operation that ended at now_ns: counts it if the window is open; latency where it has one. */
void kn_worker_op(struct kn_worker *w, uint64_t now_ns, uint64_t latency_ns, uint64_t tx_bytes, uint64_t rx_bytes);
/* One whose answer came, but later than the timeout allows: counted as that in place of kn_worker_op, and its latency kept. False: it
 * was in time. For tests that wait for every answer, since the next one comes behind it. */
bool kn_worker_late(struct kn_worker *w, uint64_t now_ns, uint64_t took_ns, uint64_t latency_ns);
/* Names what was calibrated or differs, once a run: lands in "chosen", or in "flags". */
void kn_worker_chosen(struct kn_worker *w, const char *key, const char *format, ...) __attribute__((format(printf, 3, 4)));
void kn_worker_flag(struct kn_worker *w, const char *flag);
/* CPU of this thread at the edges of the window (idempotent both): kn_worker_op opens by itself; the test calls close where
 * its measured loop ends. Close also sets figures.window_ns and tells the run that this worker measures no more. */
void kn_worker_cpu_open(struct kn_worker *w);
void kn_worker_cpu_close(struct kn_worker *w);

extern const struct kn_test_ops kn_tcp_stream_ops, kn_tcp_sendfile_ops, kn_tcp_bw_ops, kn_udp_stream_ops, kn_tcp_rr_ops, kn_tcp_lat_ops,
    kn_udp_rr_ops, kn_tcp_crr_ops, kn_http_ops, kn_ping_ops;

/* engines/wait: receive by the way that `wait` says. Auto: try without waiting and yield, up to 50 µs, then block; stops spinning by
 * itself where the hits fall under half, the round trip exceeds the budget, or the cgroup is throttled. */
struct kn_waiter {
    uint64_t mode, budget_ns;
    uint32_t tries, hits, slow, retry;
    bool off;
    uint64_t eager_ns;                                  /* how long it asks before it yields for the first time */
    uint32_t eager_tries, eager_late, eager_retry;      /* of these, answers that came only after a yield */
    uint64_t spun, blocked;
};
void kn_waiter_init(struct kn_waiter *w, enum kn_wait mode);
ssize_t kn_recv_wait(struct kn_waiter *w, int fd, void *buf, size_t size, int flags); /* as recv() */

#endif
