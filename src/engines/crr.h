/* engines/crr - what others need of tcp_crr: its connections are short, its report is asked for apart. http without keep-alive is so too. */
#ifndef KN_ENGINES_CRR_H
#define KN_ENGINES_CRR_H

#include "engines/flow.h"

/* Whether its connections are for one transaction each. */
static inline bool kn_crr_is_short(const struct kn_spec *spec)
{
    return spec->test == KN_TCP_CRR || (spec->test == KN_HTTP && !spec->keepalive);
}
/* One transaction, blocking; `extra_size` bytes after the hello were read already. */
int kn_crr_serve(struct kn_server *server, int fd, const struct kn_hello *hello, size_t extra_size, struct kn_error *err);
/* Welcome and report of what this server has counted for the run. */
int kn_crr_serve_stats(struct kn_server *server, int fd, const struct kn_hello *hello, struct kn_error *err);
/* A transaction into the ledger, before its answer goes out: who has the last answer may ask for the report at once. */
void kn_crr_note(struct kn_server *server, const struct kn_hello *hello, uint64_t rx_bytes, uint64_t tx_bytes);
/* This thread has served one transaction, and nothing else: its CPU time is the run's. */
void kn_crr_alone(struct kn_server *server, const struct kn_hello *hello);

/* The client's side. Whether an agent answers there and takes our key: a short connection has no room for a refusal in words. */
int kn_crr_knock(struct kn_worker *w, struct kn_error *err);
/* After the loop, with the transactions of this worker, the warm-up's too: the last worker asks the servers for their reports. */
int kn_crr_settle(struct kn_worker *w, uint64_t transactions, bool failed, struct kn_error *err);

/* serve.c: welcome, and a report as a trailer. */
int kn_serve_welcome(const struct kn_server *server, int fd, struct kn_error *err);
int kn_serve_report(int fd, const json_t *report, struct kn_error *err);

#endif
