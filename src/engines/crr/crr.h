/* engines/crr - what the files of tcp_crr share. */
#ifndef KN_ENGINES_CRR_H
#define KN_ENGINES_CRR_H

#include "core/pace.h"
#include "run/server.h"
#include "run/worker.h"

/* Its own options: the FIN rides on the data; the client ends with a reset. */
enum { KN_CRR_FIN, KN_CRR_RESET };
static inline bool kn_crr_fin(const struct kn_spec *spec)
{
    return spec->own[KN_CRR_FIN];
}

#define KN_CRR_CHUNK (64u << 10)

struct kn_crr {
    struct kn_worker *w;
    const struct kn_spec *spec;
    uint8_t *request, *response;
    size_t request_size;
    bool options;          /* some must be set before connect */
    unsigned failures;     /* in a row */
    uint64_t transactions; /* warm-up too: what the servers' counts are held against */
    struct kn_pace pace;   /* .per 0: closed loop */
};

int kn_crr_socket(const struct kn_crr *c, int flags); /* -1 with errno */
void kn_crr_close(const struct kn_crr *c, int fd);
/* The times of a transaction. With a rate it may be tried later than it was due. */
struct kn_crr_times {
    uint64_t begun_ns, tried_ns, connected_ns; /* due; connect was called; connected, or 0 */
};
uint64_t kn_crr_tried(const struct kn_crr *c, uint64_t begun_ns);
void kn_crr_done(struct kn_crr *c, const struct kn_crr_times *t, uint64_t now_ns);
/* Counts it (errno says what it was); -1 where there is no sense in going on. */
int kn_crr_failed(struct kn_crr *c, const struct kn_crr_times *t, uint64_t now_ns, struct kn_error *err);
/* More than one connection at a time. */
int kn_crr_many(struct kn_crr *c, struct kn_error *err);

/* The server's side: in place, and blocking (core/test.h). */
bool kn_crr_serve_short(struct kn_server *server, int fd, const struct kn_hello *hello, const uint8_t *extra,
                        size_t extra_size);
int kn_crr_serve_once(struct kn_server *server, int fd, const struct kn_hello *hello, const uint8_t *extra,
                      size_t extra_size, struct kn_error *err);

#endif
