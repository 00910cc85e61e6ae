/* From figures and reports to the result's JSON. What was not measured is left out; nothing is ever NaN. */
#include <inttypes.h>
#include <stdio.h>

#include "core/units.h"
#include "engines/result.h"

/* ---- what is reckoned from both sides ---- */

static bool is_bulk(uint64_t test)
{
    return test == KN_TCP_STREAM || test == KN_TCP_SENDFILE || test == KN_TCP_BW || test == KN_UDP_STREAM;
}

static int view_init(struct kn_view *v, const struct kn_run *run, struct kn_error *err)
{
    *v = (struct kn_view){.run = run, .spec = &run->spec};
    if (kn_figures_init(&v->client, run->spec.interval_ns, err) || kn_figures_init(&v->server, run->spec.interval_ns, err))
        return -1;
    for (unsigned i = 0; i < run->n_slots; i++)
        if (kn_figures_merge(&v->client, &run->slots[i]->w.figures, err))
            return -1;
    for (unsigned i = 0; i < run->n_servers; i++)
        if (kn_figures_merge(&v->server, &run->servers[i].figures, err))
            return -1;
    if (run->spec.bidir && (kn_figures_init(&v->both, run->spec.interval_ns, err) || kn_figures_merge(&v->both, &v->client, err) ||
                            kn_figures_merge(&v->both, &v->server, err)))
        return -1;
    if (is_bulk(run->spec.test)) {
        v->sender = run->spec.reverse ? &v->server : &v->client;
        v->receiver = run->spec.reverse ? &v->client : &v->server;
        v->rx_bytes = run->spec.bidir ? v->both.rx_bytes : v->receiver->rx_bytes;
        v->ops = run->spec.bidir ? v->both.ops : v->receiver->ops;
        v->window_ns = v->receiver->window_ns;
        /* what queues hold at the end arrives after it; what is lost at the end must not make the window shorter */
        if (run->spec.test == KN_UDP_STREAM && v->sender->window_ns > v->window_ns)
            v->window_ns = v->sender->window_ns;
    } else {
        v->rx_bytes = v->client.rx_bytes;
        v->ops = v->client.ops;
        v->window_ns = v->client.window_ns;
    }
    return 0;
}

static void view_fini(struct kn_view *v)
{
    kn_figures_fini(&v->client);
    kn_figures_fini(&v->server);
    kn_figures_fini(&v->both);
}

/* ---- the result ---- */

static json_t *servers_of(const struct kn_run *run)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < run->n_servers; i++) {
        const struct kn_server_report *r = &run->servers[i];
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:i, s:I}", "name", r->name, "node", r->node, "address", r->address,
                                              "flows", (int)r->flows, "ops", (json_int_t)r->figures.ops));
    }
    return list;
}

static json_t *error_of(enum kn_code code, const char *message)
{
    return json_pack("{s:s, s:s}", "code", kn_code_name(code), "message", message);
}

static json_t *no_data(const struct kn_view *v)
{
    char message[256], timeout[32];
    uint64_t failed = v->client.errors + v->client.connect_errors;
    if (v->spec->test == KN_TCP_CRR) /* whose timeouts are errors too */
        failed -= failed < v->client.timeouts ? failed : v->client.timeouts;
    if (atomic_load(&v->run->asked_to_stop))
        return error_of(KN_E_NO_DATA, "stopped before anything was measured");
    if (!v->client.timeouts && !failed)
        return error_of(KN_E_NO_DATA, "the run went through and nothing arrived: look at what lies between (firewall, policy, MTU), and "
                                      "whether the time was long enough for one operation");
    kn_format_duration(timeout, sizeof timeout, (double)v->spec->timeout_ns, true);
    snprintf(message, sizeof message, "no operation succeeded: %" PRIu64 " had no answer in %s (timeout), %" PRIu64 " failed: look at what lies "
             "between (firewall, policy, MTU), and whether the timeout is long enough", v->client.timeouts, timeout, failed);
    return error_of(KN_E_NO_DATA, message);
}

static void put_verdict(json_t *result, const struct kn_view *v)
{
    const struct kn_run *run = v->run;
    json_t *error = NULL;
    if (run->failed)
        error = error_of(run->err.code, run->err.message);
    else if (!v->rx_bytes && !v->ops)
        error = no_data(v);
    json_object_set_new(result, "ok", json_boolean(!error));
    if (error)
        json_object_set_new(result, "error", error);
}

static json_t *cpus_of(unsigned seen)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < 32; i++)
        if (seen & 1u << i)
            json_array_append_new(list, json_integer(i));
    return list;
}

json_t *kn_run_result(struct kn_run *run)
{
    struct kn_error err;
    struct kn_view v;
    if (!kn_run_wait(run, 0))
        return json_pack("{s:b, s:o}", "ok", 0, "error", error_of(KN_E_IN_USE, "the run is not over"));
    json_t *result = json_object();
    if (view_init(&v, run, &err)) {
        json_object_set_new(result, "ok", json_false());
        json_object_set_new(result, "error", error_of(err.code, err.message));
    } else {
        json_t *my_cpu = run->cpu_close.at_ns > run->cpu_open.at_ns && run->cpu_open.at_ns
            ? kn_cpu_between(&run->cpu_open, &run->cpu_close) : json_object();
        json_t *metrics = kn_view_begun(&v) ? kn_result_metrics(&v, my_cpu) : json_object();
        put_verdict(result, &v);
        json_object_set_new(result, "flags", kn_result_flags(&v, metrics, my_cpu));
        json_object_set_new(result, "metrics", metrics);
        if ((v.client.has & KN_HAS_LATENCY) && kn_hist_count(v.client.latency))
            json_object_set_new(result, "latency_histogram", kn_hist_to_json(v.client.latency));
        json_decref(my_cpu);
        if (kn_view_begun(&v))
            json_object_set_new(result, "opened_ns", kn_json_u64(run->cpu_open.at_ns));
    }
    json_object_set_new(result, "params", kn_spec_to_json(&run->spec));
    json_object_set(result, "chosen", run->chosen);
    json_object_set_new(result, "servers", servers_of(run));
    json_object_set_new(result, "cpus", cpus_of(run->cpus_seen));
    view_fini(&v);
    return result;
}
