/* The acceptors. A connection of tcp_crr lives for one request, so here every system call counts: accept, a look, recv,
 * send, close. Whatever is not short goes to a thread or to the keeper. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/inside.h"
#include "meter/meter.h"

#define ACCEPTORS_MAX 4
#define BUFFER_SIZE 16384            /* a hello and the request behind it */
#define KNOWN_HELLOS 32              /* a power of two */
#define HASH_SIZE 32
#define SPIN_NS (50 * KN_NS_PER_US)
#define LONG_SPIN_NS (100 * KN_NS_PER_MS) /* `wait = spin` */
#define SPIN_WINDOW 64               /* waits after which spinning is judged */
#define SPIN_SAMPLE 16               /* of these, one in so many is looked at for its CPU */
#define SPIN_SLOW_MOST 4             /* of these, waits of more than twice the time */
#define BLOCK_FIRST 2048
#define BLOCK_MOST (1u << 17)
/* An acceptor that sleeps in accept() is woken for a connection even where another one, which spins, takes it. So one
 * is at work until the queue was not empty so many times in a row; the last to join leaves when it had to wait so many
 * times in a row. */
#define BUSY_STREAK 64
#define IDLE_STREAK 64
#define WAITED_NS (3 * KN_NS_PER_US)

struct known_hello { bool set; struct kn_hello hello; uint8_t *wire; };

struct acceptor {
    struct kn_acceptors *all;
    struct kn_agent *agent;
    unsigned index;
    pthread_t thread;
    struct known_hello known[KNOWN_HELLOS];
    uint8_t *wires;                  /* behind `known` */
    uint8_t *buffer;
    bool was_short;                  /* the last connection */
    enum kn_wait wait;               /* as its specification has it */
    bool spinning;
    unsigned tries, hits, slow, near; /* of spinning */
    unsigned block_for, block_next;   /* connections to wait for without spinning: now, and when it fails again */
    unsigned busy, idle;             /* connections in a row that were there already, or were waited for */
};

struct kn_acceptors {
    struct kn_agent *agent;
    unsigned n, started;
    pthread_mutex_t lock;
    pthread_cond_t parked;
    unsigned n_spinning;             /* the listening socket does not block while anybody spins */
    unsigned awake;                  /* acceptors with a lower index are at work */
    struct acceptor acceptor[ACCEPTORS_MAX];
};

/* ---- hellos that were verified before ---- */

/* All but the hash may be compared in any time: who knows it all but the hash knows nothing. */
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
    a->block_for = 0; /* another run, perhaps on another CPU */
    a->block_next = BLOCK_FIRST;
    if (kn_hello_unpack(wire, kn_hello_size(), &a->agent->key, &known->hello, err))
        return NULL;
    memcpy(known->wire, wire, kn_hello_size());
    known->set = true;
    return &known->hello;
}

/* ---- one connection ---- */

static void take_hello(struct acceptor *a, struct kn_pending *p, size_t n)
{
    struct kn_error err;
    size_t whole = kn_hello_size();
    const struct kn_hello *hello = verify(a, a->buffer, &err);
    if (!hello) {
        if (kn_gate_refuse(a->agent, p, &err))
            kn_keeper_add(a->agent->keeper, p);
        return;
    }
    const struct kn_spec *spec = &hello->spec;
    bool may_be_short =
        hello->kind == KN_HELLO_STATS || spec->test == KN_TCP_CRR || (spec->test == KN_HTTP && !spec->keepalive);
    if (may_be_short && kn_serve_short(&a->agent->server, p->fd, hello, a->buffer + whole, n - whole)) {
        close(p->fd);
        a->was_short = true;
        a->wait = (enum kn_wait)hello->spec.wait;
        return;
    }
    if (kn_gate_flow(a->agent, p, hello, a->buffer + whole, n - whole))
        kn_keeper_add(a->agent->keeper, p);
}

/* A hello that came in part: what was read goes along. */
static void take_part(struct acceptor *a, struct kn_pending *p, size_t n)
{
    p->state = KN_GATE_HELLO;
    p->wire = malloc(kn_hello_size());
    if (!p->wire) {
        kn_gate_close(p);
        return;
    }
    memcpy(p->wire, a->buffer, n);
    p->have = n;
    if (kn_gate_step(a->agent, p))
        kn_keeper_add(a->agent->keeper, p);
}

