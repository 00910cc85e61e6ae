#include "agent/pages.h"

#include <microhttpd.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/clock.h"
#include "net/io.h"

#define BACKLOG 64
#define CONNECTIONS_MAX \
    64u /* beyond these the one that was opened first is closed, so that slow clients lock nobody out */
#define CONNECTIONS_ROOM (2 * CONNECTIONS_MAX) /* until the server's thread has seen them close */
#define CONNECTION_MEMORY ((size_t)16384)      /* request line and headers */
#define IDLE_S 15u

struct page {
    struct page *next;
    struct MHD_Response *response; /* counts its users itself: one that is replaced lives until it was sent */
    unsigned status;
    uint64_t stale_at_ns;
    char path[];
};

struct visitor {
    struct visitor *next; /* opened later */
    int fd;
};

struct kn_pages {
    struct MHD_Daemon *http;
    struct visitor *visitors; /* only the server's thread uses them */
    unsigned n_visitors;
    pthread_mutex_t lock; /* of the list */
    struct page *first;
    uint16_t port;
};

/* ---- answers ---- */

static struct MHD_Response *make_response(const char *type, const void *body, size_t size)
{
    struct MHD_Response *r = MHD_create_response_from_buffer(size, (void *)body, MHD_RESPMEM_MUST_COPY);
    if (r) {
        MHD_add_response_header(r, "Content-Type", type);
        MHD_add_response_header(r, "Cache-Control", "no-store");
        MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
    }
    return r;
}

static enum MHD_Result answer_text(struct MHD_Connection *connection, unsigned status, const char *text)
{
    struct MHD_Response *r = make_response("text/plain; charset=utf-8", text, strlen(text));
    if (!r)
        return MHD_NO;
    if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
        MHD_add_response_header(r, "Allow", "GET, HEAD");
    enum MHD_Result rc = MHD_queue_response(connection, status, r);
    MHD_destroy_response(r);
    return rc;
}

static struct page *find(struct kn_pages *pages, const char *path)
{
    struct page *p = pages->first;
    while (p && strcmp(p->path, path))
        p = p->next;
    return p;
}

static enum MHD_Result on_request(void *closure, struct MHD_Connection *connection, const char *url, const char *method,
                                  const char *version, const char *upload, size_t *upload_size, void **state)
{
    struct kn_pages *pages = closure;
    (void)version, (void)upload, (void)state;
    if (strcmp(method, MHD_HTTP_METHOD_GET) && strcmp(method, MHD_HTTP_METHOD_HEAD)) {
        if (*upload_size) {
            *upload_size = 0;
            return MHD_YES;
        }
        return answer_text(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET and HEAD are supported\n");
    }
    pthread_mutex_lock(&pages->lock);
    struct page *p = find(pages, url);
    bool stale = p && p->stale_at_ns && kn_now_ns() > p->stale_at_ns;
    enum MHD_Result rc = MHD_NO;
    if (p && !stale)
        rc = MHD_queue_response(connection, p->status, p->response);
    pthread_mutex_unlock(&pages->lock);
    if (p && !stale)
        return rc;
    return stale ? answer_text(connection, MHD_HTTP_SERVICE_UNAVAILABLE, "the program does not respond\n")
                 : answer_text(connection, MHD_HTTP_NOT_FOUND, "no such page\n");
}

/* ---- pages ---- */

static void free_page(struct page *p)
{
    if (p && p->response)
        MHD_destroy_response(p->response);
    free(p);
}

static struct page *new_page(const char *path, const struct kn_page *from)
{
    struct page *p = calloc(1, sizeof *p + strlen(path) + 1);
    if (!p)
        return NULL;
    strcpy(p->path, path);
    p->status = from->status;
    p->stale_at_ns = from->fresh_ns ? kn_now_ns() + from->fresh_ns : 0;
    p->response = make_response(from->type, from->body, from->size);
    if (p->response)
        return p;
    free_page(p);
    return NULL;
}

int kn_pages_put(struct kn_pages *pages, const char *path, const struct kn_page *page, struct kn_error *err)
{
    struct page *fresh = new_page(path, page), **at = &pages->first;
    if (!fresh)
        return kn_fail_memory(err);
    pthread_mutex_lock(&pages->lock);
    while (*at && strcmp((*at)->path, path))
        at = &(*at)->next;
    struct page *old = *at;
    fresh->next = old ? old->next : NULL;
    *at = fresh;
    pthread_mutex_unlock(&pages->lock);
    free_page(old);
    return 0;
}

/* ---- connections ---- */

/* Takes it out of the list; the server closes it once it sees the end. */
static void show_out(struct kn_pages *pages, struct visitor *who)
{
    struct visitor **at = &pages->visitors;
    while (*at && *at != who)
        at = &(*at)->next;
    if (!*at)
        return;
    *at = who->next;
    who->next = NULL;
    pages->n_visitors--;
}

static struct visitor *let_in(struct kn_pages *pages, int fd)
{
    struct visitor *who = calloc(1, sizeof *who), **at = &pages->visitors;
    if (!who) {
        shutdown(fd, SHUT_RDWR);
        return NULL;
    }
    who->fd = fd;
    while (*at)
        at = &(*at)->next;
    *at = who;
    if (++pages->n_visitors > CONNECTIONS_MAX) {
        shutdown(pages->visitors->fd, SHUT_RDWR);
        show_out(pages, pages->visitors);
    }
    return who;
}

static void on_connection(void *closure, struct MHD_Connection *connection, void **state,
                          enum MHD_ConnectionNotificationCode what)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        *state = let_in(closure, info->connect_fd);
        return;
    }
    show_out(closure, *state);
    free(*state);
    *state = NULL;
}

/* ---- beginning and end ---- */

/* With all signals blocked, so that the server's thread takes none. */
static struct MHD_Daemon *start(struct kn_pages *pages, int fd)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    struct MHD_Daemon *http = MHD_start_daemon(
        MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL, 0, NULL, NULL, on_request, pages, MHD_OPTION_LISTEN_SOCKET, fd,
        MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_ROOM, MHD_OPTION_NOTIFY_CONNECTION, on_connection, pages,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_MEMORY, MHD_OPTION_CONNECTION_TIMEOUT, IDLE_S, MHD_OPTION_END);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return http;
}

struct kn_pages *kn_pages_new(const struct kn_addr *listen, struct kn_error *err)
{
    struct kn_pages *pages = calloc(1, sizeof *pages);
    if (!pages)
        return kn_null(kn_fail_memory(err));
    pthread_mutex_init(&pages->lock, NULL);
    struct kn_addr at = {.len = sizeof at.u};
    int fd = kn_tcp_listen(listen, BACKLOG, err);
    if (fd >= 0 && getsockname(fd, &at.u.sa, &at.len))
        kn_fail_errno(err, "getsockname");
    else if (fd >= 0 && !(pages->http = start(pages, fd)))
        kn_fail_errno(err, "cannot start the HTTP server");
    pages->port = kn_addr_port(&at);
    if (pages->http)
        return pages;
    if (fd >= 0)
        close(fd);
    kn_pages_free(pages);
    return NULL;
}

uint16_t kn_pages_port(const struct kn_pages *pages)
{
    return pages->port;
}

void kn_pages_free(struct kn_pages *pages)
{
    if (!pages)
        return;
    if (pages->http)
        MHD_stop_daemon(pages->http); /* closes the listening socket too */
    while (pages->first) {
        struct page *p = pages->first;
        pages->first = p->next;
        free_page(p);
    }
    pthread_mutex_destroy(&pages->lock);
    free(pages);
}
