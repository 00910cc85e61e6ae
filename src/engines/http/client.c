/* A worker's connections together: made, opened before the clock starts, registered, and unmade. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engines/http/conn.h"
#include "run/flow.h"

#define POLL_MS 50

/* ---- opening ---- */

struct pending {
    struct pollfd *fds;
    struct kn_http_conn **conns;
    unsigned n;
};

static bool waits_to_write(const struct kn_http_conn *c)
{
    return c->state == KN_HTTP_CONNECTING || (c->state == KN_HTTP_HANDSHAKE && kn_tls_wants_write(c->tls));
}

static void find_pending(struct kn_http_client *h, struct pending *p)
{
    p->n = 0;
    for (unsigned i = 0; i < h->n; i++) {
        struct kn_http_conn *c = &h->conns[i];
        if (c->state != KN_HTTP_CONNECTING && c->state != KN_HTTP_HANDSHAKE && c->state != KN_HTTP_WELCOME)
            continue;
        p->fds[p->n] = (struct pollfd){.fd = c->fd, .events = waits_to_write(c) ? POLLOUT : POLLIN};
        p->conns[p->n++] = c;
    }
}

static void open_pending(struct kn_http_client *h, struct pending *p)
{
    for (find_pending(h, p); p->n && !h->failed && !kn_worker_stopped(h->w); find_pending(h, p)) {
        poll(p->fds, p->n, POLL_MS);
        uint64_t now_ns = kn_now_ns();
        for (unsigned i = 0; i < p->n && !h->failed; i++) {
            if (p->fds[i].revents)
                kn_http_step(h, p->conns[i]);
            else if (now_ns >= p->conns[i]->deadline_ns)
                kn_http_timed_out(h, p->conns[i]);
        }
    }
}

int kn_http_open_all(struct kn_http_client *h)
{
    struct pending p = {.fds = calloc(h->n, sizeof *p.fds), .conns = calloc(h->n, sizeof *p.conns)};
    bool memory = p.fds && p.conns;
    for (unsigned i = 0; memory && i < h->n && !h->failed; i++)
        kn_http_dial(h, &h->conns[i]);
    if (memory)
        open_pending(h, &p);
    free(p.fds);
    free(p.conns);
    if (!memory)
        return kn_fail(h->err, KN_E_MEMORY, "no memory for %u connections", h->n);
    return h->failed ? -1 : 0;
}

/* ---- epoll ---- */

bool kn_http_register(struct kn_http_client *h, struct kn_http_conn *c)
{
    return h->loop.ep < 0 || !kn_loop_add(&h->loop, c->fd, KN_LOOP_ALL, (epoll_data_t){.ptr = c});
}

int kn_http_register_all(struct kn_http_client *h)
{
    if (h->loop.ep >= 0)
        return 0;
    if (kn_loop_init(&h->loop, (enum kn_wait)h->w->spec->wait, h->w->stop, h->err))
        return -1;
    for (unsigned i = 0; i < h->n; i++)
        if (h->conns[i].fd >= 0 && !kn_http_register(h, &h->conns[i]))
            return kn_fail_errno(h->err, "epoll_ctl");
    return 0;
}

void kn_http_unregister_all(struct kn_http_client *h)
{
    kn_loop_fini(&h->loop);
}

/* ---- TLS ---- */

/* The name that is verified: the Host header without a port, or the target as it was named. */
static void name_server(const struct kn_worker *w, char *name, size_t size)
{
    const char *host = kn_http_host(w->spec);
    snprintf(name, size, "%s", *host ? host : w->target->host);
    if (!*host)
        return;
    char *colon = strrchr(name, ':'), *bracket = strchr(name, ']');
    if (*name == '[' && bracket) {
        *bracket = '\0';
        memmove(name, name + 1, strlen(name));
    } else if (colon && strchr(name, ':') == colon) {
        *colon = '\0';
    }
}

int kn_http_tls_init(struct kn_worker *w, const char *alpn, struct kn_tls_context **out, struct kn_error *err)
{
    char name[300];
    if (!kn_http_tls(w->spec))
        return 0;
    name_server(w, name, sizeof name);
    struct kn_tls_config config = {.name = name,
                                   .ca = w->target->ca,
                                   .alpn = alpn,
                                   .verify = w->spec->own[KN_HTTP_VERIFY],
                                   .resume = w->spec->own[KN_HTTP_RESUME]};
    *out = kn_tls_context_new(&config, err);
    w->figures.handshake = kn_hist_new();
    if (!config.verify)
        kn_worker_flag(w, "unverified");
    return *out && !w->figures.handshake ? kn_fail_memory(err) : *out ? 0 : -1;
}

