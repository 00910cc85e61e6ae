/* Sequence numbers, jitter and requests in flight: what datagrams are counted by. No I/O. */
#include <stdlib.h>

#include "engines/udp/sequence.h"

#include "core/clock.h"

/* ---- the sequence ---- */

void kn_seq_init(struct kn_seq *s, unsigned bits)
{
    memset(s, 0, sizeof *s);
    s->bits = bits;
}

static uint64_t *word_of(struct kn_seq *s, uint64_t seq)
{
    return &s->seen[seq % KN_SEQ_WINDOW / 64];
}

/* The number nearest to `next` that has these low bits. */
static uint64_t expand(const struct kn_seq *s, uint64_t low)
{
    if (s->bits >= 63)
        return low;
    uint64_t space = 1ull << s->bits, ahead = (low - s->next) & (space - 1);
    if (ahead < space / 2 || s->next + ahead < space) /* there is no past before 0 */
        return s->next + ahead;
    return s->next + ahead - space;
}

/* Everything between the highest seen and `seq` is missing so far. */
static void skip_to(struct kn_seq *s, uint64_t seq)
{
    if (seq - s->next >= KN_SEQ_WINDOW) {
        memset(s->seen, 0, sizeof s->seen);
    } else {
        for (uint64_t i = s->next; i <= seq; i++)
            *word_of(s, i) &= ~(1ull << (i & 63));
    }
    s->next = seq + 1;
}

enum kn_seq_kind kn_seq_take_slow(struct kn_seq *s, uint64_t low)
{
    uint64_t seq = expand(s, low), bit = 1ull << (seq & 63);
    if (seq >= s->next) {
        skip_to(s, seq);
        *word_of(s, seq) |= bit;
        s->unique++;
        return KN_SEQ_NEW;
    }
    /* Beyond the window nothing tells a copy from a straggler; stragglers are likelier than copies so old. The bits of
     * a word are recycled together, so the oldest 64 are beyond it too. */
    if (s->next - seq <= KN_SEQ_WINDOW - 64) {
        if (*word_of(s, seq) & bit) {
            s->duplicated++;
            return KN_SEQ_DUPLICATE;
        }
        *word_of(s, seq) |= bit;
    }
    s->reordered++;
    s->unique++;
    return KN_SEQ_REORDERED;
}

/* ---- jitter ---- */

void kn_jitter_add(struct kn_jitter *j, uint64_t sent_ns, uint64_t came_ns)
{
    if (j->sent_ns) {
        double d = (double)(int64_t)(came_ns - j->came_ns) - (double)(int64_t)(sent_ns - j->sent_ns);
        j->value_ns += ((d < 0 ? -d : d) - j->value_ns) / 16;
        j->n++;
    }
    j->sent_ns = sent_ns;
    j->came_ns = came_ns;
}

/* ---- requests in flight ---- */

#define SLOTS 1024u /* how far back answers are known as late or duplicate */
#define SLOTS_MAX (1u << 20)
#define REST_NS (5 * KN_NS_PER_S)

enum { FREE, WAITING, ANSWERED, GIVEN_UP };

int kn_pending_init(struct kn_pending *p, unsigned bits, uint64_t most, struct kn_error *err)
{
    uint64_t slots = SLOTS;
    memset(p, 0, sizeof *p);
    while (slots < 4 * most && slots < SLOTS_MAX)
        slots *= 2;
    if (bits < 63 && slots > 1ull << bits)
        slots = 1ull << bits;
    if (most > slots / 2)
        return kn_fail(
            err, KN_E_ARGUMENT,
            "a burst of %llu: requests and responses of this size carry %u bits of a number, which tells %llu apart",
            (unsigned long long)most, bits, (unsigned long long)slots / 2);
    p->bits = bits;
    p->mask = (uint32_t)slots - 1;
    p->slots = calloc(slots, sizeof *p->slots);
    return p->slots ? 0 : kn_fail(err, KN_E_MEMORY, "no memory for %llu requests", (unsigned long long)slots);
}

void kn_pending_fini(struct kn_pending *p)
{
    free(p->slots);
    memset(p, 0, sizeof *p);
}

static struct kn_request *slot_of(struct kn_pending *p, uint64_t seq)
{
    return &p->slots[seq & p->mask];
}

/* Where every number has a slot, one that was given up rests: its late answer would pass for the answer to its
 * namesake. */
static bool rests(const struct kn_pending *p, const struct kn_request *r, uint64_t now_ns)
{
    return r->state == GIVEN_UP && p->mask == (1ull << p->bits) - 1 && now_ns - r->sent_ns < REST_NS;
}

uint64_t kn_pending_send(struct kn_pending *p, uint64_t due_ns, uint64_t now_ns)
{
    uint32_t skipped = 0;
    while (slot_of(p, p->next)->state == WAITING || (skipped <= p->mask && rests(p, slot_of(p, p->next), now_ns))) {
        p->next++;
        skipped++; /* at most half of the slots wait (kn_pending_init): it ends */
    }
    *slot_of(p, p->next) = (struct kn_request){.seq = p->next, .due_ns = due_ns, .sent_ns = now_ns, .state = WAITING};
    p->waiting++;
    return p->next++;
}

void kn_pending_cancel(struct kn_pending *p, uint64_t seq)
{
    slot_of(p, seq)->state = FREE;
    p->waiting--;
}

enum kn_answer kn_pending_answer(struct kn_pending *p, uint64_t low, struct kn_request *request)
{
    struct kn_request *r = slot_of(p, low);
    uint64_t told = ~0ull >> (64 - p->bits);
    if (r->state == FREE || (p->bits >= 63 && low >= p->next))
        return KN_ANSWER_STRANGE;
    if ((r->seq & told) != (low & told)) /* older than the slots remember: a copy would have come sooner */
        return KN_ANSWER_LATE;
    if (r->state == ANSWERED)
        return KN_ANSWER_DUPLICATE;
    enum kn_answer answer = r->state == WAITING ? KN_ANSWER_RIGHT : KN_ANSWER_LATE;
    if (r->state == WAITING)
        p->waiting--;
    r->state = ANSWERED;
    *request = *r;
    return answer;
}

static struct kn_request *oldest(struct kn_pending *p)
{
    if (!p->waiting) {
        p->oldest = p->next;
        return NULL;
    }
    for (; p->oldest < p->next; p->oldest++) {
        struct kn_request *r = slot_of(p, p->oldest);
        if (r->state == WAITING && r->seq == p->oldest)
            return r;
    }
    return NULL;
}

bool kn_pending_expire(struct kn_pending *p, uint64_t sent_ns, struct kn_request *request)
{
    struct kn_request *r = oldest(p);
    if (!r || r->sent_ns > sent_ns)
        return false;
    r->state = GIVEN_UP;
    p->waiting--;
    *request = *r;
    return true;
}

uint64_t kn_pending_oldest_ns(struct kn_pending *p)
{
    const struct kn_request *r = oldest(p);
    return r ? r->sent_ns : UINT64_MAX;
}
