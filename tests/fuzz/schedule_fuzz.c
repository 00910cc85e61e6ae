/* A client's part of a mesh, as POST /v1/schedule has it: what the agent takes is within its limits, in the order of
 * time, and names only tests and peers that there are. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "agent/schedule_inside.h"
#include "agent/shared.h"
#include "core/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(bool truth)
{
    if (!truth)
        abort();
}

static struct kn_shared *shared_of(void)
{
    static struct kn_shared shared;
    static bool made;
    struct kn_error err;
    struct kn_agent_config config;
    if (made)
        return &shared;
    kn_agent_defaults(&config);
    config.token = "the token of the fuzzer";
    demand(kn_shared_init(&shared, &config, &err) == 0);
    made = true;
    return &shared;
}

static uint64_t end_of(const struct kn_planned *p)
{
    return p->at_ns + p->for_ns;
}

static void check_run(const struct kn_schedule *s, size_t i)
{
    const struct kn_agent_config *limits = &s->shared->config;
    const struct kn_planned *p = &s->runs[i];
    size_t together = 0;
    demand(p->test < s->n_tests && p->peer < s->n_peers);
    demand(p->for_ns > 0 && end_of(p) <= limits->max_duration_ns);
    demand(i == 0 || s->runs[i - 1].at_ns <= p->at_ns);
    for (size_t k = 0; k <= i; k++)
        together += end_of(&s->runs[k]) > p->at_ns;
    demand(together <= limits->max_runs);
}

static void check(const struct kn_schedule *s)
{
    demand(s->n_tests > 0 && s->n_peers > 0 && s->n_runs > 0 && strlen(s->lease.id) == KN_ID_SIZE - 1);
    for (size_t i = 0; i < s->n_runs; i++)
        check_run(s, i);
    for (size_t i = 0; i < s->n_tests; i++)
        demand(s->tests[i].test != NULL);
    for (size_t i = 0; i < s->n_peers; i++)
        demand(s->peers[i].host[0] && s->peers[i].port);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kn_error err = {0};
    struct kn_schedule s = {.shared = shared_of()};
    json_t *request = json_loadb((const char *)data, size, 0, NULL);
    if (!request)
        return 0;
    if (kn_schedule_read(&s, request, &err))
        demand(*err.message && err.code != KN_OK);
    else
        check(&s);
    free(s.tests);
    free(s.peers);
    free(s.runs);
    free(s.merged);
    free(s.active);
    json_decref(request);
    return 0;
}
