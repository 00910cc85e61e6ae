/* knbl - the engines of knbl for every language that can call C: one measurement a run, JSON in, figures and JSON out.
 *
 *     knbl_target to = { sizeof to, 7099, 0, "10.0.0.2", "the token of the agent there" };
 *     knbl_run *run = knbl_run_start("{\"test\":\"tcp_rr\",\"duration\":\"2s\"}", &to, &error);
 *     knbl_run_wait(run, UINT64_MAX);
 *     char *result = knbl_run_result(run, &error);
 *
 * Handles are opaque, structures are plain data of fixed width that begin with their own size (set it before the call:
 * it says which version of the structure the caller was compiled with), nothing calls back, and there is no macro to
 * evaluate. A function that fails returns NULL or -1 and fills `error`, which may be NULL. Text that knbl hands out is
 * the caller's: knbl_string_free. Functions may be called from any thread; one handle is freed once, by one thread, when
 * no other uses it. SIGPIPE is never raised. */
#ifndef KNBL_H
#define KNBL_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct knbl_run knbl_run;
typedef struct knbl_agent knbl_agent;

typedef struct knbl_error {
    uint32_t size;            /* sizeof (knbl_error) */
    int32_t sys_errno;        /* 0 where the kernel had no part in it */
    char code[32];            /* "refused", "timeout", "argument", … */
    char message[512];
} knbl_error;

typedef struct knbl_target {
    uint32_t size;            /* sizeof (knbl_target) */
    uint16_t port;
    uint16_t reserved;        /* 0 */
    const char *host;         /* name or address */
    const char *token;        /* of the agent there; NULL for a server that is no agent, and for ping */
} knbl_target;

typedef struct knbl_stats {
    uint32_t size;            /* sizeof (knbl_stats) */
    uint32_t phase;           /* 0 new, 1 connecting, 2 warming up, 3 measuring, 4 collecting, 5 done, 6 failed */
    uint64_t elapsed_ns;      /* of the measurement, warm-up not counted */
    uint64_t total_ns;        /* 0 where a count limits it */
    uint64_t ops;
    uint64_t bytes;
} knbl_stats;

typedef struct knbl_agent_config {
    uint32_t size;            /* sizeof (knbl_agent_config) */
    uint32_t max_runs;        /* 0: 64 */
    uint64_t max_duration_ns; /* 0: an hour */
    const char *listen;       /* "127.0.0.1:0", ":7099" */
    const char *unix_path;    /* control by a Unix socket besides; NULL: none */
    const char *token;        /* at least 16 characters */
    const char *name;         /* NULL: the host's name */
    const char *node;
} knbl_agent_config;

const char *knbl_version(void);
uint32_t knbl_protocol(void);
uint64_t knbl_now(void);      /* nanoseconds, monotonic */
void knbl_string_free(char *text);

/* ---- a measurement --------------------------------------------------------------------------- */
char *knbl_check(const char *spec_json, knbl_error *error);   /* the complete specification, defaults filled in */
knbl_run *knbl_run_start(const char *spec_json, const knbl_target *target, knbl_error *error);
int32_t knbl_run_wait(knbl_run *run, uint64_t timeout_ns);    /* 1: over, 0: not yet */
int32_t knbl_run_stats(knbl_run *run, knbl_stats *stats);     /* cheap enough to poll */
void knbl_run_stop(knbl_run *run);                            /* now; what was measured is kept */
/* Once over: latencies in nanoseconds, values[i] for percents[i] (0 to 100). */
int32_t knbl_run_percentiles(knbl_run *run, const double *percents, uint64_t *values, uint32_t n, knbl_error *error);
char *knbl_run_result(knbl_run *run, knbl_error *error);      /* JSON, once over; waits for a run that was stopped */
/* The same into a buffer, with a 0 at its end; returns its length, of which at most room - 1 bytes were written. */
int64_t knbl_run_result_copy(knbl_run *run, char *buffer, uint64_t room, knbl_error *error);
void knbl_run_free(knbl_run *run);                            /* stops it first; NULL is fine */

/* ---- an agent in this process: the other side ------------------------------------------------ */
knbl_agent *knbl_agent_start(const knbl_agent_config *config, knbl_error *error);
uint16_t knbl_agent_port(const knbl_agent *agent);
void knbl_agent_free(knbl_agent *agent);                      /* ends its runs; NULL is fine */

/* ---- what a language's binding needs besides; lists are JSON --------------------------------- */
char *knbl_tests(void);                                       /* ["tcp_stream", …] */
char *knbl_fields(void);                                      /* [{"name","kind","choices","tests","help"}, …] */
char *knbl_nearest(const char *word, const char *words_json); /* NULL: none is near */
int32_t knbl_parse_duration(const char *text, uint64_t *ns, knbl_error *error);
int32_t knbl_parse_size(const char *text, uint64_t *bytes, knbl_error *error);
int32_t knbl_parse_count(const char *text, uint64_t *count, knbl_error *error);
/* Exactly one of the two is not 0: events per 1000 seconds, or bits per second. */
int32_t knbl_parse_rate(const char *text, uint64_t *per_1000s, uint64_t *bps, knbl_error *error);
int32_t knbl_parse_sizes(const char *text, uint64_t *sizes, uint32_t room, knbl_error *error); /* how many there are */
/* Into a buffer; all of them fit into 32 bytes. */
void knbl_format_duration(double ns, int32_t ascii, char *buffer, uint32_t room);
void knbl_format_bits(double bps, char *buffer, uint32_t room);
void knbl_format_size(uint64_t bytes, char *buffer, uint32_t room);
void knbl_format_rate(double per_s, char *buffer, uint32_t room);
char *knbl_hist_merge(const char *histograms_json, knbl_error *error);
int32_t knbl_hist_percentiles(const char *histogram_json, const double *percents, uint64_t *values, uint32_t n,
                              knbl_error *error);
/* The median, and an interval around it that covers the true one with *covered: `confidence`, or less where there are
 * few values. */
int32_t knbl_median_interval(const double *values, uint32_t n, double confidence, double *median, double *low,
                             double *high, double *covered, knbl_error *error);
/* Mann-Whitney U, two-sided. */
int32_t knbl_rank_test(const double *a, uint32_t na, const double *b, uint32_t nb, double *p, knbl_error *error);
/* How far b lies above a (the median of all differences), and its interval, as of the median. */
int32_t knbl_shift_interval(const double *a, uint32_t na, const double *b, uint32_t nb, double confidence,
                            double *shift, double *low, double *high, double *covered, knbl_error *error);
int32_t knbl_write_file(const char *path, const char *text, uint64_t size, knbl_error *error); /* whole or not at all */
int32_t knbl_can_write(const char *path, knbl_error *error);  /* whether that would do, as far as can be told */
char *knbl_token(void);                                       /* a fresh secret */

#ifdef __cplusplus
}
#endif

#endif
