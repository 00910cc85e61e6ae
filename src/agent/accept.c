/* A connection of tcp_crr lives for one request, so here every system call counts: accept, a look, recv, send, close.
 * Whatever is not short goes to a thread or to the poller. */
#include "agent/accept.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/admit.h"
#include "core/thread.h"
#include "meter/meter.h"
#include "run/spin.h"

#define ACCEPTORS_MAX 4
#define BUFFER_SIZE 16384 /* a hello and the request behind it */
#define KNOWN_HELLOS 32   /* a power of two */
#define HASH_SIZE 32
#define LONG_SPIN_NS (100 * KN_NS_PER_MS) /* `wait = spin` */
#define NEAR_SAMPLE 16                    /* one connection in so many is looked at for its CPU */
#define BLOCK_FIRST 2048                  /* connections to wait for without spinning, the first time */
/* An acceptor that sleeps in accept() is woken for a connection even where another one, which spins, takes it. So one
 * is at work until the queue was not empty so many times in a row; the last to join leaves when it had to wait so many
 * times in a row. */
#define BUSY_STREAK 64
#define IDLE_STREAK 64
#define WAITED_NS (3 * KN_NS_PER_US)

struct known_hello {
    bool set;
    struct kn_hello hello;
    uint8_t *wire;
};

struct acceptor {
    struct kn_acceptors *all;
    struct kn_shared *shared;
    unsigned index;
    pthread_t thread;
    struct known_hello known[KNOWN_HELLOS];
    uint8_t *wires; /* behind `known` */
    uint8_t *buffer;
    bool was_short;    /* the last connection */
    enum kn_wait wait; /* as its specification has it */
    bool spinning;
    struct kn_spin spin;
    unsigned near;       /* of the connections that were looked at, those whose client is on our own CPU */
    unsigned busy, idle; /* connections in a row that were there already, or were waited for */
};

struct kn_acceptors {
    struct kn_gate *gate;
    struct kn_poller *poller;
    struct kn_shared *shared;
    int tcp_fd;
    unsigned n, started;
    pthread_mutex_t lock;
    pthread_cond_t parked;
    unsigned n_spinning; /* the listening socket does not block while any acceptor spins */
    unsigned awake;      /* acceptors with a lower index are at work */
    struct acceptor acceptor[ACCEPTORS_MAX];
};

/* ---- hellos that were verified before ---- */

/* Only the hash must be compared in constant time: the rest is no secret. */
static bool same_hello(const uint8_t *a, const uint8_t *b)
{
    size_t n = kn_hello_size() - HASH_SIZE;
    return !memcmp(a, b, n) && !sodium_memcmp(a + n, b + n, HASH_SIZE);
}

static const struct kn_hello *verify(struct acceptor *a, const uint8_t *wire, struct kn_error *err)
{
    /* run id (from byte 12), nonce and flow (36) differ between hellos that come at the same time */
    struct known_hello *known = &a->known[(wire[12] ^ wire[20] ^ wire[36]) & (KNOWN_HELLOS - 1)];
    if (known->set && same_hello(known->wire, wire))
        return &known->hello;
    known->set = false;
    a->spin = (struct kn_spin){.first = BLOCK_FIRST}; /* another run, perhaps on another CPU */
    if (kn_hello_unpack(wire, kn_hello_size(), &a->shared->key, a->shared->server.tests, &known->hello, err) ||
        kn_admit_hello(a->shared, &known->hello, false, err))
        return NULL;
    memcpy(known->wire, wire, kn_hello_size());
    known->set = true;
    return &known->hello;
}

/* ---- one connection ---- */

static void keep(struct acceptor *a, bool waits, const struct kn_incoming *in)
{
    if (waits)
        kn_poller_add(a->all->poller, in);
}

static void take_hello(struct acceptor *a, struct kn_incoming *in, size_t n)
{
    struct kn_error err;
    size_t whole = kn_hello_size();
    const struct kn_hello *hello = verify(a, a->buffer, &err);
    if (!hello) {
        keep(a, kn_gate_refuse(a->all->gate, in, &err), in);
    } else if (kn_server_is_short(hello) &&
               kn_serve_short(&a->shared->server, in->fd, hello, a->buffer + whole, n - whole)) {
        close(in->fd);
        a->was_short = true;
        a->wait = (enum kn_wait)hello->spec.wait;
    } else {
        keep(a, kn_gate_flow(a->all->gate, in, hello, a->buffer + whole, n - whole), in);
    }
}

