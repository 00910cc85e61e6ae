/* dns: lookups at a DNS server, closed loop or at a rate, over UDP or TCP, as given or as a pod's resolver makes them.
 *
 * The server is any; no agent has a part in it. */
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "engines/dns/dns.h"
#include "core/json.h"
#include "engines/engines.h"
#include "run/flow_udp.h"
#include "run/result.h"

#define RESOLV_CONF "/etc/resolv.conf"
#define SLOTS_MAX 65536u /* lookups at once, of a worker */

/* ---- the loop ---- */

static uint64_t due_ns(const struct kn_dns_client *c, uint64_t now_ns)
{
    return c->pace.per ? kn_pace_due_ns(&c->pace) : now_ns;
}

static void issue(struct kn_dns_client *c, uint64_t now_ns)
{
    while (!c->dry && kn_dns_has_room(c) && due_ns(c, now_ns) <= now_ns) {
        if (!kn_worker_take(c->w, 1)) {
            c->dry = true;
            break;
        }
        kn_dns_begin(c, due_ns(c, now_ns), now_ns);
        if (c->pace.per)
            kn_pace_take(&c->pace, 1);
    }
}

static uint64_t wake_ns(const struct kn_dns_client *c, uint64_t now_ns)
{
    uint64_t until_ns = now_ns + KN_UDP_STOP_POLL_NS;
    if (!c->dry && kn_dns_has_room(c))
        until_ns = kn_least(until_ns, due_ns(c, now_ns));
    if (c->oldest != KN_DNS_NONE)
        until_ns = kn_least(until_ns, c->lookups[c->oldest].sent_ns + c->attempt_ns);
    return c->w->end_ns > now_ns ? kn_least(until_ns, c->w->end_ns) : until_ns;
}

static void step(struct kn_dns_client *c, uint64_t now_ns)
{
    issue(c, now_ns);
    if (c->dry && !c->waiting) /* `count` has given its last: there is nothing to wait for */
        return;
    kn_dns_flush(c);
    kn_dns_receive(c, wake_ns(c, now_ns));
    kn_dns_expire(c, kn_now_ns());
}

static void open_window(struct kn_dns_client *c)
{
    c->opened = true;
    for (unsigned i = 0; i < c->n && c->spec->own[KN_DNS_PROTO] == KN_DNS_UDP; i++)
        kn_udp_drops_open(&c->flows[i].drops, c->flows[i].fd);
}

static int measure(struct kn_dns_client *c, struct kn_error *err)
{
    struct kn_worker *w = c->w;
    if (kn_worker_ready(w, err))
        return -1;
    kn_worker_pace(w, &c->pace);
    uint64_t now_ns = kn_now_ns();
    for (; !kn_worker_over(w, now_ns) && !(c->dry && !c->waiting); now_ns = kn_now_ns()) {
        if (!c->opened && now_ns >= w->open_ns)
            open_window(c);
        step(c, now_ns);
    }
    kn_worker_cpu_close(w);
    c->dry = true;
    uint64_t until_ns = now_ns + c->spec->timeout_ns;
    for (; c->waiting && now_ns < until_ns && !kn_worker_stopped(w); now_ns = kn_now_ns())
        step(c, now_ns);
    for (unsigned i = 0; i < c->n; i++)
        kn_udp_drops_close(&c->flows[i].drops, c->flows[i].fd, &w->figures);
    return 0;
}

/* ---- the client ---- */

static void set_types(struct kn_dns_client *c)
{
    static const uint16_t types[][2] = {[KN_DNS_TYPE_A] = {KN_DNS_A, 0},
                                        [KN_DNS_TYPE_AAAA] = {KN_DNS_AAAA, 0},
                                        [KN_DNS_TYPE_BOTH] = {KN_DNS_A, KN_DNS_AAAA},
                                        [KN_DNS_TYPE_SRV] = {KN_DNS_SRV, 0},
                                        [KN_DNS_TYPE_PTR] = {KN_DNS_PTR, 0}};
    memcpy(c->types, types[c->spec->own[KN_DNS_TYPE]], sizeof c->types);
    c->n_queries = c->types[1] ? 2 : 1;
}

