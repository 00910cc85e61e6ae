#include "lab/keeper.h"

#include <netlink/netlink.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Services as kube-proxy makes them, in a table of each family on every node:
 *   services    finds the Service of a VIP and port: one map lookup, or in chains a rule for each Service in turn
 *   node_ports  the same for the node's own addresses
 *   svc_...     picks an endpoint at random, or with affinity the client's previous one; refuses if there are none
 *   ext_...     the same for NodePorts, always masqueraded; with the policy Local traffic from outside is not
 *               masqueraded, goes only to the node's own endpoints, and is dropped if there are none
 *   end_...     DNAT to one endpoint; masquerades a client that is the endpoint itself or not a pod
 * Idle Services come first, so that in chains a packet passes all their rules before its own. */

#define TABLE "knbl"
#define SNAT_MARK "0x4000"
#define AFFINITY_S 10800
#define ELEMENTS_A_LINE 200

void kn_text_add(struct kn_text *text, const char *format, ...)
{
    for (;;) {
        va_list list;
        va_start(list, format);
        size_t room = text->size - text->used;
        int n = vsnprintf(text->data ? text->data + text->used : NULL, room, format, list);
        va_end(list);
        if (n < 0)
            text->failed = true;
        if (n < 0 || text->failed)
            return;
        if ((size_t)n < room) {
            text->used += (size_t)n;
            return;
        }
        size_t size = (text->size + (size_t)n + 1) * 2;
        char *data = realloc(text->data, size);
        if (!data) {
            text->failed = true;
            return;
        }
        text->data = data;
        text->size = size;
    }
}

struct family {
    const char *name, *all_pods, *type;
    int index;
};
static const struct family families[2] = {{"ip", LAB_ALL_PODS_4, "ipv4_addr", 0},
                                          {"ip6", LAB_ALL_PODS_6, "ipv6_addr", 1}};

static void add_idle(struct kn_text *text, const struct kn_lab_options *options, const struct family *f)
{
    char ip[LAB_IP_TEXT];
    struct kn_ip address;
    for (unsigned i = 0; i < options->services; i++) {
        kn_lab_idle_ip(i, f->index == 0 ? 2 /* AF_INET */ : 10 /* AF_INET6 */, &address);
        kn_ip_text(&address, ip, sizeof ip);
        if (options->chains) {
            kn_text_add(text, "add rule %s " TABLE " services %s daddr %s tcp dport 80 counter jump idle\n", f->name,
                        f->name, ip);
            continue;
        }
        if (i % ELEMENTS_A_LINE == 0)
            kn_text_add(text, "add element %s " TABLE " vips {", f->name);
        bool last = i + 1 == options->services || (i + 1) % ELEMENTS_A_LINE == 0;
        kn_text_add(text, "%s . tcp . 80 : goto idle%s", ip, last ? "}\n" : ",");
    }
}

/* The maps, and the rules that look up in them. */
static void add_maps(struct kn_text *text, const struct family *f)
{
    kn_text_add(text, "add map %s " TABLE " vips { type %s . inet_proto . inet_service : verdict; }\n", f->name,
                f->type);
    kn_text_add(text, "add map %s " TABLE " ports { type inet_proto . inet_service : verdict; }\n", f->name);
    kn_text_add(text, "add rule %s " TABLE " services %s daddr . meta l4proto . th dport vmap @vips\n", f->name,
                f->name);
    kn_text_add(text, "add rule %s " TABLE " node_ports meta l4proto . th dport vmap @ports\n", f->name);
}

