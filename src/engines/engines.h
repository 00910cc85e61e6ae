/* engines - the tests that knbl has. A test's own file defines its descriptor, kn_NAME; registry.h lists them. */
#ifndef KN_ENGINES_ENGINES_H
#define KN_ENGINES_ENGINES_H

#include "core/spec.h"

extern const struct kn_registry kn_engines;

#define KN_TEST(name) extern const struct kn_test kn_##name;
#include "engines/registry.h"
#undef KN_TEST

/* What all tests that drive flows have, and all over TCP. */
#define KN_TEST_OPTIONS                                                                                       \
    (KN_HAS(DURATION) | KN_HAS(WARMUP) | KN_HAS(INTERVAL) | KN_HAS(COUNT) | KN_HAS(FLOWS) | KN_HAS(THREADS) | \
     KN_HAS(IP) | KN_HAS(SNDBUF) | KN_HAS(RCVBUF) | KN_HAS(TUNE) | KN_HAS(TIMEOUT) | KN_HAS(CPUS) |           \
     KN_HAS(SERVER_CPUS))
#define KN_TCP_OPTIONS (KN_HAS(MSS) | KN_HAS(NODELAY) | KN_HAS(CC))

/* Figures that several tests show, and are compared by. */
#define KN_RATE_COLUMNS "rate", "share", "mean", "p50", "p99", "max", "errors", "timeouts", "cpu"
#define KN_RATE_COMPARED "rate", "p50", "p99", "cpu_per_op"
#define KN_LATENCY_COLUMNS "mean", "share", "p50", "p99", "max", "loss", "cpu"

#endif
