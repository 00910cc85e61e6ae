/* Full TCP segments through a path: one after the other, each answered before the next, so that no offload makes one
 * large packet of several, which a virtual link passes on however small its MTU is. */
#include <endian.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "engines/pmtu/pmtu.h"
#include "net/io.h"
#include "run/flow.h"
#include "run/payload.h"

#define SEGMENTS 8u
#define MOST (64u << 10)
#define SEGMENT_NS (450 * KN_NS_PER_MS) /* a retransmission (200 ms) and some more; in a black hole none helps */
#define OPEN_NS KN_NS_PER_S
#define SERVE_NS (5 * KN_NS_PER_S)
#define FORWARD 'f'
#define BACKWARD 'b'

/* The payload of a full segment: the MSS less the options that every segment carries. */
static uint32_t full_segment(int fd)
{
    int n = 0;
    socklen_t size = sizeof n;
    if (getsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &n, &size) || n < 1)
        return 0;
    return (uint32_t)n < MOST ? (uint32_t)n : MOST;
}

/* One side sends `size` bytes and has a byte for each time, the other the other way round. */
static int send_segments(int fd, uint8_t *bytes, uint32_t size, uint64_t each_ns, struct kn_error *err)
{
    uint8_t came;
    for (unsigned i = 0; i < SEGMENTS; i++) {
        uint64_t until_ns = kn_now_ns() + each_ns;
        if (kn_write_full(fd, bytes, size, until_ns, err) || kn_read_full(fd, &came, 1, until_ns, err))
            return -1;
    }
    return 0;
}

static int take_segments(int fd, uint8_t *bytes, uint32_t size, uint64_t each_ns, struct kn_error *err)
{
    const uint8_t came = 1;
    for (unsigned i = 0; i < SEGMENTS; i++) {
        uint64_t until_ns = kn_now_ns() + each_ns;
        if (kn_read_full(fd, bytes, size, until_ns, err) || kn_write_full(fd, &came, 1, until_ns, err))
            return -1;
    }
    return 0;
}

/* The side that sends says how large its segments are. */
static int forward(int fd, uint8_t *bytes, uint64_t *mss, struct kn_error *err)
{
    uint32_t size = full_segment(fd), wire = htole32(size);
    *mss = size;
    if (kn_write_full(fd, &wire, sizeof wire, kn_now_ns() + OPEN_NS, err))
        return -1;
    return send_segments(fd, bytes, size, SEGMENT_NS, err);
}

static int backward(int fd, uint8_t *bytes, uint64_t *mss, struct kn_error *err)
{
    uint32_t wire;
    if (kn_read_full(fd, &wire, sizeof wire, kn_now_ns() + OPEN_NS, err))
        return -1;
    *mss = le32toh(wire);
    if (*mss < 1 || *mss > MOST)
        return kn_fail(err, KN_E_PROTOCOL, "a segment of %u bytes", le32toh(wire));
    return take_segments(fd, bytes, le32toh(wire), SEGMENT_NS, err);
}

int kn_pmtu_segments(struct kn_worker *w, bool back, uint64_t *mss)
{
    struct kn_error ignored;
    const struct linger at_once = {.l_onoff = 1};
    const uint8_t direction = back ? BACKWARD : FORWARD;
    uint8_t *bytes = kn_payload_new(MOST);
    int fd = bytes ? kn_flow_open(w, w->first_flow, &ignored) : -1, works = -1;
    const int on = 1;
    if (fd >= 0)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (fd >= 0 && !kn_flow_go(fd, &ignored) && !kn_write_full(fd, &direction, 1, kn_now_ns() + OPEN_NS, &ignored)) {
        works = !(back ? backward : forward)(fd, bytes, mss, &ignored);
        if (!works) /* what is stuck is not sent again for minutes */
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    }
    kn_flow_abandon(w, fd, w->first_flow);
    free(bytes);
    return works;
}

/* ---- the agent's side ---- */

/* A connection that stands still is what the client came to see: no error here. */
static void serve_segments(struct kn_served *s, int fd, uint8_t *bytes)
{
    struct kn_error ignored;
    uint8_t direction;
    uint32_t size = full_segment(fd), wire = htole32(size);
    if (kn_read_full(fd, &direction, 1, kn_now_ns() + SERVE_NS, &ignored))
        return;
    if (direction == BACKWARD) {
        if (kn_served_moves(s, (uint64_t)size * SEGMENTS) &&
            !kn_write_full(fd, &wire, sizeof wire, kn_now_ns() + SERVE_NS, &ignored))
            send_segments(fd, bytes, size, SERVE_NS, &ignored);
    } else if (!kn_read_full(fd, &wire, sizeof wire, kn_now_ns() + SERVE_NS, &ignored)) {
        size = le32toh(wire);
        if (size >= 1 && size <= MOST && kn_served_moves(s, (uint64_t)size * SEGMENTS))
            take_segments(fd, bytes, size, SERVE_NS, &ignored);
    }
}

int kn_pmtu_serve_tcp(struct kn_served *s, int fd, struct kn_error *err)
{
    const int on = 1;
    uint8_t *bytes = kn_payload_new(MOST);
    if (!bytes)
        return kn_fail_memory(err);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    kn_served_open(s);
    serve_segments(s, fd, bytes);
    free(bytes);
    return 0;
}
