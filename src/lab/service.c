#include "lab/keeper.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const int families[2] = {AF_INET, AF_INET6};

static int read_port(const json_t *json, struct kn_lab_port *port, struct kn_error *err)
{
    static const struct kn_lab_field fields[] = {{"port", LAB_NUMBER},
                                                 {"target", LAB_NUMBER},
                                                 {"protocol", LAB_TEXT},
                                                 {"node_port", LAB_NUMBER},
                                                 {"name", LAB_TEXT}};
    static const char *const protocols[] = {"both", "tcp", "udp"};
    size_t protocol = 0;
    long long number, target, node_port;
    if (kn_lab_check(json, "a port of a Service", fields, sizeof fields / sizeof *fields, err))
        return -1;
    if (kn_lab_number(json, "port", 1, 65535, 0, &number, err) ||
        kn_lab_number(json, "target", 1, 65535, 0, &target, err) ||
        kn_lab_number(json, "node_port", 1, 65535, 0, &node_port, err) ||
        kn_lab_choice(json, "protocol", protocols, 3, &protocol, err))
        return -1;
    if (number == 0)
        return kn_fail(err, KN_E_ARGUMENT, "a port of a Service requires its number, port");
    *port = (struct kn_lab_port){.port = (uint16_t)number,
                                 .target = (uint16_t)target,
                                 .node_port = (uint16_t)node_port,
                                 .tcp = protocol != 2,
                                 .udp = protocol != 1};
    return 0;
}

static bool clash(const struct kn_lab_port *a, const struct kn_lab_port *b)
{
    return (a->tcp && b->tcp) || (a->udp && b->udp);
}

static int read_ports(const struct kn_lab_keeper *keeper, struct kn_lab_service *service, const json_t *request,
                      struct kn_error *err)
{
    const json_t *list = json_object_get(request, "ports");
    const struct kn_lab_endpoint *first = &service->endpoints[0];
    size_t n = json_array_size(list);
    if (n > LAB_PORTS_MAX)
        return kn_fail(err, KN_E_LIMIT, "a Service has at most %d ports", LAB_PORTS_MAX);
    service->n_ports = n ? n : 1;
    if (n == 0 && first->port == 0)
        return kn_fail(err, KN_E_ARGUMENT, "ports is required: endpoint '%s' has no port", service->endpoints[0].name);
    /* a Service over agents has the lab's port, whatever port they listen on */
    service->ports[0] = (struct kn_lab_port){
        .port = first->agent ? keeper->options.port : first->port, .tcp = true, .udp = true};
    for (size_t i = 0; i < n; i++) {
        if (read_port(json_array_get(list, i), &service->ports[i], err))
            return -1;
        for (size_t j = 0; j < i; j++)
            if (service->ports[i].port == service->ports[j].port && clash(&service->ports[i], &service->ports[j]))
                return kn_fail(err, KN_E_ARGUMENT, "port %u appears twice in the Service", service->ports[i].port);
    }
    return 0;
}

static bool find_endpoint(struct kn_lab_keeper *keeper, const char *name, struct kn_lab_endpoint *out)
{
    const struct kn_lab_pod *pod = kn_lab_pod_find(keeper, name);
    const struct kn_lab_node *node = pod ? NULL : kn_lab_node_find(keeper, name);
    *out = (struct kn_lab_endpoint){.owner = NULL};
    if (pod)
        *out = (struct kn_lab_endpoint){
            .owner = pod, .node = pod->node, .name = pod->name, .ip = pod->ip, .port = pod->port, .agent = pod->agent};
    if (node)
        *out = (struct kn_lab_endpoint){
            .owner = node, .node = node, .name = node->name, .ip = node->ip, .port = node->port, .agent = true};
    snprintf(out->id, sizeof out->id, "%c%u", pod ? 'p' : 'n', pod ? pod->index : node ? node->index : 0);
    return pod || node;
}

static int no_endpoint(struct kn_lab_keeper *keeper, const char *name, struct kn_error *err)
{
    if (!name)
        return kn_fail(err, KN_E_ARGUMENT, "endpoints must be a list of names");
    kn_fail(err, KN_E_ARGUMENT, "no pod is named '%.70s'", name);
    return kn_lab_suggest(err, kn_lab_name_near(keeper, name, true, false));
}

