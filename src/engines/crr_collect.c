/* tcp_crr on the client's side, before and after: whether an agent is there, and what the backends have counted. */
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engines/crr.h"
#include "engines/run.h"

/* Connections without news, after which a backend is taken for gone. The last of n is met once in n connections at random: eight
 * for each that is known miss it three times in ten thousand. */
#define COLLECT_TRIES 16
#define COLLECT_TRIES_EACH 8
#define COLLECT_TIMEOUT_NS (5 * KN_NS_PER_S)

static json_t *ask_one(struct kn_worker *w, struct kn_error *err)
{
    uint8_t hello[kn_hello_size()], answer[kn_welcome_size()], *text = NULL;
    uint64_t deadline_ns = kn_now_ns() + COLLECT_TIMEOUT_NS;
    size_t have = 0, room = 1 << 20;
    struct kn_welcome welcome;
    json_t *report = NULL;
    int fd = kn_tcp_connect(&w->peer, w->spec, deadline_ns, err);
    if (fd < 0)
        return NULL;
    kn_flow_hello(w, w->first_flow, KN_HELLO_STATS, hello);
    if (kn_write_full(fd, hello, sizeof hello, deadline_ns, err) || kn_read_full(fd, answer, sizeof answer, deadline_ns, err) ||
        kn_welcome_unpack(answer, sizeof answer, &welcome, err))
        goto out;
    text = malloc(room);
    for (ssize_t n = 1; text && n > 0 && have < room; have += n > 0 ? (size_t)n : 0)
        n = recv(fd, text + have, room - have, 0);
    if (!text || have < KN_TRAILER_FOOT) {
        kn_fail(err, KN_E_LOST, "a server closed without its report");
        goto out;
    }
    int64_t length = kn_trailer_length(text + have - KN_TRAILER_FOOT, err);
    if (length >= 0 && (size_t)length <= have)
        report = kn_trailer_unpack(text + have - (size_t)length, (size_t)length, err);
    else if (length >= 0)
        kn_fail(err, KN_E_PROTOCOL, "a server's report is cut short");
out:
    free(text);
    close(fd);
    return report;
}

/* One report a backend, by name and node. True: it was new. */
static bool keep(json_t *reports, json_t *report)
{
    size_t i;
    json_t *have;
    json_array_foreach(reports, i, have)
        if (json_equal(json_object_get(have, "name"), json_object_get(report, "name")) &&
            json_equal(json_object_get(have, "node"), json_object_get(report, "node")))
            return false;
    json_array_append(reports, report);
    return true;
}

static uint64_t transactions_of(const json_t *reports)
{
    uint64_t sum = 0;
    size_t i;
    json_t *report;
    json_array_foreach(reports, i, report)
        sum += (uint64_t)json_integer_value(json_object_get(report, "transactions"));
    return sum;
}

/* A Service sends each connection where it likes: asked again until the backends' counts make up our own. */
static int collect(struct kn_worker *w, uint64_t expected, struct kn_error *err)
{
    json_t *reports = json_array();
    int failed = 0;
    for (size_t idle = 0; idle < COLLECT_TRIES + COLLECT_TRIES_EACH * json_array_size(reports) && !failed;) {
        if (transactions_of(reports) >= expected)
            break;
        json_t *report = ask_one(w, err);
        if (!report)
            failed = -1;
        else
            idle = keep(reports, report) ? 0 : idle + 1;
        json_decref(report);
    }
    for (size_t i = 0; i < json_array_size(reports) && !failed; i++)
        failed = kn_flow_report(w, json_array_get(reports, i), err);
    if (!failed && transactions_of(reports) < expected)
        kn_worker_flag(w, "backend_missing");
    json_decref(reports);
    return failed;
}

int kn_crr_knock(struct kn_worker *w, struct kn_error *err)
{
    json_t *report = ask_one(w, err);
    json_decref(report);
    return report ? 0 : -1;
}

int kn_crr_settle(struct kn_worker *w, uint64_t transactions, bool failed, struct kn_error *err)
{
    uint64_t sum = atomic_fetch_add(&w->run->transactions, transactions) + transactions;
    if (atomic_fetch_add(&w->run->closing, 1) + 1 < w->run->n_slots || failed)
        return failed ? -1 : 0;
    return collect(w, sum, err);
}
