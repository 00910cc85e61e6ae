--- Made from src/knbl.h by src/abi/cdef.sh ("make lua/knbl/cdef.lua"); not to be edited.
return [[
typedef struct knbl_run knbl_run;
typedef struct knbl_agent knbl_agent;
typedef struct knbl_error {
    uint32_t size;
    int32_t sys_errno;
    char code[32];
    char message[512];
} knbl_error;
typedef struct knbl_target {
    uint32_t size;
    uint16_t port;
    uint16_t reserved;
    const char *host;
    const char *token;
    const char *ca;
    const char *source;
    const char *name;
    double share;
} knbl_target;
typedef struct knbl_stats {
    uint32_t size;
    uint32_t phase;
    uint64_t elapsed_ns;
    uint64_t total_ns;
    uint64_t ops;
    uint64_t bytes;
} knbl_stats;
typedef struct knbl_agent_config {
    uint32_t size;
    uint32_t max_runs;
    uint64_t max_duration_ns;
    const char *listen;
    const char *unix_path;
    const char *token;
    const char *name;
    const char *node;
} knbl_agent_config;
const char *knbl_version(void);
uint32_t knbl_protocol(void);
uint64_t knbl_now(void);
void knbl_string_free(char *text);
char *knbl_check(const char *spec_json, knbl_error *error);
knbl_run *knbl_run_start(const char *spec_json, const knbl_target *target, knbl_error *error);
knbl_run *knbl_run_start_to(const char *spec_json, const knbl_target *const *targets, uint32_t n, knbl_error *error);
int32_t knbl_run_wait(knbl_run *run, uint64_t timeout_ns);
int32_t knbl_run_stats(knbl_run *run, knbl_stats *stats);
void knbl_run_stop(knbl_run *run);
int32_t knbl_run_percentiles(knbl_run *run, const double *percents, uint64_t *values, uint32_t n, knbl_error *error);
char *knbl_run_result(knbl_run *run, knbl_error *error);
int64_t knbl_run_result_copy(knbl_run *run, char *buffer, uint64_t room, knbl_error *error);
void knbl_run_free(knbl_run *run);
knbl_agent *knbl_agent_start(const knbl_agent_config *config, knbl_error *error);
uint16_t knbl_agent_port(const knbl_agent *agent);
void knbl_agent_free(knbl_agent *agent);
char *knbl_tests(void);
char *knbl_descriptors(void);
char *knbl_fields(void);
char *knbl_nearest(const char *word, const char *words_json);
int32_t knbl_parse_duration(const char *text, uint64_t *ns, knbl_error *error);
int32_t knbl_parse_size(const char *text, uint64_t *bytes, knbl_error *error);
int32_t knbl_parse_count(const char *text, uint64_t *count, knbl_error *error);
int32_t knbl_parse_rate(const char *text, uint64_t *per_1000s, uint64_t *bps, knbl_error *error);
int32_t knbl_parse_sizes(const char *text, uint64_t *sizes, uint32_t room, knbl_error *error);
void knbl_format_duration(double ns, int32_t ascii, char *buffer, uint32_t room);
void knbl_format_bits(double bps, char *buffer, uint32_t room);
void knbl_format_size(uint64_t bytes, char *buffer, uint32_t room);
void knbl_format_rate(double per_s, char *buffer, uint32_t room);
char *knbl_hist_merge(const char *histograms_json, knbl_error *error);
int32_t knbl_hist_percentiles(const char *histogram_json, const double *percents, uint64_t *values, uint32_t n,
                              knbl_error *error);
int32_t knbl_median_interval(const double *values, uint32_t n, double confidence, double *median, double *low,
                             double *high, double *covered, knbl_error *error);
int32_t knbl_rank_test(const double *a, uint32_t na, const double *b, uint32_t nb, double *p, knbl_error *error);
int32_t knbl_shift_interval(const double *a, uint32_t na, const double *b, uint32_t nb, double confidence,
                            double *shift, double *low, double *high, double *covered, knbl_error *error);
int32_t knbl_write_file(const char *path, const char *text, uint64_t size, knbl_error *error);
int32_t knbl_can_write(const char *path, knbl_error *error);
char *knbl_token(void);
]]
