/* tcp_stream, tcp_sendfile and tcp_bw: bulk data one way, the other way, or both at once.
 *
 * A thread for each direction with plain blocking calls beats any event loop as long as there are few flows; more than
 * one flow a worker goes through stream_many.c. */
#include "engines/stream/stream.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <netinet/tcp.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/json.h"
#include "engines/engines.h"
#include "run/flow.h"
#include "run/payload.h"

#define TUNE_MIN_NS (100 * KN_NS_PER_MS) /* a shorter calibration shows nothing: what is best most often is taken */
#define TUNE_MAX_NS (500 * KN_NS_PER_MS)
#define TURN_NS (20 * KN_NS_PER_MS) /* several ticks of the scheduler */
#define ROUNDS_MAX 3
#define PACE_NS (1 * KN_NS_PER_MS) /* of data at a time, where there is a rate */

/* ---- a direction ---- */

void kn_side_open(struct kn_side *a)
{
    a->opened = true;
    if (a->w)
        kn_worker_cpu_open(a->w);
    else if (a->s)
        kn_served_open(a->s);
    else
        a->cpu_open_ns = kn_thread_cpu_ns();
}

void kn_side_close(struct kn_side *a)
{
    if (!a->opened || a->closed)
        return;
    a->closed = true;
    if (a->w)
        kn_worker_cpu_close(a->w);
    else if (a->s)
        kn_served_close(a->s, kn_now_ns());
    else
        a->f->cpu_ns += kn_thread_cpu_ns() - a->cpu_open_ns;
}

void kn_side_chosen(struct kn_side *a, const char *key, const char *format, ...)
{
    char text[128];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (a->w) {
        kn_worker_chosen(a->w, key, "%s", text);
    } else if (a->s) {
        if (!a->s->chosen)
            a->s->chosen = json_object();
        kn_json_set(a->s->chosen, key, json_string(text));
    }
}

bool kn_stream_free_size(const struct kn_spec *spec)
{
    return spec->test != &kn_tcp_bw && spec->size == KN_STREAM_SIZE && !spec->own[KN_STREAM_ZEROCOPY];
}

bool kn_stream_tunes(const struct kn_spec *spec)
{
    return spec->tune == KN_TUNE_AUTO && !spec->rate_bps && !spec->count;
}

unsigned kn_stream_bound_queue(const struct kn_spec *spec, int fd)
{
    unsigned each = KN_STREAM_UNSENT / (unsigned)spec->flows;
    each = each > KN_STREAM_UNSENT_LEAST ? each : KN_STREAM_UNSENT_LEAST;
    bool ours = kn_stream_tunes(spec) && kn_stream_free_size(spec) && spec->test != &kn_tcp_sendfile;
    if (spec->flows == 1 || spec->sndbuf || !ours)
        return 0;
    return setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &each, sizeof each) ? 0 : each;
}

/* How long calibration may take: a tenth of the duration, at most half a second, and no longer than the warm-up. 0:
 * that is too short for it. */
static uint64_t tune_ns(const struct kn_spec *spec)
{
    uint64_t ns = spec->duration_ns / 10;
    if (ns > TUNE_MAX_NS)
        ns = TUNE_MAX_NS;
    if (ns > spec->warmup_ns)
        ns = spec->warmup_ns;
    return ns >= TUNE_MIN_NS && kn_stream_tunes(spec) ? ns : 0;
}

static void say_calibration(struct kn_side *a, uint64_t ns)
{
    if (!a->w || !kn_stream_tunes(a->spec))
        return;
    if (ns)
        kn_side_chosen(a, "calibration", "%u ms of the warm-up", (unsigned)(ns / KN_NS_PER_MS));
    else
        kn_side_chosen(a, "calibration", "none: the run is too short");
}

/* A moment to get up to speed, then one end has its arms, then the other: each while the other stays as it is. Where
 * the calls are the sender's to choose the receiver comes first: what they gain shows only when it wakes up no more
 * often than is good. Where they are not, what the receiver's wake-ups cost shows only when the sender's calls are no
 * longer the limit. */
void kn_side_tune(struct kn_tuner *t, struct kn_side *a, bool sender, unsigned arms)
{
    uint64_t all_ns = tune_ns(a->spec), begin_ns = a->start_ns + a->spec->warmup_ns - all_ns;
    bool first = sender != kn_stream_free_size(a->spec);
    uint64_t from_ns = begin_ns + all_ns * (first ? 15 : 55) / 100, to_ns = begin_ns + all_ns * (first ? 55 : 97) / 100;
    uint64_t rounds = (to_ns - from_ns) / (arms * TURN_NS);
    kn_tuner_init(t, arms, rounds < 1 ? 1 : rounds > ROUNDS_MAX ? ROUNDS_MAX : (unsigned)rounds, from_ns, to_ns);
    say_calibration(a, all_ns);
}

