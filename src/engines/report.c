/* What servers report in band, one account for each that answered: several flows to one server are one server. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "engines/flow.h"
#include "engines/run.h"

static void copy_text(char *to, size_t size, const json_t *from)
{
    const char *text = json_string_value(from);
    size_t n = text ? strlen(text) : 0;
    if (n >= size)
        n = size - 1;
    memcpy(to, text ? text : "", n);
    to[n] = '\0';
}

static struct kn_server_report *report_of(struct kn_run *run, const json_t *report, struct kn_error *err)
{
    struct kn_server_report one = {0};
    copy_text(one.name, sizeof one.name, json_object_get(report, "name"));
    copy_text(one.node, sizeof one.node, json_object_get(report, "node"));
    copy_text(one.address, sizeof one.address, json_object_get(report, "address"));
    for (unsigned i = 0; i < run->n_servers; i++)
        if (!strcmp(run->servers[i].name, one.name) && !strcmp(run->servers[i].node, one.node))
            return &run->servers[i];
    struct kn_server_report *more = realloc(run->servers, (run->n_servers + 1) * sizeof *more);
    if (!more) {
        kn_fail(err, KN_E_MEMORY, "no memory for a server's report");
        return NULL;
    }
    run->servers = more;
    if (kn_figures_init(&one.figures, run->spec.interval_ns, err))
        return NULL;
    run->servers[run->n_servers] = one;
    return &run->servers[run->n_servers++];
}

static int add_report(struct kn_run *run, const struct kn_figures *figures, const json_t *report, struct kn_error *err)
{
    struct kn_server_report *r = report_of(run, report, err);
    if (!r || kn_figures_merge(&r->figures, figures, err))
        return -1;
    const char *key;
    json_t *chosen;
    r->flows++;
    json_object_foreach(json_object_get(report, "chosen"), key, chosen)
        if (json_is_string(chosen))
            kn_run_chosen(run, key, json_string_value(chosen));
    json_t *cpu = json_object_get(report, "cpu");
    if (json_is_object(cpu) && figures->window_ns >= r->cpu_window_ns) {
        json_decref(r->cpu);
        r->cpu = json_deep_copy(cpu); /* the report is another thread's to free */
        r->cpu_window_ns = figures->window_ns;
    }
    return 0;
}

int kn_run_add_report(struct kn_run *run, const json_t *report, struct kn_error *err)
{
    struct kn_figures figures;
    if (kn_figures_from_json(json_object_get(report, "figures"), &figures, err))
        return -1;
    pthread_mutex_lock(&run->lock);
    int failed = add_report(run, &figures, report, err);
    pthread_mutex_unlock(&run->lock);
    kn_figures_fini(&figures);
    return failed;
}
