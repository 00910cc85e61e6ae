/* The body of POST /v1/schedule: docs/agent.md has its form. Whatever it says is limited before it is allocated. */
#include <stdio.h>
#include <stdlib.h>

#include "agent/schedule_inside.h"

#define SECONDS_MAX 86400

/* The list `name` of at least one and at most `most` members. */
static const json_t *list_of(const json_t *request, const char *name, size_t most, struct kn_error *err)
{
    const json_t *list = json_object_get(request, name);
    size_t n = json_array_size(list);
    if (!json_is_array(list))
        kn_fail(err, KN_E_ARGUMENT, "the schedule must have a list \"%s\"", name);
    else if (n == 0 || n > most)
        kn_fail(err, n ? KN_E_LIMIT : KN_E_ARGUMENT, "\"%s\" must have from 1 to %zu members, got %zu", name, most, n);
    else
        return list;
    return NULL;
}

static int read_tests(struct kn_schedule *s, const json_t *request, struct kn_error *err)
{
    const json_t *list = list_of(request, "tests", KN_SCHEDULE_TESTS_MAX, err);
    if (!list)
        return -1;
    s->n_tests = json_array_size(list);
    s->tests = calloc(s->n_tests, sizeof *s->tests);
    s->merged = calloc(s->n_tests, sizeof *s->merged);
    if (!s->tests || !s->merged)
        return kn_fail_memory(err);
    for (size_t i = 0; i < s->n_tests; i++) {
        const json_t *spec = json_array_get(list, i);
        if (!json_is_object(spec))
            return kn_fail(err, KN_E_ARGUMENT, "test %zu must be a specification, as in {\"test\":\"tcp_lat\"}", i);
        if (kn_spec_parse(spec, s->shared->server.tests, &s->tests[i], err) ||
            kn_server_allows(&s->shared->server.limits, &s->tests[i], err))
            return -1;
    }
    return 0;
}

static int read_peer(struct kn_schedule *s, size_t i, const json_t *peer, const char *token, struct kn_error *err)
{
    struct kn_target *to = &s->peers[i];
    const json_t *host = json_array_get(peer, 0), *port = json_array_get(peer, 1), *own = json_array_get(peer, 2);
    json_int_t number = json_integer_value(port);
    if (!json_is_string(host) || !json_string_length(host) || json_string_length(host) >= sizeof to->host ||
        !json_is_integer(port) || number < 1 || number > 65535 || (own && !json_is_string(own)))
        return kn_fail(err, KN_E_ARGUMENT,
                       "peer %zu must be a list of a host, a port from 1 to 65535 and, optionally, a token", i);
    snprintf(to->host, sizeof to->host, "%s", json_string_value(host));
    to->port = (uint16_t)number;
    if (own || token)
        kn_wire_key(own ? json_string_value(own) : token, &to->key);
    else
        to->key = s->shared->key;
    return 0;
}

static int read_peers(struct kn_schedule *s, const json_t *request, struct kn_error *err)
{
    const json_t *list = list_of(request, "peers", KN_SCHEDULE_PEERS_MAX, err),
                 *token = json_object_get(request, "token");
    if (!list)
        return -1;
    if (token && !json_is_string(token))
        return kn_fail(err, KN_E_ARGUMENT, "\"token\" must be a string");
    s->n_peers = json_array_size(list);
    s->peers = calloc(s->n_peers, sizeof *s->peers);
    if (!s->peers)
        return kn_fail_memory(err);
    for (size_t i = 0; i < s->n_peers; i++)
        if (read_peer(s, i, json_array_get(list, i), json_string_value(token), err))
            return -1;
    return 0;
}

/* A number of seconds; -1: it is none. */
static double seconds_of(const json_t *value)
{
    double seconds = json_is_number(value) ? json_number_value(value) : -1;
    return seconds >= 0 && seconds <= SECONDS_MAX ? seconds : -1;
}

