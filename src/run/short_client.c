/* Short connections on the client's side: before the run, whether an agent is there; after it, what the backends have
 * counted. */
#include <sys/socket.h>
#include <unistd.h>

#include "core/json.h"
#include "net/io.h"
#include "run/account.h"
#include "run/flow.h"
#include "run/inside.h"
#include "run/short.h"

/* Number of connections without a new backend after which the search ends. A random connection reaches the last of n
 * backends with probability 1/n, so eight for each known backend miss it three times in ten thousand. */
#define COLLECT_TRIES 16
#define COLLECT_TRIES_EACH 8
#define COLLECT_TIMEOUT_NS (5 * KN_NS_PER_S)
#define GATHER_STOPPED_NS (300 * KN_NS_PER_MS)
#define GATHER_NS KN_NS_PER_S               /* in total, if backends may be gone … */
#define GATHER_EACH_NS (100 * KN_NS_PER_MS) /* … for one answer */

static json_t *ask_one(struct kn_worker *w, uint64_t timeout_ns, struct kn_error *err)
{
    uint8_t hello[kn_hello_size()], answer[kn_welcome_size()];
    uint64_t deadline_ns = kn_now_ns() + timeout_ns;
    struct kn_welcome welcome;
    json_t *account = NULL;
    int fd = kn_tcp_connect_from(kn_flow_source(w), &w->peer, w->spec, deadline_ns, err);
    if (fd < 0)
        return NULL;
    kn_flow_hello(w, w->first_flow, KN_HELLO_STATS, hello);
    if (!kn_write_full(fd, hello, sizeof hello, deadline_ns, err) &&
        !kn_read_full(fd, answer, sizeof answer, deadline_ns, err) &&
        !kn_welcome_unpack(answer, sizeof answer, &welcome, err))
        account = kn_flow_account(w, fd, NULL, 0, err);
    close(fd);
    return account;
}

/* Keeps one account for each backend, by name and node. True: it was new. */
static bool keep(json_t *accounts, json_t *account)
{
    size_t i;
    json_t *have;
    json_array_foreach(
        accounts, i,
        have) if (json_equal(json_object_get(have, "name"), json_object_get(account, "name")) &&
                  json_equal(json_object_get(have, "node"), json_object_get(account, "node"))) return false;
    kn_json_append(accounts, json_incref(account));
    return true;
}

static uint64_t transactions_of(const json_t *accounts)
{
    uint64_t sum = 0;
    size_t i;
    json_t *account;
    json_array_foreach(accounts, i, account)
        sum += (uint64_t)json_integer_value(json_object_get(account, "transactions"));
    return sum;
}

/* A Service distributes connections at random, so this asks until the backends' counts add up to ours. */
static int collect(struct kn_worker *w, uint64_t expected, struct kn_error *err)
{
    json_t *accounts = json_array();
    int failed = accounts ? 0 : kn_fail_memory(err);
    for (size_t idle = 0; idle < COLLECT_TRIES + COLLECT_TRIES_EACH * json_array_size(accounts) && !failed;) {
        if (transactions_of(accounts) >= expected)
            break;
        json_t *account = ask_one(w, kn_worker_stopped(w) ? GATHER_STOPPED_NS : COLLECT_TIMEOUT_NS, err);
        if (!account)
            failed = -1;
        else
            idle = keep(accounts, account) ? 0 : idle + 1;
        json_decref(account);
    }
    for (size_t i = 0; i < json_array_size(accounts) && !failed; i++)
        failed = kn_run_account(w, json_array_get(accounts, i), err);
    if (!failed && transactions_of(accounts) < expected)
        kn_worker_flag(w, "backend_missing");
    json_decref(accounts);
    return failed;
}

int kn_short_knock(struct kn_worker *w, struct kn_error *err)
{
    json_t *account = ask_one(w, COLLECT_TIMEOUT_NS, err);
    json_decref(account);
    return account ? 0 : -1;
}

int kn_short_settle(struct kn_worker *w, uint64_t transactions, bool failed, struct kn_error *err)
{
    uint64_t sum = atomic_fetch_add(&w->part->transactions, transactions) + transactions;
    if (atomic_fetch_add(&w->part->closing, 1) + 1 < w->part->n_workers || failed)
        return failed ? -1 : 0;
    return collect(w, sum, err);
}

void kn_short_gather(struct kn_worker *w, uint64_t transactions)
{
    struct kn_error ignored;
    json_t *accounts = json_array();
    uint64_t until_ns = kn_now_ns() + (kn_worker_stopped(w) ? GATHER_STOPPED_NS : GATHER_NS);
    for (size_t idle = 0; idle < COLLECT_TRIES + COLLECT_TRIES_EACH * json_array_size(accounts);) {
        if (transactions_of(accounts) >= transactions || kn_now_ns() >= until_ns)
            break;
        json_t *account = ask_one(w, GATHER_EACH_NS, &ignored);
        idle = account && keep(accounts, account) ? 0 : idle + 1;
        json_decref(account);
    }
    for (size_t i = 0; i < json_array_size(accounts); i++)
        if (kn_run_account(w, json_array_get(accounts, i), &ignored))
            break;
    json_decref(accounts);
}
