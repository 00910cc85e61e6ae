/* A flow at a desk, from its welcome to its end. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "core/cpus.h"
#include "core/json.h"
#include "net/io.h"
#include "run/desk_inside.h"
#include "run/flow_udp.h"

#define SAME_READING_NS (20 * KN_NS_PER_MS) /* windows of a run open together, so they share one reading of the node */
#define OPENING_NS (90 * KN_NS_PER_S)       /* until the client begins; it first opens all flows of a run */
#define LATE_NS (2 * KN_NS_PER_S)           /* after the end of the run, for the last operation, and … */
#define LATE_MOST_NS (10 * KN_NS_PER_S)     /* … in addition the operation's timeout, at most this */
#define REPORT_NS (15 * KN_NS_PER_S)        /* from the end of the test until the client has the account */
#define LINGER_NS (2 * KN_NS_PER_S)         /* UDP: how long an account is kept after the last question */
#define EACH_NS (10 * KN_NS_PER_MS) /* in addition for each flow of the run: a client opens and ends them in turn */

static uint64_t deadline_of(const struct kn_desk_place *p, uint64_t now_ns)
{
    const struct kn_served *s = &p->flow->s;
    const struct kn_spec *spec = s->spec;
    uint64_t run_ns = spec->duration_ns ? spec->duration_ns : s->server->limits.max_duration_ns;
    uint64_t others_ns = s->hello->flows * EACH_NS;
    switch ((enum kn_desk_state)p->state) {
    case KN_AT_GO: return now_ns + OPENING_NS + others_ns;
    case KN_AT_TEST:
        return now_ns + spec->warmup_ns + (run_ns ? run_ns : 86400 * KN_NS_PER_S) + LATE_NS +
               kn_least(spec->timeout_ns + spec->delay_ns, LATE_MOST_NS) + (p->udp ? OPENING_NS : 0) + others_ns;
    case KN_AT_ACCOUNT: return now_ns + (p->udp ? LINGER_NS : REPORT_NS + others_ns);
    case KN_AT_END: break;
    }
    return now_ns;
}

/* ---- windows ---- */

static void read_node(struct kn_desk *all, struct kn_cpu_reading *r)
{
    uint64_t now_ns = kn_now_ns();
    pthread_mutex_lock(&all->lock);
    if (!all->last.at_ns || now_ns > all->last.at_ns + SAME_READING_NS)
        kn_cpu_read(&all->last);
    *r = all->last;
    pthread_mutex_unlock(&all->lock);
}

static void open_window(struct desk *d, struct kn_desk_place *p)
{
    struct kn_served *s = &p->flow->s;
    s->opened = true;
    s->figures.has |= KN_HAS_CPU;
    p->cpu_ns = kn_thread_cpu_ns();
    p->desk_turns = d->turns;
    p->own_turns = p->flow->turns;
    read_node(d->all, &s->at_open);
}

/* A thread's CPU time is divided among its flows by the number of their turns. */
static void close_window(struct desk *d, struct kn_desk_place *p)
{
    struct kn_served *s = &p->flow->s;
    uint64_t all = d->turns - p->desk_turns, own = p->flow->turns - p->own_turns, now_ns = d->seat.now_ns;
    uint64_t end_ns = now_ns < s->end_ns ? now_ns : s->end_ns;
    s->closed = true;
    if (all)
        s->figures.cpu_ns += (uint64_t)((double)(kn_thread_cpu_ns() - p->cpu_ns) * (double)own / (double)all);
    s->figures.window_ns = end_ns > s->open_ns ? end_ns - s->open_ns : 0;
    read_node(d->all, &s->at_close);
}

/* Does what kn_served_tick does for a flow with a thread. With UDP the first measured datagram opens the window. */
static void tick(struct desk *d, struct kn_desk_place *p, bool over)
{
    const struct kn_served *s = &p->flow->s;
    uint64_t now_ns = d->seat.now_ns;
    if (!s->opened && now_ns >= s->open_ns && s->open_ns)
        open_window(d, p);
    if (s->opened && !s->closed && (over || now_ns >= s->end_ns))
        close_window(d, p);
}

