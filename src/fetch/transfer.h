/* fetch/transfer - one libcurl transfer under way: what whole answers and streams share. Private to this floor. */
#ifndef KN_FETCH_TRANSFER_H
#define KN_FETCH_TRANSFER_H

#include <curl/curl.h>

#include "fetch/fetch.h"

/* `size` bytes from `bytes`, which lie somewhere in `memory`. */
struct kn_buffer {
    char *memory, *bytes;
    size_t size, room;
};
/* Appends, and keeps a 0 after the end. -1: out of memory. */
int kn_buffer_add(struct kn_buffer *b, const void *bytes, size_t n);
void kn_buffer_drop(struct kn_buffer *b, size_t n); /* the first n; the rest moves only when it weighs less than they */
char *kn_buffer_take(struct kn_buffer *b);          /* free() it; the buffer is empty then. NULL: out of memory */

/* libcurl wants to be set up once and first; new clients and pools do so. */
void kn_fetch_once(void);
uint64_t kn_fetch_deadline(const struct kn_fetch_request *r);

struct kn_transfer {
    CURL *easy;
    CURLM *multi;
    struct curl_slist *headers, *connect_to;
    struct kn_buffer head, body;
    size_t max_body;
    size_t pause_at; /* how full the body may get before the peer must wait; 0: above max_body is refused */
    bool head_done, paused, too_large, over;
    CURLcode result;
    int wake_fd;
    char detail[CURL_ERROR_SIZE];
};

int kn_transfer_start(struct kn_transfer *t, CURLM *multi, CURL *easy, const struct kn_fetch_request *r,
                      struct kn_error *err);
/* Lets it go on until it is over, `done` says enough, or the time is up (a deadline of 0 is none). */
typedef bool kn_transfer_test(const struct kn_transfer *t);
int kn_transfer_drive(struct kn_transfer *t, kn_transfer_test *done, uint64_t deadline_ns, struct kn_error *err);
/* Of one that is over: its answer, or -1. */
int kn_transfer_answer(struct kn_transfer *t, struct kn_fetch_response *response, struct kn_error *err);
int kn_transfer_status(const struct kn_transfer *t);
int kn_transfer_failed(const struct kn_transfer *t, struct kn_error *err); /* what libcurl said, in our words; -1 */
void kn_transfer_end(struct kn_transfer *t);                               /* leaves multi and easy to their owner */

#endif
