#include "lab/keeper.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Policies as an engine with iptables or nftables writes them, in the forward chain of the pods' node, which all
 * traffic to a pod passes:
 *   forward       lets the packets of known connections pass; others go by their address to
 *   pod_ID        the chain of a pod that a policy selects: its policies in turn, then drop
 *   policies_ID   a jump to each of its policies, in their order
 *   pol_NAME/N    a policy (or a copy of it): accepts what it lets in, returns otherwise
 * As on Kubernetes, a policy only allows: a pod without any lets everything in. What a node sends to its own pods is
 * not forwarded, so it always passes. */

#define TABLE "knbl"

struct kn_lab_policy {
    char name[LAB_NAME_MAX + 1];
    unsigned copies;
    size_t n_to;
    const struct kn_lab_pod **to;
    json_t *from;    /* as asked for */
    json_t *from_ip; /* the addresses and ranges that they are */
    struct kn_lab_policy *next;
};

static const char *const tables[2] = {"ip", "ip6"}, *const types[2] = {"ipv4_addr", "ipv6_addr"};

static bool selects(const struct kn_lab_policy *policy, const struct kn_lab_pod *pod)
{
    for (size_t i = 0; i < policy->n_to; i++)
        if (policy->to[i] == pod)
            return true;
    return false;
}

static bool is_selected(const struct kn_lab_keeper *keeper, const struct kn_lab_pod *pod,
                        const struct kn_lab_policy *but)
{
    for (const struct kn_lab_policy *p = keeper->policies; p; p = p->next)
        if (p != but && selects(p, pod))
            return true;
    return false;
}

/* ---- rules ---- */

static void add_base(struct kn_text *text, const char *family, const char *type)
{
    kn_text_add(text, "add chain %s " TABLE " forward { type filter hook forward priority 0; }\n", family);
    kn_text_add(text, "add map %s " TABLE " policed { type %s : verdict; }\n", family, type);
    kn_text_add(text, "add rule %s " TABLE " forward ct state established,related accept\n", family);
    kn_text_add(text, "add rule %s " TABLE " forward %s daddr vmap @policed\n", family, family);
}

static void add_chains(struct kn_text *text, const struct kn_lab_policy *policy, int i)
{
    size_t k;
    json_t *from;
    for (unsigned copy = 1; copy <= policy->copies; copy++) {
        kn_text_add(text, "add chain %s " TABLE " pol_%s/%u\n", tables[i], policy->name, copy);
        json_array_foreach(policy->from_ip, k, from)
        {
            const char *ip = json_string_value(from);
            if ((strchr(ip, ':') != NULL) == (i == 1))
                kn_text_add(text, "add rule %s " TABLE " pol_%s/%u %s saddr %s accept\n", tables[i], policy->name, copy,
                            tables[i], ip);
        }
    }
}

static void add_jumps(struct kn_text *text, const struct kn_lab_policy *policy, const struct kn_lab_pod *pod, int i)
{
    for (unsigned copy = 1; copy <= policy->copies; copy++)
        kn_text_add(text, "add rule %s " TABLE " policies_p%u jump pol_%s/%u\n", tables[i], pod->index, policy->name,
                    copy);
}

/* The element comes last, so that nothing is dropped before the policy is complete. */
static void add_pod(struct kn_text *text, const struct kn_lab_policy *policy, const struct kn_lab_pod *pod, int i,
                    bool first)
{
    char ip[LAB_IP_TEXT];
    if (first) {
        kn_text_add(text, "add chain %s " TABLE " policies_p%u\n", tables[i], pod->index);
        kn_text_add(text, "add chain %s " TABLE " pod_p%u\n", tables[i], pod->index);
        kn_text_add(text, "add rule %s " TABLE " pod_p%u jump policies_p%u\n", tables[i], pod->index, pod->index);
        kn_text_add(text, "add rule %s " TABLE " pod_p%u drop\n", tables[i], pod->index);
    }
    add_jumps(text, policy, pod, i);
    if (first)
        kn_text_add(text, "add element %s " TABLE " policed { %s : goto pod_p%u }\n", tables[i],
                    kn_ip_text(&pod->ip[i], ip, sizeof ip), pod->index);
}

