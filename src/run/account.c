#include "run/account.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "run/inside.h"

static void copy_text(char *to, size_t size, const json_t *from)
{
    const char *text = json_string_value(from);
    snprintf(to, size, "%.*s", (int)size - 1, text ? text : "");
}

static struct kn_server_account *account_of(struct kn_run *run, const json_t *account, struct kn_error *err)
{
    struct kn_server_account one = {0};
    copy_text(one.name, sizeof one.name, json_object_get(account, "name"));
    copy_text(one.node, sizeof one.node, json_object_get(account, "node"));
    copy_text(one.address, sizeof one.address, json_object_get(account, "address"));
    for (unsigned i = 0; i < run->n_servers; i++)
        if (!strcmp(run->servers[i].name, one.name) && !strcmp(run->servers[i].node, one.node))
            return &run->servers[i];
    struct kn_server_account *more = realloc(run->servers, (run->n_servers + 1) * sizeof *more);
    if (!more)
        return kn_null(kn_fail(err, KN_E_MEMORY, "no memory for a server's account"));
    run->servers = more;
    if (kn_figures_init(&one.figures, run->spec.interval_ns, err))
        return NULL;
    run->servers[run->n_servers] = one;
    return &run->servers[run->n_servers++];
}

static int add_account(struct kn_run *run, const struct kn_figures *figures, const json_t *account,
                       struct kn_error *err)
{
    struct kn_server_account *r = account_of(run, account, err);
    if (!r || kn_figures_merge(&r->figures, figures, err))
        return -1;
    const char *key;
    json_t *chosen;
    r->flows++;
    json_object_foreach(json_object_get(account, "chosen"), key, chosen) if (json_is_string(chosen))
        kn_run_chosen(run, key, json_string_value(chosen));
    json_t *cpu = json_object_get(account, "cpu");
    if (json_is_object(cpu) && figures->window_ns >= r->cpu_window_ns) {
        json_decref(r->cpu);
        if (!(r->cpu = kn_json_copy(cpu))) /* the account is another thread's to free */
            return kn_fail_memory(err);
        r->cpu_window_ns = figures->window_ns;
    }
    return 0;
}

int kn_run_account(struct kn_worker *w, const json_t *account, struct kn_error *err)
{
    struct kn_run *run = w->run;
    struct kn_figures figures;
    if (kn_figures_from_json(json_object_get(account, "figures"), &figures, err))
        return -1;
    pthread_mutex_lock(&run->lock);
    w->part->rx_bytes += figures.rx_bytes;
    w->part->ops += figures.ops;
    if (figures.window_ns > w->part->window_ns)
        w->part->window_ns = figures.window_ns;
    int failed = add_account(run, &figures, account, err);
    pthread_mutex_unlock(&run->lock);
    kn_figures_fini(&figures);
    return failed;
}