size_t kn_stream_piece(const struct kn_spec *spec, size_t chunk)
{
    double piece = (double)spec->rate_bps / 8 / (double)spec->flows * ((double)PACE_NS / (double)KN_NS_PER_S);
    return piece >= (double)chunk ? chunk : piece < 1 ? 1 : (size_t)piece;
}

/* ---- what is sent ---- */

int kn_source_init(struct kn_source *s, const struct kn_spec *spec, size_t room, size_t size, struct kn_error *err)
{
    s->buf = kn_payload_new(room);
    if (!s->buf)
        return kn_fail(err, KN_E_MEMORY, "no memory to send from");
    for (size_t i = 0; i < sizeof s->parts / sizeof *s->parts; i++)
        s->parts[i] = (struct iovec){.iov_base = s->buf, .iov_len = KN_STREAM_HOT};
    if (spec->test != &kn_tcp_sendfile)
        return 0;
    s->file = memfd_create("knbl", MFD_CLOEXEC);
    if (s->file < 0 || write(s->file, s->buf, size) != (ssize_t)size)
        return kn_fail_errno(err, "no memory to send from as a file");
    return 0;
}

void kn_source_fini(struct kn_source *s)
{
    if (s->file >= 0)
        close(s->file);
    free(s->buf);
}

/* ---- both directions ---- */

/* `halt` ends the other direction, from whichever side. */
struct helper {
    struct kn_side side;
    struct kn_figures figures;
    pthread_t thread;
    atomic_bool *halt;
    bool sends;
    int failed;
    struct kn_error err;
};

static void *help(void *arg)
{
    struct helper *h = arg;
    h->failed = h->sends ? kn_stream_send(&h->side, &h->err) : kn_stream_receive(&h->side, false, &h->err);
    if (h->failed)
        atomic_store(h->halt, true);
    return NULL;
}

/* The other direction of a flow that has both, on a thread of its own. */
static int helper_start(struct helper *h, const struct kn_side *like, bool sends, atomic_bool *halt,
                        struct kn_error *err)
{
    *h = (struct helper){.side = *like, .sends = sends, .halt = halt};
    h->side.w = NULL;
    h->side.s = NULL;
    h->side.f = &h->figures;
    h->side.halt = halt;
    if (kn_figures_init(&h->figures, like->spec->interval_ns, err))
        return -1;
    int failed = pthread_create(&h->thread, NULL, help, h);
    if (!failed)
        return 0;
    kn_figures_fini(&h->figures);
    return kn_fail_from(err, failed, "cannot start a thread");
}

static int helper_join(struct helper *h, struct kn_figures *into, struct kn_error *err)
{
    pthread_join(h->thread, NULL);
    int failed = h->failed;
    if (failed)
        *err = h->err;
    if (kn_figures_merge(into, &h->figures, err))
        failed = -1;
    kn_figures_fini(&h->figures);
    return failed;
}

/* ---- the client ---- */

static int drive(struct kn_worker *w, int fd, struct kn_error *err)
{
    struct kn_side a = kn_side_of(w, fd);
    atomic_bool halt = false;
    struct helper h;
    if (w->spec->reverse)
        return kn_stream_receive(&a, false, err);
    if (!w->spec->bidir)
        return kn_stream_send(&a, err);
    a.halt = &halt;
    if (helper_start(&h, &a, false, &halt, err))
        return -1;
    int failed = kn_stream_send(&a, err);
    if (failed || w->spec->count) /* which is what the client sends; the server has no end of its own */
        atomic_store(&halt, true);
    return helper_join(&h, &w->figures, err) || failed ? -1 : 0;
}

static int client(struct kn_worker *w, struct kn_error *err)
{
    if (w->n_flows > 1)
        return kn_stream_many(w, err);
    int fd = kn_flow_open(w, w->first_flow, err);
    if (fd < 0)
        return -1;
    if (kn_worker_ready(w, err) || kn_flow_go(fd, err) || drive(w, fd, err)) {
        kn_flow_abandon(w, fd, w->first_flow);
        return -1;
    }
    return kn_flow_close(w, fd, w->first_flow, NULL, 0, err);
}