/* A hello that came in part: what was read goes along. */
static void take_part(struct acceptor *a, struct kn_incoming *in, size_t n)
{
    in->state = KN_INCOMING_HELLO;
    in->wire = malloc(kn_hello_size());
    if (!in->wire) {
        kn_incoming_close(in);
        return;
    }
    memcpy(in->wire, a->buffer, n);
    in->have = n;
    keep(a, kn_gate_step(a->all->gate, in), in);
}

static void take_connection(struct acceptor *a, int fd)
{
    struct kn_incoming in = {.fd = fd};
    a->was_short = false;
    /* looked at before it is read: libmicrohttpd can only read from the socket */
    ssize_t n = recv(fd, a->buffer, 4, MSG_PEEK | MSG_DONTWAIT);
    if (n == 4 && !memcmp(a->buffer, KN_MAGIC, 4)) {
        n = recv(fd, a->buffer, BUFFER_SIZE, MSG_DONTWAIT);
        if (n >= (ssize_t)kn_hello_size()) {
            take_hello(a, &in, (size_t)n);
            return;
        }
        in.deadline_ns = kn_now_ns() + a->shared->config.hello_ns;
        take_part(a, &in, n > 0 ? (size_t)n : 0);
        return;
    }
    in.deadline_ns = kn_now_ns() + a->shared->config.hello_ns;
    keep(a, kn_gate_step(a->all->gate, &in), &in);
}

/* ---- waiting for one ---- */

static void change_spinning(struct acceptor *a, bool spinning)
{
    struct kn_acceptors *all = a->all;
    if (a->spinning == spinning)
        return;
    a->spinning = spinning;
    pthread_mutex_lock(&all->lock);
    unsigned before = all->n_spinning;
    all->n_spinning += spinning ? 1 : -1u;
    if (before == 0 || all->n_spinning == 0) {
        int flags = fcntl(a->all->tcp_fd, F_GETFL);
        fcntl(a->all->tcp_fd, F_SETFL, spinning ? flags | O_NONBLOCK : flags & ~O_NONBLOCK);
    }
    pthread_mutex_unlock(&all->lock);
}

/* The client's packets are handled on its own CPU where both are on one machine: is it the one that we are on? */
static bool is_neighbour(int fd)
{
    int cpu = -1;
    socklen_t len = sizeof cpu;
    return getsockopt(fd, SOL_SOCKET, SO_INCOMING_CPU, &cpu, &len) == 0 && cpu == sched_getcpu();
}

/* Where the client is on our own CPU it is we who keep it from connecting. */
static void judge_spin(struct acceptor *a, int fd, uint64_t waited_ns)
{
    if (fd >= 0 && a->spin.tries % NEAR_SAMPLE == 0)
        a->near += is_neighbour(fd);
    if (!kn_spin_count(&a->spin, fd >= 0, waited_ns))
        return;
    kn_spin_judge(&a->spin, kn_spin_paid(&a->spin) && a->near <= KN_SPIN_JUDGE_EVERY / NEAR_SAMPLE / 2);
    a->near = 0;
}

/* `wait = auto`: the next connection of a tcp_crr comes within microseconds, and waking up costs more than that. */
static int spin(struct acceptor *a)
{
    int fd;
    uint64_t from_ns = kn_now_ns(), now_ns = from_ns;
    uint64_t until_ns = from_ns + (a->wait == KN_WAIT_SPIN ? LONG_SPIN_NS : KN_SPIN_NS);
    change_spinning(a, true);
    while ((fd = accept4(a->all->tcp_fd, NULL, NULL, SOCK_CLOEXEC)) < 0 && errno == EAGAIN && now_ns < until_ns) {
        sched_yield();
        now_ns = kn_now_ns();
    }
    if (a->wait == KN_WAIT_AUTO)
        judge_spin(a, fd, now_ns - from_ns);
    return fd;
}

static bool should_spin(struct acceptor *a)
{
    return a->was_short && a->wait != KN_WAIT_BLOCK && kn_spin_wanted(&a->spin);
}

static int next_connection(struct acceptor *a)
{
    int fd = -1;
    if (should_spin(a) && (fd = spin(a)) >= 0)
        return fd;
    change_spinning(a, false);
    for (;;) {
        fd = accept4(a->all->tcp_fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0 || errno != EAGAIN)
            return fd;
        struct pollfd p = {.fd = a->all->tcp_fd, .events = POLLIN}; /* another acceptor spins */
        poll(&p, 1, -1);
    }
}

/* ---- how many are at work ---- */

