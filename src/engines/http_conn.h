/* engines/http_conn - the connections of the http test: from connect over hello, request and response to the next
 * request.
 *
 * Sockets never block; how to wait for them is http.c's matter, which calls kn_http_step when one may be ready and
 * kn_http_tick when time has passed. An operation is one request and its whole response; where there is no
 * connection for it, the connect is part of it. What the network does (refused, reset, closed early, nonsense, too
 * late) is counted here and survived. Only what makes the run void is an error: no connection at all, or an agent
 * that says no. */
#ifndef KN_ENGINES_HTTP_CONN_H
#define KN_ENGINES_HTTP_CONN_H

#include "core/pace.h"
#include "engines/flow.h"
#include "engines/http_parse.h"

#define KN_HTTP_BUF (64u << 10)

enum kn_http_state {
    KN_HTTP_NONE,        /* no socket; a new one not before deadline_ns */
    KN_HTTP_CONNECTING,
    KN_HTTP_WELCOME,     /* the agent's answer to the hello is awaited */
    KN_HTTP_READY,
    KN_HTTP_ASKED,       /* the request is out, or on its way */
    KN_HTTP_CLOSING,     /* answered; the server closes first, so that TIME_WAIT is not ours */
};

struct kn_http_conn {
    int fd;
    uint8_t state;
    bool busy;               /* carries an operation that is not counted yet */
    bool used;               /* has brought a response: closed before the next one began is the server's right */
    bool again;              /* the operation's request goes out a second time for that reason */
    bool began;              /* agent: the go byte was sent */
    bool idle;               /* waits on the stack of those that can take an operation */
    uint32_t out_left;
    const uint8_t *out;      /* what is still to be sent */
    uint64_t start_ns;       /* of the operation: its latency counts from here */
    uint64_t deadline_ns;
    uint64_t connect_from_ns, connect_ns, first_ns;
    uint32_t failures;       /* in a row, to connect */
    struct kn_http_parse parse;
};

struct kn_http_client {
    struct kn_worker *w;
    struct kn_http_conn *conns;
    unsigned n, busy;
    int ep;                  /* sockets are registered with it; -1: they are swept */
    bool dry;                /* `count`: nothing is left to take */
    bool measured;           /* after kn_worker_ready */
    uint64_t wake_ns;        /* the earliest deadline; may be earlier */
    uint64_t done;           /* operations that ended, the warm-up's too */
    uint64_t connected;      /* connections that ever stood */
    uint64_t refused;        /* connects that failed */
    bool failed;             /* the run is void */
    struct kn_error *err;

    bool open_loop;
    struct kn_pace pace;
    unsigned *idle, n_idle;

    uint8_t *text;           /* a hello for agents, KN_GO, the request */
    const uint8_t *first;    /* what a new connection begins with: the hello, the request, or both */
    uint32_t first_size;
    bool greets;             /* the hello alone: the welcome is awaited, then the go byte and the request follow */
    const uint8_t *request;  /* with KN_GO at request[-1] where it greets */
    uint32_t request_size;
    size_t welcome_size;
    struct kn_http_memo memo;
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

void kn_http_dial(struct kn_http_client *h, struct kn_http_conn *c);
void kn_http_timed_out(struct kn_http_client *h, struct kn_http_conn *c, uint64_t now_ns);
void kn_http_close(struct kn_http_conn *c);

#endif
