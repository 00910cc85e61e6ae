/* Datagrams of a flow that is open: their numbers, as the receiver of a stream and the client of udp_rr see them, the
 * messages of pmtu, and echoes. The first byte says how large the datagrams are, and so how many bits of a number they
 * carry. Each 8 bytes that follow are a number, whose lowest bit says whether it is an answer, or whether a request
 * goes out first. */
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "engines/ping.h"
#include "engines/pmtu/pmtu.h"
#include "engines/udp/sequence.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define BURST 4

static void demand(bool truth)
{
    if (!truth)
        abort();
}

static void take_all(unsigned bits, const uint8_t *data, size_t size)
{
    static struct kn_seq s;
    struct kn_jitter j = {0};
    uint64_t n = 0, number;
    bool measured;
    kn_seq_init(&s, bits);
    for (size_t at = 0; at + 8 <= size; at += 8, n++) {
        number = kn_udp_head_get(data + at, 8, &measured) & (~0ull >> (64 - bits));
        uint64_t next = s.next;
        enum kn_seq_kind kind = kn_seq_take(&s, number);
        demand((kind == KN_SEQ_NEW) == (s.next != next));
        demand(s.unique + s.duplicated == n + 1 && s.reordered <= s.unique);
        kn_jitter_add(&j, number, n);
        demand(j.value_ns >= 0);
    }
}

/* Each request has one end: it is answered or given up. */
static void answer_all(unsigned bits, const uint8_t *data, size_t size)
{
    struct kn_pending p;
    struct kn_error err;
    struct kn_request r;
    uint64_t sent = 0, ended = 0, number;
    bool ours;
    if (kn_pending_init(&p, bits, BURST, &err))
        return;
    for (size_t at = 0; at + 8 <= size; at += 8) {
        number = kn_udp_head_get(data + at, 8, &ours);
        if (ours && p.waiting < BURST) {
            kn_pending_send(&p, at, at);
            sent++;
        } else if (ours) {
            demand(kn_pending_expire(&p, at, &r));
            ended++;
        } else if (kn_pending_answer(&p, number & (~0ull >> (64 - bits)), &r) == KN_ANSWER_RIGHT) {
            demand(r.seq < p.next);
            ended++;
        }
        demand(sent - ended == p.waiting);
        demand((kn_pending_oldest_ns(&p) == UINT64_MAX) == (p.waiting == 0));
    }
    kn_pending_fini(&p);
}

static void read_message(const uint8_t *data, size_t size)
{
    uint8_t again[KN_PMTU_HEAD], *wire = malloc(size ? size : 1); /* in a block of its own, so that its end is seen */
    struct kn_pmtu_message m;
    memcpy(wire, data, size);
    if (kn_pmtu_unpack(wire, size, &m) == 0) {
        demand(m.kind >= KN_PMTU_PROBE && m.kind <= KN_PMTU_REPORTED);
        kn_pmtu_pack(&m, again);
        again[3] = wire[3]; /* which nobody reads */
        demand(memcmp(wire, again, KN_PMTU_HEAD) == 0);
    }
    free(wire);
}

/* Only what has the run's mark is an answer, at whatever length the head of IPv4 says it has. */
static void read_echo(const uint8_t *data, size_t size)
{
    uint64_t seq;
    struct kn_ping_form form = {.mark = "the mark", .size = 16, .ip_head = data[0] & 0x40};
    uint8_t *packet = malloc(size);
    memcpy(packet, data, size);
    if (kn_ping_answer(&form, packet, size, &seq))
        demand(memmem(packet, size, form.mark, sizeof form.mark) != NULL);
    free(packet);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    read_message(data, size);
    read_echo(data, size);
    unsigned bits = kn_udp_seq_bits(1 + data[0] % 8);
    take_all(bits, data + 1, size - 1);
    answer_all(bits, data + 1, size - 1);
    return 0;
}
