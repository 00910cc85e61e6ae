/* engines/probe/timeline - what became of each attempt, in the order in which they were due.
 *
 * Attempts are evenly spaced, so that a number is a time. Kept as run lengths in text, "5000o200t4800o": an hour
 * without a failure is a few bytes. Outages are counted as attempts come in, so that they are exact even where the text
 * has become too long to be kept. */
#ifndef KN_ENGINES_PROBE_TIMELINE_H
#define KN_ENGINES_PROBE_TIMELINE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"

enum kn_outcome {
    KN_PROBE_OK,
    KN_PROBE_TIMEOUT, /* no answer in time */
    KN_PROBE_REFUSED, /* nobody listens, or a firewall rejects it */
    KN_PROBE_RESET,   /* the connection was reset, or closed before the answer */
    KN_PROBE_ERROR,   /* unreachable, or an answer that makes no sense */
    KN_PROBE_STATUS,  /* HTTP: a status other than 2xx and 3xx */
    KN_PROBE_BLIND,   /* the prober itself could not make it, or not tell: says nothing about the path */
    KN_PROBE_OUTCOMES
};
char kn_outcome_letter(enum kn_outcome outcome); /* in the text of the timeline */

/* Failures in a row. What is blind ends an outage, since nobody knows how it went on. */
struct kn_outage {
    uint64_t from, n; /* its first attempt, and how many */
    uint64_t of[KN_PROBE_OUTCOMES];
};

#define KN_OUTAGES_MAX 1000          /* that are listed; all are counted */
#define KN_TIMELINE_MAX (4ull << 20) /* bytes of text */

struct kn_timeline {
    uint64_t n, of[KN_PROBE_OUTCOMES];
    uint64_t outage_n, outage_count, outage_longest; /* attempts in outages, outages, attempts of the longest */
    struct kn_outage now;                            /* .n 0: none */
    struct kn_outage *outages;
    size_t listed, outages_room;
    enum kn_outcome last;
    uint64_t run; /* attempts that ended as the last one did */
    char *text;
    size_t length, room;
    bool cut; /* the text ends before the attempts do */
};

/* All zeros is an empty one. -1: no memory. */
int kn_timeline_add(struct kn_timeline *t, enum kn_outcome outcome, struct kn_error *err);
int kn_timeline_end(struct kn_timeline *t, struct kn_error *err); /* no more will come */
void kn_timeline_fini(struct kn_timeline *t);
/* The figures of outages and the text, in seconds: `step_s` from one attempt to the next. */
void kn_timeline_put(const struct kn_timeline *t, double step_s, json_t *metrics);

#endif