static int read_run(struct kn_schedule *s, size_t i, const json_t *run, struct kn_error *err)
{
    struct kn_planned *p = &s->runs[i];
    double at = seconds_of(json_array_get(run, 0)), time = seconds_of(json_array_get(run, 1));
    const json_t *test = json_array_get(run, 2), *peer = json_array_get(run, 3);
    json_int_t t = json_integer_value(test), to = json_integer_value(peer);
    if (json_array_size(run) != 4 || at < 0 || time <= 0 || !json_is_integer(test) || !json_is_integer(peer))
        return kn_fail(err, KN_E_ARGUMENT,
                       "run %zu must be a list of four: when, for how long (seconds, at most %d), the number of the "
                       "test, the number of the peer",
                       i, SECONDS_MAX);
    if (t < 0 || (size_t)t >= s->n_tests || to < 0 || (size_t)to >= s->n_peers)
        return kn_fail(err, KN_E_ARGUMENT, "run %zu has test %lld of %zu and peer %lld of %zu, counted from 0", i,
                       (long long)t, s->n_tests, (long long)to, s->n_peers);
    *p = (struct kn_planned){
        .at_ns = (uint64_t)(at * 1e9), .for_ns = (uint64_t)(time * 1e9), .test = (unsigned)t, .peer = (unsigned)to};
    const struct kn_spec *spec = &s->tests[t];
    if (spec->duration_ns && spec->warmup_ns + spec->duration_ns > p->for_ns)
        return kn_fail(err, KN_E_ARGUMENT,
                       "run %zu: a slot of %.6g s is shorter than warmup and duration of %s, %.6g s", i, time,
                       spec->test->name, (double)(spec->warmup_ns + spec->duration_ns) / 1e9);
    if (i && s->runs[i - 1].at_ns > p->at_ns)
        return kn_fail(err, KN_E_ARGUMENT, "the runs must be in the order of their time: run %zu begins before run %zu",
                       i, i - 1);
    return 0;
}

/* The agent's limits: how many go on at once, and how long all of it takes. */
static int check_limits(struct kn_schedule *s, struct kn_error *err)
{
    uint64_t end_ns = 0, most_ns = s->shared->config.max_duration_ns;
    size_t most = s->shared->config.max_runs, n = 0;
    for (size_t i = 0; i < s->n_runs; i++) {
        uint64_t now_ns = s->runs[i].at_ns, until_ns = now_ns + s->runs[i].for_ns;
        for (size_t k = 0; k < n;) /* those that are over by then */
            if (s->runs[s->active[k]].at_ns + s->runs[s->active[k]].for_ns <= now_ns)
                s->active[k] = s->active[--n];
            else
                k++;
        if (n == most)
            return kn_fail(err, KN_E_LIMIT, "at %.6g s more than %zu runs overlap, the agent's limit",
                           (double)now_ns / 1e9, most);
        s->active[n++] = (unsigned)i;
        end_ns = until_ns > end_ns ? until_ns : end_ns;
    }
    if (end_ns > most_ns)
        return kn_fail(err, KN_E_LIMIT, "the schedule must take at most %.6g s on this agent, got %.6g s",
                       (double)most_ns / 1e9, (double)end_ns / 1e9);
    return 0;
}

static int read_runs(struct kn_schedule *s, const json_t *request, struct kn_error *err)
{
    const json_t *list = list_of(request, "runs", KN_SCHEDULE_RUNS_MAX, err);
    if (!list)
        return -1;
    s->n_runs = json_array_size(list);
    s->runs = calloc(s->n_runs, sizeof *s->runs);
    s->active = calloc(s->shared->config.max_runs, sizeof *s->active);
    if (!s->runs || !s->active)
        return kn_fail_memory(err);
    for (size_t i = 0; i < s->n_runs; i++)
        if (read_run(s, i, json_array_get(list, i), err))
            return -1;
    return check_limits(s, err);
}

int kn_schedule_read(struct kn_schedule *s, const json_t *request, struct kn_error *err)
{
    const json_t *id = json_object_get(request, "id"), *patience = json_object_get(request, "patience"),
                 *histograms = json_object_get(request, "histograms");
    if (id && !json_is_string(id))
        return kn_fail(err, KN_E_ARGUMENT, "\"id\" must be %d hexadecimal digits", KN_ID_SIZE - 1);
    if (patience && seconds_of(patience) < 0)
        return kn_fail(err, KN_E_ARGUMENT, "\"patience\" must be a number of seconds from 0 to %d", SECONDS_MAX);
    if (histograms && !json_is_boolean(histograms))
        return kn_fail(err, KN_E_ARGUMENT, "\"histograms\" must be true or false");
    if (kn_lease_id(json_string_value(id), s->lease.id, err) || read_tests(s, request, err) ||
        read_peers(s, request, err) || read_runs(s, request, err))
        return -1;
    s->histograms = json_is_true(histograms);
    s->lease.patience_ns = patience ? (uint64_t)(seconds_of(patience) * 1e9) : 0;
    return 0;
}
