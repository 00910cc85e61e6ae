/* fetch - whole answers, and streams. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "fetch/transfer.h"

#define STREAM_ROOM ((size_t)1 << 20)

static void set_up_libcurl(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

void kn_fetch_once(void)
{
    static pthread_once_t done = PTHREAD_ONCE_INIT;
    pthread_once(&done, set_up_libcurl);
}

uint64_t kn_fetch_deadline(const struct kn_fetch_request *r)
{
    return kn_now_ns() + (r->timeout_ns ? r->timeout_ns : 30 * KN_NS_PER_S);
}

/* ---- whole answers --------------------------------------------------------------------------- */

/* The multi handle holds the connections, the easy handle the session. */
struct kn_fetch_client {
    CURLM *multi;
    CURL *easy;
};

struct kn_fetch_client *kn_fetch_client_new(struct kn_error *err)
{
    kn_fetch_once();
    struct kn_fetch_client *c = calloc(1, sizeof *c);
    if (c) {
        c->multi = curl_multi_init();
        c->easy = curl_easy_init();
    }
    if (c && c->multi && c->easy)
        return c;
    kn_fetch_client_free(c);
    return kn_null(kn_fail_memory(err));
}

void kn_fetch_client_free(struct kn_fetch_client *c)
{
    if (!c)
        return;
    if (c->easy)
        curl_easy_cleanup(c->easy);
    if (c->multi)
        curl_multi_cleanup(c->multi);
    free(c);
}

void kn_fetch_response_fini(struct kn_fetch_response *r)
{
    free(r->headers);
    free(r->body);
    *r = (struct kn_fetch_response){0};
}

static bool never(const struct kn_transfer *t)
{
    (void)t;
    return false;
}

int kn_transfer_answer(struct kn_transfer *t, struct kn_fetch_response *response, struct kn_error *err)
{
    if (t->result != CURLE_OK)
        return kn_transfer_failed(t, err);
    *response = (struct kn_fetch_response){.status = kn_transfer_status(t), .body_size = t->body.size};
    response->headers = kn_buffer_take(&t->head);
    response->body = kn_buffer_take(&t->body);
    if (response->headers && response->body)
        return 0;
    kn_fetch_response_fini(response);
    return kn_fail_memory(err);
}

int kn_fetch(struct kn_fetch_client *client, const struct kn_fetch_request *r, struct kn_fetch_response *response,
             struct kn_error *err)
{
    struct kn_transfer t = {.wake_fd = -1};
    uint64_t until_ns = kn_fetch_deadline(r);
    int rc = kn_transfer_start(&t, client->multi, client->easy, r, err);
    if (rc == 0)
        rc = kn_transfer_drive(&t, never, until_ns, err);
    if (rc == 0)
        rc = kn_transfer_answer(&t, response, err);
    if (rc < 0)
        kn_error_context(err, "%s", r->unix_path ? r->unix_path : r->url);
    kn_transfer_end(&t);
    return rc;
}

/* ---- streams --------------------------------------------------------------------------------- */

struct kn_fetch_stream {
    struct kn_fetch_client *client;
    struct kn_transfer t;
    size_t given; /* bytes of the body that the last read handed out */
    int status;
    char *url;
};

static bool have_head(const struct kn_transfer *t)
{
    return t->head_done;
}

static int open_stream(struct kn_fetch_stream *s, const struct kn_fetch_request *r, struct kn_error *err)
{
    s->t.wake_fd = -1;
    s->t.pause_at = STREAM_ROOM;
    s->url = strdup(r->unix_path ? r->unix_path : r->url);
    if (!s->url || !(s->client = kn_fetch_client_new(err)))
        return kn_fail_memory(err);
    uint64_t until_ns = kn_fetch_deadline(r);
    if (kn_transfer_start(&s->t, s->client->multi, s->client->easy, r, err) < 0 ||
        kn_transfer_drive(&s->t, have_head, until_ns, err) < 0)
        return -1;
    if (!s->t.head_done)
        return kn_transfer_failed(&s->t, err);
    s->status = kn_transfer_status(&s->t);
    return kn_buffer_add(&s->t.head, "", 0) < 0 ? kn_fail_memory(err) : 0;
}

