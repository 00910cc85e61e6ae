/* engines/http_serve - the agent's own HTTP server: GET of anything is answered with `body` bytes.
 *
 * It serves its own clients alone (the hello has proved that they are), so it takes GET with a head that fits into a
 * few KiB, one after another or several at once, and refuses all else by closing. Flows without `delay` share a few
 * threads (a desk each), which wait for all of them at once: a thread each would spend more on waking up than on
 * serving. Where the server has no desk, and with a `delay`, a flow's own thread serves it. */
#ifndef KN_ENGINES_HTTP_SERVE_H
#define KN_ENGINES_HTTP_SERVE_H

#include "engines/flow.h"

#define KN_HTTP_REPLY_HEAD 256
#define KN_HTTP_REPLY_WHOLE (16u << 10)   /* a reply that is not longer is one piece of memory */
#define KN_HTTP_REQUEST_MAX (4u << 10)

struct kn_http_flow {
    int fd;
    struct kn_served *s;
    bool at_desk;              /* which opens and closes the window itself: its CPU time is not one flow's */
    bool failed;               /* ended by something that is no half-close */
    size_t have;               /* bytes of requests in `in` */
    uint64_t left;             /* of the reply that is being sent */
    size_t out_size;           /* of `out`: the reply's head and the beginning of its body */
    uint64_t reply_size;
    uint64_t served;           /* replies, the warm-up's too */
    uint8_t in[KN_HTTP_REQUEST_MAX];
    uint8_t out[KN_HTTP_REPLY_HEAD + KN_HTTP_REPLY_WHOLE];
};
void kn_http_flow_init(struct kn_http_flow *f, struct kn_served *s, int fd);
/* Serves what is there. `flags` are recv()'s and send()'s: 0 blocks. `to_end`: the client's half-close may be there
 * already. False: the flow is over, or failed. */
bool kn_http_flow_serve(struct kn_http_flow *f, int flags, bool to_end);

/* Serves a flow at a desk; returns when it is over. */
int kn_http_desk_serve(struct kn_http_desk *desk, struct kn_served *s, int fd, struct kn_error *err);

/* Without keep-alive: the hello with the request behind it is one transaction, and what was served is kept in the
 * ledger of short connections. In place where it is all there (true), else blocking. */
bool kn_http_serve_short(struct kn_server *server, int fd, const struct kn_hello *hello, const uint8_t *extra,
                         size_t extra_size);
int kn_http_serve_once(struct kn_server *server, int fd, const struct kn_hello *hello, const uint8_t *extra,
                       size_t extra_size, struct kn_error *err);

int kn_http_serve(struct kn_served *s, int fd, struct kn_error *err);
int kn_http_broke_off(struct kn_error *err);   /* -1, and why */

#endif
