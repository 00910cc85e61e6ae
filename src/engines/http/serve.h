/* engines/http/serve - the agent's own HTTP server: GET of anything is answered with `body` bytes.
 *
 * It serves its own clients alone (the hello has proved that they are), so it takes GET with a head that fits into a
 * few KiB, one after another or several at once, and refuses all else by closing. Many flows are served at a desk
 * (run/desk.h), few by a thread each. */
#ifndef KN_ENGINES_HTTP_SERVE_H
#define KN_ENGINES_HTTP_SERVE_H

#include "run/desk.h"

#define KN_HTTP_REPLY_HEAD 256
#define KN_HTTP_REPLY_WHOLE (16u << 10) /* a reply that is not longer is one piece of memory */
#define KN_HTTP_REQUEST_MAX (4u << 10)

/* Without keep-alive: the hello with the request behind it is one transaction, and what was served is kept in the
 * book of short connections (run/short.h). In place where it is all there (true), else blocking. */
bool kn_http_serve_short(struct kn_server *server, int fd, const struct kn_hello *hello, const uint8_t *extra,
                         size_t extra_size);
int kn_http_serve_once(struct kn_server *server, int fd, const struct kn_hello *hello, const uint8_t *extra,
                       size_t extra_size, struct kn_error *err);

int kn_http_serve(struct kn_served *s, int fd, struct kn_error *err);
extern const struct kn_desk_test kn_http_desk;

#endif
