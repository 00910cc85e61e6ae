/* A server that fails as it is told, for tests/net/faults_test.lua: it speaks knbl's wire protocol (tcp_rr, tcp_crr,
 * udp_rr of one byte) or plain HTTP, and answers every request but some.
 *
 *   fault_server PORT MODE SILENT_EVERY RESET_AT FAULTS_AFTER FAULTS_UNTIL      MODE: knbl, http
 *
 * Requests are counted over all connections, from 1. Of those after FAULTS_AFTER and up to FAULTS_UNTIL (0: all), each
 * SILENT_EVERY-th is never answered, and the one numbered RESET_AT resets its connection. 0 switches a fault off. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/figures.h"
#include "net/addr.h"
#include "net/io.h"
#include "net/wire.h"
#include "faulty.h"

static bool speaks_http;
static uint64_t silent_every, reset_at, faults_after, faults_until;
static atomic_uint_fast64_t requests;

enum fault { NONE, SILENT, RESET };

static enum fault next_fault(void)
{
    uint64_t n = atomic_fetch_add(&requests, 1) + 1;
    if (n <= faults_after || (faults_until && n > faults_until))
        return NONE;
    n -= faults_after;
    if (reset_at && n == reset_at)
        return RESET;
    return silent_every && n % silent_every == 0 ? SILENT : NONE;
}

static json_t *account(void)
{
    struct kn_figures f;
    struct kn_error err;
    if (kn_figures_init(&f, 0, &err))
        abort();
    json_t *json = json_pack("{s:s, s:s, s:s, s:o, s:I}", "name", "faulty", "node", "here", "address", "-", "figures",
                             kn_figures_to_json(&f), "transactions", (json_int_t)1000000000);
    kn_figures_fini(&f);
    return json;
}

static void send_account(int fd)
{
    struct kn_error err;
    size_t size;
    json_t *json = account();
    uint8_t *wire = kn_trailer_pack(json, &size, &err);
    send(fd, wire, size, MSG_NOSIGNAL);
    free(wire);
    json_decref(json);
}

static size_t pack_welcome(uint8_t *wire)
{
    struct kn_welcome w = {.protocol = KN_PROTOCOL, .name = "faulty", .node = "here"};
    kn_welcome_pack(&w, wire);
    return kn_welcome_size();
}

/* ---- the wire protocol over TCP ---- */

/* After go: a byte is a request. */
static void serve_flow(int fd)
{
    char byte;
    while (recv(fd, &byte, 1, 0) == 1) {
        enum fault fault = next_fault();
        if (fault == RESET) {
            reset(fd);
            return;
        }
        if (fault == SILENT) {
            stay_silent(fd);
            return;
        }
        if (send(fd, &byte, 1, MSG_NOSIGNAL) != 1)
            return;
    }
    send_account(fd);
}

static void serve_transaction(int fd)
{
    enum fault fault = next_fault();
    if (fault == RESET)
        reset(fd);
    else if (fault == SILENT)
        stay_silent(fd);
    else
        send(fd, "x", 1, MSG_NOSIGNAL);
}

/* The test's name stands in front of the specification, behind what is fixed of a hello. */
static bool is_short(const uint8_t *hello)
{
    return memcmp(hello + 4 + 1 + 1 + 2 + 4 + 8 + KN_NONCE_SIZE + 4 + 4 + 8, "tcp_crr", 8) == 0;
}

static void serve_knbl(int fd)
{
    uint8_t hello[4096], welcome[1024];
    char go;
    struct kn_error err;
    if (kn_read_full(fd, hello, kn_hello_size(), kn_now_ns() + 60 * KN_NS_PER_S, &err))
        return;
    bool stats = hello[5] == KN_HELLO_STATS;
    if (!stats && is_short(hello)) {
        serve_transaction(fd);
        return;
    }
    send(fd, welcome, pack_welcome(welcome), MSG_NOSIGNAL);
    if (stats)
        send_account(fd);
    else if (recv(fd, &go, 1, 0) == 1)
        serve_flow(fd);
}

/* ---- HTTP ---- */

static void serve_http(int fd)
{
    char in[4096];
    size_t have = 0;
    for (ssize_t n; (n = recv(fd, in + have, sizeof in - 1 - have, 0)) > 0;) {
        have += (size_t)n;
        in[have] = '\0';
        if (!strstr(in, "\r\n\r\n"))
            continue;
        have = 0;
        static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        enum fault fault = next_fault();
        if (fault == SILENT) {
            stay_silent(fd);
            return;
        }
        /* a server may close a connection between two requests; in the middle of an answer it may not */
        send(fd, answer, sizeof answer - (fault == RESET ? 2 : 1), MSG_NOSIGNAL);
        if (fault == RESET) {
            usleep(20000);
            reset(fd);
        }
        if (fault == RESET || strstr(in, "Connection: close"))
            return;
    }
}

/* ---- UDP ---- */

static size_t pack_part(const uint8_t *order, uint8_t *wire)
{
    static char *text;
    json_t *json = text ? NULL : account();
    if (!text)
        text = json_dumps(json, JSON_COMPACT);
    json_decref(json);
    uint32_t offset, total = (uint32_t)strlen(text);
    memcpy(&offset, order + 8 + 8 + 8 + 4, sizeof offset); /* little-endian, as this machine */
    if (offset > total)
        return 0;
    size_t n = total - offset < KN_UDP_PART ? total - offset : KN_UDP_PART;
    return kn_udp_part_pack(total, offset, (const uint8_t *)text + offset, n, wire);
}

static size_t udp_answer(const uint8_t *in, size_t size, uint8_t *out)
{
    struct kn_welcome w = {.protocol = KN_PROTOCOL, .name = "faulty", .node = "here"};
    if (size == kn_hello_size() && memcmp(in, KN_MAGIC, 4) == 0)
        return kn_udp_welcome_pack(&w, out);
    if (kn_udp_kind(in, size) == KN_UDP_FETCH)
        return pack_part(in, out);
    if (next_fault() != NONE)
        return 0;
    memcpy(out, in, size);
    return size;
}

static void *serve_udp(void *arg)
{
    int fd = *(int *)arg;
    for (;;) {
        uint8_t in[4096], out[4096];
        struct kn_addr from = {.len = sizeof from.u};
        ssize_t n = recvfrom(fd, in, sizeof in, 0, &from.u.sa, &from.len);
        size_t size = n > 0 ? udp_answer(in, (size_t)n, out) : 0;
        if (size)
            sendto(fd, out, size, MSG_NOSIGNAL, &from.u.sa, from.len);
    }
    return NULL;
}

/* ---- main ---- */

int main(int argc, char **argv)
{
    struct kn_error err;
    struct kn_addr at;
    pthread_t thread;
    if (argc != 7)
        return 2;
    speaks_http = strcmp(argv[2], "http") == 0;
    silent_every = strtoull(argv[3], NULL, 10);
    reset_at = strtoull(argv[4], NULL, 10);
    faults_after = strtoull(argv[5], NULL, 10);
    faults_until = strtoull(argv[6], NULL, 10);
    if (kn_addr_resolve("0.0.0.0", (uint16_t)atoi(argv[1]), 4, KN_NS_PER_S, &at, &err))
        return 1;
    int tcp = kn_tcp_listen(&at, 4096, &err), udp = socket(AF_INET, SOCK_DGRAM, 0);
    if (tcp < 0 || bind(udp, &at.u.sa, at.len)) {
        fprintf(stderr, "cannot listen\n");
        return 1;
    }
    pthread_create(&thread, NULL, serve_udp, &udp);
    serve_all(tcp, speaks_http ? serve_http : serve_knbl);
}
