/* pmtu: the largest packet that a path carries in each direction, found by datagrams that may not be fragmented, and
 * whether TCP's full segments come through.
 *
 * A size passes where one of three datagrams arrives. A starved machine can make a size look lost, so the least size
 * that failed is asked once more, with patience; where it passes, the search goes on from there. */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "core/json.h"
#include "engines/engines.h"
#include "engines/pmtu/pmtu.h"
#include "run/flow.h"
#include "run/flow_udp.h"
#include "run/payload.h"
#include "run/result.h"

#define COPIES 3u
#define COPY_NS (5 * KN_NS_PER_MS)   /* between two datagrams of one size */
#define REPLY_NS (25 * KN_NS_PER_MS) /* and two round trips: how long an answer is awaited */
#define REPLY_MOST_NS (250 * KN_NS_PER_MS)
#define PATIENT_NS (150 * KN_NS_PER_MS)
#define ROUNDS 4      /* of a search that turns out to have been too hasty */
#define LEAST_4 576u  /* RFC 791: every host takes it */
#define LEAST_6 1280u /* RFC 8200: every link carries it */

/* The test's own counters: those of a direction, twice. */
enum { PATH, LINK, REPORTED, MSS, WORKS, DIRECTION };
enum { WORKS_UNKNOWN, WORKS_YES, WORKS_NO };

struct search {
    struct kn_worker *w;
    int fd;
    bool backward;
    uint8_t *out, *in;
    uint32_t head; /* IP and UDP headers */
    uint32_t number;
    uint64_t rtt_ns;
    uint32_t link, reported; /* in bytes of the packet */
};

/* ---- one size ---- */

static bool send_one(struct search *s, uint32_t payload)
{
    struct kn_pmtu_said said = {0};
    struct kn_pmtu_message m = {s->backward ? KN_PMTU_ASK : KN_PMTU_PROBE, s->number, payload, 0};
    kn_pmtu_pack(&m, s->out);
    bool sent = kn_pmtu_send(s->fd, s->out, s->backward ? KN_PMTU_HEAD : payload, &said);
    if (s->backward)
        return true; /* errors of the way there are the other direction's matter */
    if (said.local)
        s->link = said.local;
    if (said.reported && (!s->reported || said.reported < s->reported))
        s->reported = said.reported;
    return sent;
}

enum heard { NOTHING, PASSED, REFUSED };

static enum heard take(struct search *s, size_t n)
{
    struct kn_pmtu_message m;
    if (kn_pmtu_unpack(s->in, n, &m))
        return NOTHING;
    if (s->backward && m.kind == KN_PMTU_REPORTED && m.mtu && (!s->reported || m.mtu < s->reported))
        s->reported = m.mtu;
    if (m.number != s->number)
        return NOTHING;
    if (s->backward && m.kind == KN_PMTU_LOCAL && m.mtu) {
        s->link = m.mtu;
        return REFUSED;
    }
    return m.kind == (s->backward ? KN_PMTU_BACK : KN_PMTU_PASSED) && (!s->backward || n == m.size) ? PASSED : NOTHING;
}

/* Until an answer or the time; looks at the socket at least once. */
static enum heard listen_until(struct search *s, uint32_t size, uint64_t until_ns)
{
    do {
        struct kn_pmtu_said said = {0};
        ssize_t n = kn_udp_receive(s->fd, s->in, KN_PMTU_MOST, until_ns);
        enum heard heard = n > 0 ? take(s, (size_t)n) : NOTHING;
        if (heard != NOTHING)
            return heard;
        kn_pmtu_hear(s->fd, &said);
        if (!s->backward && said.reported && (!s->reported || said.reported < s->reported))
            s->reported = said.reported;
        if (s->reported && s->reported < size)
            return REFUSED;
    } while (kn_now_ns() < until_ns && !kn_worker_stopped(s->w));
    return NOTHING;
}

