/* A worker's connections together: made, opened before the clock starts, registered, and unmade. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "engines/http_conn.h"

#define POLL_MS 50

/* ---- opening ---- */

struct pending { struct pollfd *fds; struct kn_http_conn **conns; unsigned n; };

static void find_pending(struct kn_http_client *h, struct pending *p)
{
    p->n = 0;
    for (unsigned i = 0; i < h->n; i++) {
        struct kn_http_conn *c = &h->conns[i];
        if (c->state != KN_HTTP_CONNECTING && c->state != KN_HTTP_WELCOME)
            continue;
        p->fds[p->n] = (struct pollfd){.fd = c->fd, .events = c->state == KN_HTTP_WELCOME ? POLLIN : POLLOUT};
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
                kn_http_timed_out(h, p->conns[i], now_ns);
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
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data = {.ptr = c}};
    return h->ep < 0 || !epoll_ctl(h->ep, EPOLL_CTL_ADD, c->fd, &e);
}

int kn_http_register_all(struct kn_http_client *h)
{
    if (h->ep >= 0)
        return 0;
    h->ep = epoll_create1(EPOLL_CLOEXEC);
    for (unsigned i = 0; i < h->n && h->ep >= 0; i++)
        if (h->conns[i].fd >= 0 && !kn_http_register(h, &h->conns[i]))
            return kn_fail_errno(h->err, "epoll_ctl");
    return h->ep < 0 ? kn_fail_errno(h->err, "epoll_create1") : 0;
}

void kn_http_unregister_all(struct kn_http_client *h)
{
    if (h->ep >= 0)
        close(h->ep);
    h->ep = -1;
}

/* ---- making and unmaking ---- */

static int make_request(struct kn_http_client *h, const char *host, struct kn_error *err)
{
    const struct kn_spec *spec = h->w->spec;
    const char *ending = spec->keepalive ? "" : "Connection: close\r\n";
    const char *format = "GET %s HTTP/1.1\r\nHost: %s\r\n%s\r\n";
    size_t size = (size_t)snprintf(NULL, 0, format, spec->path, host, ending);
    size_t hello = spec->external ? 0 : kn_hello_size();
    h->greets = hello && spec->keepalive;
    h->text = malloc(hello + h->greets + size + 1);
    if (!h->text)
        return kn_fail(err, KN_E_MEMORY, "no memory for a request");
    uint8_t *request = h->text + hello + h->greets;
    if (hello)
        kn_flow_hello(h->w, h->w->first_flow, KN_HELLO_FLOW, h->text);
    h->text[hello] = KN_GO; /* overwritten where it does not greet */
    snprintf((char *)request, size + 1, format, spec->path, host, ending);
    h->request = request;
    h->request_size = (uint32_t)size;
    h->first = h->text;
    h->first_size = (uint32_t)(h->greets ? hello : hello + size);
    h->welcome_size = kn_welcome_size();
    return 0;
}

int kn_http_client_init(struct kn_http_client *h, struct kn_worker *w, const char *host, struct kn_error *err)
{
    struct kn_figures *f = &w->figures;
    *h = (struct kn_http_client){.w = w, .n = w->n_flows, .ep = -1, .wake_ns = UINT64_MAX, .err = err};
    h->open_loop = kn_spec_open_loop(w->spec);
    f->has |= KN_HAS_LATENCY | KN_HAS_CONNECT | KN_HAS_HTTP;
    h->conns = calloc(h->n, sizeof *h->conns);
    h->idle = calloc(h->n, sizeof *h->idle);
    h->buf = malloc(KN_HTTP_BUF);
    f->connect = kn_hist_new();
    f->first_byte = kn_hist_new();
    for (unsigned i = 0; h->conns && i < h->n; i++)
        h->conns[i].fd = -1;
    if (!h->conns || !h->idle || !h->buf || !f->connect || !f->first_byte)
        return kn_fail(err, KN_E_MEMORY, "no memory for %u connections", h->n);
    return make_request(h, host, err);
}

void kn_http_client_fini(struct kn_http_client *h)
{
    for (unsigned i = 0; h->conns && i < h->n; i++)
        kn_http_close(&h->conns[i]);
    kn_http_unregister_all(h);
    free(h->text);
    free(h->conns);
    free(h->idle);
    free(h->buf);
}