static void add_base(struct kn_text *text, const struct kn_lab_options *options, const struct family *f)
{
    const char *n = f->name;
    kn_text_add(text, "add table %s " TABLE "\n", n);
    static const char *const chains[] = {"services", "node_ports", "needs_snat", "idle"};
    for (size_t i = 0; i < 4; i++)
        kn_text_add(text, "add chain %s " TABLE " %s\n", n, chains[i]);
    kn_text_add(text, "add chain %s " TABLE " prerouting { type nat hook prerouting priority -100; }\n", n);
    kn_text_add(text, "add chain %s " TABLE " output { type nat hook output priority -100; }\n", n);
    kn_text_add(text, "add chain %s " TABLE " postrouting { type nat hook postrouting priority 100; }\n", n);
    kn_text_add(text, "add rule %s " TABLE " needs_snat meta mark set meta mark or " SNAT_MARK "\n", n);
    static const char *const hooks[] = {"prerouting", "output"};
    for (size_t i = 0; i < 2; i++) {
        kn_text_add(text, "add rule %s " TABLE " %s jump services\n", n, hooks[i]);
        kn_text_add(text, "add rule %s " TABLE " %s fib daddr type local jump node_ports\n", n, hooks[i]);
    }
    kn_text_add(text, "add rule %s " TABLE " postrouting meta mark and " SNAT_MARK " == 0 return\n", n);
    kn_text_add(text, "add rule %s " TABLE " postrouting meta mark set meta mark xor " SNAT_MARK "\n", n);
    kn_text_add(text, "add rule %s " TABLE " postrouting masquerade fully-random\n", n);
    if (!options->chains)
        add_maps(text, f);
    add_idle(text, options, f);
}

void kn_nft_base(struct kn_text *text, const struct kn_lab_options *options)
{
    for (int i = 0; i < 2; i++)
        if (kn_lab_has(options, i))
            add_base(text, options, &families[i]);
}

/* ---- one port of one Service, one protocol, one family ---- */

struct entry {
    const struct kn_lab_options *options;
    const struct kn_lab_service *service;
    const struct kn_lab_port *port;
    const struct family *f;
    const char *proto;
    const struct kn_lab_node *node; /* where */
};

static void each_entry(struct kn_text *text, const struct kn_lab_options *options, const struct kn_lab_service *service,
                       const struct kn_lab_node *node, void (*act)(struct kn_text *, const struct entry *))
{
    for (int i = 0; i < 2; i++) {
        for (size_t p = 0; p < service->n_ports && kn_lab_has(options, i) && !service->headless; p++) {
            struct entry e = {options, service, &service->ports[p], &families[i], "tcp", node};
            if (e.port->tcp)
                act(text, &e);
            e.proto = "udp";
            if (e.port->udp)
                act(text, &e);
        }
    }
}

/* "NAME/80/tcp": the end of the names of the entry's chains, counters and sets */
static const char *tail(const struct entry *e, char buf[96])
{
    snprintf(buf, 96, "%s/%u/%s", e->service->name, e->port->port, e->proto);
    return buf;
}

/* Whether there is an ext_ chain. */
static bool has_external(const struct entry *e)
{
    return e->port->node_port || e->service->n_external;
}

/* Calls `act` with each external IP of the entry's family, as text. */
static void each_external(struct kn_text *text, const struct entry *e,
                          void (*act)(struct kn_text *, const struct entry *, const char *ip))
{
    char ip[LAB_IP_TEXT];
    for (size_t i = 0; i < e->service->n_external; i++)
        if ((e->service->external[i].family == 10 /* AF_INET6 */) == (e->f->index == 1))
            act(text, e, kn_ip_text(&e->service->external[i], ip, sizeof ip));
}

static void add_endpoint(struct kn_text *text, const struct entry *e, const struct kn_lab_endpoint *end)
{
    char t[96], ip[LAB_IP_TEXT];
    const char *n = e->f->name;
    bool six = e->f->index == 1;
    tail(e, t);
    kn_ip_text(&end->ip[e->f->index], ip, sizeof ip);
    kn_text_add(text, "add counter %s " TABLE " to_%s/%s\n", n, t, end->id);
    kn_text_add(text, "add chain %s " TABLE " end_%s/%s\n", n, t, end->id);
    kn_text_add(text, "add rule %s " TABLE " end_%s/%s %s saddr %s jump needs_snat\n", n, t, end->id, n, ip);
    if (e->service->affinity) {
        kn_text_add(text, "add set %s " TABLE " had_%s/%s { type %s; flags dynamic,timeout; timeout %ds; }\n", n, t,
                    end->id, e->f->type, AFFINITY_S);
        kn_text_add(text, "add rule %s " TABLE " end_%s/%s update @had_%s/%s { %s saddr }\n", n, t, end->id, t, end->id,
                    n);
    }
    kn_text_add(text, "add rule %s " TABLE " end_%s/%s meta l4proto %s counter name to_%s/%s dnat to %s%s%s:%u\n", n, t,
                end->id, e->proto, t, end->id, six ? "[" : "", ip, six ? "]" : "",
                e->port->target ? e->port->target
                : end->port     ? end->port
                                : e->port->port);
}