static void call_another(struct acceptor *a)
{
    pthread_mutex_lock(&a->all->lock);
    if (a->all->awake < a->all->n) {
        a->all->awake++;
        pthread_cond_broadcast(&a->all->parked);
    }
    pthread_mutex_unlock(&a->all->lock);
}

static void leave(struct acceptor *a)
{
    struct kn_acceptors *all = a->all;
    pthread_mutex_lock(&all->lock);
    if (a->index > 0 && a->index == all->awake - 1)
        all->awake--;
    pthread_mutex_unlock(&all->lock);
}

static void wait_for_work(struct acceptor *a)
{
    struct kn_acceptors *all = a->all;
    pthread_mutex_lock(&all->lock);
    while (a->index >= all->awake && !kn_stopping(a->shared))
        pthread_cond_wait(&all->parked, &all->lock);
    pthread_mutex_unlock(&all->lock);
}

static void judge_load(struct acceptor *a, uint64_t waited_ns)
{
    if (waited_ns < WAITED_NS) {
        a->idle = 0;
        if (++a->busy % BUSY_STREAK == 0)
            call_another(a);
        return;
    }
    a->busy = 0;
    if (++a->idle % IDLE_STREAK == 0) {
        leave(a);
        change_spinning(a, false);
        wait_for_work(a);
    }
}

/* Out of descriptors, or of memory: connections wait in the queue while room is made. */
static void make_room(struct acceptor *a)
{
    kn_poller_shed(a->all->poller);
    struct pollfd p = {.fd = a->shared->quit_event, .events = POLLIN};
    poll(&p, 1, 10);
}

static void *acceptor_main(void *argument)
{
    struct acceptor *a = argument;
    wait_for_work(a);
    while (!kn_stopping(a->shared)) {
        uint64_t from_ns = kn_now_ns();
        int fd = next_connection(a);
        if (fd < 0) {
            a->was_short = false;
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
                make_room(a);
            continue;
        }
        uint64_t now_ns = kn_now_ns(), waited_ns = now_ns - from_ns;
        take_connection(a, fd);
        if (a->was_short) /* it had the token */
            kn_shared_heard(a->shared, now_ns);
        judge_load(a, waited_ns);
    }
    change_spinning(a, false);
    return NULL;
}

/* ---- beginning and end ---- */

static int start_acceptor(struct kn_acceptors *all, unsigned index)
{
    struct acceptor *a = &all->acceptor[index];
    size_t size = kn_hello_size();
    a->all = all;
    a->shared = all->shared;
    a->index = index;
    a->buffer = malloc(BUFFER_SIZE);
    a->wires = calloc(KNOWN_HELLOS, size);
    if (!a->buffer || !a->wires)
        return ENOMEM;
    for (size_t i = 0; i < KNOWN_HELLOS; i++)
        a->known[i].wire = a->wires + i * size;
    return kn_thread_start(&a->thread, "knbl-accept", acceptor_main, a);
}

struct kn_acceptors *kn_acceptors_new(struct kn_gate *gate, struct kn_poller *poller, int tcp_fd, struct kn_error *err)
{
    struct kn_acceptors *all = calloc(1, sizeof *all);
    if (!all)
        return kn_null(kn_fail_memory(err));
    unsigned cpus = kn_cpus_allowed();
    all->gate = gate;
    all->poller = poller;
    all->shared = gate->shared;
    all->tcp_fd = tcp_fd;
    all->n = cpus < 1 ? 1 : cpus > ACCEPTORS_MAX ? ACCEPTORS_MAX : cpus;
    all->awake = 1;
    pthread_mutex_init(&all->lock, NULL);
    pthread_cond_init(&all->parked, NULL);
    for (; all->started < all->n; all->started++)
        if ((errno = start_acceptor(all, all->started)) != 0) {
            kn_fail_errno(err, "cannot start an acceptor");
            kn_shared_stop(gate->shared);
            kn_acceptors_free(all);
            return NULL;
        }
    return all;
}

/* Shutting the listening socket down ends every accept. */
void kn_acceptors_free(struct kn_acceptors *all)
{
    if (!all)
        return;
    shutdown(all->tcp_fd, SHUT_RDWR);
    pthread_mutex_lock(&all->lock);
    pthread_cond_broadcast(&all->parked);
    pthread_mutex_unlock(&all->lock);
    for (unsigned i = 0; i < all->started; i++)
        pthread_join(all->acceptor[i].thread, NULL);
    for (unsigned i = 0; i < all->n; i++) {
        free(all->acceptor[i].buffer);
        free(all->acceptor[i].wires);
    }
    pthread_cond_destroy(&all->parked);
    pthread_mutex_destroy(&all->lock);
    free(all);
}
