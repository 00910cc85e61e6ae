/* fetch - HTTP requests to agents and API servers, by libcurl: whole answers, and streams for watches and logs.
 *
 * A client keeps its connections for the next request. Every wait ends at a deadline and at the caller's wake-up
 * descriptor, which is only polled, never read. Bodies are bounded. Secrets (keys, tokens) stay in memory. It refuses
 * every scheme but http and https, and takes no proxy from the environment for what goes to a Unix socket or to
 * loopback. Redirects are answers like any other. */
#ifndef KN_FETCH_FETCH_H
#define KN_FETCH_FETCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

struct kn_fetch_request {
    const char *method; /* NULL: GET, or POST where there is a body */
    const char *url;
    const char *const *headers; /* "Name: value" …, NULL-ended; may be NULL */
    const void *body;
    size_t body_size;
    const char *unix_path;       /* instead of TCP; "@name" is abstract */
    uint64_t timeout_ns;         /* of the whole request; of the head where it is a stream; 0: 30 s */
    uint64_t connect_timeout_ns; /* 0: 5 s */
    size_t max_body;             /* 0: 64 MiB */
    /* TLS: a file's path, or PEM text (which holds "-----BEGIN"); NULL: the system's authorities, no certificate */
    const char *ca, *cert, *key;
    const char *server_name; /* what the certificate must name, where it is not the URL's host */
    bool insecure;
    const char *proxy; /* NULL: as the environment says; "": none */
    bool http1;        /* do not offer HTTP/2 */
    int wake_fd;       /* readable: give up with KN_E_INTERRUPTED; -1: none */
};

struct kn_fetch_response {
    int status;
    char *headers; /* "name: value\n" …, names in lower case */
    char *body;    /* ends with a 0 that is not counted */
    size_t body_size;
};
void kn_fetch_response_fini(struct kn_fetch_response *r);

struct kn_fetch_client;
struct kn_fetch_client *kn_fetch_client_new(struct kn_error *err);
void kn_fetch_client_free(struct kn_fetch_client *client);
/* An answer of whatever status is an answer; -1 is the transport's failure. */
int kn_fetch(struct kn_fetch_client *client, const struct kn_fetch_request *request, struct kn_fetch_response *response,
             struct kn_error *err);

/* Many requests at the same time, each with a number of the caller's. With HTTP/2 they share a connection. */
struct kn_fetch_pool;
struct kn_fetch_pool *kn_fetch_pool_new(struct kn_error *err);
int kn_fetch_pool_add(struct kn_fetch_pool *pool, const struct kn_fetch_request *request, uint64_t number,
                      struct kn_error *err);
/* Lets them go on. 1: `number` is over, *rc says how, as kn_fetch does; 0: none within timeout_ns; -1: failed, or
 * `wake_fd` became readable. */
int kn_fetch_pool_wait(struct kn_fetch_pool *pool, uint64_t timeout_ns, int wake_fd, uint64_t *number, int *rc,
                       struct kn_fetch_response *response, struct kn_error *err);
void kn_fetch_pool_free(struct kn_fetch_pool *pool); /* ends what goes on */

/* A stream: the head is there when it opens, the body comes as it arrives. What nobody reads makes the peer wait, not
 * this memory grow. */
struct kn_fetch_stream;
struct kn_fetch_stream *kn_fetch_stream_open(const struct kn_fetch_request *request, struct kn_error *err);
int kn_fetch_stream_status(const struct kn_fetch_stream *stream);
const char *kn_fetch_stream_headers(const struct kn_fetch_stream *stream);
/* 1: *chunk of *size bytes, valid until the next call; 0: the stream ended; -1: failed, and after KN_E_TIMEOUT and
 * KN_E_INTERRUPTED it can be tried again. `line`: whole lines without their end (the last one may lack it), at most
 * max_body long. */
int kn_fetch_stream_read(struct kn_fetch_stream *stream, bool line, uint64_t timeout_ns, const char **chunk,
                         size_t *size, struct kn_error *err);
void kn_fetch_stream_free(struct kn_fetch_stream *stream);

#endif
