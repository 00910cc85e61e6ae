/* The server's side of a flow over UDP: the welcome, separating control datagrams from the test's, and the account as
 * long as the client asks for it. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "core/json.h"
#include "run/flow_udp.h"
#include "run/served.h"

#define LINGER_NS (2 * KN_NS_PER_S) /* how long an account is kept after the last question */

static int send_welcome(const struct kn_server *server, int fd, const struct kn_error *refusal)
{
    struct kn_welcome welcome;
    uint8_t wire[KN_UDP_CONTROL_MAX];
    kn_welcome_fill(server, fd, &welcome);
    if (refusal) {
        welcome.code = (uint8_t)refusal->code;
        snprintf(welcome.message, sizeof welcome.message, "%.*s", (int)sizeof welcome.message - 1, refusal->message);
    }
    size_t n = kn_udp_welcome_pack(&welcome, wire);
    return send(fd, wire, n, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -1 : 0;
}

static bool is_for(const struct kn_served *s, const struct kn_udp_order *order)
{
    return order->run_id == s->hello->run_id && order->flow == s->hello->flow &&
           !memcmp(order->nonce, s->hello->nonce, KN_NONCE_SIZE);
}

static enum kn_udp_next take_hello(struct kn_served *s, int fd, const uint8_t *datagram, size_t size)
{
    struct kn_hello again;
    struct kn_error ignored;
    if (kn_hello_unpack(datagram, size, s->key, s->server->tests, &again, &ignored))
        return KN_UDP_IS_TEST;
    if (again.run_id == s->hello->run_id && again.flow == s->hello->flow)
        send_welcome(s->server, fd, NULL);
    return KN_UDP_WAS_CONTROL;
}

static enum kn_udp_next take_order(struct kn_served *s, enum kn_udp_kind kind, const uint8_t *datagram, size_t size,
                                   uint32_t *offset)
{
    struct kn_udp_order order;
    if (kn_udp_order_unpack(kind, datagram, size, s->key, &order) || !is_for(s, &order))
        return KN_UDP_IS_TEST;
    s->measured_sent = order.sent;
    *offset = order.offset;
    if (kind == KN_UDP_FETCH)
        return KN_UDP_WANTS_ACCOUNT;
    if (order.number <= s->steered_number) /* a copy, or it came late */
        return KN_UDP_WAS_CONTROL;
    s->steered_number = order.number;
    s->steered_ns = kn_now_ns();
    if (order.offset > s->phase) /* an older one may come later */
        s->phase = order.offset;
    return KN_UDP_WAS_CONTROL;
}

enum kn_udp_next kn_served_control(struct kn_served *s, int fd, const uint8_t *datagram, size_t size, uint32_t *offset)
{
    if (size == kn_hello_size() && !memcmp(datagram, KN_MAGIC, 4))
        return take_hello(s, fd, datagram, size);
    enum kn_udp_kind kind = size == KN_UDP_ORDER_SIZE ? kn_udp_kind(datagram, size) : KN_UDP_NONE;
    return kind == KN_UDP_FETCH || kind == KN_UDP_STEER ? take_order(s, kind, datagram, size, offset) : KN_UDP_IS_TEST;
}

enum kn_udp_next kn_served_datagram(struct kn_served *s, int fd, const uint8_t *datagram, size_t size)
{
    uint32_t offset;
    return kn_served_control(s, fd, datagram, size, &offset);
}

void kn_served_send_part(int fd, const char *text, uint32_t total, uint32_t offset)
{
    uint8_t wire[KN_UDP_CONTROL_MAX];
    if (offset > total)
        return;
    size_t n = kn_udp_part_pack(total, offset, (const uint8_t *)text + offset, kn_least(total - offset, KN_UDP_PART),
                                wire);
    send(fd, wire, n, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* If there is no memory for the account, nothing is sent, and the client asks again. */
static void answer_fetch(const struct kn_served *s, int fd, char **text, uint32_t offset)
{
    json_t *account = *text ? NULL : kn_served_account(s, fd);
    if (account)
        *text = kn_json_text(account, JSON_COMPACT);
    json_decref(account);
    if (*text)
        kn_served_send_part(fd, *text, (uint32_t)strlen(*text), offset);
}

/* Until the client reports that it has everything, or has not asked for a while. */
static void answer_fetches(struct kn_served *s, int fd, char **text)
{
    uint8_t in[KN_UDP_CONTROL_MAX];
    uint32_t offset = 0;
    uint64_t until_ns = kn_now_ns() + LINGER_NS;
    answer_fetch(s, fd, text, 0); /* the fetch that ended the test */
    for (uint64_t now_ns = kn_now_ns(); now_ns < until_ns && !kn_served_stopped(s); now_ns = kn_now_ns()) {
        ssize_t n = kn_udp_receive(fd, in, sizeof in, kn_least(until_ns, now_ns + KN_UDP_STOP_POLL_NS));
        if (n <= 0 || kn_served_control(s, fd, in, (size_t)n, &offset) != KN_UDP_WANTS_ACCOUNT)
            continue;
        if (offset == KN_UDP_FETCHED_ALL)
            return;
        answer_fetch(s, fd, text, offset);
        until_ns = kn_now_ns() + LINGER_NS;
    }
}

#define SILENCE_NS (10 * KN_NS_PER_S) /* other flows may still be opening */

bool kn_served_forsaken(const struct kn_served *s, uint64_t last_ns, uint64_t now_ns)
{
    const struct kn_spec *spec = s->spec;
    uint64_t silence_ns = SILENCE_NS + spec->timeout_ns + spec->delay_ns;
    if (spec->rate_per_1000s)
        silence_ns += 2 * (1000 * KN_NS_PER_S / spec->rate_per_1000s + 1) * spec->flows;
    if (spec->rate_bps)
        silence_ns += 2 * (8 * spec->size * KN_NS_PER_S / spec->rate_bps + 1) * spec->flows;
    return now_ns > last_ns && now_ns - last_ns > silence_ns;
}

static int run_flow(struct kn_served *s, int fd, struct kn_error *err)
{
    if (kn_udp_timeouts(fd, KN_UDP_STOP_POLL_NS, err))
        return -1;
    if (send_welcome(s->server, fd, NULL))
        return kn_fail_errno(err, "cannot answer");
    if (s->spec->test->serve(s, fd, err))
        return -1;
    kn_served_ended(s);
    kn_served_close(s, kn_now_ns());
    char *text = NULL;
    answer_fetches(s, fd, &text);
    free(text);
    return 0;
}

int kn_serve_udp(struct kn_server *server, int fd, const struct kn_hello *hello, const struct kn_key *key,
                 struct kn_error *err)
{
    const struct kn_test *test = hello->spec.test;
    struct kn_served s = {.server = server, .hello = hello, .spec = &hello->spec, .key = key, .end_ns = UINT64_MAX};
    int failed = kn_server_takes(server, hello, err) || kn_served_pin(&hello->spec, err);
    if (!failed && !test->serve)
        failed = kn_fail(err, KN_E_UNSUPPORTED, "this agent does not serve %s", test->name);
    if (failed || kn_figures_init(&s.figures, hello->spec.interval_ns, err)) {
        send_welcome(server, fd, err); /* if it is lost, the client's next hello goes to the agent's main socket */
        return -1;
    }
    failed = run_flow(&s, fd, err);
    kn_figures_fini(&s.figures);
    return failed;
}
