/* Lookups: from their queries to their answers.
 *
 * A query's id says which lookup of its flow it belongs to, which of its two queries it is, and the generation of the
 * slot, so that an answer that comes after its timeout is known as such. */
#include <stdio.h>

#include "engines/dns/dns.h"

#define SLOT_BITS 9u
#define GENERATIONS 64u

static void count_at(const struct kn_dns_client *c, unsigned counter, uint64_t at_ns)
{
    c->w->figures.own[counter] += kn_worker_measures(c->w, at_ns);
}

static void count(const struct kn_dns_client *c, const struct kn_dns_lookup *l, unsigned counter)
{
    count_at(c, counter, l->begun_ns);
}

/* ---- the order of timeouts ---- */

static void enqueue(struct kn_dns_client *c, struct kn_dns_lookup *l, uint64_t now_ns)
{
    uint32_t me = (uint32_t)(l - c->lookups);
    l->sent_ns = now_ns;
    l->prev = c->newest;
    l->next = KN_DNS_NONE;
    if (c->newest == KN_DNS_NONE)
        c->oldest = me;
    else
        c->lookups[c->newest].next = me;
    c->newest = me;
}

static void dequeue(struct kn_dns_client *c, const struct kn_dns_lookup *l)
{
    if (l->prev == KN_DNS_NONE)
        c->oldest = l->next;
    else
        c->lookups[l->prev].next = l->next;
    if (l->next == KN_DNS_NONE)
        c->newest = l->prev;
    else
        c->lookups[l->next].prev = l->prev;
}

/* ---- queries ---- */

static void send_query(struct kn_dns_client *c, struct kn_dns_lookup *l, unsigned which)
{
    uint8_t wire[KN_DNS_QUERY_MAX];
    uint32_t slot = (uint32_t)(l - c->lookups) - l->flow * c->burst;
    uint16_t id = (uint16_t)(slot | which << SLOT_BITS | (unsigned)l->generation << (SLOT_BITS + 1));
    size_t n = kn_dns_query(wire, id, l->name, l->name_size, c->types[which], (uint16_t)c->spec->own[KN_DNS_EDNS]);
    count(c, l, KN_DNS_QUERIES);
    kn_dns_put(c, l->flow, l->over_tcp >> which & 1, wire, n);
}

static void send_pending(struct kn_dns_client *c, struct kn_dns_lookup *l)
{
    for (unsigned which = 0; which < c->n_queries; which++)
        if (l->pending >> which & 1)
            send_query(c, l, which);
}

/* The name of the next candidate; false: there is none. One that is no name is left out, as a resolver does. */
static bool name_next(const struct kn_dns_client *c, struct kn_dns_lookup *l)
{
    char text[KN_DNS_TEXT_MAX], candidate[KN_DNS_TEXT_MAX];
    kn_dns_names_at(c->spec->text[KN_DNS_NAMES], l->index, text);
    if (c->spec->own[KN_DNS_TYPE] == KN_DNS_TYPE_PTR) {
        snprintf(candidate, sizeof candidate, "%s", text);
        kn_dns_reverse(candidate, text);
    }
    while (kn_dns_candidate(&c->resolv, text, l->candidate, candidate)) {
        l->candidate++;
        l->name_size = (uint8_t)kn_dns_name_pack(candidate, l->name);
        if (l->name_size)
            return true;
    }
    return false;
}

static void ask(struct kn_dns_client *c, struct kn_dns_lookup *l, uint64_t now_ns)
{
    l->pending = (uint8_t)((1u << c->n_queries) - 1);
    l->over_tcp = c->spec->own[KN_DNS_PROTO] == KN_DNS_TCP ? l->pending : 0;
    l->attempts = 0;
    l->generation = (uint8_t)((l->generation + 1u) % GENERATIONS);
    enqueue(c, l, now_ns);
    send_pending(c, l);
}

