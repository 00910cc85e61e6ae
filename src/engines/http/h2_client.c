/* The http test with http2: a worker's connections from their opening to their end. Every socket is registered once,
 * for all edges; one that was not read to its end has `more`. */
#include <stdlib.h>
#include <string.h>

#include "engines/http/h2.h"
#include "run/flow.h"

static nghttp2_nv field(const char *name, const char *value)
{
    uint8_t flags = NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE;
    return (nghttp2_nv){(uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value, strlen(name), strlen(value), flags};
}

static int make_connections(struct kn_h2_client *h, struct kn_error *err)
{
    h->conns = calloc(h->n, sizeof *h->conns);
    h->streams = calloc((size_t)h->n * h->per_conn, sizeof *h->streams);
    h->buf = malloc(KN_HTTP_BUF);
    bool memory = h->conns && h->streams && h->buf;
    for (unsigned i = 0; h->conns && i < h->n; i++) {
        struct kn_h2_conn *c = &h->conns[i];
        *c = (struct kn_h2_conn){.h = h, .fd = -1, .out = malloc(KN_H2_OUT), .limit = h->per_conn};
        c->streams = h->streams ? h->streams + (size_t)i * h->per_conn : NULL;
        memory &= c->out != NULL;
    }
    return memory ? 0 : kn_fail(err, KN_E_MEMORY, "no memory for %u connections", h->n);
}

static int init(struct kn_h2_client *h, struct kn_worker *w, const char *host, struct kn_error *err)
{
    struct kn_figures *f = &w->figures;
    *h = (struct kn_h2_client){.w = w, .n = w->n_flows, .loop = {.ep = -1}, .wake_ns = UINT64_MAX, .err = err};
    h->per_conn = (unsigned)w->spec->own[KN_HTTP_STREAMS];
    h->open_loop = kn_spec_open_loop(w->spec);
    strncpy(h->host, host, sizeof h->host - 1);
    f->has |= KN_HAS_LATENCY | KN_HAS_CONNECT | KN_HAS_HTTP;
    f->connect = kn_hist_new();
    f->first_byte = kn_hist_new();
    h->fields[0] = field(":method", "GET");
    h->fields[1] = field(":scheme", kn_http_tls(w->spec) ? "https" : "http");
    h->fields[2] = field(":authority", h->host);
    h->fields[3] = field(":path", kn_http_path(w->spec));
    if (!f->connect || !f->first_byte)
        return kn_fail_memory(err);
    if (make_connections(h, err) || kn_h2_init(h, err) || kn_http_tls_init(w, "h2", &h->tls, err))
        return -1;
    return kn_loop_init(&h->loop, (enum kn_wait)w->spec->wait, w->stop, err);
}

static void fini(struct kn_h2_client *h)
{
    for (unsigned i = 0; h->conns && i < h->n; i++) {
        kn_h2_close(&h->conns[i]);
        free(h->conns[i].out);
    }
    kn_loop_fini(&h->loop);
    kn_h2_fini(h);
    kn_tls_context_free(h->tls);
    free(h->conns);
    free(h->streams);
    free(h->buf);
}

static void wait_and_step(struct kn_h2_client *h, uint64_t until_ns)
{
    unsigned n = kn_loop_wait(&h->loop, h->now_ns, h->more ? h->now_ns : until_ns);
    for (unsigned i = 0; i < n && !h->failed; i++) {
        kn_h2_step(h->loop.events[i].data.ptr);
        if ((h->loop.events[i].events & KN_LOOP_ENDS) && !h->failed) /* the end came with the bytes */
            kn_h2_step(h->loop.events[i].data.ptr);
    }
    for (unsigned i = 0; i < h->n && h->more && !h->failed; i++)
        if (h->conns[i].more)
            kn_h2_step(&h->conns[i]);
    h->now_ns = kn_now_ns();
    if (h->now_ns >= h->wake_ns)
        kn_h2_tick(h);
}

static int open_all(struct kn_h2_client *h)
{
    for (unsigned i = 0; i < h->n && !h->failed; i++)
        kn_h2_dial(&h->conns[i]);
    for (h->now_ns = kn_now_ns(); h->pending && !h->failed && !kn_worker_stopped(h->w);)
        wait_and_step(h, h->wake_ns);
    return h->failed ? -1 : 0;
}

/* Open loop: what is due goes to the connections in turn. */
static void issue(struct kn_h2_client *h)
{
    for (unsigned i = 0; i < h->n && !h->dry && kn_pace_due_ns(&h->pace) <= h->now_ns; i++) {
        kn_h2_fill(&h->conns[h->next]);
        h->next = h->next + 1 == h->n ? 0 : h->next + 1;
    }
}

static uint64_t next_event_ns(const struct kn_h2_client *h)
{
    uint64_t until_ns = h->wake_ns < h->w->end_ns ? h->wake_ns : h->w->end_ns;
    bool free = h->busy < (uint64_t)h->n * h->per_conn;
    if (h->open_loop && !h->dry && free && kn_pace_due_ns(&h->pace) > h->now_ns && kn_pace_due_ns(&h->pace) < until_ns)
        until_ns = kn_pace_due_ns(&h->pace);
    return until_ns;
}

static int measure(struct kn_h2_client *h)
{
    h->measured = true;
    h->wake_ns = 0;
    h->now_ns = kn_now_ns();
    kn_worker_pace(h->w, &h->pace);
    kn_h2_tick(h);
    while (!h->failed && !kn_worker_over(h->w, h->now_ns) && !(h->dry && !h->busy)) {
        if (h->open_loop)
            issue(h);
        wait_and_step(h, next_event_ns(h));
    }
    return h->failed ? -1 : 0;
}

static int collect(struct kn_h2_client *h, struct kn_error *err)
{
    int failed = 0;
    for (unsigned i = 0; i < h->n; i++) {
        struct kn_h2_conn *c = &h->conns[i];
        kn_figures_flow(&h->w->figures, c->ops);
        if (c->state != KN_H2_UP)
            continue;
        int fd = c->fd;
        c->fd = -1;
        failed |= kn_flow_close(h->w, fd, h->w->first_flow + i, NULL, 0, err);
    }
    return failed;
}

int kn_h2_client(struct kn_worker *w, const char *host, struct kn_error *err)
{
    struct kn_h2_client *h = calloc(1, sizeof *h);
    if (!h)
        return kn_fail(err, KN_E_MEMORY, "no memory for a worker");
    h->w = w;
    h->loop.ep = -1;
    int failed = init(h, w, host, err) || open_all(h) || kn_worker_ready(w, err) || measure(h);
    kn_worker_cpu_close(w);
    failed = failed || collect(h, err);
    fini(h);
    free(h);
    return failed ? -1 : 0;
}