/* Lists the endpoints that a chain chooses from: all, or those of the node. Returns their number. */
static size_t choosable(const struct entry *e, bool near, const struct kn_lab_endpoint *list[])
{
    size_t n = 0;
    for (size_t i = 0; i < e->service->n_endpoints; i++)
        if (!near || e->service->endpoints[i].node == e->node)
            list[n++] = &e->service->endpoints[i];
    return n;
}

static void add_choice(struct kn_text *text, const struct entry *e, const char *chain, bool near)
{
    const struct kn_lab_endpoint *list[LAB_ENDPOINTS_MAX];
    size_t count = choosable(e, near, list);
    char t[96];
    const char *n = e->f->name;
    tail(e, t);
    if (count == 0) {
        kn_text_add(text, "add rule %s " TABLE " %s_%s %s\n", n, chain, t, near ? "drop" : "reject");
        return;
    }
    for (size_t i = 0; e->service->affinity && i < count; i++)
        kn_text_add(text, "add rule %s " TABLE " %s_%s %s saddr @had_%s/%s goto end_%s/%s\n", n, chain, t, n, t,
                    list[i]->id, t, list[i]->id);
    if (!e->options->chains) {
        kn_text_add(text, "add rule %s " TABLE " %s_%s numgen random mod %zu vmap {", n, chain, t, count);
        for (size_t i = 0; i < count; i++)
            kn_text_add(text, "%s%zu : goto end_%s/%s", i ? "," : "", i, t, list[i]->id);
        kn_text_add(text, "}\n");
        return;
    }
    for (size_t i = 0; i < count; i++) { /* a rule for each, like iptables' statistic match */
        kn_text_add(text, "add rule %s " TABLE " %s_%s ", n, chain, t);
        if (i + 1 < count)
            kn_text_add(text, "numgen random mod %zu 0 ", count - i);
        kn_text_add(text, "counter jump end_%s/%s\n", t, list[i]->id);
    }
}

/* The node itself and its pods count as inside. Another node's pods count as outside, because an endpoint on another
 * node would answer them directly, past this node. */
static void fill_external(struct kn_text *text, const struct entry *e)
{
    char t[96];
    const char *n = e->f->name, *from_here = e->service->only_local ? "fib saddr type local " : "";
    tail(e, t);
    if (e->service->only_local)
        kn_text_add(text, "add rule %s " TABLE " ext_%s iifname \"pods\" goto svc_%s\n", n, t, t);
    kn_text_add(text, "add rule %s " TABLE " ext_%s %sjump needs_snat\n", n, t, from_here);
    kn_text_add(text, "add rule %s " TABLE " ext_%s %sgoto svc_%s\n", n, t, from_here, t);
    if (e->service->only_local)
        add_choice(text, e, "ext", true);
}

/* Calls for all chains of the entry that choose an endpoint: "add" or "flush". */
static void each_chain(struct kn_text *text, const struct entry *e, const char *what)
{
    char t[96];
    tail(e, t);
    kn_text_add(text, "%s chain %s " TABLE " svc_%s\n", what, e->f->name, t);
    if (has_external(e))
        kn_text_add(text, "%s chain %s " TABLE " ext_%s\n", what, e->f->name, t);
}

static void fill_chains(struct kn_text *text, const struct entry *e)
{
    char t[96];
    const char *n = e->f->name;
    tail(e, t);
    kn_text_add(text, "add rule %s " TABLE " svc_%s %s saddr != %s jump needs_snat\n", n, t, n, e->f->all_pods);
    add_choice(text, e, "svc", false);
    if (has_external(e))
        fill_external(text, e);
}

