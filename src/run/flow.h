/* run/flow - a client's TCP flows: connect, hello, welcome; at the end half-close and the server's account. */
#ifndef KN_RUN_FLOW_H
#define KN_RUN_FLOW_H

#include "run/worker.h"

/* Connect, hello, welcome. Returns the socket or -1. The run shuts it down if it must stop early. With
 * spec.external it only connects. */
int kn_flow_open(struct kn_worker *w, unsigned flow, struct kn_error *err);
/* The hello of a flow, packed, for a test that sends it by itself. `wire` has kn_hello_size() bytes. */
void kn_flow_hello(const struct kn_worker *w, unsigned flow, enum kn_hello_kind kind, uint8_t *wire);
/* For sockets that a test opened itself (reconnecting, non-blocking): the run can only shut down sockets that it knows.
 * Unwatch before close. */
void kn_flow_watch(struct kn_worker *w, unsigned flow, int fd);
void kn_flow_unwatch(struct kn_worker *w, unsigned flow);
int kn_flow_bind(const struct kn_worker *w, unsigned flow, int fd); /* before connect: run/source.h; -1 with errno */
const struct kn_addr *kn_flow_source(const struct kn_worker *w);    /* the given local address, or NULL */
int kn_flow_go(int fd, struct kn_error *err);                       /* sends the go byte; the server's clock starts */
/* After the loop: half-close, read the trailer (tail: the last bytes already read by the test, for reverse flows), keep
 * the server's account in the run; takes TCP_INFO; closes fd. */
int kn_flow_close(struct kn_worker *w, int fd, unsigned flow, const uint8_t *tail, size_t tail_size,
                  struct kn_error *err);
void kn_flow_abandon(struct kn_worker *w, int fd, unsigned flow); /* closes without asking for the account */
/* Closes a flow that failed during the run, and opens it again. Failed attempts count as connect errors. Returns the
 * socket, KN_FLOW_OVER if the time is over, or -1 if the run was stopped or the server is gone. */
#define KN_FLOW_OVER (-2)
int kn_flow_reopen(struct kn_worker *w, unsigned flow, int fd, struct kn_error *err);
/* Reads the server's account, up to the end of the stream. New reference. */
json_t *kn_flow_account(struct kn_worker *w, int fd, const uint8_t *tail, size_t tail_size, struct kn_error *err);

#endif
