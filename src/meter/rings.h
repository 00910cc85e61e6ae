/* meter/rings - the perf events of every CPU, and the ring buffers into which the kernel writes their samples. */
#ifndef KN_METER_RINGS_H
#define KN_METER_RINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/error.h"

struct kn_sample {
    pid_t pid;
    double weight; /* 1, or cycles */
    const uint64_t *chain;
    size_t n;
};

struct perf_event_mmap_page;

/* The events of one CPU and the ring buffer for them. */
struct kn_ring {
    int fd; /* readable when half full */
    struct perf_event_mmap_page *page;
};

struct kn_rings {
    struct kn_ring *list;
    unsigned n;
    bool cycles;                /* the cycle counter, else the CPU clock */
    uint64_t lost;              /* samples that a ring had no room for */
    uint64_t record[65536 / 8]; /* the longest possible */
};

/* Whether they are permitted; the messages say what would allow it. */
int kn_rings_probe(unsigned hz, struct kn_error *err);
/* Events that are off; kn_rings_close() in any case. */
int kn_rings_open(struct kn_rings *rings, unsigned hz, struct kn_error *err);
void kn_rings_close(struct kn_rings *rings);
void kn_rings_switch(struct kn_rings *rings, bool on);
/* Takes what has come, from all of them. */
void kn_rings_drain(struct kn_rings *rings, void (*take)(void *context, const struct kn_sample *sample), void *context);

#endif