static void end(struct kn_dns_client *c, struct kn_dns_lookup *l, enum kn_ended how, uint64_t now_ns)
{
    struct kn_dns_flow *f = &c->flows[l->flow];
    dequeue(c, l);
    l->waiting = false;
    l->gave_up = how == KN_ENDED_TIMEOUT;
    f->free[f->n_free++] = (uint32_t)(l - c->lookups);
    c->waiting--;
    kn_worker_end(c->w, how, l->begun_ns, now_ns);
}

bool kn_dns_has_room(const struct kn_dns_client *c)
{
    return c->waiting < c->n * c->burst;
}

static struct kn_dns_lookup *free_lookup(struct kn_dns_client *c)
{
    while (!c->flows[c->at].n_free)
        c->at = (c->at + 1) % c->n;
    struct kn_dns_flow *f = &c->flows[c->at];
    c->at = (c->at + 1) % c->n;
    return &c->lookups[f->free[--f->n_free]];
}

void kn_dns_begin(struct kn_dns_client *c, uint64_t due_ns, uint64_t now_ns)
{
    struct kn_dns_lookup *l = free_lookup(c);
    l->begun_ns = due_ns;
    l->index = c->next_name;
    l->waiting = true;
    l->candidate = l->failed = 0;
    l->negative = false;
    l->records = 0;
    l->content = 0;
    c->next_name = (c->next_name + c->w->n_workers) % c->names;
    c->waiting++;
    count(c, l, KN_DNS_LOOKUPS);
    if (name_next(c, l)) {
        ask(c, l, now_ns);
        return;
    }
    enqueue(c, l, now_ns);
    end(c, l, KN_ENDED_ERROR, now_ns);
}

/* ---- answers ---- */

/* The same question, answered otherwise than before. */
static void compare(struct kn_dns_client *c, const struct kn_dns_lookup *l)
{
    uint64_t said = (l->records ? l->content : l->negative) << 1 | 1;
    if (l->index >= KN_DNS_SEEN_MAX || l->failed)
        return;
    uint64_t *before = &c->seen[l->index];
    if (*before && *before != said)
        count(c, l, KN_DNS_DIFFERING);
    *before = said;
}

/* All queries of a name are answered: that is the end, or the next name of the search list follows. */
static void settle(struct kn_dns_client *c, struct kn_dns_lookup *l, uint64_t now_ns)
{
    if (!l->records && c->spec->own[KN_DNS_RESOLVE] == KN_DNS_POD && name_next(c, l)) {
        dequeue(c, l);
        l->failed = 0;
        ask(c, l, now_ns);
        return;
    }
    if (!l->records && !l->failed)
        count(c, l, KN_DNS_EMPTY);
    compare(c, l);
    end(c, l, l->failed ? KN_ENDED_ERROR : KN_ENDED_OK, now_ns);
}

static void take_answer(struct kn_dns_client *c, struct kn_dns_lookup *l, unsigned which, const struct kn_dns_answer *a,
                        uint64_t now_ns)
{
    bool over_tcp = l->over_tcp >> which & 1;
    if (a->truncated && !over_tcp) {
        count(c, l, KN_DNS_TRUNCATED);
        l->over_tcp |= (uint8_t)(1u << which);
        send_query(c, l, which);
        return;
    }
    count(c, l, KN_DNS_RCODES + a->rcode);
    l->failed |= a->rcode != KN_DNS_NOERROR && a->rcode != KN_DNS_NXDOMAIN;
    l->negative |= a->rcode == KN_DNS_NXDOMAIN;
    l->records += a->records;
    l->content += a->content * (which + 1);
    l->pending &= (uint8_t) ~(1u << which);
    if (!l->pending)
        settle(c, l, now_ns);
}

