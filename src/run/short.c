/* Short connections on the server's side: a book keeps the counts of each run between them. */
#include <pthread.h>
#include <stdlib.h>

#include "core/json.h"
#include "run/served.h"
#include "run/short.h"

#define RUNS_MAX 64
#define FORGET_NS (60 * KN_NS_PER_S) /* after the end of a run, if no client asks for its account */
#define THREADS_MAX 16
#define READ_EVERY 64 /* transactions between two readings of a thread's CPU time */

/* CPU time inside the window of a thread that accepts connections and serves the short ones. */
struct thread_cpu {
    pthread_t id;
    uint64_t open_ns, last_ns, n;
};

struct run {
    uint64_t id, transactions, last_ns;
    struct kn_hello hello;
    struct kn_served served; /* window, figures and readings */
    struct thread_cpu threads[THREADS_MAX];
    unsigned n_threads;
    uint64_t alone_ns; /* CPU of threads that served one transaction each */
};

struct kn_short_book {
    pthread_mutex_t lock;
    struct run *runs[RUNS_MAX];
    unsigned n;
};

struct kn_short_book *kn_short_book_new(void)
{
    struct kn_short_book *l = calloc(1, sizeof *l);
    if (l)
        pthread_mutex_init(&l->lock, NULL);
    return l;
}

static void run_free(struct run *r)
{
    kn_figures_fini(&r->served.figures);
    free(r);
}

void kn_short_book_free(struct kn_short_book *l)
{
    if (!l)
        return;
    for (unsigned i = 0; i < l->n; i++)
        run_free(l->runs[i]);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

/* ---- the book; its lock is held ---- */

static struct run *find(const struct kn_short_book *l, uint64_t id)
{
    for (unsigned i = 0; i < l->n; i++)
        if (l->runs[i]->id == id)
            return l->runs[i];
    return NULL;
}

static void drop(struct kn_short_book *l, unsigned i)
{
    run_free(l->runs[i]);
    l->runs[i] = l->runs[--l->n];
}

static void make_room(struct kn_short_book *l, uint64_t now_ns)
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

static struct run *find_or_make(struct kn_short_book *l, struct kn_server *server, const struct kn_hello *hello,
                                uint64_t now_ns)
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

/* False: more bytes than this server allows. */
static bool count(struct run *r, uint64_t rx_bytes, uint64_t tx_bytes, uint64_t now_ns)
{
    struct kn_served *s = &r->served;
    r->transactions++;
    r->last_ns = now_ns;
    if (!s->start_ns)
        kn_served_start(s, now_ns);
    if (!s->opened && now_ns >= s->open_ns)
        kn_served_open(s);
    bool allowed = kn_served_moves(s, rx_bytes + tx_bytes);
    if (!allowed || !s->opened || now_ns >= s->end_ns)
        return allowed;
    s->figures.ops++;
    s->figures.rx_bytes += rx_bytes;
    s->figures.tx_bytes += tx_bytes;
    return true;
}

static bool is_open(const struct run *r)
{
    return r->served.opened && !r->served.closed && r->last_ns < r->served.end_ns;
}

bool kn_short_note(struct kn_server *server, const struct kn_hello *hello, uint64_t rx_bytes, uint64_t tx_bytes)
{
    uint64_t now_ns = kn_now_ns();
    pthread_mutex_lock(&server->book->lock);
    struct run *r = find_or_make(server->book, server, hello, now_ns);
    bool allowed = !r || count(r, rx_bytes, tx_bytes, now_ns);
    pthread_mutex_unlock(&server->book->lock);
    return allowed;
}

static void note_alone(struct kn_server *server, const struct kn_hello *hello)
{
    pthread_mutex_lock(&server->book->lock);
    struct run *r = find(server->book, hello->run_id);
    if (r && is_open(r))
        r->alone_ns += kn_thread_cpu_ns();
    pthread_mutex_unlock(&server->book->lock);
}

static void read_acceptor(struct kn_server *server, const struct kn_hello *hello)
{
    pthread_mutex_lock(&server->book->lock);
    struct run *r = find(server->book, hello->run_id);
    if (r && is_open(r))
        read_cpu(r, false);
    pthread_mutex_unlock(&server->book->lock);
}

/* ---- the account ---- */

/* The readings are taken once, at the first request after the end, because later CPU time belongs to others. */
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

static json_t *account(struct kn_server *server, int fd, const struct kn_hello *hello)
{
    struct kn_served nothing = {.server = server, .hello = hello, .spec = &hello->spec};
    pthread_mutex_lock(&server->book->lock);
    struct run *r = find(server->book, hello->run_id);
    if (r)
        close_window(r);
    json_t *json = kn_served_account(r ? &r->served : &nothing, fd);
    if (json)
        kn_json_set(json, "transactions", json_integer(r ? (json_int_t)r->transactions : 0));
    pthread_mutex_unlock(&server->book->lock);
    return json;
}

static int serve_stats(struct kn_server *server, int fd, const struct kn_hello *hello, struct kn_error *err)
{
    if (kn_welcome_send(server, fd, NULL, err))
        return -1;
    json_t *json = account(server, fd, hello);
    if (!json)
        return kn_fail(err, KN_E_MEMORY, "no memory for an account");
    int failed = kn_account_send(fd, json, err);
    json_decref(json);
    return failed;
}

/* ---- connections ---- */

bool kn_server_is_short(const struct kn_hello *hello)
{
    const struct kn_test *test = hello->spec.test;
    return hello->kind == KN_HELLO_STATS || (test->is_short && test->is_short(&hello->spec));
}

bool kn_serve_short(struct kn_server *server, int fd, const struct kn_hello *hello, const uint8_t *extra,
                    size_t extra_size)
{
    struct kn_error ignored;
    if (!kn_server_is_short(hello) || kn_server_takes(server, hello, &ignored))
        return false; /* kn_serve_tcp serves or refuses it */
    if (hello->kind == KN_HELLO_STATS) {
        serve_stats(server, fd, hello, &ignored);
        return true;
    }
    bool served = hello->spec.test->serve_short(server, fd, hello, extra, extra_size);
    read_acceptor(server, hello);
    return served;
}

int kn_short_serve(struct kn_server *server, int fd, const struct kn_hello *hello, const uint8_t *extra,
                   size_t extra_size, struct kn_error *err)
{
    if (hello->kind == KN_HELLO_STATS)
        return serve_stats(server, fd, hello, err);
    int failed = hello->spec.test->serve_once(server, fd, hello, extra, extra_size, err);
    note_alone(server, hello);
    return failed;
}
