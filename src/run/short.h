/* run/short - connections that carry one transaction each. The server counts them in a book. The client asks for the
 * account over a separate connection, because no single one of them could carry it. */
#ifndef KN_RUN_SHORT_H
#define KN_RUN_SHORT_H

#include "run/server.h"
#include "run/worker.h"

/* ---- the server's side ---- */

struct kn_short_book *kn_short_book_new(void);
void kn_short_book_free(struct kn_short_book *book);
/* Counts a transaction before its answer goes out, because a client with the last answer may ask for the account at
 * once. False: the run has moved more bytes than this server allows; the transaction is not answered. */
bool kn_short_note(struct kn_server *server, const struct kn_hello *hello, uint64_t rx_bytes, uint64_t tx_bytes);
/* Serves a connection for which kn_server_is_short() is true; blocks. */
int kn_short_serve(struct kn_server *server, int fd, const struct kn_hello *hello, const uint8_t *extra,
                   size_t extra_size, struct kn_error *err);

/* ---- the client's side ---- */

/* Whether an agent answers and accepts our key, because a short connection has no room for a refusal with a reason. */
int kn_short_knock(struct kn_worker *w, struct kn_error *err);
/* To be called after the loop, with the transactions of this worker, warm-up included. The last worker
 * of a target asks the servers for their accounts. */
int kn_short_settle(struct kn_worker *w, uint64_t transactions, bool failed, struct kn_error *err);
/* The same if backends may be gone by now, which is not a failure: asks for at most a second. */
void kn_short_gather(struct kn_worker *w, uint64_t transactions);

#endif
