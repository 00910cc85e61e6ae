/* engines/crr_client - what the two ways of driving tcp_crr share. */
#ifndef KN_ENGINES_CRR_CLIENT_H
#define KN_ENGINES_CRR_CLIENT_H

#include "core/pace.h"
#include "engines/flow.h"

#define KN_CRR_CHUNK (64u << 10)

struct kn_crr {
    struct kn_worker *w;
    const struct kn_spec *spec;
    uint8_t *request, *response;
    size_t request_size;
    bool options;                      /* some must be set before connect */
    unsigned failures;                 /* in a row */
    uint64_t transactions;             /* warm-up too: what the servers' counts are held against */
    struct kn_pace pace;               /* .per 0: closed loop */
};

int kn_crr_socket(const struct kn_crr *c, int flags);   /* -1 with errno */
void kn_crr_done(struct kn_crr *c, uint64_t begun_ns, uint64_t connected_ns, uint64_t now_ns);
/* Counts it (errno says what it was); -1 where there is no sense in going on. */
int kn_crr_failed(struct kn_crr *c, bool connected, uint64_t begun_ns, uint64_t now_ns, struct kn_error *err);
/* More than one connection at a time. */
int kn_crr_many(struct kn_crr *c, struct kn_error *err);

#endif