/* An answer that nobody waits for: late, a copy of one that was taken, or never asked for. */
static void take_stray(struct kn_dns_client *c, const struct kn_dns_lookup *l, unsigned generation, uint64_t now_ns)
{
    unsigned back = l ? (l->generation + GENERATIONS - generation) % GENERATIONS : GENERATIONS;
    if (l && (back == 0 ? !l->waiting : back == 1) && l->generation) {
        count_at(c, KN_DNS_LATE, now_ns);
        return;
    }
    count_at(c, KN_DNS_STRANGE, now_ns);
    kn_worker_stray(c->w, KN_ENDED_ERROR, now_ns);
}

static void fail(struct kn_dns_client *c, struct kn_dns_lookup *l, unsigned counter, uint64_t now_ns)
{
    count(c, l, counter);
    end(c, l, KN_ENDED_ERROR, now_ns);
}

bool kn_dns_take(struct kn_dns_client *c, unsigned flow, bool tcp, const uint8_t *wire, size_t size, uint64_t now_ns)
{
    struct kn_dns_answer a;
    int id = kn_dns_id(wire, size);
    unsigned slot = (unsigned)id & ((1u << SLOT_BITS) - 1), which = (unsigned)id >> SLOT_BITS & 1,
             generation = (unsigned)id >> (SLOT_BITS + 1);
    if (id < 0) {
        count_at(c, KN_DNS_BAD, now_ns);
        kn_worker_stray(c->w, KN_ENDED_ERROR, now_ns);
        return !tcp;
    }
    struct kn_dns_lookup *l = slot < c->burst ? &c->lookups[flow * c->burst + slot] : NULL;
    if (!l || !l->waiting || generation != l->generation || !(l->pending >> which & 1) ||
        (l->over_tcp >> which & 1) != tcp) {
        take_stray(c, l, generation, now_ns);
        return true;
    }
    if (!tcp && size > (c->spec->own[KN_DNS_EDNS] > 512 ? c->spec->own[KN_DNS_EDNS] : 512))
        count(c, l, KN_DNS_OVERSIZED);
    switch (kn_dns_read(wire, size, l->name, l->name_size, c->types[which], &a)) {
    case KN_DNS_ANSWER: take_answer(c, l, which, &a, now_ns); break;
    case KN_DNS_GARBAGE: fail(c, l, KN_DNS_BAD, now_ns); return !tcp;
    case KN_DNS_LOOP: fail(c, l, KN_DNS_LOOPS, now_ns); break;
    case KN_DNS_OTHER: take_stray(c, NULL, 0, now_ns); break; /* the right one may come yet, as from a resolver */
    }
    return true;
}

/* ---- failures ---- */

void kn_dns_expire(struct kn_dns_client *c, uint64_t now_ns)
{
    while (c->oldest != KN_DNS_NONE && now_ns >= c->lookups[c->oldest].sent_ns + c->attempt_ns) {
        struct kn_dns_lookup *l = &c->lookups[c->oldest];
        if (l->attempts++ < c->spec->own[KN_DNS_RETRIES] && !kn_worker_stopped(c->w)) {
            count(c, l, KN_DNS_RETRIED);
            dequeue(c, l);
            enqueue(c, l, now_ns);
            send_pending(c, l);
        } else {
            end(c, l, KN_ENDED_TIMEOUT, now_ns);
        }
    }
}

void kn_dns_lost(struct kn_dns_client *c, unsigned flow, bool tcp, enum kn_ended how, bool again, uint64_t now_ns)
{
    for (unsigned i = 0; i < c->burst; i++) {
        struct kn_dns_lookup *l = &c->lookups[flow * c->burst + i];
        unsigned mine = tcp ? l->pending & l->over_tcp : l->pending & ~(unsigned)l->over_tcp;
        if (!l->waiting || !mine)
            continue;
        if (!again) {
            end(c, l, how, now_ns);
            continue;
        }
        for (unsigned which = 0; which < c->n_queries; which++)
            if (mine >> which & 1)
                send_query(c, l, which);
    }
}
