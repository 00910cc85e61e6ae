/* Answers to a probe: to its HTTP requests and its datagrams, each by itself, and on the connection of a session. The
 * first byte of the input says which, the second how large the pieces are in which the answer comes. An attempt has the
 * same outcome in whatever pieces its answer comes, and is counted once; whoever has answered, by a name that JSON can
 * have. */
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/json.h"
#include "engines/engines.h"
#include "engines/probe/probe.h"
#include "run/inside.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ATTEMPTS 16

static const struct {
    const char *kind;
    bool external;
    int socket;
} ways[] = {{"http", true, SOCK_STREAM},
            {"http", false, SOCK_STREAM},
            {"udp", false, SOCK_DGRAM},
            {"session", false, SOCK_STREAM}};
#define WAYS (sizeof ways / sizeof *ways)

static void demand(bool truth)
{
    if (!truth)
        abort();
}

static struct kn_run *new_run(unsigned way)
{
    struct kn_error err;
    struct kn_spec spec;
    struct kn_target target = {.host = "127.0.0.1", .port = 1};
    json_t *json = json_pack("{s:s, s:s, s:b, s:s}", "test", "probe", "kind", ways[way].kind, "external",
                             ways[way].external, "timeout", "60s");
    demand(kn_spec_parse(json, &kn_engines, &spec, &err) == 0);
    json_decref(json);
    struct kn_run *run = kn_run_new(&spec, &target, &err);
    demand(run && run->n_slots == 1);
    struct kn_worker *w = &run->slots[0]->w;
    w->start_ns = w->open_ns = kn_now_ns();
    w->end_ns = UINT64_MAX;
    return run;
}

/* One run for each way: its histograms take longer to make than an input to read. */
static struct kn_worker *worker_of(unsigned way)
{
    static struct kn_run *runs[WAYS];
    if (!runs[way])
        runs[way] = new_run(way);
    struct kn_worker *w = &runs[way]->slots[0]->w;
    struct kn_figures *f = &w->figures;
    f->ops = f->errors = f->timeouts = f->connect_errors = 0;
    kn_backends_free(w->backends);
    w->backends = NULL;
    w->backend = 0;
    return w;
}

/* `a` NULL: what the session does with what came. */
static void look(struct kn_probe *p, struct kn_attempt *a)
{
    if (!a)
        kn_session_event(p, EPOLLIN | EPOLLOUT, kn_now_ns());
    else if (a->step != KN_STEP_DONE)
        kn_attempt_event(p, a, EPOLLIN, kn_now_ns());
}

static void answer(struct kn_probe *p, struct kn_attempt *a, int fd, const uint8_t *data, size_t size, size_t step)
{
    for (size_t at = 0; at < size; at += step) {
        send(fd, data + at, size - at < step ? size - at : step, MSG_NOSIGNAL);
        look(p, a);
    }
}

static void check(const struct kn_probe *p)
{
    const struct kn_figures *f = &p->w->figures;
    size_t done = 0;
    for (size_t i = 0; i < p->next; i++) {
        done += p->ring[i].step == KN_STEP_DONE && p->ring[i].outcome != KN_PROBE_BLIND;
        demand(p->ring[i].outcome < KN_PROBE_OUTCOMES);
    }
    demand(f->ops + f->errors + f->timeouts + f->connect_errors == done);
    unsigned long losses = kn_json_losses();
    json_decref(kn_backends_to_json(p->w->backends));
    demand(kn_json_losses() == losses);
}

static void pair(int type, int ends[2])
{
    demand(socketpair(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
}

static enum kn_outcome once(unsigned way, const uint8_t *data, size_t size, size_t step)
{
    int ends[2];
    struct kn_worker *w = worker_of(way);
    struct kn_attempt a = {.step = KN_STEP_ASKED, .due_ns = kn_now_ns()};
    struct kn_probe p = {.w = w, .spec = w->spec, .kind = kn_probe_kind(w->spec), .ring = &a, .next = 1};
    pair(ways[way].socket, ends);
    a.fd = ends[0];
    answer(&p, &a, ends[1], data, size, step);
    shutdown(ends[1], SHUT_RDWR);
    look(&p, &a);
    close(ends[1]);
    demand(a.fd < 0 || a.step != KN_STEP_DONE);
    if (ways[way].socket == SOCK_STREAM) /* the end of the connection is the end of the attempt */
        demand(a.step == KN_STEP_DONE);
    kn_attempt_close(&a, false);
    check(&p);
    return (enum kn_outcome)a.outcome;
}

/* The welcome may be the agent's or what the input has in its place. */
static void session(unsigned way, const uint8_t *data, size_t size, size_t step)
{
    int ends[2];
    uint8_t welcome[kn_welcome_size()];
    struct kn_attempt ring[ATTEMPTS] = {0};
    struct kn_probe_tally tally = {0};
    struct kn_worker *w = worker_of(way);
    struct kn_probe p = {.w = w,
                         .spec = w->spec,
                         .kind = KN_PROBE_SESSION,
                         .tally = &tally,
                         .ring = ring,
                         .mask = ATTEMPTS - 1,
                         .next = ATTEMPTS};
    for (size_t i = 0; i < ATTEMPTS; i++)
        ring[i] = (struct kn_attempt){.fd = -1, .step = KN_STEP_WAITING, .due_ns = kn_now_ns()};
    pair(SOCK_STREAM, ends);
    p.session.fd = ends[0];
    if (size && data[0] & 1) {
        kn_welcome_pack(&(struct kn_welcome){.protocol = KN_PROTOCOL, .name = "agent"}, welcome);
        answer(&p, NULL, ends[1], welcome, sizeof welcome, sizeof welcome);
    }
    answer(&p, NULL, ends[1], data, size, step);
    shutdown(ends[1], SHUT_RDWR);
    look(&p, NULL);
    close(ends[1]);
    demand(p.session.fd < 0 && p.session.have == 0);
    check(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    unsigned way = data[0] % WAYS;
    size_t step = 1u + data[1];
    data += 2;
    size -= 2;
    if (!strcmp(ways[way].kind, "session")) {
        session(way, data, size, step);
        return 0;
    }
    bool stream = ways[way].socket == SOCK_STREAM;
    enum kn_outcome outcome = once(way, data, size, size ? size : 1);
    if (stream)
        demand(once(way, data, size, step) == outcome);
    return 0;
}