static void take_connection(struct acceptor *a, int fd)
{
    struct kn_pending p = { .fd = fd, .deadline_ns = 0 };
    a->was_short = false;
    /* looked at before it is read: libmicrohttpd can only read from the socket */
    ssize_t n = recv(fd, a->buffer, 4, MSG_PEEK | MSG_DONTWAIT);
    if (n == 4 && !memcmp(a->buffer, KN_MAGIC, 4)) {
        n = recv(fd, a->buffer, BUFFER_SIZE, MSG_DONTWAIT);
        if (n >= (ssize_t)kn_hello_size()) {
            take_hello(a, &p, (size_t)n);
            return;
        }
        p.deadline_ns = kn_now_ns() + a->agent->config.hello_ns;
        take_part(a, &p, n > 0 ? (size_t)n : 0);
        return;
    }
    p.deadline_ns = kn_now_ns() + a->agent->config.hello_ns;
    if (kn_gate_step(a->agent, &p))
        kn_keeper_add(a->agent->keeper, &p);
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
        int flags = fcntl(a->agent->tcp_fd, F_GETFL);
        fcntl(a->agent->tcp_fd, F_SETFL, spinning ? flags | O_NONBLOCK : flags & ~O_NONBLOCK);
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

/* Spinning pays where most waits end in time. It does not on a CPU that the client shares or that others want: there a
 * yield takes longer than sleeping would have. Then it is left for a while, each time for twice as long. */
static void judge_spin(struct acceptor *a, int fd, uint64_t waited_ns)
{
    a->tries++;
    a->hits += fd >= 0 && waited_ns <= SPIN_NS;
    a->slow += waited_ns > 2 * SPIN_NS;
    if (fd >= 0 && a->tries % SPIN_SAMPLE == 0)
        a->near += is_neighbour(fd);
    bool poor = a->slow >= SPIN_SLOW_MOST;
    if (a->tries < SPIN_WINDOW && !poor)
        return;
    poor = poor || a->hits < a->tries / 2 || a->near > SPIN_WINDOW / SPIN_SAMPLE / 2;
    a->block_for = poor ? a->block_next : 0;
    a->block_next = !poor ? BLOCK_FIRST : a->block_next < BLOCK_MOST ? 2 * a->block_next : BLOCK_MOST;
    a->tries = a->hits = a->slow = a->near = 0;
}

/* `wait = auto`: the next connection of a tcp_crr comes within microseconds, and waking up costs more than that. */
static int spin(struct acceptor *a)
{
    int fd;
    uint64_t from_ns = kn_now_ns(), now_ns = from_ns;
    uint64_t until_ns = from_ns + (a->wait == KN_WAIT_SPIN ? LONG_SPIN_NS : SPIN_NS);
    change_spinning(a, true);
    while ((fd = accept4(a->agent->tcp_fd, NULL, NULL, SOCK_CLOEXEC)) < 0 && errno == EAGAIN && now_ns < until_ns) {
        sched_yield();
        now_ns = kn_now_ns();
    }
    if (a->wait == KN_WAIT_AUTO)
        judge_spin(a, fd, now_ns - from_ns);
    return fd;
}

static bool should_spin(struct acceptor *a)
{
    if (!a->was_short || a->wait == KN_WAIT_BLOCK)
        return false;
    if (a->block_for == 0)
        return true;
    a->block_for--;
    return false;
}

static int next_connection(struct acceptor *a)
{
    int fd = -1;
    if (should_spin(a) && (fd = spin(a)) >= 0)
        return fd;
    change_spinning(a, false);
    for (;;) {
        fd = accept4(a->agent->tcp_fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0 || errno != EAGAIN)
            return fd;
        struct pollfd p = { .fd = a->agent->tcp_fd, .events = POLLIN }; /* somebody else spins */
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
    while (a->index >= all->awake && !atomic_load(&a->agent->stop))
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
    kn_keeper_shed(a->agent->keeper);
    struct pollfd p = { .fd = a->agent->quit_event, .events = POLLIN };
    poll(&p, 1, 10);
}

static void *acceptor_main(void *argument)
{
    struct acceptor *a = argument;
    wait_for_work(a);
    while (!atomic_load_explicit(&a->agent->stop, memory_order_relaxed)) {
        uint64_t from_ns = kn_now_ns();
        int fd = next_connection(a);
        if (fd < 0) {
            a->was_short = false;
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
                make_room(a);
            continue;
        }
        uint64_t waited_ns = kn_now_ns() - from_ns;
        take_connection(a, fd);
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
    a->agent = all->agent;
    a->index = index;
    a->buffer = malloc(BUFFER_SIZE);
    a->wires = calloc(KNOWN_HELLOS, size);
    if (!a->buffer || !a->wires)
        return ENOMEM;
    for (size_t i = 0; i < KNOWN_HELLOS; i++)
        a->known[i].wire = a->wires + i * size;
    return kn_thread_start(&a->thread, "knbl-accept", acceptor_main, a);
}

struct kn_acceptors *kn_acceptors_new(struct kn_agent *agent, struct kn_error *err)
{
    struct kn_acceptors *all = calloc(1, sizeof *all);
    if (!all) {
        kn_fail_memory(err);
        return NULL;
    }
    unsigned cpus = kn_cpus_allowed();
    all->agent = agent;
    all->n = cpus < 1 ? 1 : cpus > ACCEPTORS_MAX ? ACCEPTORS_MAX : cpus;
    all->awake = 1;
    pthread_mutex_init(&all->lock, NULL);
    pthread_cond_init(&all->parked, NULL);
    for (; all->started < all->n; all->started++)
        if ((errno = start_acceptor(all, all->started)) != 0) {
            kn_fail_errno(err, "no thread for the agent");
            atomic_store(&agent->stop, true);
            kn_acceptors_free(all);
            return NULL;
        }
    return all;
}

/* `agent->stop` is set. The listening socket is shut down, which ends every accept. */
void kn_acceptors_free(struct kn_acceptors *all)
{
    if (!all)
        return;
    shutdown(all->agent->tcp_fd, SHUT_RDWR);
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
