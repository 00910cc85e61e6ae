/* tcp_crr on the server's side: a transaction is a few calls on the thread that accepts; a ledger keeps the counts of
 * each run between them. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "engines/crr.h"
#include "engines/http_serve.h"
#include "engines/payload.h"

#define RUNS_MAX 64
#define FORGET_NS (60 * KN_NS_PER_S)    /* after the end of a run that nobody asked after */
#define SHORT_MAX (16u << 10)           /* of a message that surely goes through without blocking */
#define THREADS_MAX 16
#define READ_EVERY 64                   /* transactions from one reading of a thread's CPU time to the next */
#define BLOCKING_TIMEOUT_NS (30 * KN_NS_PER_S)

/* A thread that takes connections, and serves the short ones: its CPU time inside the window. */
struct thread_cpu { pthread_t id; uint64_t open_ns, last_ns, n; };

struct run {
    uint64_t id, transactions, last_ns;
    struct kn_hello hello;
    struct kn_served served;            /* window, figures and readings */
    struct thread_cpu threads[THREADS_MAX];
    unsigned n_threads;
    uint64_t alone_ns;                  /* CPU of threads that served one transaction each */
};

struct kn_crr_ledger {
    pthread_mutex_t lock;
    struct run *runs[RUNS_MAX];
    unsigned n;
};

struct kn_crr_ledger *kn_crr_ledger_new(void)
{
    struct kn_crr_ledger *l = calloc(1, sizeof *l);
    if (l)
        pthread_mutex_init(&l->lock, NULL);
    return l;
}

static void run_free(struct run *r)
{
    kn_figures_fini(&r->served.figures);
    free(r);
}

