#include "lab/keeper.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/units.h"

/* Reads and checks the request of a pod before anything is made. */

static int find_node(struct kn_lab_keeper *keeper, struct kn_lab_pod *pod, const char *name, struct kn_error *err)
{
    if (!keeper->nodes)
        return kn_fail(err, KN_E_ARGUMENT, "a pod requires a node, and the lab has none");
    pod->node = name ? kn_lab_node_find(keeper, name) : keeper->nodes;
    if (pod->node)
        return 0;
    kn_fail(err, KN_E_ARGUMENT, "no node is named '%.60s'", name);
    return kn_lab_suggest(err, kn_lab_name_near(keeper, name, false, false));
}

static int read_bandwidth(const json_t *value, uint64_t *bps, struct kn_error *err)
{
    struct kn_rate rate = {.bps = 0};
    if (!value || json_is_null(value))
        return 0;
    if (json_is_string(value) && kn_rate_parse(json_string_value(value), &rate, err))
        return -1;
    double number = json_is_string(value) ? (double)rate.bps : json_number_value(value);
    if (number < 8e3 || number > 1e12)
        return kn_fail(err, KN_E_ARGUMENT, "bandwidth must be from 8 kbit/s to 1 Tbit/s, like \"1G\", got %g bit/s",
                       number);
    *bps = (uint64_t)number;
    return 0;
}

/* CPUs: 0.5, "2", "500m" */
static int read_cpu(const json_t *value, uint64_t *milli, struct kn_error *err)
{
    const char *text = json_string_value(value);
    char *end = NULL, number[32];
    double cpus = text ? strtod(text, &end) : json_number_value(value);
    if (!value || json_is_null(value))
        return 0;
    snprintf(number, sizeof number, "%g", cpus);
    bool thousandths = text && strcmp(end, "m") == 0;
    if (thousandths)
        cpus /= 1000;
    if ((text && (end == text || (*end && !thousandths))) || !(cpus >= 0.01 && cpus <= 1024))
        return kn_fail(err, KN_E_ARGUMENT, "cpu must be from 0.01 to 1024 CPUs, like 0.5 or \"500m\", got %.40s",
                       text ? text : number);
    *milli = (uint64_t)(cpus * 1000 + 0.5);
    return 0;
}

/* "256M", "256Mi" as Kubernetes writes it, or bytes */
static int read_memory(const json_t *value, uint64_t *bytes, struct kn_error *err)
{
    char text[32];
    if (!value || json_is_null(value))
        return 0;
    if (json_is_string(value)) {
        size_t n = (size_t)snprintf(text, sizeof text - 1, "%s", json_string_value(value));
        if (n < sizeof text - 1 && n > 1 && text[n - 1] == 'i')
            memcpy(text + n, "B", 2);
        if (kn_size_parse(text, bytes, err))
            return -1;
    } else {
        *bytes = json_number_value(value) >= 1 && json_number_value(value) < 1e15 ? (uint64_t)json_number_value(value)
                                                                                  : 1;
    }
    if (*bytes < 16u << 20)
        return kn_fail(err, KN_E_ARGUMENT, "memory must be 16M or more, got %llu bytes", (unsigned long long)*bytes);
    return 0;
}

static int read_command(const json_t *command, struct kn_error *err)
{
    size_t i;
    json_t *word;
    if (!command)
        return 0;
    if (json_array_size(command) == 0)
        return kn_fail(err, KN_E_ARGUMENT, "command must be a non-empty list of strings");
    json_array_foreach((json_t *)(uintptr_t)command, i, word) if (!json_is_string(word)) return kn_fail(
        err, KN_E_ARGUMENT, "command must be a non-empty list of strings");
    return 0;
}

