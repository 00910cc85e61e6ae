/* Makes the result's JSON from figures and reports. What was not measured is left out; no value is ever NaN. */
#include <stdio.h>

#include "core/json.h"
#include "run/result.h"

/* ---- figures of both sides ---- */

static int view_init(struct kn_view *v, const struct kn_run *run, struct kn_error *err)
{
    *v = (struct kn_view){.run = run, .spec = &run->spec};
    if (kn_figures_init(&v->client, run->spec.interval_ns, err) ||
        kn_figures_init(&v->server, run->spec.interval_ns, err))
        return -1;
    for (unsigned i = 0; i < run->n_slots; i++)
        if (kn_figures_merge(&v->client, &run->slots[i]->w.figures, err))
            return -1;
    for (unsigned i = 0; i < run->n_servers; i++)
        if (kn_figures_merge(&v->server, &run->servers[i].figures, err))
            return -1;
    if (run->spec.bidir && (kn_figures_init(&v->both, run->spec.interval_ns, err) ||
                            kn_figures_merge(&v->both, &v->client, err) || kn_figures_merge(&v->both, &v->server, err)))
        return -1;
    if (run->spec.test->shape == KN_BULK) {
        v->sender = run->spec.reverse ? &v->server : &v->client;
        v->receiver = run->spec.reverse ? &v->client : &v->server;
        v->rx_bytes = run->spec.bidir ? v->both.rx_bytes : v->receiver->rx_bytes;
        v->ops = run->spec.bidir ? v->both.ops : v->receiver->ops;
        v->window_ns = v->receiver->window_ns;
        /* data in queues arrives after the end; data lost at the end must not shorten the window */
        if (run->spec.test->transport == KN_UDP && v->sender->window_ns > v->window_ns)
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
        const struct kn_server_account *r = &run->servers[i];
        kn_json_append(list, json_pack("{s:s, s:s, s:s, s:i, s:I}", "name", r->name, "node", r->node, "address",
                                       r->address, "flows", (int)r->flows, "ops", (json_int_t)r->figures.ops));
    }
    return list;
}

static json_t *error_of(enum kn_code code, const char *message)
{
    return json_pack("{s:s, s:s}", "code", kn_code_name(code), "message", message);
}

static json_t *nothing_arrived(const struct kn_run *run)
{
    char message[256], where[64] = "";
    if (run->n_parts == 1 && run->parts->peer.len)
        kn_addr_text(&run->parts->peer, where, sizeof where);
    snprintf(message, sizeof message,
             "the run went through and nothing arrived%s%s: look at what lies between (firewall, policy, MTU), and "
             "whether the time was long enough for one operation",
             *where ? " from " : "", where);
    return error_of(KN_E_NO_DATA, message);
}

static json_t *no_data(const struct kn_view *v, const json_t *metrics)
{
    char message[400];
    if (atomic_load(&v->run->asked_to_stop) && v->sender && v->sender->tx_bytes && !v->run->n_servers)
        return error_of(KN_E_NO_DATA, "stopped, and the server did not say what had arrived: it is gone");
    if (atomic_load(&v->run->asked_to_stop))
        return error_of(KN_E_NO_DATA, "stopped before anything was measured");
    if (!v->client.timeouts && !v->client.errors && !v->client.connect_errors)
        return nothing_arrived(v->run);
    kn_result_why(message, sizeof message, v, metrics);
    return error_of(KN_E_NO_DATA, message);
}

static void put_verdict(json_t *result, const struct kn_view *v, const json_t *metrics)
{
    const struct kn_run *run = v->run;
    bool ok = !run->failed && (v->rx_bytes || v->ops);
    kn_json_set(result, "ok", json_boolean(ok));
    if (!ok)
        kn_json_set(result, "error", run->failed ? error_of(run->err.code, run->err.message) : no_data(v, metrics));
}

/* The result if memory ran out. */
static json_t *failure(enum kn_code code, const char *message)
{
    return json_pack("{s:b, s:o}", "ok", 0, "error", error_of(code, message));
}

static void put_figures(json_t *result, const struct kn_run *run, const struct kn_view *v)
{
    bool both = run->cpu_close.at_ns > run->cpu_open.at_ns && run->cpu_open.at_ns;
    json_t *my_cpu = both ? kn_cpu_between(&run->cpu_open, &run->cpu_close) : json_object();
    json_t *metrics = kn_view_begun(v) ? kn_result_metrics(v, my_cpu) : json_object();
    put_verdict(result, v, metrics);
    kn_json_set(result, "flags", kn_result_flags(v, metrics, my_cpu));
    kn_json_set(result, "metrics", metrics);
    if ((v->client.has & KN_HAS_LATENCY) && kn_hist_count(v->client.latency))
        kn_json_set(result, "latency_histogram", kn_hist_to_json(v->client.latency));
    json_decref(my_cpu);
    if (kn_view_begun(v))
        kn_json_set(result, "opened_ns", kn_json_u64(run->cpu_open.at_ns));
}

json_t *kn_run_result(struct kn_run *run)
{
    struct kn_error err;
    struct kn_view v;
    if (!kn_run_wait(run, 0))
        return failure(KN_E_IN_USE, "the run is not over");
    unsigned long losses = kn_json_losses();
    json_t *result = NULL;
    if (view_init(&v, run, &err) == 0) {
        result = json_object();
        put_figures(result, run, &v);
        kn_json_set(result, "params", kn_spec_to_json(&run->spec));
        kn_json_set(result, "chosen", json_incref(run->chosen));
        kn_json_set(result, "servers", servers_of(run));
        result = kn_json_whole(result, losses);
    }
    view_fini(&v);
    return result ? result : failure(KN_E_MEMORY, "no memory for the result");
}