/* Whether a packet of so many bytes passes. */
static bool passes(struct search *s, uint32_t size, uint64_t patience_ns)
{
    uint64_t begun_ns = kn_now_ns(), wait_ns = kn_least(REPLY_NS + 2 * s->rtt_ns, REPLY_MOST_NS) + patience_ns;
    uint32_t known = s->reported;
    s->number++;
    for (unsigned i = 1; i <= COPIES && !kn_worker_stopped(s->w); i++) {
        uint64_t now_ns = kn_now_ns();
        if (!send_one(s, size - s->head))
            return false;
        enum heard heard = listen_until(s, known && known < size ? 0 : size, now_ns + (i < COPIES ? COPY_NS : wait_ns));
        if (heard == REFUSED)
            return false;
        if (heard == PASSED) {
            uint64_t took_ns = kn_now_ns() - begun_ns;
            s->rtt_ns = took_ns > s->rtt_ns && took_ns < COPY_NS * COPIES + wait_ns ? took_ns : s->rtt_ns;
            kn_worker_end(s->w, KN_ENDED_OK, begun_ns, begun_ns + took_ns);
            return true;
        }
    }
    return false;
}

/* ---- the search ---- */

/* `lo` passes and `hi` does not: what is between them is halved. What a router reported is asked first. */
static uint32_t bisect(struct search *s, uint32_t lo, uint32_t hi)
{
    if (s->reported > lo && s->reported < hi) {
        if (passes(s, s->reported, 0))
            lo = s->reported;
        else
            hi = s->reported;
        if (lo == s->reported && lo + 1 < hi && !passes(s, lo + 1, 0))
            return lo;
    }
    while (hi - lo > 1 && !kn_worker_stopped(s->w)) {
        uint32_t middle = lo + (hi - lo) / 2;
        if (passes(s, middle, 0))
            lo = middle;
        else
            hi = middle;
    }
    return lo;
}

/* 0: not even the least size passes. */
static uint32_t path_mtu(struct search *s, uint32_t least)
{
    s->link = KN_PMTU_MOST;
    if (passes(s, KN_PMTU_MOST, 0)) /* refused by the interface, which so says how much it takes */
        return KN_PMTU_MOST;
    if (s->link > KN_PMTU_MOST)
        s->link = KN_PMTU_MOST;
    if (s->link < KN_PMTU_MOST && passes(s, s->link, 0))
        return s->link;
    uint32_t lo = least < s->link ? least : s->link;
    if (!passes(s, lo, PATIENT_NS))
        return 0;
    for (int round = 0; round < ROUNDS && lo < s->link; round++) {
        lo = bisect(s, lo, s->link);
        if (lo >= s->link || !passes(s, lo + 1, PATIENT_NS))
            break;
        lo++;
    }
    return lo;
}

static int search(struct search *s, uint64_t *own, struct kn_error *err)
{
    uint32_t least = s->head == 48 ? LEAST_6 : LEAST_4;
    s->reported = 0;
    own[PATH] = path_mtu(s, least);
    own[LINK] = s->link;
    own[REPORTED] = s->reported;
    if (kn_worker_stopped(s->w))
        return kn_fail(err, KN_E_INTERRUPTED, "stopped while the path was searched");
    if (!own[PATH])
        return kn_fail(err, KN_E_TIMEOUT, "no packet of %u bytes arrived %s", least < s->link ? least : s->link,
                       s->backward ? "from the server" : "at the server");
    return 0;
}

/* ---- the client ---- */

static int measure(struct search *s, struct kn_error *err)
{
    uint64_t *own = s->w->figures.own, works;
    for (unsigned back = 0; back < 2; back++) {
        s->backward = back;
        if (search(s, own + back * DIRECTION, err))
            return -1;
    }
    for (unsigned back = 0; back < 2; back++) {
        int came = kn_pmtu_segments(s->w, back, &own[back * DIRECTION + MSS]);
        works = came < 0 ? WORKS_UNKNOWN : came ? WORKS_YES : WORKS_NO;
        own[back * DIRECTION + WORKS] = works;
    }
    return 0;
}