void kn_desk_series(struct kn_desk_flow *flow, uint64_t bytes, uint64_t ops)
{
    struct kn_desk_place *p = flow->place;
    struct kn_figures *f = &p->run->series[p->desk->index];
    struct kn_error ignored;
    uint64_t now_ns = flow->seat->now_ns;
    if (!f->series.bytes && !flow->s.spec->interval_ns)
        return;
    if (!f->series.bytes && kn_figures_series(f, flow->s.spec->interval_ns, &ignored)) {
        p->lost = true;
        return;
    }
    kn_figures_add(f, now_ns > flow->s.open_ns ? now_ns - flow->s.open_ns : 0, bytes, ops);
}

/* ---- states ---- */

static void enter(struct desk *d, struct kn_desk_place *p, enum kn_desk_state state)
{
    unsigned *spinning = &d->spinning[kn_loop_wait_of(p->flow->s.spec)];
    *spinning -= p->state == KN_AT_TEST;
    p->state = (uint8_t)state;
    *spinning += state == KN_AT_TEST;
    p->deadline_ns = deadline_of(p, d->seat.now_ns);
}

static bool await_go(struct desk *d, struct kn_desk_place *p, struct kn_error *err)
{
    uint8_t go = 0;
    struct kn_desk_flow *flow = p->flow;
    ssize_t n = recv(flow->fd, &go, 1, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    if (n <= 0) /* the client went away before it began */
        return false;
    if (go != KN_GO) {
        kn_fail(err, KN_E_PROTOCOL, "a flow began with byte 0x%02x instead of go", go);
        return false;
    }
    kn_served_start(&flow->s, d->seat.now_ns);
    enter(d, p, KN_AT_TEST);
    return !p->test->begin || !p->test->begin(flow, err);
}

/* The first account that is sent carries all points that flows of this run left on this thread. */
static json_t *account_of(struct desk *d, struct kn_desk_place *p)
{
    struct kn_desk_flow *flow = p->flow;
    struct kn_figures *points = &p->run->series[d->index];
    unsigned loops = kn_desk_loops(d->all, flow->s.spec);
    if (points->series.bytes) {
        flow->s.figures.series = points->series;
        points->series = (struct kn_series){0};
    }
    flow->s.chosen = json_pack("{s:o}", "server", json_sprintf("%u event loop%s", loops, loops == 1 ? "" : "s"));
    json_t *account = kn_served_account(&flow->s, flow->fd);
    json_decref(flow->s.chosen);
    flow->s.chosen = NULL;
    return account;
}

static int make_account(struct desk *d, struct kn_desk_place *p, struct kn_error *err)
{
    json_t *account = p->lost ? NULL : account_of(d, p);
    if (account && p->udp) {
        p->out = (uint8_t *)kn_json_text(account, JSON_COMPACT);
        p->out_size = p->out ? strlen((char *)p->out) : 0;
    } else if (account) {
        p->out = kn_trailer_pack(account, &p->out_size, err);
    }
    json_decref(account);
    return p->out ? 0 : kn_fail(err, KN_E_MEMORY, "out of memory for an account");
}

/* If there is no memory for the account, nothing is sent, and the client asks again. */
static void answer_fetch(struct desk *d, struct kn_desk_place *p, uint32_t offset)
{
    struct kn_error ignored;
    if (p->out || !make_account(d, p, &ignored))
        kn_served_send_part(p->flow->fd, (char *)p->out, (uint32_t)p->out_size, offset);
}

static bool test_over(struct desk *d, struct kn_desk_place *p, struct kn_error *err)
{
    enter(d, p, KN_AT_ACCOUNT);
    kn_desk_wake(p->flow, 0);
    tick(d, p, true);
    if (!p->udp)
        kn_tcp_info_add(p->flow->fd, &p->flow->s.figures);
    if (!p->udp)
        return !make_account(d, p, err);
    answer_fetch(d, p, 0); /* the fetch that ended the test */
    return true;
}

static bool send_account(struct kn_desk_place *p, struct kn_error *err)
{
    while (p->out_done < p->out_size) {
        ssize_t n = send(p->flow->fd, p->out + p->out_done, p->out_size - p->out_done, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return true;
        if (n < 0) {
            kn_fail_errno(err, "the account could not be sent");
            return false;
        }
        p->out_done += (size_t)n;
    }
    return false;
}

/* Until the client says that it has everything. */
static bool answer_fetches(struct desk *d, struct kn_desk_place *p)
{
    struct kn_desk_flow *flow = p->flow;
    for (int i = 0; i < KN_DESK_CALLS; i++) {
        uint32_t offset = 0;
        ssize_t n = recv(flow->fd, d->seat.room, KN_DESK_ROOM, MSG_DONTWAIT);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR || errno == ECONNREFUSED;
        if (kn_served_control(&flow->s, flow->fd, d->seat.room, (size_t)n, &offset) != KN_UDP_WANTS_ACCOUNT)
            continue;
        if (offset == KN_UDP_FETCHED_ALL)
            return false;
        answer_fetch(d, p, offset);
        p->deadline_ns = d->seat.now_ns + LINGER_NS;
    }
    return true;
}

static bool serve_test(struct desk *d, struct kn_desk_place *p, uint32_t events, struct kn_error *err)
{
    struct kn_desk_flow *flow = p->flow;
    uint64_t before = flow->turns;
    tick(d, p, false);
    enum kn_desk_next next = p->test->serve(flow, events);
    d->turns += flow->turns - before;
    if (next == KN_DESK_AGAIN && !p->goes_on) {
        p->goes_on = true;
        p->again = d->again;
        d->again = p;
    }
    if (next == KN_DESK_LIMIT) {
        kn_served_limit(err);
        return false;
    }
    if (next == KN_DESK_FAILED) {
        kn_fail(err, KN_E_LOST, "the client went away in the middle of the run, or sent what the test does not have");
        return false;
    }
    return next != KN_DESK_OVER || test_over(d, p, err);
}

bool kn_desk_attend(struct desk *d, struct kn_desk_place *p, uint32_t events, struct kn_error *err)
{
    if (p->state == KN_AT_GO && !await_go(d, p, err))
        return false;
    if (p->state == KN_AT_TEST && !serve_test(d, p, events, err))
        return false;
    if (p->state == KN_AT_ACCOUNT)
        return p->udp ? answer_fetches(d, p) : send_account(p, err);
    return true;
}

void kn_desk_conclude(struct desk *d, struct kn_desk_place *p)
{
    bool begun = p->state > KN_AT_GO;
    if (p->state == KN_AT_TEST)
        enter(d, p, KN_AT_END);
    if (begun && p->test->end)
        p->test->end(p->flow);
}

/* ---- making and unmaking ---- */

/* The lock is held. */
static struct kn_desk_run *find_run(struct kn_desk *all, const struct kn_hello *hello)
{
    struct kn_desk_run *run = all->runs;
    while (run && (run->hello.run_id != hello->run_id || memcmp(&run->hello.spec, &hello->spec, sizeof hello->spec)))
        run = run->next;
    return run;
}

static struct kn_desk_run *make_run(struct kn_desk *all, const struct kn_hello *hello)
{
    const struct kn_desk_test *test = hello->spec.test->desk;
    struct kn_desk_run *run = calloc(1, sizeof *run);
    if (!run)
        return NULL;
    run->hello = *hello;
    run->series = calloc(all->n, sizeof *run->series);
    run->shared = test->share ? test->share(&run->hello.spec) : NULL;
    if (!run->series || (test->share && !run->shared)) {
        free(run->series);
        free(run->shared);
        free(run);
        return NULL;
    }
    run->next = all->runs;
    all->runs = run;
    return run;
}

static struct kn_desk_run *join_run(struct kn_desk *all, const struct kn_hello *hello)
{
    pthread_mutex_lock(&all->lock);
    struct kn_desk_run *run = find_run(all, hello);
    if (!run)
        run = make_run(all, hello);
    if (run)
        run->refs++;
    pthread_mutex_unlock(&all->lock);
    return run;
}

static void leave_run(struct kn_desk *all, struct kn_desk_run *run)
{
    pthread_mutex_lock(&all->lock);
    bool last = --run->refs == 0;
    struct kn_desk_run **at = &all->runs;
    while (last && *at != run)
        at = &(*at)->next;
    if (last)
        *at = run->next;
    pthread_mutex_unlock(&all->lock);
    if (!last)
        return;
    for (unsigned i = 0; i < all->n; i++)
        kn_figures_fini(&run->series[i]);
    free(run->series);
    free(run->shared);
    free(run);
}

static struct kn_desk_flow **bucket_of(struct kn_desk *all, const struct kn_hello *hello)
{
    return &all->udp[(hello->run_id ^ (hello->run_id >> 32) ^ hello->flow) % KN_DESK_BUCKETS];
}

static int add_udp(struct kn_desk *all, struct kn_desk_flow *flow, const struct kn_hello *hello,
                   const struct kn_addr *peer)
{
    struct kn_desk_udp *udp = calloc(1, sizeof *udp);
    if (!udp)
        return -1;
    flow->place->udp = udp;
    udp->hello = *hello;
    udp->peer = *peer;
    flow->s.hello = &udp->hello;
    flow->s.spec = &udp->hello.spec;
    pthread_mutex_lock(&all->lock);
    struct kn_desk_flow **bucket = bucket_of(all, hello);
    udp->next = *bucket;
    *bucket = flow;
    pthread_mutex_unlock(&all->lock);
    return 0;
}

static void remove_udp(struct kn_desk *all, struct kn_desk_flow *flow)
{
    struct kn_desk_udp *udp = flow->place->udp;
    if (!udp)
        return;
    pthread_mutex_lock(&all->lock);
    struct kn_desk_flow **at = bucket_of(all, &udp->hello);
    while (*at != flow)
        at = &(*at)->place->udp->next;
    *at = udp->next;
    pthread_mutex_unlock(&all->lock);
    free(udp);
}

bool kn_desk_has_udp(struct kn_desk *all, const struct kn_addr *peer, const struct kn_hello *hello)
{
    bool found = false;
    pthread_mutex_lock(&all->lock);
    for (struct kn_desk_flow *f = *bucket_of(all, hello); f && !found; f = f->place->udp->next) {
        const struct kn_desk_udp *udp = f->place->udp;
        found = udp->hello.run_id == hello->run_id && udp->hello.flow == hello->flow && kn_addr_equal(&udp->peer, peer);
    }
    pthread_mutex_unlock(&all->lock);
    return found;
}

static void init(struct kn_desk_flow *flow, struct kn_desk_place *p, struct kn_desk_run *run, struct kn_server *server,
                 int fd, const struct kn_key *key)
{
    flow->fd = fd;
    flow->place = p;
    flow->shared = run->shared;
    flow->s = (struct kn_served){
        .server = server, .hello = &run->hello, .spec = &run->hello.spec, .key = key, .end_ns = UINT64_MAX};
    *p = (struct kn_desk_place){.flow = flow, .run = run, .test = run->hello.spec.test->desk};
    p->deadline_ns = deadline_of(p, kn_now_ns());
}

struct kn_desk_flow *kn_desk_flow_new(struct kn_desk *all, struct kn_server *server, int fd,
                                      const struct kn_hello *hello, const struct kn_addr *peer,
                                      const struct kn_key *key, struct kn_error *err)
{
    struct kn_desk_run *run = join_run(all, hello);
    struct kn_desk_flow *flow = run ? calloc(1, hello->spec.test->desk->size) : NULL;
    struct kn_desk_place *place = calloc(1, sizeof *place);
    if (flow && place) {
        init(flow, place, run, server, fd, key);
        if (!peer || !add_udp(all, flow, hello, peer))
            return flow;
    }
    free(flow);
    free(place);
    if (run)
        leave_run(all, run);
    return kn_null(kn_fail_memory(err));
}

void kn_desk_flow_free(struct kn_desk *all, struct kn_desk_flow *flow)
{
    struct kn_desk_run *run = flow->place->run;
    remove_udp(all, flow);
    kn_figures_fini(&flow->s.figures);
    free(flow->place->out);
    free(flow->place);
    free(flow);
    leave_run(all, run);
}

/* A new socket has room for it. */
int kn_desk_welcome(struct kn_desk_flow *flow, struct kn_error *err)
{
    struct kn_welcome welcome;
    uint8_t wire[KN_UDP_CONTROL_MAX];
    struct kn_desk_place *p = flow->place;
    if (*flow->s.spec->server_cpus && kn_cpus_there("server_cpus", flow->s.spec->server_cpus, err))
        return -1;
    if (!p->udp && (kn_served_watch(flow->fd, flow->s.hello), kn_tcp_options(flow->fd, flow->s.spec, err)))
        return -1;
    kn_welcome_fill(flow->s.server, flow->fd, &welcome);
    size_t size = kn_welcome_size();
    if (p->udp)
        size = kn_udp_welcome_pack(&welcome, wire);
    else
        kn_welcome_pack(&welcome, wire);
    if (send(flow->fd, wire, size, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)size)
        return kn_fail_errno(err, "cannot answer");
    if (!p->udp)
        return 0;
    p->state = KN_AT_TEST;
    p->deadline_ns = deadline_of(p, kn_now_ns());
    return p->test->begin ? p->test->begin(flow, err) : 0;
}
