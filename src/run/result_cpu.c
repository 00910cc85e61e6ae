/* The cost of a run: CPU time and memory of both ends, their cgroups and machines, and the CPU time that other programs
 * used there. */
#include <math.h>
#include <string.h>

#include "core/json.h"
#include "run/result.h"

static void add_from(json_t *to, const char *key, const json_t *cpu, const char *name)
{
    const json_t *value = json_object_get(cpu, name);
    if (!json_is_number(value))
        return;
    double sum = json_number_value(value) + json_number_value(json_object_get(to, key));
    kn_put_real(to, key, sum);
}

/* The nodes of a lab are on one machine. */
static bool one_machine(const struct kn_server_account *a, const struct kn_server_account *b)
{
    const json_t *machine = json_object_get(a->cpu, "machine");
    return !strcmp(a->node, b->node) || (machine && json_equal(machine, json_object_get(b->cpu, "machine")));
}

/* Of several servers on one machine, or in one cgroup, only the first counts: they all read the same figures. */
static bool first_of_node(const struct kn_run *run, unsigned i)
{
    for (unsigned j = 0; j < i; j++)
        if (one_machine(&run->servers[j], &run->servers[i]) &&
            json_is_number(json_object_get(run->servers[j].cpu, "node")))
            return false;
    return true;
}

static bool first_of_cgroup(const struct kn_run *run, unsigned i)
{
    const json_t *id = json_object_get(run->servers[i].cpu, "cgroup_id");
    for (unsigned j = 0; id && j < i; j++)
        if (one_machine(&run->servers[j], &run->servers[i]) &&
            json_equal(json_object_get(run->servers[j].cpu, "cgroup_id"), id))
            return false;
    return true;
}

/* CPU time that other programs used on the machine where `cpu` was read, in cores: their user time and the time that
 * the hypervisor took. Kernel time is left out, because theirs and ours cannot be separated. Absent if an end did not
 * report its own use, which would otherwise count as others'. */
static bool others_on(const struct kn_view *v, const json_t *mine, const json_t *cpu, double *cores)
{
    const struct kn_run *run = v->run;
    const json_t *machine = json_object_get(cpu, "machine"), *user = json_object_get(cpu, "node_user");
    if (!machine || !json_is_number(user) || !run->n_servers)
        return false;
    *cores = json_number_value(user) + json_number_value(json_object_get(cpu, "steal"));
    for (unsigned i = 0; i <= run->n_servers; i++) {
        const json_t *end = i ? run->servers[i - 1].cpu : mine;
        if (!json_is_number(json_object_get(end, "process_user")))
            return false;
        if (json_equal(json_object_get(end, "machine"), machine))
            *cores -= json_number_value(json_object_get(end, "process_user"));
    }
    *cores = fmax(*cores, 0);
    return true;
}

static void put_others(json_t *to, const struct kn_view *v, const json_t *mine, const json_t *cpu, const char *name)
{
    double cores;
    if (others_on(v, mine, cpu, &cores))
        kn_put_real(to, name, json_number_value(json_object_get(to, name)) + cores);
}

static void put_cores(json_t *m, const struct kn_view *v, const json_t *mine)
{
    json_t *cpu = json_object();
    if (v->client.has & KN_HAS_CPU)
        kn_put_ratio(cpu, "client_process", (double)v->client.cpu_ns, (double)v->client.window_ns);
    if (v->server.has & KN_HAS_CPU)
        kn_put_ratio(cpu, "server_process", (double)v->server.cpu_ns, (double)v->server.window_ns);
    add_from(cpu, "client_cgroup", mine, "cgroup");
    add_from(cpu, "client_node", mine, "node");
    add_from(cpu, "client_softirq", mine, "softirq");
    add_from(cpu, "client_cpus", mine, "node_cpus");
    put_others(cpu, v, mine, mine, "client_others");
    for (unsigned i = 0; i < v->run->n_servers; i++) {
        const json_t *theirs = v->run->servers[i].cpu;
        if (first_of_cgroup(v->run, i))
            add_from(cpu, "server_cgroup", theirs, "cgroup");
        if (first_of_node(v->run, i)) {
            add_from(cpu, "server_node", theirs, "node");
            add_from(cpu, "server_softirq", theirs, "softirq");
            add_from(cpu, "server_cpus", theirs, "node_cpus");
            put_others(cpu, v, mine, theirs, "server_others");
        }
    }
    if (json_object_size(cpu))
        kn_json_set(m, "cpu", json_incref(cpu));
    json_decref(cpu);
    if (v->ops && (v->client.has & KN_HAS_CPU))
        kn_put_ratio(m, "cpu_ns_per_op", (double)(v->client.cpu_ns + v->server.cpu_ns), (double)v->ops);
}

/* Memory in bytes: of each process, without the kernel's memory for its sockets, and of each cgroup, with it. */
static void put_memory(json_t *m, const struct kn_view *v, const json_t *mine)
{
    json_t *memory = json_object();
    add_from(memory, "client_process", mine, "process_memory");
    add_from(memory, "client_cgroup", mine, "cgroup_memory");
    for (unsigned i = 0; i < v->run->n_servers; i++) {
        add_from(memory, "server_process", v->run->servers[i].cpu, "process_memory");
        if (first_of_cgroup(v->run, i))
            add_from(memory, "server_cgroup", v->run->servers[i].cpu, "cgroup_memory");
    }
    if (json_object_size(memory))
        kn_json_set(m, "memory", json_incref(memory));
    json_decref(memory);
}

/* Not for tests in both directions, where each end sends and receives. */
static void put_cpu_per_gb(json_t *m, const struct kn_view *v)
{
    double gb = (double)v->rx_bytes / 1e9;
    if (!v->sender || !v->rx_bytes || v->spec->bidir)
        return;
    json_t *cost = json_object();
    if (v->sender->has & KN_HAS_CPU)
        kn_put_ratio(cost, "send", kn_seconds(v->sender->cpu_ns), gb);
    if (v->receiver->has & KN_HAS_CPU)
        kn_put_ratio(cost, "recv", kn_seconds(v->receiver->cpu_ns), gb);
    if (json_object_size(cost))
        kn_json_set(m, "cpu_s_per_gb", json_incref(cost));
    json_decref(cost);
}

void kn_result_put_cpu(json_t *metrics, const struct kn_view *v, const json_t *mine)
{
    put_cores(metrics, v, mine);
    put_memory(metrics, v, mine);
    put_cpu_per_gb(metrics, v);
}
