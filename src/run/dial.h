/* run/dial - opens a TCP flow without blocking: connect, hello and welcome are steps of a loop.
 *
 * It is used to open many flows concurrently, and to open a flow again that failed during a run while the others go
 * on. */
#ifndef KN_RUN_DIAL_H
#define KN_RUN_DIAL_H

#include "run/loop.h"
#include "run/worker.h"

enum kn_dial_step { KN_DIAL_IDLE, KN_DIAL_CONNECT, KN_DIAL_HELLO, KN_DIAL_WELCOME, KN_DIAL_OPEN };

struct kn_dial {
    int fd; /* -1: none */
    uint8_t step;
    uint16_t done;  /* bytes of the hello that are sent */
    uint8_t *hello; /* freed when it is sent */
    uint64_t deadline_ns;
    unsigned backend; /* who answered (run/backends.h) */
};

/* Starts to connect, and registers the socket with `data` for all edges. -1: failed, there is no socket; err is set. */
int kn_dial_begin(struct kn_worker *w, const struct kn_loop *l, unsigned flow, epoll_data_t data, struct kn_dial *d,
                  struct kn_error *err);
/* Call on each event, and from time to time to check the deadline. 1: open; 0: not yet; -1: failed, socket closed. */
int kn_dial_step(struct kn_worker *w, unsigned flow, struct kn_dial *d, uint64_t now_ns, struct kn_error *err);
void kn_dial_end(struct kn_worker *w, unsigned flow, struct kn_dial *d); /* closes it in any state */
struct kn_dial *kn_dials_new(unsigned n);                                /* NULL: out of memory */
void kn_dials_free(struct kn_worker *w, struct kn_dial *dials);          /* also closes those still open */
/* Opens all flows of a worker, many concurrently; its flow i is registered with data.u32 = i. */
int kn_dial_all(struct kn_worker *w, struct kn_loop *l, struct kn_dial *dials, struct kn_error *err);

#endif
