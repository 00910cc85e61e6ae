/* engines/stream - what the files of tcp_stream, tcp_sendfile and tcp_bw share. */
#ifndef KN_ENGINES_STREAM_H
#define KN_ENGINES_STREAM_H

#include <signal.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

#include "net/io.h"
#include "run/served.h"
#include "run/tune.h"
#include "run/worker.h"

#define KN_STREAM_SIZE (128u << 10) /* of a message where nothing else is asked for */
#define KN_STREAM_CHUNK_MAX (4u << 20)
#define KN_STREAM_CALL_MAX (1u << 20)
/* Where the calls are ours they send the same bytes again and again, out of the CPU's first cache. */
#define KN_STREAM_HOT (16u << 10)

/* What several flows together may have queued and not yet sent, and the least for each: more would leave the CPU's
 * caches before it is received. */
#define KN_STREAM_UNSENT (256u << 10)
#define KN_STREAM_UNSENT_LEAST (32u << 10)

#define KN_STREAM_ZEROCOPY 0 /* tcp_stream's own option */

/* One direction of one flow, driven by one thread. */
struct kn_side {
    int fd;
    const struct kn_spec *spec;
    struct kn_worker *w; /* where this is a client's main thread */
    struct kn_served *s; /* where this is a server's; a helper thread has neither */
    struct kn_figures *f;
    const atomic_bool *stop, *halt; /* of the run or the agent; of the other direction (may be NULL) */
    uint64_t start_ns, open_ns, end_ns;
    uint64_t cpu_open_ns;
    bool opened, closed;
};

/* Of a client's worker. */
static inline struct kn_side kn_side_of(struct kn_worker *w, int fd)
{
    return (struct kn_side){.fd = fd,
                            .spec = w->spec,
                            .w = w,
                            .f = &w->figures,
                            .stop = w->stop,
                            .start_ns = w->start_ns,
                            .open_ns = w->open_ns,
                            .end_ns = w->end_ns};
}
static inline bool kn_side_stopped(const struct kn_side *a)
{
    return atomic_load_explicit(a->stop, memory_order_relaxed) ||
           (a->halt && atomic_load_explicit(a->halt, memory_order_relaxed));
}
void kn_side_open(struct kn_side *a);  /* the window opens: CPU */
void kn_side_close(struct kn_side *a); /* idempotent */
void kn_side_chosen(struct kn_side *a, const char *key, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Whether the calls are the sender's to choose: a stream of the default size has no messages. */
bool kn_stream_free_size(const struct kn_spec *spec);
/* Bounds what the socket of a sender queues, where that is ours to choose; the bound, or 0. What is under way has no
 * bound. */
unsigned kn_stream_bound_queue(const struct kn_spec *spec, int fd);
/* When this end of the stream tries its arms; over at once where there is no time for that. */
void kn_side_tune(struct kn_tuner *t, struct kn_side *a, bool sender, unsigned arms);
/* Whether a run may calibrate at all. Where it is too short for that, what is best most often is taken. */
bool kn_stream_tunes(const struct kn_spec *spec);

/* A rate is kept in pieces of about a millisecond, never larger than the message: the size of one. */
size_t kn_stream_piece(const struct kn_spec *spec, size_t chunk);

/* What a client's or server's thread sends from: bytes, or a file of them. */
struct kn_source {
    uint8_t *buf;
    int file; /* -1: none */
    bool hot; /* the calls are ours: each of `parts` is the same KN_STREAM_HOT bytes of `buf` */
    struct iovec parts[KN_STREAM_CALL_MAX / KN_STREAM_HOT];
};
/* `room` bytes, and where the test sends a file, one of `size` bytes. */
int kn_source_init(struct kn_source *s, const struct kn_spec *spec, size_t room, size_t size, struct kn_error *err);
void kn_source_fini(struct kn_source *s);
static inline ssize_t kn_source_send(const struct kn_source *s, int fd, size_t size, int flags)
{
    off_t from = 0;
    if (s->file >= 0)
        return sendfile(fd, s->file, &from, size);
    if (s->hot)
        return sendmsg(
            fd, &(struct msghdr){.msg_iov = (struct iovec *)(uintptr_t)s->parts, .msg_iovlen = size / KN_STREAM_HOT},
            flags);
    return kn_send(fd, s->buf, size, flags);
}

/* Until the end, a stop, or on a client what `count` leaves. -1: the peer is gone. */
int kn_stream_send(struct kn_side *a, struct kn_error *err);
/* A server receives until its client's half-close, a client until the end. */
int kn_stream_receive(struct kn_side *a, bool until_eof, struct kn_error *err);
/* More than one flow a worker. */
int kn_stream_many(struct kn_worker *w, struct kn_error *err);

/* The agent's side of many flows. */
extern const struct kn_desk_test kn_stream_desk;

void kn_sigpipe_block(sigset_t *before);
void kn_sigpipe_restore(const sigset_t *before);

/* The part of `n` bytes, that came evenly from `from_ns` to `to_ns`, which falls into the window. */
static inline uint64_t kn_stream_share(const struct kn_side *a, uint64_t n, uint64_t from_ns, uint64_t to_ns)
{
    if ((from_ns >= a->open_ns && to_ns <= a->end_ns) || to_ns <= from_ns)
        return to_ns >= a->open_ns && from_ns <= a->end_ns ? n : 0;
    uint64_t lo = from_ns > a->open_ns ? from_ns : a->open_ns, hi = to_ns < a->end_ns ? to_ns : a->end_ns;
    return hi <= lo ? 0 : (uint64_t)((double)n * (double)(hi - lo) / (double)(to_ns - from_ns));
}

#endif
