/* An agent whose port is knocked at, and what it must do afterwards as before. */
#ifndef KN_TESTS_AGENT_GATE_H
#define KN_TESTS_AGENT_GATE_H

#include "one.h"

#define RR "{\"test\":\"tcp_rr\",\"duration\":\"20s\"}"

static inline int set_up(void **state)
{
    (void)state;
    live_config(&l);
    l.config.hello_ns = KN_NS_PER_S;
    live_start(&l);
    return 0;
}

static inline size_t pack(const char *spec, const struct kn_key *key, uint8_t *wire)
{
    struct kn_hello h = hello_of(spec, 7);
    kn_hello_pack(&h, key, wire);
    return kn_hello_size();
}

/* It still does what it is there for. */
static inline void expect_service(void)
{
    expect_run(&l, "127.0.0.1", "tcp_rr", "");
}

#endif