static int make_flows(struct kn_dns_client *c, struct kn_error *err)
{
    c->flows = calloc(c->n, sizeof *c->flows);
    c->lookups = calloc((size_t)c->n * c->burst, sizeof *c->lookups);
    c->seen = calloc(kn_least(c->names, KN_DNS_SEEN_MAX), sizeof *c->seen);
    if (!c->flows || !c->lookups || !c->seen)
        return kn_fail_memory(err);
    for (unsigned i = 0; i < c->n; i++)
        c->flows[i].fd = c->flows[i].tcp.fd = -1;
    for (unsigned i = 0; i < c->n; i++) {
        struct kn_dns_flow *f = &c->flows[i];
        f->free = calloc(c->burst, sizeof *f->free);
        if (!f->free)
            return kn_fail_memory(err);
        for (unsigned k = c->burst; k--; f->free[f->n_free++] = i * c->burst + k)
            c->lookups[i * c->burst + k].flow = i;
    }
    return kn_dns_conns_init(c, err);
}

static int client_init(struct kn_dns_client *c, struct kn_worker *w, struct kn_error *err)
{
    const struct kn_spec *spec = w->spec;
    *c = (struct kn_dns_client){.w = w, .spec = spec, .n = w->n_flows, .burst = (unsigned)spec->burst, .epoll = -1};
    c->oldest = c->newest = KN_DNS_NONE;
    c->attempt_ns = spec->timeout_ns / (spec->own[KN_DNS_RETRIES] + 1);
    if ((uint64_t)c->n * c->burst > SLOTS_MAX)
        return kn_fail(err, KN_E_ARGUMENT, "flows times burst must be at most %u for each thread, got %llu", SLOTS_MAX,
                       (unsigned long long)c->n * c->burst);
    c->names = kn_dns_names_count(spec->text[KN_DNS_NAMES], err);
    if (!c->names)
        return -1;
    c->next_name = w->index % c->names;
    if (spec->own[KN_DNS_RESOLVE] == KN_DNS_POD && kn_dns_resolv_load(RESOLV_CONF, &c->resolv, err))
        return -1;
    set_types(c);
    return make_flows(c, err);
}

static void client_fini(struct kn_dns_client *c)
{
    kn_dns_conns_fini(c);
    for (unsigned i = 0; c->flows && i < c->n; i++)
        free(c->flows[i].free);
    free(c->flows);
    free(c->lookups);
    free(c->seen);
}

static int run_client(struct kn_worker *w, struct kn_error *err)
{
    struct kn_dns_client c;
    prctl(PR_SET_TIMERSLACK, 1ul, 0ul, 0ul, 0ul);
    w->figures.has |= KN_HAS_LATENCY;
    w->tx_size = w->rx_size = 0;
    int failed = client_init(&c, w, err) || measure(&c, err);
    client_fini(&c);
    return failed ? -1 : 0;
}

/* `to = "resolv.conf"`: the server that the programs of this pod ask. */
static int target(const struct kn_spec *spec, struct kn_target *to, struct kn_error *err)
{
    struct kn_dns_resolv r;
    (void)spec;
    if (strcmp(to->host, "resolv.conf") != 0)
        return 0;
    if (kn_dns_resolv_load(RESOLV_CONF, &r, err))
        return -1;
    if (!r.nameserver[0])
        return kn_fail(err, KN_E_RESOLVE, "%s names no nameserver", RESOLV_CONF);
    memcpy(to->host, r.nameserver, sizeof r.nameserver);
    return 0;
}

/* ---- the result ---- */

static void put_rcodes(json_t *lookup, const uint64_t *own)
{
    static const char *const names[16] = {"NOERROR",  "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED",
                                          "YXDOMAIN", "YXRRSET", "NXRRSET",  "NOTAUTH",  "NOTZONE"};
    char number[16];
    json_t *rcodes = json_object();
    for (unsigned i = 0; i < 16; i++) {
        snprintf(number, sizeof number, "RCODE%u", i);
        if (own[KN_DNS_RCODES + i])
            kn_put_int(rcodes, names[i] ? names[i] : number, own[KN_DNS_RCODES + i]);
    }
    kn_json_set(lookup, "rcodes", rcodes);
}

static void metrics(const struct kn_view *v, json_t *to)
{
    static const char *const names[KN_DNS_RCODES] = {
        [KN_DNS_LOOKUPS] = "lookups",     [KN_DNS_QUERIES] = "queries",     [KN_DNS_RETRIED] = "retries",
        [KN_DNS_TRUNCATED] = "truncated", [KN_DNS_EMPTY] = "empty",         [KN_DNS_DIFFERING] = "differing",
        [KN_DNS_LOOPS] = "alias_loops",   [KN_DNS_OVERSIZED] = "oversized", [KN_DNS_BAD] = "malformed",
        [KN_DNS_STRANGE] = "unexpected",  [KN_DNS_LATE] = "late",           [KN_DNS_RECONNECTS] = "reconnects"};
    const uint64_t *own = v->client.own;
    json_t *lookup = json_object();
    for (unsigned i = 0; i < KN_DNS_RCODES; i++)
        kn_put_int(lookup, names[i], own[i]);
    kn_put_ratio(lookup, "queries_per_lookup", (double)own[KN_DNS_QUERIES], (double)own[KN_DNS_LOOKUPS]);
    put_rcodes(lookup, own);
    kn_json_set(to, "lookup", lookup);
}

