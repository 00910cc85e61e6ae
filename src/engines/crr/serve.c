/* tcp_crr on the agent's side: a transaction is a few calls on the thread that accepts. */
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "engines/crr/crr.h"
#include "net/io.h"
#include "run/payload.h"
#include "run/served.h"
#include "run/short.h"

#define SHORT_MAX (16u << 10) /* of a message that surely goes through without blocking */
#define BLOCKING_TIMEOUT_NS (30 * KN_NS_PER_S)

static size_t request_left(const struct kn_hello *hello, size_t extra_size)
{
    size_t have = kn_hello_size() + extra_size;
    return hello->spec.size > have ? (size_t)hello->spec.size - have : 0;
}

/* What is left of the request, if it is here already; nothing is read otherwise. */
static bool take_rest(int fd, size_t left)
{
    uint8_t rest[SHORT_MAX];
    int here = 0;
    if (!left)
        return true;
    if (left > sizeof rest || ioctl(fd, FIONREAD, &here) || (size_t)here < left)
        return false;
    return recv(fd, rest, left, MSG_DONTWAIT) == (ssize_t)left;
}

bool kn_crr_serve_short(struct kn_server *server, int fd, const struct kn_hello *hello, const uint8_t *extra,
                        size_t extra_size)
{
    (void)extra; /* its bytes say nothing */
    if (hello->spec.delay_ns || hello->spec.response_size > SHORT_MAX ||
        !take_rest(fd, request_left(hello, extra_size)))
        return false;
    if (!kn_short_note(server, hello, kn_hello_size() + extra_size + request_left(hello, extra_size),
                       hello->spec.response_size))
        return true;
    send(fd, kn_payload(), (size_t)hello->spec.response_size,
         MSG_NOSIGNAL | MSG_DONTWAIT | (kn_crr_fin(&hello->spec) ? MSG_MORE : 0));
    return true;
}

int kn_crr_serve_once(struct kn_server *server, int fd, const struct kn_hello *hello, const uint8_t *extra,
                      size_t extra_size, struct kn_error *err)
{
    (void)extra;
    uint8_t rest[SHORT_MAX];
    uint64_t deadline_ns = kn_now_ns() + BLOCKING_TIMEOUT_NS, left = request_left(hello, extra_size),
             rx_bytes = kn_hello_size() + extra_size + left;
    for (size_t n; left; left -= n) {
        n = left < sizeof rest ? (size_t)left : sizeof rest;
        if (kn_read_full(fd, rest, n, deadline_ns, err))
            return -1;
    }
    kn_serve_delay(server, &hello->spec);
    if (!kn_short_note(server, hello, rx_bytes, hello->spec.response_size))
        return kn_served_limit(err);
    left = hello->spec.response_size;
    for (size_t n; left; left -= n) {
        n = left < KN_PAYLOAD_SIZE ? (size_t)left : KN_PAYLOAD_SIZE;
        if (kn_write_full(fd, kn_payload(), n, deadline_ns, err))
            return -1;
    }
    return 0;
}