static void add_chains(struct kn_text *text, const struct entry *e)
{
    each_chain(text, e, "add");
    for (size_t i = 0; i < e->service->n_endpoints; i++)
        add_endpoint(text, e, &e->service->endpoints[i]);
    fill_chains(text, e);
}

static void fill_again(struct kn_text *text, const struct entry *e)
{
    each_chain(text, e, "flush");
    fill_chains(text, e);
}

static void add_external_entrance(struct kn_text *text, const struct entry *e, const char *ip)
{
    char t[96];
    const char *n = e->f->name;
    tail(e, t);
    if (e->options->chains)
        kn_text_add(text, "add rule %s " TABLE " services %s daddr %s %s dport %u counter jump ext_%s\n", n, n, ip,
                    e->proto, e->port->port, t);
    else
        kn_text_add(text, "add element %s " TABLE " vips { %s . %s . %u : goto ext_%s }\n", n, ip, e->proto,
                    e->port->port, t);
}

/* The element in the maps, or the rule in the chains, that leads to the Service. */
static void add_entrance(struct kn_text *text, const struct entry *e)
{
    char t[96], ip[LAB_IP_TEXT];
    const char *n = e->f->name;
    tail(e, t);
    kn_ip_text(&e->service->ip[e->f->index], ip, sizeof ip);
    each_external(text, e, add_external_entrance);
    if (!e->options->chains) {
        kn_text_add(text, "add element %s " TABLE " vips { %s . %s . %u : goto svc_%s }\n", n, ip, e->proto,
                    e->port->port, t);
        if (e->port->node_port)
            kn_text_add(text, "add element %s " TABLE " ports { %s . %u : goto ext_%s }\n", n, e->proto,
                        e->port->node_port, t);
        return;
    }
    kn_text_add(text, "add rule %s " TABLE " services %s daddr %s %s dport %u counter jump svc_%s\n", n, n, ip,
                e->proto, e->port->port, t);
    if (e->port->node_port)
        kn_text_add(text, "add rule %s " TABLE " node_ports %s dport %u counter jump ext_%s\n", n, e->proto,
                    e->port->node_port, t);
}

void kn_nft_service(struct kn_text *text, const struct kn_lab_options *options, const struct kn_lab_service *service,
                    const struct kn_lab_node *node)
{
    each_entry(text, options, service, node, add_chains);
    each_entry(text, options, service, node, add_entrance);
}

static void remove_external(struct kn_text *text, const struct entry *e, const char *ip)
{
    kn_text_add(text, "delete element %s " TABLE " vips { %s . %s . %u }\n", e->f->name, ip, e->proto, e->port->port);
}

static void remove_elements(struct kn_text *text, const struct entry *e)
{
    char ip[LAB_IP_TEXT];
    kn_ip_text(&e->service->ip[e->f->index], ip, sizeof ip);
    kn_text_add(text, "delete element %s " TABLE " vips { %s . %s . %u }\n", e->f->name, ip, e->proto, e->port->port);
    each_external(text, e, remove_external);
    if (e->port->node_port)
        kn_text_add(text, "delete element %s " TABLE " ports { %s . %u }\n", e->f->name, e->proto, e->port->node_port);
}

/* A chain can be deleted only after all references to it. */
static void remove_endpoints(struct kn_text *text, const struct entry *e)
{
    char t[96];
    const char *n = e->f->name;
    tail(e, t);
    for (size_t i = 0; i < e->service->n_endpoints; i++) {
        const char *id = e->service->endpoints[i].id;
        kn_text_add(text, "flush chain %s " TABLE " end_%s/%s\ndelete chain %s " TABLE " end_%s/%s\n", n, t, id, n, t,
                    id);
        kn_text_add(text, "delete counter %s " TABLE " to_%s/%s\n", n, t, id);
        if (e->service->affinity)
            kn_text_add(text, "delete set %s " TABLE " had_%s/%s\n", n, t, id);
    }
}