void kn_http_tls_done(struct kn_worker *w, const struct kn_tls *tls, uint64_t took_ns, bool counts)
{
    char alpn[32];
    struct kn_figures *f = &w->figures;
    if (!f->own[KN_HTTP_HANDSHAKES]) {
        kn_tls_alpn(tls, alpn, sizeof alpn);
        kn_worker_chosen(w, "tls", "%s, %s", kn_tls_version(tls), kn_tls_cipher(tls));
        kn_worker_chosen(w, "alpn", "%s", *alpn ? alpn : "none");
    }
    f->own[KN_HTTP_HANDSHAKES]++;
    f->own[KN_HTTP_RESUMED] += kn_tls_resumed(tls);
    if (counts)
        kn_hist_record(f->handshake, took_ns);
}

/* ---- making and unmaking ---- */

static int make_request(struct kn_http_client *h, const char *host, struct kn_error *err)
{
    const struct kn_spec *spec = h->w->spec;
    const char *ending = kn_http_keepalive(spec) ? "" : "Connection: close\r\n";
    const char *format = "GET %s HTTP/1.1\r\nHost: %s\r\n%s\r\n";
    size_t size = (size_t)snprintf(NULL, 0, format, kn_http_path(spec), host, ending);
    size_t hello = spec->external ? 0 : kn_hello_size();
    h->greets = hello && kn_http_keepalive(spec);
    h->text = malloc(hello + h->greets + size + 1);
    if (!h->text)
        return kn_fail(err, KN_E_MEMORY, "no memory for a request");
    uint8_t *request = h->text + hello + h->greets;
    if (hello)
        kn_flow_hello(h->w, h->w->first_flow, KN_HELLO_FLOW, h->text);
    h->text[hello] = KN_GO; /* overwritten where it does not greet */
    snprintf((char *)request, size + 1, format, kn_http_path(spec), host, ending);
    h->request = request;
    h->request_size = (uint32_t)size;
    h->first = h->text;
    h->first_size = (uint32_t)(h->greets ? hello : hello + size);
    h->welcome_size = kn_welcome_size();
    h->hellos = h->greets ? malloc(hello * h->n) : NULL;
    return h->greets && !h->hellos ? kn_fail(err, KN_E_MEMORY, "no memory for %u connections", h->n) : 0;
}

int kn_http_client_init(struct kn_http_client *h, struct kn_worker *w, const char *host, struct kn_error *err)
{
    struct kn_figures *f = &w->figures;
    *h = (struct kn_http_client){.w = w, .n = w->n_flows, .loop = {.ep = -1}, .wake_ns = UINT64_MAX, .err = err};
    h->open_loop = kn_spec_open_loop(w->spec);
    f->has |= KN_HAS_LATENCY | KN_HAS_CONNECT | KN_HAS_HTTP;
    if (w->spec->own[KN_HTTP_RESET])
        kn_worker_chosen(w, "reset", "the client resets connections that the server has closed: no TIME_WAIT there");
    h->conns = calloc(h->n, sizeof *h->conns);
    h->idle = calloc(h->n, sizeof *h->idle);
    h->buf = malloc(KN_HTTP_BUF);
    f->connect = kn_hist_new();
    f->first_byte = kn_hist_new();
    for (unsigned i = 0; h->conns && i < h->n; i++)
        h->conns[i].fd = -1;
    if (!h->conns || !h->idle || !h->buf || !f->connect || !f->first_byte)
        return kn_fail(err, KN_E_MEMORY, "no memory for %u connections", h->n);
    return make_request(h, host, err) || kn_http_tls_init(w, "http/1.1", &h->tls, err) ? -1 : 0;
}

void kn_http_client_fini(struct kn_http_client *h)
{
    for (unsigned i = 0; h->conns && i < h->n; i++)
        kn_http_close(&h->conns[i]);
    kn_http_unregister_all(h);
    kn_tls_context_free(h->tls);
    free(h->text);
    free(h->hellos);
    free(h->conns);
    free(h->idle);
    free(h->buf);
}