static int run_client(struct kn_worker *w, struct kn_error *err)
{
    struct search s = {.w = w, .fd = -1, .out = kn_payload_new(KN_PMTU_MOST), .in = malloc(KN_PMTU_MOST)};
    s.head = kn_addr_is_v6(&w->peer) && !kn_addr_is_mapped(&w->peer) ? 48 : 28;
    int failed = s.out && s.in ? 0 : kn_fail_memory(err);
    if (!failed)
        failed = (s.fd = kn_flow_open_udp(w, w->first_flow, err)) < 0 || kn_pmtu_prepare(s.fd, err) ||
                 kn_worker_ready(w, err) || measure(&s, err);
    if (!failed)
        failed = kn_flow_close_udp(w, s.fd, w->first_flow, 0, err);
    else
        kn_flow_abandon(w, s.fd, w->first_flow);
    free(s.out);
    free(s.in);
    return failed ? -1 : 0;
}

/* ---- the agent's side ---- */

static int serve(struct kn_served *s, int fd, struct kn_error *err)
{
    int type = SOCK_DGRAM;
    socklen_t size = sizeof type;
    getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size);
    return type == SOCK_STREAM ? kn_pmtu_serve_tcp(s, fd, err) : kn_pmtu_serve_udp(s, fd, err);
}

/* ---- the result ---- */

static void say_icmp(const uint64_t *own, char *text, size_t size)
{
    if (own[PATH] >= own[LINK])
        snprintf(text, size, "%s", "");
    else if (!own[REPORTED])
        snprintf(text, size, ", no ICMP comes back: black hole");
    else if (own[REPORTED] == own[PATH])
        snprintf(text, size, ", ICMP reports it");
    else
        snprintf(text, size, ", but ICMP reports %llu", (unsigned long long)own[REPORTED]);
}

static void say_tcp(const uint64_t *own, char *text, size_t size)
{
    if (own[WORKS] == WORKS_NO)
        snprintf(text, size, "; TCP stands still with segments of %llu bytes", (unsigned long long)own[MSS]);
    else
        snprintf(text, size, "%s", own[WORKS] == WORKS_YES ? "" : "; TCP could not connect");
}

static json_t *direction(const uint64_t *own)
{
    char icmp[64], tcp[80];
    json_t *d = json_object();
    kn_put_int(d, "mtu_path", own[PATH]);
    kn_put_int(d, "mtu_link", own[LINK]);
    if (own[REPORTED])
        kn_put_int(d, "mtu_reported", own[REPORTED]);
    kn_json_set(d, "black_hole", json_boolean(own[PATH] < own[LINK] && !own[REPORTED]));
    if (own[MSS])
        kn_put_int(d, "mss", own[MSS]);
    if (own[WORKS] != WORKS_UNKNOWN)
        kn_json_set(d, "mss_works", json_boolean(own[WORKS] == WORKS_YES));
    say_icmp(own, icmp, sizeof icmp);
    say_tcp(own, tcp, sizeof tcp);
    kn_json_set(d, "summary",
                json_sprintf("%llu bytes pass, the interface promises %llu%s%s", (unsigned long long)own[PATH],
                             (unsigned long long)own[LINK], icmp, tcp));
    return d;
}

static void metrics(const struct kn_view *v, json_t *to)
{
    const uint64_t *own = v->client.own;
    if (own[PATH])
        kn_json_set(to, "forward", direction(own));
    if (own[DIRECTION + PATH])
        kn_json_set(to, "backward", direction(own + DIRECTION));
}

/* ---- the test ---- */

static const char *const columns[] = {"mtu", "mtu_back", "black_hole", NULL}, *const compared[] = {"mtu", "mtu_back",
                                                                                                   NULL};
static const struct kn_preset presets[] = {{offsetof(struct kn_spec, timeout_ns), KN_NS_PER_S}, {0, 0}};

const struct kn_test kn_pmtu = {
    .name = "pmtu",
    .help = "path MTU by direction, and whether larger packets vanish without an ICMP message",
    .transport = KN_UDP,
    .shape = KN_PROBE,
    .both = true,
    .rate = KN_RATE_NONE,
    .warmup = KN_WARMUP_NONE,
    .headline = "mtu",
    .columns = columns,
    .compared = compared,
    .options = KN_HAS(IP) | KN_HAS(TIMEOUT),
    .presets = presets,
    .client = run_client,
    .serve = serve,
    .metrics = metrics,
};