struct kn_fetch_stream *kn_fetch_stream_open(const struct kn_fetch_request *r, struct kn_error *err)
{
    struct kn_fetch_stream *s = calloc(1, sizeof *s);
    if (!s)
        return kn_null(kn_fail_memory(err));
    if (open_stream(s, r, err) == 0)
        return s;
    kn_error_context(err, "%s", r->unix_path ? r->unix_path : r->url);
    kn_fetch_stream_free(s);
    return NULL;
}

int kn_fetch_stream_status(const struct kn_fetch_stream *s)
{
    return s->status;
}

const char *kn_fetch_stream_headers(const struct kn_fetch_stream *s)
{
    return s->t.head.bytes;
}

static bool have_bytes(const struct kn_transfer *t)
{
    return t->body.size > 0;
}

static bool have_line(const struct kn_transfer *t)
{
    return t->body.size > 0 && memchr(t->body.bytes, '\n', t->body.size);
}

/* Forgets what the last read gave, and lets a waiting peer go on. */
static void make_room(struct kn_fetch_stream *s)
{
    if (s->given)
        kn_buffer_drop(&s->t.body, s->given);
    s->given = 0;
    if (s->t.paused && s->t.body.size < s->t.pause_at) {
        s->t.paused = false;
        curl_easy_pause(s->t.easy, CURLPAUSE_CONT);
    }
}

static int give(struct kn_fetch_stream *s, bool line, const char **chunk, size_t *size)
{
    const char *end = line ? memchr(s->t.body.bytes, '\n', s->t.body.size) : NULL;
    *chunk = s->t.body.bytes;
    *size = end ? (size_t)(end - s->t.body.bytes) : s->t.body.size;
    s->given = *size + (end != NULL);
    if (end && *size && end[-1] == '\r')
        --*size;
    return 1;
}

static bool have_line_or_full(const struct kn_transfer *t)
{
    return have_line(t) || t->paused;
}

/* A line longer than the room would wait for itself: the room grows, up to max_body. */
static int wait_for_line(struct kn_fetch_stream *s, uint64_t until_ns, struct kn_error *err)
{
    while (!s->t.over && !have_line(&s->t)) {
        if (s->t.paused && s->t.body.size >= s->t.max_body)
            return kn_fail(err, KN_E_LIMIT, "a line is longer than %zu bytes", s->t.max_body);
        if (s->t.paused)
            s->t.pause_at *= 2;
        make_room(s);
        if (kn_transfer_drive(&s->t, have_line_or_full, until_ns, err) < 0)
            return -1;
    }
    return 0;
}

static int wait_for(struct kn_fetch_stream *s, bool line, uint64_t until_ns, struct kn_error *err)
{
    if (line)
        return wait_for_line(s, until_ns, err);
    return s->t.over || have_bytes(&s->t) ? 0 : kn_transfer_drive(&s->t, have_bytes, until_ns, err);
}

int kn_fetch_stream_read(struct kn_fetch_stream *s, bool line, uint64_t timeout_ns, const char **chunk, size_t *size,
                         struct kn_error *err)
{
    make_room(s);
    if (wait_for(s, line, kn_now_ns() + timeout_ns, err) < 0)
        return kn_error_context(err, "%s", s->url);
    if (s->t.body.size && (!line || have_line(&s->t) || s->t.over))
        return give(s, line, chunk, size);
    if (s->t.result == CURLE_OK)
        return 0;
    kn_transfer_failed(&s->t, err);
    return kn_error_context(err, "%s", s->url);
}

void kn_fetch_stream_free(struct kn_fetch_stream *s)
{
    if (!s)
        return;
    kn_transfer_end(&s->t);
    kn_fetch_client_free(s->client);
    free(s->url);
    free(s);
}
