/* A server's bytes in the http test with http2. The input is a series of records, each what the server does next: it
 * sends bytes as they are, or a frame with a right head once or many times, or it hangs up; or time passes, so that
 * requests time out. After each record, every operation that was begun is in progress or was counted once, and the
 * connection's own counters are right. After a connection that is gone comes the next, which takes over what no server
 * took. */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engines/engines.h"
#include "engines/http/h2.h"
#include "run/inside.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STREAMS 4
#define COUNT 1000000
#define FRAME_HEAD 9

#define FLOOD_FRAMES 255
#define IDS 64 /* of streams that are looked at */

enum { RAW, FRAME, HANG_UP, TIME_OUT, FLOOD, ACTIONS };

static struct kn_spec spec;
static int server = -1;

static void demand(bool truth)
{
    if (!truth)
        abort();
}

static void read_spec(void)
{
    struct kn_error err;
    json_t *json = json_pack("{s:s, s:b, s:b, s:i, s:i, s:i, s:i, s:s}", "test", "http", "external", 1, "http2", 1,
                             "flows", 1, "streams", STREAMS, "count", COUNT, "warmup", 0, "timeout", "1000s");
    demand(kn_spec_parse(json, &kn_engines, &spec, &err) == 0);
    json_decref(json);
}

/* As kn_h2_dial, but with a socket pair. */
static void dial(struct kn_h2_conn *c)
{
    int ends[2];
    if (server >= 0)
        close(server);
    demand(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
    c->fd = ends[0];
    server = ends[1];
    c->state = KN_H2_CONNECTING;
    c->h->pending++;
    c->from_ns = kn_now_ns();
    c->deadline_ns = UINT64_MAX;
    kn_h2_step(c);
}

/* A stream of the session belongs to the operation that it was opened for, or to none. */
static void check_session(const struct kn_h2_conn *c)
{
    for (int32_t id = 1; c->session && id < IDS; id += 2) {
        const struct kn_h2_stream *s = nghttp2_session_get_stream_user_data(c->session, id);
        demand(!s || (s->id == id && s->busy && !s->waiting));
    }
    demand(c->idle_frames <= 1000);
}

static void check(const struct kn_h2_conn *c)
{
    const struct kn_h2_client *h = c->h;
    const struct kn_figures *f = &h->w->figures;
    unsigned busy = 0, waiting = 0;
    for (unsigned i = 0; i < STREAMS; i++) {
        busy += c->streams[i].busy;
        waiting += c->streams[i].waiting;
        demand(c->streams[i].busy || !c->streams[i].waiting);
    }
    demand(c->busy == busy && c->waiting == waiting && h->busy == busy);
    demand(h->pending == (c->state != KN_H2_DOWN && c->state != KN_H2_UP));
    demand(h->more == c->more);
    demand((c->session != NULL) == (c->state == KN_H2_UP || c->state == KN_H2_SETTLING));
    demand(busy + f->ops + f->errors + f->timeouts + f->connect_errors + h->w->part->left == COUNT);
    demand(f->own[KN_HTTP_GOAWAYS] <= f->connects);
    check_session(c);
}

static void drain(void)
{
    uint8_t bytes[4096];
    while (recv(server, bytes, sizeof bytes, 0) > 0)
        ;
}

static void take_time(struct kn_h2_conn *c)
{
    for (unsigned i = 0; i < STREAMS; i++)
        c->streams[i].deadline_ns = 0;
    if (c->state == KN_H2_UP)
        kn_h2_tick(c->h);
}

/* The head says as many bytes as follow; `data` begins with its type, its flags and its stream. */
static void send_frame(const uint8_t *data, size_t size)
{
    uint8_t frame[FRAME_HEAD + 255] = {0};
    if (size < 3)
        return;
    frame[2] = (uint8_t)(size - 3);
    memcpy(frame + 3, data, 2);
    frame[8] = data[2];
    memcpy(frame + FRAME_HEAD, data + 3, size - 3);
    send(server, frame, FRAME_HEAD + size - 3, MSG_NOSIGNAL);
}

static void act(struct kn_h2_conn *c, unsigned action, const uint8_t *data, size_t size)
{
    if (action == RAW)
        send(server, data, size, MSG_NOSIGNAL);
    else if (action == FRAME)
        send_frame(data, size);
    else if (action == FLOOD)
        for (int i = 0; i < FLOOD_FRAMES; i++)
            send_frame(data, size);
    else if (action == HANG_UP)
        shutdown(server, SHUT_RDWR);
    else
        take_time(c);
    do {
        if (!c->h->failed)
            kn_h2_step(c);
    } while (c->more);
    drain();
}

static void play(struct kn_h2_client *h, const uint8_t *data, size_t size)
{
    struct kn_h2_conn *c = h->conns;
    while (size >= 2 && !h->failed) {
        size_t n = data[1] < size - 2 ? data[1] : size - 2;
        if (c->state == KN_H2_DOWN)
            dial(c);
        act(c, data[0] % ACTIONS, data + 2, n);
        check(c);
        data += 2 + n;
        size -= 2 + n;
    }
    kn_h2_close(c);
}

static nghttp2_nv field(const char *name, const char *value)
{
    return (nghttp2_nv){(uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value, strlen(name), strlen(value), 0};
}

/* One run for all inputs: its histograms take longer to make than an input to read. */
static struct kn_run *run_of(void)
{
    static struct kn_run *run;
    struct kn_error err;
    struct kn_target target = {.host = "127.0.0.1", .port = 1};
    if (run)
        return run;
    read_spec();
    run = kn_run_new(&spec, &target, &err);
    demand(run && run->n_slots == 1);
    struct kn_worker *w = &run->slots[0]->w;
    w->start_ns = w->open_ns = kn_now_ns();
    w->end_ns = UINT64_MAX;
    w->figures.has |= KN_HAS_LATENCY;
    w->figures.connect = kn_hist_new();
    w->figures.first_byte = kn_hist_new();
    return run;
}

static struct kn_worker *fresh_worker(void)
{
    struct kn_run *run = run_of();
    struct kn_figures *f = &run->slots[0]->w.figures;
    run->parts[0].left = COUNT;
    run->parts[0].first = 0;
    f->ops = f->errors = f->timeouts = f->connects = f->connect_errors = 0;
    memset(f->own, 0, sizeof f->own);
    return &run->slots[0]->w;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t buf[KN_HTTP_BUF], out[KN_H2_OUT];
    struct kn_error err;
    struct kn_h2_stream streams[STREAMS] = {0};
    struct kn_h2_conn c = {.fd = -1, .streams = streams, .limit = STREAMS, .out = out};
    struct kn_h2_client h = {.w = fresh_worker(),
                             .conns = &c,
                             .streams = streams,
                             .n = 1,
                             .per_conn = STREAMS,
                             .loop = {.ep = -1},
                             .measured = true,
                             .now_ns = kn_now_ns(),
                             .wake_ns = UINT64_MAX,
                             .err = &err,
                             .buf = buf};
    c.h = &h;
    h.fields[0] = field(":method", "GET");
    h.fields[1] = field(":scheme", "http");
    h.fields[2] = field(":authority", "server");
    h.fields[3] = field(":path", "/");
    demand(kn_h2_init(&h, &err) == 0);
    play(&h, data, size);
    kn_h2_fini(&h);
    return 0;
}