static void remove_pod(struct kn_text *text, const struct kn_lab_keeper *keeper, const struct kn_lab_policy *policy,
                       const struct kn_lab_pod *pod, int i)
{
    char ip[LAB_IP_TEXT];
    bool last = !is_selected(keeper, pod, policy);
    if (last)
        kn_text_add(text, "delete element %s " TABLE " policed { %s }\nflush chain %s " TABLE " pod_p%u\n", tables[i],
                    kn_ip_text(&pod->ip[i], ip, sizeof ip), tables[i], pod->index);
    kn_text_add(text, "flush chain %s " TABLE " policies_p%u\n", tables[i], pod->index);
    for (const struct kn_lab_policy *p = keeper->policies; p; p = p->next)
        if (p != policy && selects(p, pod))
            add_jumps(text, p, pod, i);
    if (last)
        kn_text_add(text, "delete chain %s " TABLE " pod_p%u\ndelete chain %s " TABLE " policies_p%u\n", tables[i],
                    pod->index, tables[i], pod->index);
}

static void remove_chains(struct kn_text *text, const struct kn_lab_policy *policy, int i)
{
    for (unsigned copy = 1; copy <= policy->copies; copy++)
        kn_text_add(text, "flush chain %s " TABLE " pol_%s/%u\ndelete chain %s " TABLE " pol_%s/%u\n", tables[i],
                    policy->name, copy, tables[i], policy->name, copy);
}

static void on_node(struct kn_text *text, struct kn_lab_keeper *keeper, struct kn_lab_node *node,
                    const struct kn_lab_policy *policy, bool gone)
{
    for (int i = 0; i < 2; i++) {
        if (!kn_lab_has(&keeper->options, i))
            continue;
        if (!node->policed)
            add_base(text, tables[i], types[i]);
        if (!gone)
            add_chains(text, policy, i);
        for (size_t k = 0; k < policy->n_to; k++) {
            if (policy->to[k]->node != node)
                continue;
            if (gone)
                remove_pod(text, keeper, policy, policy->to[k], i);
            else
                add_pod(text, policy, policy->to[k], i, !is_selected(keeper, policy->to[k], policy));
        }
        if (gone)
            remove_chains(text, policy, i);
    }
}

static bool concerns(const struct kn_lab_policy *policy, const struct kn_lab_node *node)
{
    for (size_t i = 0; i < policy->n_to; i++)
        if (policy->to[i]->node == node)
            return true;
    return false;
}

/* On the nodes of its pods. */
static int install(struct kn_lab_keeper *keeper, const struct kn_lab_policy *policy, bool gone, struct kn_error *err)
{
    int bad = 0;
    for (struct kn_lab_node *node = keeper->nodes; node && !bad; node = node->next) {
        struct kn_text rules = {.data = NULL};
        if (!concerns(policy, node))
            continue;
        on_node(&rules, keeper, node, policy, gone);
        bad = kn_nft_run(node, &rules, err);
        node->policed = node->policed || !bad;
    }
    return kn_netns_back(keeper, bad, err);
}

/* ---- requests ---- */

static bool is_range(const char *text)
{
    char ip[64], *slash;
    uint8_t bytes[16];
    snprintf(ip, sizeof ip, "%s", text);
    if (!(slash = strchr(ip, '/')))
        return false;
    *slash = '\0';
    int most = inet_pton(AF_INET, ip, bytes) == 1 ? 32 : inet_pton(AF_INET6, ip, bytes) == 1 ? 128 : -1;
    char *end;
    long bits = strtol(slash + 1, &end, 10);
    return most > 0 && slash[1] >= '0' && slash[1] <= '9' && !*end && bits >= 0 && bits <= most;
}

static int read_from(struct kn_lab_keeper *keeper, struct kn_lab_policy *policy, const json_t *request,
                     struct kn_error *err)
{
    const json_t *list = json_object_get(request, "from"), *item;
    size_t i;
    policy->from = list ? json_deep_copy(list) : json_array();
    policy->from_ip = json_array();
    if (!policy->from || !policy->from_ip)
        return kn_fail_memory(err);
    json_array_foreach(list, i, item)
    {
        const char *name = json_string_value(item);
        const struct kn_lab_pod *pod = name ? kn_lab_pod_find(keeper, name) : NULL;
        const struct kn_lab_node *node = name ? kn_lab_node_find(keeper, name) : NULL;
        if (name && is_range(name)) {
            json_array_append_new(policy->from_ip, json_string(name));
            continue;
        }
        if (!pod && !node)
            return kn_fail(err, KN_E_ARGUMENT, "from: '%.60s' must be a pod, a node or a range such as 10.0.0.0/8",
                           name ? name : "?");
        json_t *own = kn_ip_list(pod ? pod->ip : node->ip);
        json_array_extend(policy->from_ip, own);
        json_decref(own);
    }
    return 0;
}

