/* engines/http/conn - the connections of the http test: from connect over hello, request and response to the next
 * request.
 *
 * Sockets never block. http.c waits for them; it calls kn_http_step when one may be ready and kn_http_tick when time
 * has passed. An operation is one request and its whole response, and the connect if it needs a new connection. Network
 * outcomes (refused, reset, closed early, invalid, too late) are counted, and the run goes on. The run fails only if
 * there is no connection at all, or if an agent refuses. */
#ifndef KN_ENGINES_HTTP_CONN_H
#define KN_ENGINES_HTTP_CONN_H

#include "core/pace.h"
#include "engines/http/options.h"
#include "engines/http/parse.h"
#include "net/tls.h"
#include "run/loop.h"
#include "run/worker.h"

#define KN_HTTP_BUF (64u << 10)

enum kn_http_state {
    KN_HTTP_NONE, /* no socket; a new one not before deadline_ns */
    KN_HTTP_CONNECTING,
    KN_HTTP_HANDSHAKE, /* of TLS */
    KN_HTTP_WELCOME,   /* the agent's answer to the hello is awaited */
    KN_HTTP_READY,
    KN_HTTP_ASKED,   /* the request is out, or on its way */
    KN_HTTP_CLOSING, /* answered; the server closes first, so that TIME_WAIT is not ours */
};

/* Counters of this test in its figures. */
enum { KN_HTTP_HANDSHAKES, KN_HTTP_RESUMED, KN_HTTP_GOAWAYS, KN_HTTP_REFUSED, KN_HTTP_FAULTS };
struct kn_view;
/* Adds what of them is for the result; in metrics.c. */
void kn_http_metrics(const struct kn_view *view, json_t *metrics);

struct kn_http_conn {
    int fd;
    struct kn_tls *tls; /* NULL: plain */
    uint8_t state;
    bool busy;  /* carries an operation that is not counted yet */
    bool used;  /* carried a response: the server may close it before the next one begins */
    bool again; /* the operation's request goes out a second time for that reason */
    bool began; /* agent: the go byte was sent */
    bool idle;  /* waits on the stack of those that can take an operation */
    uint32_t out_left;
    const uint8_t *out; /* what is still to be sent */
    uint64_t start_ns;  /* of the operation: its latency counts from here */
    uint64_t deadline_ns;
    uint64_t connect_from_ns, connect_ns, first_ns, shake_from_ns;
    unsigned backend;  /* who answers; 0: not known */
    uint32_t failures; /* in a row, to connect */
    uint64_t ops;      /* in the window */
    struct kn_http_parse parse;
};

struct kn_http_client {
    struct kn_worker *w;
    struct kn_http_conn *conns;
    unsigned n, busy;
    struct kn_loop loop; /* sockets are registered with it; not open: they are swept */
    bool dry;            /* `count`: nothing is left to take */
    bool measured;       /* after kn_worker_ready */
    uint64_t wake_ns;    /* the earliest deadline; may be earlier */
    uint64_t done;       /* operations that ended, the warm-up's too */
    uint64_t connected;  /* connections that ever stood */
    uint64_t refused;    /* connects that failed */
    bool failed;         /* the run is void */
    struct kn_error *err;

    bool open_loop;
    struct kn_pace pace;
    unsigned *idle, n_idle;

    uint8_t *text;        /* a hello for agents, KN_GO, the request */
    const uint8_t *first; /* what a new connection begins with: the hello, the request, or both */
    uint32_t first_size;
    uint8_t *hellos;        /* where it greets: one for each connection */
    bool greets;            /* the hello alone: the welcome is awaited, then the go byte and the request follow */
    const uint8_t *request; /* with KN_GO at request[-1] where it greets */
    uint32_t request_size;
    size_t welcome_size;
    struct kn_http_memo memo;
    struct kn_tls_context *tls; /* NULL: plain */
    uint8_t *buf;
};

int kn_http_client_init(struct kn_http_client *h, struct kn_worker *w, const char *host, struct kn_error *err);
void kn_http_client_fini(struct kn_http_client *h);
/* Connects all of them before the clock starts (keep-alive). -1: none could be had. */
int kn_http_open_all(struct kn_http_client *h);
/* All sockets, those to come too, are registered with (or forgotten by) an epoll of their own. */
int kn_http_register_all(struct kn_http_client *h);
void kn_http_unregister_all(struct kn_http_client *h);
bool kn_http_register(struct kn_http_client *h, struct kn_http_conn *c);

/* Open loop: begins what is due, as far as there are idle connections; the rest stays due. */
void kn_http_issue(struct kn_http_client *h, uint64_t now_ns);
/* Does what can be done without waiting. True: something moved. */
bool kn_http_step(struct kn_http_client *h, struct kn_http_conn *c);
/* Deadlines, and connections that may be tried again; sets wake_ns. */
void kn_http_tick(struct kn_http_client *h, uint64_t now_ns);

/* The context for TLS where the specification asks for it. */
int kn_http_tls_init(struct kn_worker *w, const char *alpn, struct kn_tls_context **out, struct kn_error *err);
/* Counts a handshake that stands. `counts`: its time is a figure. */
void kn_http_tls_done(struct kn_worker *w, const struct kn_tls *tls, uint64_t took_ns, bool counts);

void kn_http_dial(struct kn_http_client *h, struct kn_http_conn *c);
void kn_http_timed_out(struct kn_http_client *h, struct kn_http_conn *c);
void kn_http_close(struct kn_http_conn *c);

#endif
