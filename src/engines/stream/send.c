/* The sending end of a stream. */
#include <errno.h>
#include <time.h> /* before errqueue.h, which does not include what it uses */
#include <linux/errqueue.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>

#include "core/pace.h"
#include "engines/engines.h"
#include "engines/stream/stream.h"
#include "net/io.h"

#define ARMS 2
#define SMALL (1u << 10) /* messages below that are gathered, unless calibration finds that it does not pay */
#define PEEK_NS (10 * KN_NS_PER_MS) /* how often a server that sends looks whether its client has had enough */
#define CALL_NS 500                 /* about what a small send costs: the clock is read every 10 µs or so */

struct sender {
    struct kn_side *a;
    struct kn_source source;
    int flags;
    size_t chunk;        /* of one call */
    unsigned every;      /* calls from one look at the clock to the next */
    uint64_t sent, base; /* since the start; when the window opened */
    uint64_t counted;    /* paced: bytes of the messages that were taken of `count` and are not sent yet */
    uint64_t peek_ns;
    bool stalled, left; /* the last call moved nothing; the other side has closed */
    struct kn_tuner tuner;
    size_t chunks[ARMS];
    int more[ARMS];
    struct kn_pace pace;
    bool copied; /* MSG_ZEROCOPY: the kernel copied after all */
};

/* ---- one call ---- */

/* Completions of MSG_ZEROCOPY must be taken off, or the kernel runs out of memory for them. */
static void reap(struct sender *s)
{
    char control[128];
    struct msghdr m = {.msg_control = control, .msg_controllen = sizeof control};
    while (recvmsg(s->a->fd, &m, MSG_ERRQUEUE | MSG_DONTWAIT) >= 0) {
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        struct sock_extended_err e;
        if (c && c->cmsg_len >= CMSG_LEN(sizeof e)) {
            memcpy(&e, CMSG_DATA(c), sizeof e);
            s->copied = s->copied || (e.ee_origin == SO_EE_ORIGIN_ZEROCOPY && (e.ee_code & SO_EE_CODE_ZEROCOPY_COPIED));
        }
        m.msg_controllen = sizeof control;
    }
}

/* 0 or more bytes; -1: the peer is gone. */
static ssize_t send_some(struct sender *s, size_t size)
{
    ssize_t n = kn_source_send(&s->source, s->a->fd, size, s->flags);
    if (n >= 0) {
        s->sent += (uint64_t)n;
        return n;
    }
    if (errno == ENOBUFS)
        reap(s);
    s->stalled = true;
    return errno == EAGAIN || errno == EINTR || errno == ENOBUFS ? 0 : -1;
}

/* ---- between calls ---- */

static void look_often_enough(struct sender *s)
{
    s->every = s->chunk >= (16u << 10) ? 1 : s->chunk >= (1u << 10) ? 8 : 10000 / CALL_NS;
}

static void set_arm(struct sender *s, int arm)
{
    s->chunk = s->chunks[arm];
    s->flags = (s->flags & ~MSG_MORE) | s->more[arm];
    look_often_enough(s);
}

static void say_arm(struct sender *s)
{
    kn_side_chosen(s->a, "write", "%zu%s", s->chunk,
                   s->source.hot         ? " of the same 16 KiB"
                   : s->flags & MSG_MORE ? " with MSG_MORE"
                                         : "");
}

static void tune(struct sender *s, uint64_t now_ns)
{
    int arm = kn_tuner_step(&s->tuner, now_ns, s->sent);
    if (arm == KN_TUNE_KEEP)
        return;
    set_arm(s, arm);
    if (s->tuner.over)
        say_arm(s);
}

/* Whether the other side has closed: a server looks now and then, for its client may have had enough; a client when
 * nothing moves. (A window that is closed for good is no error to the kernel for a minute.) */