static int read_to(struct kn_lab_keeper *keeper, struct kn_lab_policy *policy, const json_t *request,
                   struct kn_error *err)
{
    const json_t *list = json_object_get(request, "to");
    size_t n = json_array_size(list);
    if (n == 0)
        return kn_fail(err, KN_E_ARGUMENT, "to is required for policy '%s': the names of its pods", policy->name);
    policy->to = calloc(n, sizeof *policy->to);
    if (!policy->to)
        return kn_fail_memory(err);
    for (size_t i = 0; i < n; i++) {
        const char *name = json_string_value(json_array_get(list, i));
        const struct kn_lab_pod *pod = name ? kn_lab_pod_find(keeper, name) : NULL;
        if (!pod)
            return kn_fail(err, KN_E_ARGUMENT, "to: no pod is named '%.60s'", name ? name : "?");
        if (pod->runtime->node_network)
            return kn_fail(err, KN_E_ARGUMENT, "to: '%s' is in its node's network, where policies do not apply", name);
        if (selects(policy, pod))
            return kn_fail(err, KN_E_ARGUMENT, "to: pod '%s' appears twice in the policy", name);
        policy->to[policy->n_to++] = pod;
    }
    return 0;
}

static void release(struct kn_lab_policy *policy)
{
    json_decref(policy->from);
    json_decref(policy->from_ip);
    free(policy->to);
    free(policy);
}

static int build(struct kn_lab_keeper *keeper, struct kn_lab_policy *policy, const json_t *request,
                 struct kn_error *err)
{
    static const struct kn_lab_field fields[] = {
        {"op", LAB_TEXT}, {"name", LAB_TEXT}, {"to", LAB_LIST}, {"from", LAB_LIST}, {"copies", LAB_NUMBER}};
    long long copies;
    if (kn_lab_check(request, "a policy", fields, sizeof fields / sizeof *fields, err) ||
        kn_lab_name_take(keeper, request, "policy", policy->name, err) ||
        kn_lab_number(request, "copies", 1, LAB_POLICIES_MAX, 1, &copies, err) ||
        read_to(keeper, policy, request, err) || read_from(keeper, policy, request, err))
        return -1;
    policy->copies = (unsigned)copies;
    return install(keeper, policy, false, err);
}

static json_t *describe(const struct kn_lab_policy *policy)
{
    json_t *to = json_array();
    for (size_t i = 0; i < policy->n_to; i++)
        json_array_append_new(to, json_string(policy->to[i]->name));
    return json_pack("{s:s,s:s,s:o,s:O,s:i}", "name", policy->name, "kind", "policy", "to", to, "from", policy->from,
                     "copies", (int)policy->copies);
}

json_t *kn_lab_policy_add(struct kn_lab_keeper *keeper, const json_t *request, struct kn_error *err)
{
    struct kn_lab_policy *policy = calloc(1, sizeof *policy), **end = &keeper->policies;
    if (!policy)
        return kn_null(kn_fail_memory(err));
    if (build(keeper, policy, request, err)) {
        release(policy);
        return NULL;
    }
    while (*end)
        end = &(*end)->next;
    *end = policy;
    return describe(policy);
}

struct kn_lab_policy *kn_lab_policy_find(struct kn_lab_keeper *keeper, const char *name)
{
    struct kn_lab_policy *policy = keeper->policies;
    while (policy && strcmp(policy->name, name) != 0)
        policy = policy->next;
    return policy;
}

int kn_lab_policy_delete(struct kn_lab_keeper *keeper, struct kn_lab_policy *policy, struct kn_error *err)
{
    if (install(keeper, policy, true, err))
        return -1;
    struct kn_lab_policy **at = &keeper->policies;
    while (*at != policy)
        at = &(*at)->next;
    *at = policy->next;
    release(policy);
    return 0;
}

int kn_lab_policy_free_of(const struct kn_lab_keeper *keeper, const struct kn_lab_pod *pod, struct kn_error *err)
{
    for (const struct kn_lab_policy *policy = keeper->policies; policy; policy = policy->next)
        if (selects(policy, pod))
            return kn_fail(err, KN_E_IN_USE, "policy '%s' selects pod '%s'", policy->name, pod->name);
    return 0;
}