static void remove_chains(struct kn_text *text, const struct entry *e)
{
    char t[96];
    const char *n = e->f->name;
    tail(e, t);
    if (has_external(e))
        kn_text_add(text, "flush chain %s " TABLE " ext_%s\ndelete chain %s " TABLE " ext_%s\n", n, t, n, t);
    kn_text_add(text, "flush chain %s " TABLE " svc_%s\ndelete chain %s " TABLE " svc_%s\n", n, t, n, t);
    remove_endpoints(text, e);
}

void kn_nft_endpoint_gone(struct kn_text *text, const struct kn_lab_options *options,
                          const struct kn_lab_service *service, const struct kn_lab_node *node,
                          struct kn_lab_endpoint *gone)
{
    struct kn_lab_service alone = *service;
    alone.endpoints = gone;
    alone.n_endpoints = 1;
    each_entry(text, options, service, node, fill_again);
    each_entry(text, options, &alone, node, remove_endpoints);
}

void kn_nft_service_gone(struct kn_text *text, const struct kn_lab_options *options,
                         const struct kn_lab_service *service, const struct kn_lab_service *all)
{
    if (!options->chains)
        each_entry(text, options, service, NULL, remove_elements);
    for (int i = 0; i < 2 && options->chains;
         i++) { /* a rule can be deleted only by its handle, which is not known here: rewrite them all */
        if (!kn_lab_has(options, i))
            continue;
        kn_text_add(text, "flush chain %s " TABLE " services\nflush chain %s " TABLE " node_ports\n", families[i].name,
                    families[i].name);
        add_idle(text, options, &families[i]);
    }
    for (const struct kn_lab_service *s = all; s && options->chains; s = s->next)
        if (s != service)
            each_entry(text, options, s, NULL, add_entrance);
    each_entry(text, options, service, NULL, remove_chains);
}

/* ---- who was chosen ---- */

static const char *endpoint_name(const struct kn_lab_keeper *keeper, const char *service, const char *id)
{
    for (const struct kn_lab_service *s = keeper->services; s; s = s->next)
        for (size_t i = 0; strcmp(s->name, service) == 0 && i < s->n_endpoints; i++)
            if (strcmp(s->endpoints[i].id, id) == 0)
                return s->endpoints[i].name;
    return NULL;
}

/* A counter is named to_NAME/PORT/PROTO/ID. */
static void note(const struct kn_lab_keeper *keeper, const json_t *counter, const char *node, const char *only,
                 json_t *into)
{
    char name[LAB_NAME_MAX + 1], proto[8], id[8];
    const char *text = json_string_value(json_object_get(counter, "name"));
    int port;
    if (!text || sscanf(text, "to_%63[^/]/%d/%7[^/]/%7[^/]", name, &port, proto, id) != 4)
        return;
    const char *endpoint = endpoint_name(keeper, name, id);
    if (!endpoint || (only && strcmp(only, name) != 0))
        return;
    json_array_append_new(into, json_pack("{s:s,s:s,s:s,s:i,s:s,s:s,s:O}", "service", name, "endpoint", endpoint,
                                          "protocol", proto, "port", port, "node", node, "family",
                                          json_string_value(json_object_get(counter, "family")), "connections",
                                          json_object_get(counter, "packets")));
}

int kn_nft_backends(const struct kn_lab_keeper *keeper, const struct kn_lab_node *node, const char *service,
                    json_t *into, struct kn_error *err)
{
    for (int i = 0; i < 2; i++) {
        char command[64];
        json_t *all, *item;
        if (!kn_lab_has(&keeper->options, i))
            continue;
        snprintf(command, sizeof command, "list counters table %s " TABLE, families[i].name);
        if (kn_nft_ask(command, &all, err))
            return -1;
        size_t k;
        json_array_foreach(json_object_get(all, "nftables"), k, item)
        {
            const json_t *counter = json_object_get(item, "counter");
            if (counter)
                note(keeper, counter, node->name, service, into);
        }
        json_decref(all);
    }
    return 0;
}
