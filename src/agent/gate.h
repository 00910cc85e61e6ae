/* agent/gate - what is a connection? Its first bytes say it: an HTTP request is control, "KNBL" a hello, all else is
 * turned away. */
#ifndef KN_AGENT_GATE_H
#define KN_AGENT_GATE_H

#include "agent/control.h"
#include "agent/flows.h"
#include "agent/shared.h"

struct kn_gate {
    struct kn_shared *shared;
    struct kn_flows *flows;
    struct kn_control *control;
};

enum kn_incoming_state {
    KN_INCOMING_NEW,
    KN_INCOMING_HELLO,
    KN_INCOMING_HTTP,
    KN_INCOMING_LINGER, /* refused; what the client still sends is read, so that it gets the refusal and no reset */
};
struct kn_incoming {
    int fd; /* -1 once it was passed on or closed */
    enum kn_incoming_state state;
    uint64_t deadline_ns;
    size_t have;   /* bytes of the hello in `wire` */
    uint8_t *wire; /* kn_hello_size(), from the first byte of a hello on */
};

/* Takes what came. True: it must wait for more, and its owner keeps it. */
bool kn_gate_step(struct kn_gate *gate, struct kn_incoming *in);
/* A verified hello: starts a thread for it, or refuses it. True: the refusal lingers, and its owner keeps it. */
bool kn_gate_flow(struct kn_gate *gate, struct kn_incoming *in, const struct kn_hello *hello, const uint8_t *extra,
                  size_t extra_size);
bool kn_gate_refuse(struct kn_gate *gate, struct kn_incoming *in, const struct kn_error *why);
void kn_incoming_close(struct kn_incoming *in);

#endif