void kn_crr_ledger_free(struct kn_crr_ledger *l)
{
    if (!l)
        return;
    for (unsigned i = 0; i < l->n; i++)
        run_free(l->runs[i]);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

/* ---- the ledger; its lock is held ---- */

static struct run *find(const struct kn_crr_ledger *l, uint64_t id)
{
    for (unsigned i = 0; i < l->n; i++)
        if (l->runs[i]->id == id)
            return l->runs[i];
    return NULL;
}

static void drop(struct kn_crr_ledger *l, unsigned i)
{
    run_free(l->runs[i]);
    l->runs[i] = l->runs[--l->n];
}

static void make_room(struct kn_crr_ledger *l, uint64_t now_ns)
{
    unsigned oldest = 0;
    for (unsigned i = l->n; i-- > 0;)
        if (now_ns > l->runs[i]->last_ns + FORGET_NS)
            drop(l, i);
    for (unsigned i = 0; i < l->n; i++)
        if (l->runs[i]->last_ns < l->runs[oldest]->last_ns)
            oldest = i;
    if (l->n == RUNS_MAX)
        drop(l, oldest);
}

static struct run *find_or_make(struct kn_crr_ledger *l, struct kn_server *server, const struct kn_hello *hello, uint64_t now_ns)
{
    struct kn_error err;
    struct run *r = find(l, hello->run_id);
    if (r)
        return r;
    make_room(l, now_ns);
    r = calloc(1, sizeof *r);
    if (!r || kn_figures_init(&r->served.figures, 0, &err)) {
        free(r);
        return NULL;
    }
    r->id = hello->run_id;
    r->hello = *hello;
    r->last_ns = now_ns;
    r->served.server = server;
    r->served.hello = &r->hello;
    r->served.spec = &r->hello.spec;
    l->runs[l->n++] = r;
    return r;
}

static struct thread_cpu *my_cpu(struct run *r)
{
    pthread_t me = pthread_self();
    for (unsigned i = 0; i < r->n_threads; i++)
        if (pthread_equal(r->threads[i].id, me))
            return &r->threads[i];
    if (r->n_threads == THREADS_MAX)
        return NULL;
    struct thread_cpu *t = &r->threads[r->n_threads++];
    *t = (struct thread_cpu){.id = me, .open_ns = kn_thread_cpu_ns()};
    t->last_ns = t->open_ns;
    return t;
}

static void read_cpu(struct run *r, bool now)
{
    struct thread_cpu *t = my_cpu(r);
    if (t && (now || ++t->n % READ_EVERY == 0))
        t->last_ns = kn_thread_cpu_ns();
}

static void count(struct run *r, uint64_t rx_bytes, uint64_t tx_bytes, uint64_t now_ns)
{
    struct kn_served *s = &r->served;
    r->transactions++;
    r->last_ns = now_ns;
    if (!s->start_ns)
        kn_served_start(s, now_ns);
    if (!s->opened && now_ns >= s->open_ns)
        kn_served_open(s);
    if (!s->opened || now_ns >= s->end_ns)
        return;
    s->figures.ops++;
    s->figures.rx_bytes += rx_bytes;
    s->figures.tx_bytes += tx_bytes;
}

static bool is_open(const struct run *r)
{
    return r->served.opened && !r->served.closed && r->last_ns < r->served.end_ns;
}

void kn_crr_note(struct kn_server *server, const struct kn_hello *hello, uint64_t rx_bytes, uint64_t tx_bytes)
{
    uint64_t now_ns = kn_now_ns();
    pthread_mutex_lock(&server->crr->lock);
    struct run *r = find_or_make(server->crr, server, hello, now_ns);
    if (r)
        count(r, rx_bytes, tx_bytes, now_ns);
    pthread_mutex_unlock(&server->crr->lock);
}

void kn_crr_alone(struct kn_server *server, const struct kn_hello *hello)
{
    pthread_mutex_lock(&server->crr->lock);
    struct run *r = find(server->crr, hello->run_id);
    if (r && is_open(r))
        r->alone_ns += kn_thread_cpu_ns();
    pthread_mutex_unlock(&server->crr->lock);
}

static void read_acceptor(struct kn_server *server, const struct kn_hello *hello)
{
    pthread_mutex_lock(&server->crr->lock);
    struct run *r = find(server->crr, hello->run_id);
    if (r && is_open(r))
        read_cpu(r, false);
    pthread_mutex_unlock(&server->crr->lock);
}

/* ---- the report ---- */

/* The readings are taken once, at the first question after the end: what comes later belongs to others. */
static void close_window(struct run *r)
{
    struct kn_served *s = &r->served;
    if (!s->opened || s->closed)
        return;
    read_cpu(r, true);
    kn_served_close(s, r->last_ns);
    s->figures.cpu_ns = r->alone_ns;
    for (unsigned i = 0; i < r->n_threads; i++)
        s->figures.cpu_ns += r->threads[i].last_ns - r->threads[i].open_ns;
}

static json_t *report(struct kn_server *server, int fd, const struct kn_hello *hello)
{
    struct kn_served nothing = {.server = server, .hello = hello, .spec = &hello->spec};
    pthread_mutex_lock(&server->crr->lock);
    struct run *r = find(server->crr, hello->run_id);
    if (r)
        close_window(r);
    json_t *json = kn_served_report(r ? &r->served : &nothing, fd);
    if (json)
        json_object_set_new(json, "transactions", json_integer(r ? (json_int_t)r->transactions : 0));
    pthread_mutex_unlock(&server->crr->lock);
    return json;
}

int kn_crr_serve_stats(struct kn_server *server, int fd, const struct kn_hello *hello, struct kn_error *err)
{
    if (kn_serve_welcome(server, fd, err))
        return -1;
    json_t *json = report(server, fd, hello);
    if (!json)
        return kn_fail(err, KN_E_MEMORY, "no memory for a report");
    int failed = kn_serve_report(fd, json, err);
    json_decref(json);
    return failed;
}

/* ---- the transactions ---- */

static size_t request_left(const struct kn_hello *hello, size_t extra_size)
{
    size_t have = kn_hello_size() + extra_size;
    return hello->spec.size > have ? (size_t)hello->spec.size - have : 0;
}

/* What is left of the request, if it is here already; nothing is read otherwise. */
static bool take_rest(int fd, size_t left)
{
    uint8_t rest[SHORT_MAX];
    int here = 0;
    if (!left)
        return true;
    if (left > sizeof rest || ioctl(fd, FIONREAD, &here) || (size_t)here < left)
        return false;
    return recv(fd, rest, left, MSG_DONTWAIT) == (ssize_t)left;
}

static bool serve_short(struct kn_server *server, int fd, const struct kn_hello *hello, size_t extra_size)
{
    if (hello->spec.delay_ns || hello->spec.response_size > SHORT_MAX || !take_rest(fd, request_left(hello, extra_size)))
        return false;
    kn_crr_note(server, hello, kn_hello_size() + extra_size + request_left(hello, extra_size), hello->spec.response_size);
    send(fd, kn_payload(), (size_t)hello->spec.response_size, MSG_NOSIGNAL | MSG_DONTWAIT | (hello->spec.fin ? MSG_MORE : 0));
    return true;
}

bool kn_serve_short(struct kn_server *server, int fd, const struct kn_hello *hello, const uint8_t *extra, size_t extra_size)
{
    struct kn_error ignored;
    if (hello->kind == KN_HELLO_STATS) {
        kn_crr_serve_stats(server, fd, hello, &ignored);
        return true;
    }
    if (!kn_crr_is_short(&hello->spec))
        return false;
    bool served = hello->spec.test == KN_HTTP ? kn_http_serve_short(server, fd, hello, extra, extra_size) : serve_short(server, fd, hello, extra_size);
    read_acceptor(server, hello);
    return served;
}

int kn_crr_serve(struct kn_server *server, int fd, const struct kn_hello *hello, size_t extra_size, struct kn_error *err)
{
    uint8_t rest[SHORT_MAX];
    uint64_t deadline_ns = kn_now_ns() + BLOCKING_TIMEOUT_NS, left = request_left(hello, extra_size), rx_bytes = kn_hello_size() + extra_size + left;
    for (size_t n; left; left -= n) {
        n = left < sizeof rest ? (size_t)left : sizeof rest;
        if (kn_read_full(fd, rest, n, deadline_ns, err))
            return -1;
    }
    kn_serve_delay(server, &hello->spec);
    kn_crr_note(server, hello, rx_bytes, hello->spec.response_size);
    left = hello->spec.response_size;
    for (size_t n; left; left -= n) {
        n = left < KN_PAYLOAD_SIZE ? (size_t)left : KN_PAYLOAD_SIZE;
        if (kn_write_full(fd, kn_payload(), n, deadline_ns, err))
            return -1;
    }
    return 0;
}