static int read_endpoints(struct kn_lab_keeper *keeper, struct kn_lab_service *service, const json_t *request,
                          struct kn_error *err)
{
    const json_t *list = json_object_get(request, "endpoints");
    size_t n = json_array_size(list);
    if (n == 0)
        return kn_fail(err, KN_E_ARGUMENT, "endpoints is required for Service '%s': the names of its pods",
                       service->name);
    if (n > LAB_ENDPOINTS_MAX)
        return kn_fail(err, KN_E_LIMIT, "a Service has at most %d endpoints", LAB_ENDPOINTS_MAX);
    service->endpoints = calloc(n, sizeof *service->endpoints);
    if (!service->endpoints)
        return kn_fail_memory(err);
    for (size_t i = 0; i < n; i++) {
        const char *name = json_string_value(json_array_get(list, i));
        struct kn_lab_endpoint *endpoint = &service->endpoints[i];
        if (!name || !find_endpoint(keeper, name, endpoint))
            return no_endpoint(keeper, name, err);
        for (size_t k = 0; k < i; k++)
            if (service->endpoints[k].owner == endpoint->owner)
                return kn_fail(err, KN_E_ARGUMENT, "endpoint '%s' appears twice in the Service", name);
        service->n_endpoints++;
    }
    return 0;
}

static int read_external(struct kn_lab_service *service, const json_t *request, struct kn_error *err)
{
    const json_t *list = json_object_get(request, "external_ips"), *item;
    size_t i;
    if (json_array_size(list) > LAB_EXTERNAL_MAX)
        return kn_fail(err, KN_E_LIMIT, "a Service has at most %d external_ips", LAB_EXTERNAL_MAX);
    if (json_array_size(list) && service->headless)
        return kn_fail(err, KN_E_ARGUMENT, "a headless Service cannot have external_ips");
    json_array_foreach(list, i, item)
    {
        struct kn_ip *ip = &service->external[i];
        const char *text = json_is_string(item) ? json_string_value(item) : "";
        ip->family = strchr(text, ':') ? AF_INET6 : AF_INET;
        if (inet_pton(ip->family, text, ip->bytes) != 1)
            return kn_fail(err, KN_E_ARGUMENT, "external_ips: '%.60s' is not an IP address", text);
        service->n_external++;
    }
    return 0;
}

static const struct kn_lab_service *external_taken(const struct kn_lab_keeper *keeper, const struct kn_ip *ip)
{
    for (const struct kn_lab_service *s = keeper->services; s; s = s->next)
        for (size_t i = 0; i < s->n_external; i++)
            if (s->external[i].family == ip->family && !memcmp(s->external[i].bytes, ip->bytes, sizeof ip->bytes))
                return s;
    return NULL;
}

/* Two Services with the same address and other ports would be possible; the lab keeps it simple. */
static int check_external(const struct kn_lab_keeper *keeper, const struct kn_lab_service *service,
                          struct kn_error *err)
{
    char text[LAB_IP_TEXT];
    for (size_t i = 0; i < service->n_external; i++) {
        const struct kn_lab_service *other = external_taken(keeper, &service->external[i]);
        if (other)
            return kn_fail(err, KN_E_IN_USE, "external IP %s is used by Service '%s'",
                           kn_ip_text(&service->external[i], text, sizeof text), other->name);
    }
    return 0;
}

static bool node_port_taken(const struct kn_lab_keeper *keeper, unsigned number)
{
    for (const struct kn_lab_service *s = keeper->services; s; s = s->next)
        for (size_t i = 0; i < s->n_ports; i++)
            if (s->ports[i].node_port == number)
                return true;
    return false;
}

