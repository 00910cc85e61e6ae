/* udp_rr on the agent's side over one flow: a thread of its own that waits. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "engines/udp/sequence.h"
#include "engines/udp/udp_rr.h"
#include "net/io.h"
#include "run/flow_udp.h"
#include "run/payload.h"
#include "run/served.h"

struct answering {
    struct kn_served *s;
    int fd;
    uint8_t *in, *out;
    size_t head;
    struct kn_waiter wait;
    uint64_t quiet_ns;
};

static void answer(struct answering *a)
{
    const struct kn_spec *spec = a->s->spec;
    struct kn_figures *f = &a->s->figures;
    bool measured = a->in[0] & 1;
    if (measured && !a->s->opened) {
        a->s->open_ns = kn_now_ns();
        kn_served_open(a->s);
    }
    memcpy(a->out, a->in, a->head);
    kn_serve_delay(a->s->server, spec);
    ssize_t n = kn_send(a->fd, a->out, spec->response_size, MSG_NOSIGNAL);
    if (!measured)
        return;
    if (n < 0) {
        f->send_drops++;
        return;
    }
    f->ops++;
    f->rx_bytes += spec->size;
    f->tx_bytes += spec->response_size;
}

/* True: over. */
static bool heed(struct answering *a, ssize_t n)
{
    uint64_t now_ns;
    if (n > 0) {
        enum kn_udp_next next = kn_served_datagram(a->s, a->fd, a->in, (size_t)n);
        if (next == KN_UDP_IS_TEST && (size_t)n == a->s->spec->size)
            answer(a);
        return next == KN_UDP_WANTS_ACCOUNT;
    }
    if (n == 0 || (errno != EAGAIN && errno != EINTR && errno != ECONNREFUSED))
        return true;
    now_ns = kn_now_ns();
    if (!a->quiet_ns)
        a->quiet_ns = now_ns;
    return kn_served_forsaken(a->s, a->quiet_ns, now_ns);
}

static void serve_all(struct answering *a)
{
    const size_t size = a->s->spec->size;
    while (!kn_served_stopped(a->s)) {
        ssize_t n = kn_udp_rr_receive(&a->wait, a->fd, a->in, KN_UDP_STOP_POLL_NS);
        if (n > 0 && !kn_served_moves(a->s, (uint64_t)n + a->s->spec->response_size))
            return;
        if (n == (ssize_t)size && memcmp(a->in, "KNB", size < 3 ? size : 3))
            answer(a);
        else if (heed(a, n))
            return;
        if (n > 0)
            a->quiet_ns = 0;
    }
}

int kn_udp_rr_serve(struct kn_served *s, int fd, struct kn_error *err)
{
    struct answering a = {
        .s = s, .fd = fd, .in = malloc(KN_UDP_RR_ROOM), .out = kn_payload_new(s->spec->response_size)};
    a.head = kn_least(kn_least(s->spec->size, s->spec->response_size), KN_UDP_SEQ_SIZE);
    int failed = a.in && a.out ? 0 : kn_fail(err, KN_E_MEMORY, "no memory for datagrams");
    kn_udp_buffers(fd, s->spec, false);
    kn_waiter_init(&a.wait, (enum kn_wait)s->spec->wait);
    prctl(PR_SET_TIMERSLACK, 1ul, 0ul, 0ul, 0ul);
    if (!failed)
        serve_all(&a);
    free(a.in);
    free(a.out);
    return failed;
}
