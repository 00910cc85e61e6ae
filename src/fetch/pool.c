/* fetch - many requests at the same time. */
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "fetch/transfer.h"

#define CONNECTIONS_KEPT 64L

struct job {
    struct job *next;
    struct kn_transfer t;
    uint64_t number, until_ns;
    char *url;
};

struct kn_fetch_pool {
    CURLM *multi;
    struct job *jobs;
};

struct kn_fetch_pool *kn_fetch_pool_new(struct kn_error *err)
{
    kn_fetch_once();
    struct kn_fetch_pool *pool = calloc(1, sizeof *pool);
    if (pool && (pool->multi = curl_multi_init())) {
        curl_multi_setopt(pool->multi, CURLMOPT_MAXCONNECTS, CONNECTIONS_KEPT);
        return pool;
    }
    free(pool);
    return kn_null(kn_fail_memory(err));
}

static void job_free(struct job *job)
{
    CURL *easy = job->t.easy;
    kn_transfer_end(&job->t);
    curl_easy_cleanup(easy);
    free(job->url);
    free(job);
}

void kn_fetch_pool_free(struct kn_fetch_pool *pool)
{
    if (!pool)
        return;
    while (pool->jobs) {
        struct job *job = pool->jobs;
        pool->jobs = job->next;
        job_free(job);
    }
    curl_multi_cleanup(pool->multi);
    free(pool);
}

int kn_fetch_pool_add(struct kn_fetch_pool *pool, const struct kn_fetch_request *r, uint64_t number,
                      struct kn_error *err)
{
    struct job *job = calloc(1, sizeof *job);
    CURL *easy = curl_easy_init();
    if (!job || !easy || !(job->url = strdup(r->unix_path ? r->unix_path : r->url))) {
        free(job);
        curl_easy_cleanup(easy);
        return kn_fail_memory(err);
    }
    job->number = number;
    job->until_ns = kn_fetch_deadline(r);
    if (kn_transfer_start(&job->t, pool->multi, easy, r, err)) {
        kn_error_context(err, "%s", job->url);
        job_free(job);
        return -1;
    }
    curl_easy_setopt(easy, CURLOPT_PIPEWAIT, 1L);
    job->next = pool->jobs;
    pool->jobs = job;
    return 0;
}

static void take_results(struct kn_fetch_pool *pool)
{
    int left;
    for (CURLMsg *m; (m = curl_multi_info_read(pool->multi, &left));)
        for (struct job *job = pool->jobs; m->msg == CURLMSG_DONE && job; job = job->next)
            if (job->t.easy == m->easy_handle) {
                job->t.over = true;
                job->t.result = m->data.result;
            }
}

/* One that is over, or has run out of time, taken from the list. NULL: none. */
static struct job *take_over(struct kn_fetch_pool *pool, uint64_t now_ns)
{
    for (struct job **at = &pool->jobs; *at; at = &(*at)->next)
        if ((*at)->t.over || now_ns >= (*at)->until_ns) {
            struct job *job = *at;
            *at = job->next;
            return job;
        }
    return NULL;
}

static int conclude(struct job *job, struct kn_fetch_response *response, struct kn_error *err)
{
    int rc = job->t.over ? kn_transfer_answer(&job->t, response, err)
                         : kn_fail(err, KN_E_TIMEOUT, "no response in time");
    if (rc < 0)
        kn_error_context(err, "%s", job->url);
    job_free(job);
    return rc;
}

static uint64_t next_deadline(const struct kn_fetch_pool *pool, uint64_t until_ns)
{
    for (const struct job *job = pool->jobs; job; job = job->next)
        if (job->until_ns < until_ns)
            until_ns = job->until_ns;
    return until_ns;
}

int kn_fetch_pool_wait(struct kn_fetch_pool *pool, uint64_t timeout_ns, int wake_fd, uint64_t *number, int *rc,
                       struct kn_fetch_response *response, struct kn_error *err)
{
    struct curl_waitfd wake = {.fd = wake_fd, .events = CURL_WAIT_POLLIN};
    for (uint64_t until_ns = kn_now_ns() + timeout_ns;;) {
        int running;
        if (curl_multi_perform(pool->multi, &running) != CURLM_OK)
            return kn_fail(err, KN_E_SYSTEM, "libcurl failed to drive transfers");
        take_results(pool);
        uint64_t now_ns = kn_now_ns();
        struct job *job = take_over(pool, now_ns);
        if (job) {
            *number = job->number;
            *rc = conclude(job, response, err);
            return 1;
        }
        if (now_ns >= until_ns)
            return 0;
        uint64_t ms = (next_deadline(pool, until_ns) - now_ns) / KN_NS_PER_MS + 1;
        wake.revents = 0;
        curl_multi_poll(pool->multi, wake_fd < 0 ? NULL : &wake, wake_fd < 0 ? 0 : 1, ms < 60000 ? (int)ms : 60000,
                        NULL);
        if (wake.revents)
            return kn_fail(err, KN_E_INTERRUPTED, "interrupted");
    }
}
