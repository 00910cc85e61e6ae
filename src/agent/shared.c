#include "agent/shared.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/file.h"
#include "engines/engines.h"
#include "net/replay.h"
#include "run/desk.h"
#include "run/short.h"

/* ---- configuration ---- */

static void fill_defaults(struct kn_agent_config *config)
{
    struct kn_agent_config usual;
    kn_agent_defaults(&usual);
    config->max_duration_ns = config->max_duration_ns ? config->max_duration_ns : usual.max_duration_ns;
    config->max_runs = config->max_runs ? config->max_runs : usual.max_runs;
    config->orphan_ns = config->orphan_ns ? config->orphan_ns : usual.orphan_ns;
    config->hello_ns = config->hello_ns ? config->hello_ns : usual.hello_ns;
}

static void fill_identity(struct kn_identity *me, const struct kn_identity *given)
{
    char host[64] = "";
    if (gethostname(host, sizeof host - 1))
        host[0] = '\0';
    *me = *given;
    me->name[sizeof me->name - 1] = me->node[sizeof me->node - 1] = '\0';
    if (!me->name[0])
        memcpy(me->name, host, sizeof me->name);
    if (!me->node[0])
        memcpy(me->node, host, sizeof me->node);
}

static int copy_config(struct kn_shared *shared, const struct kn_agent_config *config, struct kn_error *err)
{
    struct kn_agent_config *own = &shared->config;
    *own = *config;
    own->token = own->unix_path = NULL;
    if (!config->token || strlen(config->token) < KN_TOKEN_LEAST)
        return kn_fail(err, KN_E_ARGUMENT, "the token must have at least %d characters, got %zu", KN_TOKEN_LEAST,
                       config->token ? strlen(config->token) : 0);
    fill_defaults(own);
    if (config->unix_path && !(own->unix_path = strdup(config->unix_path)))
        return kn_fail_memory(err);
    kn_wire_key(config->token, &shared->key);
    randombytes_buf(shared->cookie_key.bytes, sizeof shared->cookie_key.bytes);
    return 0;
}

/* A flow that had no thread of its own (run/desk.h). */
static void flow_over(void *context, const struct kn_error *err)
{
    struct kn_shared *shared = context;
    if (!err)
        atomic_fetch_add_explicit(&shared->flows_served, 1, memory_order_relaxed);
    else if (err->code == KN_E_LIMIT)
        kn_refuse(&shared->refused, KN_REFUSED_LIMIT);
    kn_shared_heard(shared, kn_now_ns());
}

static int init_server(struct kn_shared *shared, struct kn_error *err)
{
    struct kn_server *server = &shared->server;
    fill_identity(&server->me, &shared->config.me);
    server->tests = &kn_engines;
    server->limits.max_duration_ns = shared->config.max_duration_ns;
    server->limits.max_bytes = shared->config.max_bytes;
    server->stop = &shared->stop;
    server->book = kn_short_book_new();
    server->replay = kn_replay_new(server->limits.max_duration_ns);
    server->desk = kn_desk_new(flow_over, shared);
    return server->book && server->replay && server->desk ? 0 : kn_fail_memory(err);
}

static int open_events(struct kn_shared *shared, struct kn_error *err)
{
    int *events[] = {&shared->asked_event, &shared->quit_event, &shared->wake_event};
    for (size_t i = 0; i < sizeof events / sizeof *events; i++)
        if ((*events[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0)
            return kn_fail_errno(err, "eventfd");
    return 0;
}

int kn_shared_init(struct kn_shared *shared, const struct kn_agent_config *config, struct kn_error *err)
{
    memset(shared, 0, sizeof *shared);
    shared->asked_event = shared->quit_event = shared->wake_event = -1;
    shared->started_ns = kn_now_ns();
    atomic_init(&shared->heard_ns, shared->started_ns);
    if (sodium_init() < 0)
        return kn_fail(err, KN_E_SYSTEM, "libsodium did not start");
    return copy_config(shared, config, err) || open_events(shared, err) ? -1 : init_server(shared, err);
}

void kn_shared_fini(struct kn_shared *shared)
{
    int events[] = {shared->asked_event, shared->quit_event, shared->wake_event};
    for (size_t i = 0; i < sizeof events / sizeof *events; i++)
        if (events[i] >= 0)
            close(events[i]);
    kn_short_book_free(shared->server.book);
    kn_replay_free(shared->server.replay);
    kn_desk_free(shared->server.desk);
    free((char *)shared->config.unix_path);
    sodium_memzero(&shared->key, sizeof shared->key);
}

/* ---- signs ---- */

static void set_event(int fd)
{
    uint64_t one = 1;
    if (fd >= 0 && write(fd, &one, sizeof one) < 0) /* full: it is readable already */
        return;
}

void kn_shared_ask_to_end(struct kn_shared *shared)
{
    int before = errno; /* a signal handler leaves it as it was */
    set_event(shared->asked_event);
    errno = before;
}

void kn_shared_stop(struct kn_shared *shared)
{
    atomic_store(&shared->stop, true);
    set_event(shared->quit_event);
    set_event(shared->wake_event);
}

void kn_shared_wake(struct kn_shared *shared)
{
    set_event(shared->wake_event);
}

bool kn_shared_knows(const struct kn_shared *shared, const char *token)
{
    struct kn_key key;
    if (!token)
        return false;
    kn_wire_key(token, &key); /* two hashes of the same length: comparing them takes as long for any token */
    return sodium_memcmp(key.bytes, shared->key.bytes, sizeof key.bytes) == 0;
}

uint64_t kn_shared_idle_tick(struct kn_shared *shared, bool busy, uint64_t now_ns)
{
    uint64_t idle_ns = shared->config.idle_ns;
    if (!idle_ns)
        return UINT64_MAX;
    if (busy || atomic_load(&shared->requests))
        kn_shared_heard(shared, now_ns);
    uint64_t until_ns = atomic_load(&shared->heard_ns) + idle_ns;
    if (now_ns < until_ns)
        return until_ns;
    atomic_store(&shared->was_idle, true);
    kn_shared_ask_to_end(shared);
    return UINT64_MAX;
}
