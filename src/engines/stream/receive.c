/* The receiving end of a stream: where the bytes are counted. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "engines/engines.h"
#include "engines/stream/stream.h"
#include "net/io.h"
#include "meter/meter.h"

#define ROOM_MIN (128u << 10)
#define ROOM_MAX KN_STREAM_CHUNK_MAX
#define ROOM_TUNED (1u << 20)
#define SLEEP_NS 1e6
/* A receiver that waits for more than congestion control keeps on the way waits for a timer, and the sender takes that
 * for the pace of the path. BBR may keep as little as four segments, which on loopback have 64 KB each; and where it
 * finds a path slow for a moment, little more. What sendfile sends comes without a copy, faster than it can be taken:
 * there is always more on the way. */
#define LOWAT_MAX (384u << 10)
#define LOWAT_SENDFILE (2u << 20)
#define LARGE_MSS (16u << 10)
#define LOWAT_LARGE (192u << 10)
#define ARMS 3
/* Messages of these sizes: the sender is the limit, and it pays for waking a receiver that sleeps. (Smaller ones are
 * gathered for so long that it sleeps anyway, larger ones wake it once a message.) */
#define AWAKE_MIN (1u << 10)
#define AWAKE_MAX (16u << 10)

struct receiver {
    struct kn_side *a;
    uint8_t *buf;
    size_t room;
    uint64_t total, live; /* since the start; inside the window */
    uint64_t counted;     /* bytes of the messages that were taken of `count` and have not come yet */
    struct kn_tuner tuner;
    int arms[ARMS];    /* SO_RCVLOWAT */
    uint64_t guess_ns; /* when a run that is too short to calibrate takes what is best most often; 0: never */
};

static int set_lowat(int fd, int bytes)
{
    if (bytes < 1)
        bytes = 1;
    return setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof bytes);
}

/* How long the receiver sleeps at most while data comes: a share of the rate so far, so that a slow path stays exact.
 */
static void choose_arms(struct receiver *r, uint64_t now_ns)
{
    static const double shares[ARMS] = {0, 0.25, 1};
    double most = (double)r->total / (double)(now_ns - r->a->start_ns + 1) * SLEEP_NS;
    most = fmin(most, kn_tcp_mss(r->a->fd) >= LARGE_MSS      ? LOWAT_LARGE
                      : r->a->spec->test == &kn_tcp_sendfile ? LOWAT_SENDFILE
                                                             : LOWAT_MAX);
    for (int i = 0; i < ARMS; i++)
        r->arms[i] = (int)(shares[i] * most);
}

/* The last arm, once half of the warm-up has shown how fast the path is. */
static void guess(struct receiver *r, uint64_t now_ns)
{
    if (!r->guess_ns || now_ns < r->guess_ns)
        return;
    r->guess_ns = 0;
    choose_arms(r, now_ns);
    set_lowat(r->a->fd, r->arms[ARMS - 1]);
    kn_side_chosen(r->a, "rcvlowat", "%d", r->arms[ARMS - 1]);
}

static void tune(struct receiver *r, uint64_t now_ns)
{
    guess(r, now_ns);
    bool first = r->tuner.turn < 0;
    int arm = kn_tuner_step(&r->tuner, now_ns, r->total);
    if (arm == KN_TUNE_KEEP)
        return;
    if (first)
        choose_arms(r, now_ns);
    set_lowat(r->a->fd, r->arms[arm]);
    if (r->tuner.over)
        kn_side_chosen(r->a, "rcvlowat", "%d", r->arms[arm]);
}

static void count(struct receiver *r, uint64_t n, uint64_t from_ns, uint64_t now_ns)
{
    struct kn_side *a = r->a;
    r->total += n;
    if (!a->opened)
        tune(r, now_ns); /* also where a starved thread wakes up past all of its turns */
    if (now_ns < a->open_ns)
        return;
    if (!a->opened)
        kn_side_open(a);
    if (a->closed)
        return;
    uint64_t in = kn_stream_share(a, n, from_ns, now_ns);
    if (in) {
        r->live += in;
        a->f->rx_bytes = r->live;
        uint64_t at_ns = now_ns < a->end_ns ? now_ns : a->end_ns - 1;
        kn_figures_add(a->f, at_ns - a->open_ns, in, 0);
    }
    if (a->w)
        atomic_store_explicit(&a->w->live_bytes, r->live, memory_order_relaxed);
    if (now_ns >= a->end_ns)
        kn_side_close(a);
}

/* How much to read: a client that counts what it receives reads no further than that. 0: all has come. */
static size_t room_for(struct receiver *r)
{
    const struct kn_spec *spec = r->a->spec;
    if (!r->a->w || !spec->count)
        return r->room;
    if (!r->counted)
        r->counted = kn_worker_take(r->a->w, r->room / spec->size ? r->room / spec->size : 1) * spec->size;
    return r->counted < r->room ? (size_t)r->counted : r->room;
}

static int loop(struct receiver *r, bool until_eof, struct kn_error *err)
{
    struct kn_side *a = r->a;
    uint64_t before_ns = kn_now_ns();
    size_t room;
    while (!kn_side_stopped(a) && (room = room_for(r))) {
        ssize_t n = kn_recv(a->fd, r->buf, room, 0);
        uint64_t now_ns = kn_now_ns();
        if (n == 0)
            return until_eof ? 0 : kn_fail(err, KN_E_LOST, "the server closed the flow in the middle of the run");
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return kn_fail(err, KN_E_LOST, "the other side of the flow is gone: %s", strerror(errno));
        count(r, n > 0 ? (uint64_t)n : 0, before_ns, now_ns);
        if (n > 0 && r->counted)
            r->counted -= (uint64_t)n;
        before_ns = now_ns;
        if (!until_eof && now_ns >= a->end_ns)
            return 0;
        if (a->s && kn_served_exceeds(a->s, r->total))
            return kn_served_limit(err);
    }
    return until_eof ? kn_fail(err, KN_E_INTERRUPTED, "stopped") : 0;
}

int kn_stream_receive(struct kn_side *a, bool until_eof, struct kn_error *err)
{
    struct receiver r = {.a = a, .room = ROOM_MIN};
    const struct timeval patience = {.tv_usec = 50000}; /* so that ends and stops are heard */
    while (r.room < a->spec->size && r.room < ROOM_MAX)
        r.room *= 2;
    bool awake = a->spec->size >= AWAKE_MIN && a->spec->size < AWAKE_MAX;
    kn_side_tune(&r.tuner, a, false, awake ? 1 : ARMS);
    if (kn_stream_tunes(a->spec) && r.tuner.over && !awake && a->spec->warmup_ns)
        r.guess_ns = a->start_ns + a->spec->warmup_ns / 2;
    if (kn_stream_tunes(a->spec) && r.room < ROOM_TUNED)
        r.room = ROOM_TUNED;
    r.buf = malloc(r.room);
    if (!r.buf)
        return kn_fail(err, KN_E_MEMORY, "no memory to receive into");
    setsockopt(a->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    int failed = loop(&r, until_eof, err);
    kn_side_close(a);
    set_lowat(a->fd, 1);
    if (a->spec->test == &kn_tcp_bw || a->spec->count)
        a->f->ops += a->f->rx_bytes / a->spec->size;
    free(r.buf);
    return failed;
}