static int give_node_ports(struct kn_lab_keeper *keeper, struct kn_lab_service *service, const json_t *request,
                           struct kn_error *err)
{
    unsigned next = LAB_NODE_PORT_FIRST;
    long long asked;
    if (kn_lab_number(request, "node_port", 1, 65535, 0, &asked, err))
        return -1;
    if (asked && !service->ports[0].node_port)
        service->ports[0].node_port = (uint16_t)asked;
    for (size_t i = 0; i < service->n_ports; i++) {
        struct kn_lab_port *port = &service->ports[i];
        if (port->node_port && node_port_taken(keeper, port->node_port))
            return kn_fail(err, KN_E_IN_USE, "node port %u is in use by another Service", port->node_port);
        for (size_t j = 0; port->node_port && j < i; j++)
            if (service->ports[j].node_port == port->node_port)
                return kn_fail(err, KN_E_ARGUMENT, "node port %u appears twice in the Service", port->node_port);
        if (port->node_port)
            continue;
        while (node_port_taken(keeper, next))
            next++;
        port->node_port = (uint16_t)next++;
    }
    return 0;
}

static int read_type(struct kn_lab_service *service, const json_t *request, struct kn_error *err)
{
    static const char *const types[] = {"ClusterIP", "NodePort"}, *const policies[] = {"Cluster", "Local"};
    size_t type = 0, policy = 0;
    if (kn_lab_choice(request, "type", types, 2, &type, err) ||
        kn_lab_choice(request, "external_traffic_policy", policies, 2, &policy, err))
        return -1;
    service->headless = json_is_true(json_object_get(request, "headless"));
    service->affinity = json_is_true(json_object_get(request, "affinity"));
    service->node_ports = type == 1;
    service->only_local = policy == 1;
    if (service->headless && service->node_ports)
        return kn_fail(err, KN_E_ARGUMENT, "a headless Service cannot have type NodePort");
    return 0;
}

static int install_on(struct kn_lab_keeper *keeper, const struct kn_lab_node *node,
                      const struct kn_lab_service *service, bool gone, struct kn_error *err)
{
    struct kn_text rules = {.data = NULL};
    if (gone)
        kn_nft_service_gone(&rules, &keeper->options, service, keeper->services);
    else
        kn_nft_service(&rules, &keeper->options, service, node);
    return kn_nft_run(node, &rules, err);
}

/* On every node. */
static int install(struct kn_lab_keeper *keeper, const struct kn_lab_service *service, bool gone, struct kn_error *err)
{
    int bad = 0;
    for (struct kn_lab_node *node = keeper->nodes; node && !bad; node = node->next)
        bad = install_on(keeper, node, service, gone, err);
    return kn_netns_back(keeper, bad, err);
}

static void release(struct kn_lab_service *service)
{
    free(service->endpoints);
    free(service);
}

static unsigned free_index(const struct kn_lab_keeper *keeper)
{
    for (unsigned index = 1; index <= LAB_SERVICES_MAX; index++) {
        const struct kn_lab_service *service = keeper->services;
        while (service && service->index != index)
            service = service->next;
        if (!service)
            return index;
    }
    return 0;
}

static int build(struct kn_lab_keeper *keeper, struct kn_lab_service *service, const json_t *request,
                 struct kn_error *err)
{
    static const struct kn_lab_field fields[] = {
        {"op", LAB_TEXT},          {"name", LAB_TEXT},        {"type", LAB_TEXT},
        {"headless", LAB_BOOL},    {"affinity", LAB_BOOL},    {"ports", LAB_LIST},
        {"endpoints", LAB_LIST},   {"node_port", LAB_NUMBER}, {"external_traffic_policy", LAB_TEXT},
        {"external_ips", LAB_LIST}};
    if (kn_lab_check(request, "a Service", fields, sizeof fields / sizeof *fields, err))
        return -1;
    if (kn_lab_name_take(keeper, request, "service", service->name, err) || read_type(service, request, err))
        return -1;
    if (read_endpoints(keeper, service, request, err) || read_ports(keeper, service, request, err))
        return -1;
    if (read_external(service, request, err) || check_external(keeper, service, err))
        return -1;
    if (service->node_ports && give_node_ports(keeper, service, request, err))
        return -1;
    for (int i = 0; i < 2 && !service->headless; i++)
        if (kn_lab_has(&keeper->options, i))
            kn_lab_service_ip(service->index, families[i], &service->ip[i]);
    return install(keeper, service, false, err);
}

