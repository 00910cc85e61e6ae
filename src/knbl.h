/* knbl - the measurement engines of knbl as a C library. A run makes one measurement; it takes a specification in JSON
 * and returns figures and a result in JSON.
 *
 *     knbl_target to = { sizeof to, 7099, 0, "10.0.0.2", "the token of the agent there" };
 *     knbl_run *run = knbl_run_start("{\"test\":\"tcp_rr\",\"duration\":\"2s\"}", &to, &error);
 *     knbl_run_wait(run, UINT64_MAX);
 *     char *result = knbl_run_result(run, &error);
 *
 * Handles are opaque. Structures are plain data of fixed width and begin with their own size. Set `size` before the
 * call: it tells the library which version of the structure the caller was compiled with. There are no callbacks and
 * no function-like macros. A function that fails returns NULL or -1 and fills `error`, which may be NULL. The caller
 * frees returned strings with knbl_string_free. Functions may be called from any thread. Free a handle once, when no
 * other thread uses it. The library never raises SIGPIPE. */
#ifndef KNBL_H
#define KNBL_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct knbl_run knbl_run;
typedef struct knbl_agent knbl_agent;

typedef struct knbl_error {
    uint32_t size;     /* sizeof (knbl_error) */
    int32_t sys_errno; /* errno of a failed system call, otherwise 0 */
    char code[32];     /* "refused", "timeout", "argument", … */
    char message[512];
} knbl_error;

typedef struct knbl_target {
    uint32_t size; /* sizeof (knbl_target) */
    uint16_t port;
    uint16_t reserved;  /* 0 */
    const char *host;   /* name or address */
    const char *token;  /* token of the agent; NULL for a server that is not an agent, and for ping */
    const char *ca;     /* https: the certificate authorities to trust, in PEM form; NULL trusts the system's */
    const char *source; /* local address to send from; NULL lets the kernel choose */
    /* of one of several targets: */
    const char *name; /* in the result; NULL means its host and port */
    double share;     /* of the flows, the rate and the count, in proportion to the others'; 0 means 1 */
} knbl_target;

typedef struct knbl_stats {
    uint32_t size;       /* sizeof (knbl_stats) */
    uint32_t phase;      /* 0 new, 1 connecting, 2 warming up, 3 measuring, 4 collecting, 5 done, 6 failed */
    uint64_t elapsed_ns; /* time measured so far, without the warm-up */
    uint64_t total_ns;   /* 0 if only a count limits the run */
    uint64_t ops;
    uint64_t bytes;
} knbl_stats;

typedef struct knbl_agent_config {
    uint32_t size;            /* sizeof (knbl_agent_config) */
    uint32_t max_runs;        /* 0 means 64 */
    uint64_t max_duration_ns; /* 0 means one hour */
    const char *listen;       /* "127.0.0.1:0", ":7099" */
    const char *unix_path;    /* also accept control on this Unix socket; may be NULL */
    const char *token;        /* at least 16 characters */
    const char *name;         /* NULL means the host name */
    const char *node;
} knbl_agent_config;

const char *knbl_version(void);
uint32_t knbl_protocol(void);
uint64_t knbl_now(void); /* nanoseconds, monotonic */
void knbl_string_free(char *text);

/* ---- a measurement --------------------------------------------------------------------------- */
char *knbl_check(const char *spec_json, knbl_error *error); /* the complete specification, defaults filled in */
knbl_run *knbl_run_start(const char *spec_json, const knbl_target *target, knbl_error *error);
/* One measurement of `n` targets, each with its share of the flows. */
knbl_run *knbl_run_start_to(const char *spec_json, const knbl_target *const *targets, uint32_t n, knbl_error *error);
int32_t knbl_run_wait(knbl_run *run, uint64_t timeout_ns); /* 1 if the run is over, 0 on timeout */
int32_t knbl_run_stats(knbl_run *run, knbl_stats *stats);  /* cheap enough to poll */
void knbl_run_stop(knbl_run *run);                         /* ends the run now and keeps what was measured */
/* For a run that is over: stores the latency percentile percents[i] (0 to 100) in values[i], in nanoseconds. */
int32_t knbl_run_percentiles(knbl_run *run, const double *percents, uint64_t *values, uint32_t n, knbl_error *error);
/* JSON, for a run that is over; waits for a stopped run to end. */
char *knbl_run_result(knbl_run *run, knbl_error *error);
/* Writes the result to a buffer of `room` bytes, NUL-terminated and cut if it does not fit; returns the full length. */
int64_t knbl_run_result_copy(knbl_run *run, char *buffer, uint64_t room, knbl_error *error);
void knbl_run_free(knbl_run *run); /* stops it first; accepts NULL */

/* ---- an agent in this process ---------------------------------------------------------------- */
knbl_agent *knbl_agent_start(const knbl_agent_config *config, knbl_error *error);
uint16_t knbl_agent_port(const knbl_agent *agent);
void knbl_agent_free(knbl_agent *agent); /* ends its runs; accepts NULL */

/* ---- helpers for language bindings; lists are JSON ------------------------------------------- */
char *knbl_tests(void);       /* ["tcp_stream", …] */
char *knbl_descriptors(void); /* the properties of each test: docs/reference.md, core.tests */
char *knbl_fields(void);      /* [{"name","kind","choices","tests","help"}, …] */
char *knbl_nearest(const char *word, const char *words_json); /* NULL if no word is similar */
int32_t knbl_parse_duration(const char *text, uint64_t *ns, knbl_error *error);
int32_t knbl_parse_size(const char *text, uint64_t *bytes, knbl_error *error);
int32_t knbl_parse_count(const char *text, uint64_t *count, knbl_error *error);
/* Sets exactly one of the two, and the other to 0: events per 1000 seconds, or bits per second. */
int32_t knbl_parse_rate(const char *text, uint64_t *per_1000s, uint64_t *bps, knbl_error *error);
int32_t knbl_parse_sizes(const char *text, uint64_t *sizes, uint32_t room, knbl_error *error); /* the number of sizes */
/* Write to a buffer; 32 bytes are enough. */
void knbl_format_duration(double ns, int32_t ascii, char *buffer, uint32_t room);
void knbl_format_bits(double bps, char *buffer, uint32_t room);
void knbl_format_size(uint64_t bytes, char *buffer, uint32_t room);
void knbl_format_rate(double per_s, char *buffer, uint32_t room);
char *knbl_hist_merge(const char *histograms_json, knbl_error *error);
int32_t knbl_hist_percentiles(const char *histogram_json, const double *percents, uint64_t *values, uint32_t n,
                              knbl_error *error);
/* The median, and an interval that contains the true median with the probability *covered: at least `confidence`,
 * unless there are too few values. */
int32_t knbl_median_interval(const double *values, uint32_t n, double confidence, double *median, double *low,
                             double *high, double *covered, knbl_error *error);
/* Mann-Whitney U, two-sided. */
int32_t knbl_rank_test(const double *a, uint32_t na, const double *b, uint32_t nb, double *p, knbl_error *error);
/* By how much b exceeds a (the median of all differences), with an interval as for the median. */
int32_t knbl_shift_interval(const double *a, uint32_t na, const double *b, uint32_t nb, double confidence,
                            double *shift, double *low, double *high, double *covered, knbl_error *error);
int32_t knbl_write_file(const char *path, const char *text, uint64_t size, knbl_error *error); /* all or nothing */
int32_t knbl_can_write(const char *path, knbl_error *error); /* checks in advance whether it would succeed */
char *knbl_token(void);                                      /* a new random token */

#ifdef __cplusplus
}
#endif

#endif