static bool peer_left(struct sender *s, uint64_t now_ns)
{
    uint8_t one;
    if (s->a->s ? now_ns < s->peek_ns : !s->stalled)
        return false;
    s->peek_ns = now_ns + PEEK_NS;
    s->stalled = false;
    return !s->a->spec->bidir && kn_recv(s->a->fd, &one, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

/* A server that sends cannot know how much of `count` its flow has; all of it is enough. */
static bool sent_all(const struct sender *s)
{
    const struct kn_spec *spec = s->a->spec;
    return s->a->s && spec->count && s->sent / spec->size >= spec->count;
}

/* The time is `now`: false where it is over. */
static bool tick(struct sender *s, uint64_t now_ns)
{
    struct kn_side *a = s->a;
    if (!a->opened)
        tune(s, now_ns); /* also where a starved thread wakes up past all of its turns */
    if (!a->opened && now_ns >= a->open_ns) {
        kn_side_open(a);
        s->base = s->sent;
    }
    if (a->opened) {
        a->f->tx_bytes = s->sent - s->base;
        if (a->w)
            atomic_store_explicit(&a->w->live_bytes, a->f->tx_bytes, memory_order_relaxed);
    }
    if (s->flags & MSG_ZEROCOPY)
        reap(s);
    if (now_ns >= a->end_ns || kn_side_stopped(a) || sent_all(s) || (a->s && kn_served_exceeds(a->s, s->sent)))
        return false;
    s->left = s->left || peer_left(s, now_ns);
    return !s->left;
}

static int gone(const struct sender *s, struct kn_error *err)
{
    if (kn_side_stopped(s->a))
        return 0;
    return kn_fail(err, KN_E_LOST, "the other side of the flow is gone: %s", strerror(errno));
}

/* ---- the three ways through ---- */

static int send_freely(struct sender *s, struct kn_error *err)
{
    for (;;) {
        for (unsigned i = 0; i < s->every; i++)
            if (send_some(s, s->chunk) < 0)
                return gone(s, err);
        if (!tick(s, kn_now_ns()))
            return 0;
    }
}

/* Exactly so many messages of exactly that size. */
static int send_counted(struct sender *s, struct kn_error *err)
{
    uint64_t size = s->a->spec->size, n;
    while (tick(s, kn_now_ns()) && (n = kn_worker_take(s->a->w, s->every))) {
        for (uint64_t left = n * size; left;) {
            uint64_t message = left % size ? left % size : size;
            ssize_t sent = send_some(s, message < s->chunk ? (size_t)message : s->chunk);
            if (sent < 0)
                return gone(s, err);
            if (!sent && !tick(s, kn_now_ns()))
                return 0;
            left -= (uint64_t)sent;
        }
    }
    tick(s, kn_now_ns());
    return 0;
}

/* The size of what is sent when it is due, which is never more than a message. 0: all that was counted is sent. */
static size_t next_piece(struct sender *s)
{
    if (!s->a->w || !s->a->spec->count)
        return s->chunk;
    if (s->counted < s->chunk)
        s->counted += kn_worker_take(s->a->w, 1) * s->a->spec->size;
    size_t piece = s->counted < s->chunk ? (size_t)s->counted : s->chunk;
    s->counted -= piece;
    return piece;
}

static int send_paced(struct sender *s, struct kn_error *err)
{
    uint64_t now_ns;
    while (tick(s, now_ns = kn_now_ns())) {
        uint64_t due_ns = kn_pace_due_ns(&s->pace);
        if (due_ns > now_ns) {
            kn_sleep_until_ns(due_ns < now_ns + 50 * KN_NS_PER_MS ? due_ns : now_ns + 50 * KN_NS_PER_MS);
            continue;
        }
        kn_pace_take(&s->pace, 1);
        size_t piece = next_piece(s);
        if (!piece)
            return 0;
        for (size_t left = piece; left;) {
            ssize_t n = send_some(s, left);
            if (n < 0)
                return gone(s, err);
            if (!n && !tick(s, kn_now_ns()))
                return 0;
            left -= (size_t)n;
        }
    }
    return 0;
}

/* ---- setting up ---- */

static void set_pace(struct sender *s)
{
    const struct kn_spec *spec = s->a->spec;
    unsigned share = 0, shares = (unsigned)spec->flows;
    s->chunk = kn_stream_piece(spec, s->chunk);
    if (s->a->w)
        share = s->a->w->first_flow;
    else if (s->a->s)
        share = s->a->s->hello->flow;
    kn_pace_init_bits(&s->pace, spec->rate_bps, s->chunk, s->a->start_ns, share, shares);
    s->every = 1;
    kn_side_chosen(s->a, "pacing", "%zu bytes when they are due, by the sender", s->chunk);
}

/* Free where the size is the default: a stream has no messages, and the calls are ours to choose. Else only whether the
 * kernel is told that more will come. */
static void set_arms(struct sender *s)
{
    static const size_t sizes[ARMS] = {512u << 10, KN_STREAM_CALL_MAX};
    const struct kn_spec *spec = s->a->spec;
    unsigned arms = 1;
    bool free_size = kn_stream_free_size(spec), copies = spec->test != &kn_tcp_sendfile;
    for (int i = 0; i < ARMS; i++)
        s->chunks[i] = free_size ? sizes[i] : s->chunk;
    if (free_size) {
        arms = ARMS;
    } else if (copies && !spec->nodelay && spec->size < (64u << 10)) {
        s->more[1] = MSG_MORE;
        arms = ARMS;
    }
    kn_side_tune(&s->tuner, s->a, true, arms);
    if (!kn_stream_tunes(spec))
        return;
    s->source.hot = free_size && copies;
    set_arm(s, s->tuner.over && s->more[1] && spec->size < SMALL);
    if (s->tuner.over && arms > 1)
        say_arm(s);
}

static int begin(struct sender *s, struct kn_error *err)
{
    const struct kn_spec *spec = s->a->spec;
    const struct timeval patience = {.tv_usec = 100000}; /* so that ends and stops are heard */
    const int on = 1;
    s->chunk = spec->size < KN_STREAM_CHUNK_MAX ? (size_t)spec->size : KN_STREAM_CHUNK_MAX;
    look_often_enough(s);
    if (spec->rate_bps)
        set_pace(s);
    set_arms(s);
    setsockopt(s->a->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    unsigned unsent = kn_stream_bound_queue(spec, s->a->fd);
    if (unsent)
        kn_side_chosen(s->a, "unsent", "at most %u", unsent);
    if (spec->own[KN_STREAM_ZEROCOPY]) {
        if (setsockopt(s->a->fd, SOL_SOCKET, SO_ZEROCOPY, &on, sizeof on))
            return kn_fail_errno(err, "zerocopy");
        s->flags |= MSG_ZEROCOPY;
    }
    size_t room = s->tuner.over ? s->chunk : KN_STREAM_CHUNK_MAX;
    return kn_source_init(&s->source, spec, room, room, err);
}

/* sendfile() has no flag against SIGPIPE: it is blocked meanwhile, and taken off where it came. */
void kn_sigpipe_block(sigset_t *before)
{
    sigset_t pipe;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe, before);
}

void kn_sigpipe_restore(const sigset_t *before)
{
    const struct timespec now = {0};
    sigset_t pipe;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    if (!sigismember(before, SIGPIPE))
        sigtimedwait(&pipe, NULL, &now);
    pthread_sigmask(SIG_SETMASK, before, NULL);
}

int kn_stream_send(struct kn_side *a, struct kn_error *err)
{
    sigset_t before;
    struct sender s = {.a = a, .source = {.file = -1}, .flags = MSG_NOSIGNAL};
    int failed = begin(&s, err);
    kn_sigpipe_block(&before);
    if (!failed && a->spec->rate_bps)
        failed = send_paced(&s, err);
    else if (!failed && a->spec->count && a->w)
        failed = send_counted(&s, err);
    else if (!failed)
        failed = send_freely(&s, err);
    kn_sigpipe_restore(&before);
    kn_side_close(a);
    if (!failed && s.left && a->w)
        failed = kn_fail(err, KN_E_LOST, "the server closed the flow in the middle of the run");
    if (s.copied)
        kn_side_chosen(a, "zerocopy", "asked for; the kernel copied");
    kn_source_fini(&s.source);
    return failed;
}