static int read_mtu(const struct kn_lab_keeper *keeper, struct kn_lab_pod *pod, const json_t *request,
                    struct kn_error *err)
{
    long long mtu;
    if (pod->runtime->node_network && json_object_get(request, "mtu"))
        return kn_fail(err, KN_E_ARGUMENT, "mtu does not apply to runtime %s, which uses its node's network",
                       pod->runtime->name);
    if (kn_lab_number(request, "mtu", keeper->options.v6 ? 1280 : 576, 65535, pod->node->mtu, &mtu, err))
        return -1;
    if (mtu > pod->node->mtu)
        return kn_fail(
            err, KN_E_ARGUMENT,
            "mtu of a pod must not exceed that of its node's bridge, %u, got %lld: open the lab with a larger mtu",
            pod->node->mtu, mtu);
    pod->mtu = pod->runtime->node_network ? keeper->options.mtu : (unsigned)mtu;
    return 0;
}

/* Pods on the node's network share its ports, so each gets another one by default. */
static int read_port(const struct kn_lab_keeper *keeper, struct kn_lab_pod *pod, const json_t *request,
                     struct kn_error *err)
{
    long long missing = keeper->options.port + (pod->runtime->node_network ? (long long)pod->index : 0), port;
    if (missing > 65535)
        missing -= LAB_PODS_MAX + 1;
    if (!pod->agent)
        missing = 0; /* without a port, a command counts as ready at once */
    if (kn_lab_number(request, "port", 1, 65535, missing, &port, err))
        return -1;
    pod->port = (uint16_t)port;
    return 0;
}

static int read_limits(struct kn_lab_pod *pod, const json_t *request, struct kn_error *err)
{
    if (read_cpu(json_object_get(request, "cpu"), &pod->cpu_milli, err) ||
        read_memory(json_object_get(request, "memory"), &pod->memory, err) ||
        read_bandwidth(json_object_get(request, "bandwidth"), &pod->bandwidth_bps, err))
        return -1;
    if (pod->bandwidth_bps && pod->runtime->node_network)
        return kn_fail(err, KN_E_ARGUMENT, "bandwidth does not apply to runtime %s, which uses its node's network",
                       pod->runtime->name);
    return 0;
}

int kn_lab_pod_read(struct kn_lab_keeper *keeper, struct kn_lab_pod *pod, const json_t *request, struct kn_error *err)
{
    static const struct kn_lab_field fields[] = {
        {"op", LAB_TEXT},       {"name", LAB_TEXT},       {"node", LAB_TEXT},     {"runtime", LAB_TEXT},
        {"mtu", LAB_NUMBER},    {"port", LAB_NUMBER},     {"command", LAB_LIST},  {"bandwidth", LAB_QUANTITY},
        {"cpu", LAB_QUANTITY},  {"memory", LAB_QUANTITY}, {"hardened", LAB_BOOL}, {"vm", LAB_OBJECT},
        {"networks", LAB_LIST},
    };
    if (kn_lab_check(request, "a pod", fields, sizeof fields / sizeof *fields, err))
        return -1;
    const char *runtime = json_string_value(json_object_get(request, "runtime"));
    pod->runtime = kn_lab_runtime_find(runtime ? runtime : "runc", err);
    pod->agent = !json_object_get(request, "command");
    pod->hardened = json_is_true(json_object_get(request, "hardened"));
    if (pod->runtime && !pod->runtime->guest && json_is_object(json_object_get(request, "vm")))
        return kn_fail(err, KN_E_ARGUMENT, "vm does not apply to runtime %s: it is for kata", pod->runtime->name);
    if (!pod->runtime || find_node(keeper, pod, json_string_value(json_object_get(request, "node")), err))
        return -1;
    if (read_mtu(keeper, pod, request, err) || read_port(keeper, pod, request, err))
        return -1;
    if (kn_lab_networks_read(pod, request, err) || read_limits(pod, request, err) ||
        read_command(json_object_get(request, "command"), err))
        return -1;
    return kn_lab_name_take(keeper, request, "pod", pod->name, err);
}