json_t *kn_lab_service_add(struct kn_lab_keeper *keeper, const json_t *request, struct kn_error *err)
{
    unsigned index = free_index(keeper);
    if (index == 0)
        return kn_null(kn_fail(err, KN_E_LIMIT, "a lab holds at most %d Services", LAB_SERVICES_MAX));
    struct kn_lab_service *service = calloc(1, sizeof *service), **end = &keeper->services;
    if (!service)
        return kn_null(kn_fail_memory(err));
    service->index = index;
    if (build(keeper, service, request, err)) {
        release(service);
        return NULL;
    }
    while (*end)
        end = &(*end)->next;
    *end = service;
    kn_names_add_service(service);
    return kn_lab_service_json(keeper, service);
}

static json_t *ports_json(const struct kn_lab_service *service)
{
    json_t *list = json_array();
    for (size_t i = 0; i < service->n_ports; i++) {
        const struct kn_lab_port *port = &service->ports[i];
        json_t *entry = json_pack("{s:i,s:s}", "port", port->port, "protocol",
                                  port->tcp && port->udp ? "both"
                                  : port->tcp            ? "tcp"
                                                         : "udp");
        if (port->target)
            json_object_set_new(entry, "target", json_integer(port->target));
        if (port->node_port)
            json_object_set_new(entry, "node_port", json_integer(port->node_port));
        json_array_append_new(list, entry);
    }
    return list;
}

/* A headless Service has the addresses of its endpoints. */
json_t *kn_lab_service_json(const struct kn_lab_keeper *keeper, const struct kn_lab_service *service)
{
    (void)keeper;
    json_t *endpoints = json_array(), *ip = service->headless ? json_array() : kn_ip_list(service->ip);
    for (size_t i = 0; i < service->n_endpoints; i++) {
        json_array_append_new(endpoints, json_string(service->endpoints[i].name));
        json_t *own = service->headless ? kn_ip_list(service->endpoints[i].ip) : NULL;
        if (own)
            json_array_extend(ip, own);
        json_decref(own);
    }
    json_t *json = json_pack("{s:s,s:s,s:s,s:b,s:b,s:o,s:i,s:o,s:o}", "name", service->name, "kind", "service", "type",
                             service->node_ports ? "NodePort" : "ClusterIP", "headless", service->headless, "affinity",
                             service->affinity, "ip", ip, "port", service->ports[0].port, "ports", ports_json(service),
                             "endpoints", endpoints);
    if (service->ports[0].node_port)
        json_object_set_new(json, "node_port", json_integer(service->ports[0].node_port));
    return json;
}

int kn_lab_service_delete(struct kn_lab_keeper *keeper, struct kn_lab_service *service, struct kn_error *err)
{
    if (install(keeper, service, true, err))
        return -1;
    struct kn_lab_service **at = &keeper->services;
    while (*at != service)
        at = &(*at)->next;
    *at = service->next;
    release(service);
    return 0;
}

static int leave(struct kn_lab_keeper *keeper, struct kn_lab_service *service, size_t i, struct kn_error *err)
{
    struct kn_lab_endpoint gone = service->endpoints[i];
    int bad = 0;
    service->n_endpoints--;
    memmove(service->endpoints + i, service->endpoints + i + 1, (service->n_endpoints - i) * sizeof gone);
    for (struct kn_lab_node *node = keeper->nodes; node && !bad; node = node->next) {
        struct kn_text rules = {.data = NULL};
        kn_nft_endpoint_gone(&rules, &keeper->options, service, node, &gone);
        bad = kn_nft_run(node, &rules, err);
    }
    return kn_netns_back(keeper, bad, err);
}

int kn_lab_services_leave(struct kn_lab_keeper *keeper, const void *owner, struct kn_error *err)
{
    for (struct kn_lab_service *service = keeper->services; service; service = service->next) {
        size_t i = 0;
        while (i < service->n_endpoints && service->endpoints[i].owner != owner)
            i++;
        if (i < service->n_endpoints && leave(keeper, service, i, err))
            return -1;
    }
    return 0;
}