/* ---- the server ---- */

/* Our own sending is over; what the client still says is nothing, until it closes its side. */
static int await_end(struct kn_served *s, int fd, struct kn_error *err)
{
    uint8_t rest[4096];
    const struct timeval patience = {.tv_usec = 100000};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    while (!kn_served_stopped(s)) {
        ssize_t n = recv(fd, rest, sizeof rest, 0);
        if (n == 0)
            return 0;
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return kn_fail_errno(err, "the client went away in the middle of the run");
    }
    return kn_fail(err, KN_E_INTERRUPTED, "stopped");
}

static int serve(struct kn_served *s, int fd, struct kn_error *err)
{
    struct kn_side a = {.fd = fd,
                        .spec = s->spec,
                        .s = s,
                        .f = &s->figures,
                        .stop = s->server->stop,
                        .start_ns = s->start_ns,
                        .open_ns = s->open_ns,
                        .end_ns = s->end_ns};
    atomic_bool halt = false;
    struct helper h;
    if (s->spec->reverse)
        return kn_stream_send(&a, err) || await_end(s, fd, err) ? -1 : 0;
    if (!s->spec->bidir)
        return kn_stream_receive(&a, true, err);
    if (helper_start(&h, &a, true, &halt, err))
        return -1;
    int failed = kn_stream_receive(&a, true, err);
    atomic_store(&halt, true);
    return helper_join(&h, &s->figures, err) || failed ? -1 : 0;
}

/* ---- the tests ---- */

#define OPTIONS (KN_TEST_OPTIONS | KN_TCP_OPTIONS | KN_HAS(SIZE))

static const char *const columns[] = {"throughput", "share",           "retransmits",     "cpu_client",
                                      "cpu_server", "cpu_send_per_gb", "cpu_recv_per_gb", NULL};
static const char *const compared[] = {"throughput", "cpu_send_per_gb", "cpu_recv_per_gb", NULL};
static const struct kn_spec_option own[] = {
    [KN_STREAM_ZEROCOPY] = KN_FLAG("zerocopy", KN_AT(own[KN_STREAM_ZEROCOPY]), "send with MSG_ZEROCOPY"),
    {.name = NULL},
};
static const struct kn_preset presets[] = {
    {offsetof(struct kn_spec, size), KN_STREAM_SIZE},
    {offsetof(struct kn_spec, tune), KN_TUNE_AUTO},
    {0, 0},
};
static const struct kn_preset bw_presets[] = {
    {offsetof(struct kn_spec, size), 64 << 10},
    {offsetof(struct kn_spec, tune), KN_TUNE_AUTO},
    {0, 0},
};

const struct kn_test kn_tcp_stream = {
    .name = "tcp_stream",
    .help = "bulk data over TCP: throughput at the receiver (netperf TCP_STREAM, iperf3)",
    .transport = KN_TCP,
    .shape = KN_BULK,
    .rate = KN_RATE_BITS,
    .headline = "throughput",
    .columns = columns,
    .compared = compared,
    .counts_bytes = true,
    .options = OPTIONS | KN_HAS(RATE) | KN_HAS(REVERSE) | KN_HAS(BIDIR),
    .own = own,
    .presets = presets,
    .client = client,
    .serve = serve,
    .desk = &kn_stream_desk,
};

const struct kn_test kn_tcp_sendfile = {
    .name = "tcp_sendfile",
    .help = "bulk data over TCP by sendfile(2): throughput at the receiver (netperf TCP_SENDFILE, iperf3 -Z)",
    .transport = KN_TCP,
    .shape = KN_BULK,
    .rate = KN_RATE_BITS,
    .headline = "throughput",
    .columns = columns,
    .compared = compared,
    .counts_bytes = true,
    .options = OPTIONS | KN_HAS(RATE) | KN_HAS(REVERSE),
    .presets = presets,
    .client = client,
    .serve = serve,
    .desk = &kn_stream_desk,
};

const struct kn_test kn_tcp_bw = {
    .name = "tcp_bw",
    .help = "throughput of messages over TCP, over a list of sizes (qperf tcp_bw)",
    .transport = KN_TCP,
    .shape = KN_BULK,
    .rate = KN_RATE_NONE,
    .headline = "throughput",
    .columns = columns,
    .compared = compared,
    .sized = true,
    .counts_bytes = true,
    .options = OPTIONS,
    .presets = bw_presets,
    .client = client,
    .serve = serve,
    .desk = &kn_stream_desk,
};
