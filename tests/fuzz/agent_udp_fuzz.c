/* Datagrams at the agent's UDP port, as they come and, laid over a hello with a good cookie, signed with the right key:
 * none of them gets more bytes back than were sent before the sender's address is proved, none gets two answers, and
 * the agent that is about to end starts no flow. */
#include <netinet/in.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/udp.h"
#include "engines/engines.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HASH_SIZE 32

static struct kn_shared shared;
static struct kn_flows flows;
static struct kn_udp_socket agent_socket;
static struct kn_udp_listener listener;
static struct kn_addr client_at;
static int client = -1;

static void demand(bool truth)
{
    if (!truth)
        abort();
}

static struct kn_addr bound(int fd)
{
    struct kn_addr at = {.len = sizeof at.u};
    demand(getsockname(fd, &at.u.sa, &at.len) == 0);
    return at;
}

static void begin(void)
{
    struct kn_error err;
    struct kn_agent_config config;
    struct kn_addr at = {.u.v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)},
                         .len = sizeof at.u.v4};
    kn_agent_defaults(&config);
    config.token = "the token of the fuzzer";
    demand(kn_shared_init(&shared, &config, &err) == 0);
    kn_flows_init(&flows, &shared);
    kn_shared_stop(&shared);
    demand(kn_udp_socket_open(&agent_socket, &at, &err) == 0);
    at = bound(agent_socket.fd);
    kn_udp_listener_init(&listener, &shared, &flows, &agent_socket, &at);
    client = socket(AF_INET, SOCK_DGRAM, 0);
    demand(connect(client, &at.u.sa, at.len) == 0);
    client_at = bound(client);
}

/* The size of the answer; 0: none. */
static size_t exchange(const uint8_t *datagram, size_t size)
{
    uint8_t answer[4096];
    if (send(client, datagram, size, 0) < 0)
        return 0;
    demand(kn_udp_listener_step(&listener));
    ssize_t n = recv(client, answer, sizeof answer, MSG_DONTWAIT);
    demand(recv(client, answer, sizeof answer, MSG_DONTWAIT) < 0);
    demand(kn_flows_active(&flows) == 0);
    return n > 0 ? (size_t)n : 0;
}

static void try_signed(const uint8_t *data, size_t size)
{
    uint8_t wire[4096];
    struct kn_error err;
    struct kn_hello h = {.flows = 1};
    json_t *spec = json_pack("{s:s}", "test", size && data[0] & 1 ? "udp_rr" : "udp_stream");
    demand(kn_spec_parse(spec, &kn_engines, &h.spec, &err) == 0);
    json_decref(spec);
    kn_cookie_make(&shared.cookie_key, &client_at.u, client_at.len, kn_now_ns(), h.cookie);
    kn_hello_pack(&h, &shared.key, wire);
    size_t whole = kn_hello_size(), room = whole - HASH_SIZE - KN_COOKIE_SIZE;
    for (size_t i = 0; i < size && i < room; i++)
        wire[i] ^= data[i];
    crypto_generichash(wire + whole - HASH_SIZE, HASH_SIZE, wire, whole - HASH_SIZE, shared.key.bytes,
                       sizeof shared.key.bytes);
    exchange(wire, whole);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (client < 0)
        begin();
    demand(exchange(data, size) <= size);
    try_signed(data, size);
    return 0;
}