/* ---- the test ---- */

static void complete(struct kn_spec *spec)
{
    spec->external = 1;
}

static int check(const struct kn_spec *spec, struct kn_error *err)
{
    char name[KN_DNS_TEXT_MAX];
    uint8_t wire[KN_DNS_NAME_MAX];
    const char *text = spec->text[KN_DNS_NAMES];
    uint64_t n = text[0] ? kn_dns_names_count(text, err) : 0;
    if (!text[0])
        return kn_fail(err, KN_E_ARGUMENT, "names is required: the names to ask for, for example \"www.example.com\"");
    if (!n)
        return -1;
    kn_dns_names_at(text, n - 1, name);
    if (spec->own[KN_DNS_TYPE] == KN_DNS_TYPE_PTR || kn_dns_name_pack(name, wire))
        return 0;
    return kn_fail(err, KN_E_ARGUMENT, "names: '%.200s' is not a domain name", name);
}

static const char *const types[] = {"A", "AAAA", "both", "SRV", "PTR", NULL};
static const char *const protocols[] = {"udp", "tcp", NULL}, *const ways[] = {"exact", "pod", NULL};
static const char *const columns[] = {KN_RATE_COLUMNS, NULL}, *const compared[] = {KN_RATE_COMPARED, NULL};
static const struct kn_spec_option own[] = {
    KN_TEXT("names", KN_AT(text[KN_DNS_NAMES]),
            "names to ask for, in turn: a list of names or patterns such as "
            "host-{1..100}.example.com or {api,web}.default"),
    KN_CHOICE("type", KN_AT(own[KN_DNS_TYPE]), types,
              "record type; both asks for A and AAAA at once from one socket, as glibc does"),
    KN_CHOICE("proto", KN_AT(own[KN_DNS_PROTO]), protocols,
              "transport of the first query; over UDP, a truncated answer is asked for again over TCP"),
    KN_NUMBER("retries", KN_KIND_COUNT, KN_AT(own[KN_DNS_RETRIES]), 0, 10,
              "queries to send again if there is no answer; each attempt has an equal share of the timeout"),
    KN_CHOICE("resolve", KN_AT(own[KN_DNS_RESOLVE]), ways,
              "exact: ask for the names as they are; pod: use the search list and ndots of /etc/resolv.conf"),
    KN_OPTIONAL("edns", KN_KIND_SIZE, KN_AT(own[KN_DNS_EDNS]), 512, 65535,
                "largest answer over UDP that is announced (EDNS); without it no EDNS is sent"),
    {.name = NULL},
};
static const struct kn_preset presets[] = {
    {offsetof(struct kn_spec, burst), 1},
    {offsetof(struct kn_spec, timeout_ns), 5 * KN_NS_PER_S},
    {offsetof(struct kn_spec, own[KN_DNS_RETRIES]), 1},
    {0, 0},
};
static const struct kn_limit limits[] = {
    {offsetof(struct kn_spec, burst), 1, KN_DNS_BURST_MAX},
    {0, 0, 0},
};

const struct kn_test kn_dns = {
    .name = "dns",
    .help = "DNS lookups: rate, latency, response codes (dnsperf)",
    .transport = KN_UDP,
    .shape = KN_RR,
    .rate = KN_RATE_EVENTS,
    .headline = "rate",
    .columns = columns,
    .compared = compared,
    .port = 53,
    .options = KN_HAS(DURATION) | KN_HAS(WARMUP) | KN_HAS(INTERVAL) | KN_HAS(COUNT) | KN_HAS(FLOWS) | KN_HAS(THREADS) |
               KN_HAS(IP) | KN_HAS(SNDBUF) | KN_HAS(RCVBUF) | KN_HAS(TIMEOUT) | KN_HAS(BURST) | KN_HAS(RATE) |
               KN_HAS(EXTERNAL),
    .own = own,
    .presets = presets,
    .limits = limits,
    .complete = complete,
    .check = check,
    .target = target,
    .client = run_client,
    .metrics = metrics,
};
