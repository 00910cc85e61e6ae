/* run/served - an agent's side of one flow: its window, its tally, and the account that goes back in band. */
#ifndef KN_RUN_SERVED_H
#define KN_RUN_SERVED_H

#include <jansson.h>

#include "core/clock.h"
#include "core/figures.h"
#include "meter/meter.h"
#include "run/server.h"

/* `figures` goes into the account as it stands when serve() returns. */
struct kn_served {
    struct kn_server *server;
    const struct kn_hello *hello;
    const struct kn_spec *spec; /* hello->spec */
    struct kn_figures figures;
    uint64_t moved;                     /* bytes in both directions, as far as its test counts them */
    uint64_t start_ns, open_ns, end_ns; /* the server's own window: start is the first byte after the welcome */
    uint64_t cpu_open_ns;
    struct kn_cpu_reading at_open, at_close;
    bool opened, closed;
    json_t *chosen; /* what this side calibrated, for the account; NULL: nothing */
    /* UDP only. The client marks measured datagrams, so the window does not follow the server's clock. */
    const struct kn_key *key;
    uint64_t measured_sent; /* from the client's fetch or steer */
    uint32_t phase;         /* of the last steer, which came at steered_ns */
    uint64_t steered_ns, steered_number;
};

/* TCP: kn_serve_tcp does it on the go byte, before serve(). UDP: the test does, on its first datagram. */
void kn_served_start(struct kn_served *s, uint64_t now_ns);
void kn_served_open(struct kn_served *s);                   /* the window opens: CPU readings */
void kn_served_ended(const struct kn_served *s);            /* the test is over, for the clock */
void kn_served_close(struct kn_served *s, uint64_t now_ns); /* it is over (idempotent): CPU, figures.window_ns */
/* serve() calls this from time to time. It opens and closes the window at its time. True while it is open. */
static inline bool kn_served_tick(struct kn_served *s, uint64_t now_ns)
{
    if (!s->opened && now_ns >= s->open_ns)
        kn_served_open(s);
    if (!s->closed && now_ns >= s->end_ns)
        kn_served_close(s, s->end_ns);
    return s->opened && !s->closed;
}
static inline bool kn_served_stopped(const struct kn_served *s)
{
    return atomic_load_explicit(s->server->stop, memory_order_relaxed);
}
/* Whether a flow that has moved this number of bytes has moved more than the agent allows. */
static inline bool kn_served_exceeds(const struct kn_served *s, uint64_t bytes)
{
    return s->server->limits.max_bytes && bytes > s->server->limits.max_bytes;
}
/* The same with bytes counted here, those of the warm-up included. */
static inline bool kn_served_moves(struct kn_served *s, uint64_t bytes)
{
    s->moved += bytes;
    return !kn_served_exceeds(s, s->moved);
}
int kn_served_limit(struct kn_error *err); /* -1: more bytes than this agent allows */
int kn_served_pin(const struct kn_spec *spec,
                  struct kn_error *err); /* the calling thread, if the specification asks for it */
/* A client that lost its power sends no FIN: the kernel finds out. */
void kn_served_watch(int fd, const struct kn_hello *hello);
/* Waits spec.delay_ns before an answer; in steps, so that a stop is noticed. */
void kn_serve_delay(const struct kn_server *server, const struct kn_spec *spec);

/* What goes back in band. */
void kn_welcome_fill(const struct kn_server *server, int fd, struct kn_welcome *w);
int kn_welcome_send(const struct kn_server *server, int fd, const struct kn_error *refusal, struct kn_error *err);
json_t *kn_served_account(const struct kn_served *s, int fd); /* NULL: out of memory */
int kn_account_send(int fd, const json_t *account, struct kn_error *err);

/* UDP: what to do with a datagram that came on the flow's socket. A hello that came again is answered again, a steer is
 * taken; a fetch means that the client is done: serve() returns 0, kn_serve_udp answers it (the client asks again). */
enum kn_udp_next { KN_UDP_IS_TEST, KN_UDP_WAS_CONTROL, KN_UDP_WANTS_ACCOUNT };
enum kn_udp_next kn_served_datagram(struct kn_served *s, int fd, const uint8_t *datagram, size_t size);
/* The same once the test is over, with the part of the account that a fetch asks for. */
enum kn_udp_next kn_served_control(struct kn_served *s, int fd, const uint8_t *datagram, size_t size, uint32_t *offset);
void kn_served_send_part(int fd, const char *text, uint32_t total, uint32_t offset);
/* When a server gives up a client that has sent nothing since `last_ns`. */
bool kn_served_forsaken(const struct kn_served *s, uint64_t last_ns, uint64_t now_ns);

#endif
