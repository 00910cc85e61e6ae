#include "net/replay.h"

#include <pthread.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"

#define ROOM_FIRST 1024u     /* sizes are powers of two */
#define ROOM_MOST (1u << 21) /* 16 MB; with more hellos, the older generation is dropped early */

/* Hashes of accepted hellos, in two generations. The old one is dropped when the young one is older than a hello can be
 * valid. A hash of 0 marks an empty slot. */
struct generation {
    uint64_t *hashes;
    size_t room, n;
    uint64_t since_ns;
};

struct kn_replay {
    pthread_mutex_t lock;
    uint64_t longest_ns;
    uint8_t key[crypto_shorthash_KEYBYTES];
    struct generation young, old;
};

/* ---- freshness ---- */

static uint64_t lifetime_ns(const struct kn_spec *spec, uint64_t longest_ns)
{
    uint64_t run_ns = spec->duration_ns ? spec->duration_ns + spec->warmup_ns : longest_ns;
    return run_ns + KN_CLOCKS_APART_NS;
}

int kn_hello_is_fresh(const struct kn_hello *hello, uint64_t wall_ns, uint64_t longest_ns, struct kn_error *err)
{
    const char *hint = "the clocks of the hosts differ, or it was captured and replayed";
    if (hello->issued_ns > wall_ns + KN_CLOCKS_APART_NS)
        return kn_fail(err, KN_E_AUTH, "the hello is from %llu s in the future: %s",
                       (unsigned long long)((hello->issued_ns - wall_ns) / KN_NS_PER_S), hint);
    if (wall_ns > hello->issued_ns && wall_ns - hello->issued_ns > lifetime_ns(&hello->spec, longest_ns))
        return kn_fail(
            err, KN_E_AUTH, "the hello is too old by %llu s: %s",
            (unsigned long long)((wall_ns - hello->issued_ns - lifetime_ns(&hello->spec, longest_ns)) / KN_NS_PER_S),
            hint);
    return 0;
}

/* ---- memory ---- */

struct kn_replay *kn_replay_new(uint64_t longest_ns)
{
    struct kn_replay *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    pthread_mutex_init(&r->lock, NULL);
    r->longest_ns = longest_ns;
    randombytes_buf(r->key, sizeof r->key);
    return r;
}

void kn_replay_free(struct kn_replay *r)
{
    if (!r)
        return;
    free(r->young.hashes);
    free(r->old.hashes);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

static uint64_t hash_of(const struct kn_replay *r, const struct kn_hello *hello)
{
    uint8_t text[8 + 4 + KN_NONCE_SIZE];
    uint64_t hash;
    memcpy(text, &hello->run_id, 8);
    memcpy(text + 8, &hello->flow, 4);
    memcpy(text + 12, hello->nonce, KN_NONCE_SIZE);
    crypto_shorthash((uint8_t *)&hash, text, sizeof text, r->key);
    return hash ? hash : 1;
}

/* The slot of the hash, or the empty slot for it. */
static uint64_t *place_of(const struct generation *g, uint64_t hash)
{
    size_t i = hash & (g->room - 1);
    while (g->hashes[i] && g->hashes[i] != hash)
        i = (i + 1) & (g->room - 1);
    return &g->hashes[i];
}

static bool has(const struct generation *g, uint64_t hash)
{
    return g->room && *place_of(g, hash) == hash;
}

static int grow(struct generation *g)
{
    struct generation more = {.room = g->room ? 2 * g->room : ROOM_FIRST, .n = g->n, .since_ns = g->since_ns};
    more.hashes = calloc(more.room, sizeof *more.hashes);
    if (!more.hashes)
        return -1;
    for (size_t i = 0; i < g->room; i++)
        if (g->hashes[i])
            *place_of(&more, g->hashes[i]) = g->hashes[i];
    free(g->hashes);
    *g = more;
    return 0;
}

static void turn_over(struct kn_replay *r, uint64_t wall_ns)
{
    free(r->old.hashes);
    r->old = r->young;
    r->young = (struct generation){.since_ns = wall_ns};
}

static int remember(struct kn_replay *r, uint64_t hash, uint64_t wall_ns, struct kn_error *err)
{
    uint64_t life_ns = r->longest_ns + 2 * KN_CLOCKS_APART_NS;
    if (!r->young.since_ns)
        r->young.since_ns = wall_ns;
    if (r->young.n >= ROOM_MOST / 2 || wall_ns - r->young.since_ns > life_ns)
        turn_over(r, wall_ns);
    if (r->young.n * 2 >= r->young.room && grow(&r->young))
        return kn_fail(err, KN_E_MEMORY, "out of memory for a new flow");
    *place_of(&r->young, hash) = hash;
    r->young.n++;
    return 0;
}

int kn_replay_take(struct kn_replay *r, const struct kn_hello *hello, uint64_t wall_ns, struct kn_error *err)
{
    if (kn_hello_is_fresh(hello, wall_ns, r->longest_ns, err))
        return -1;
    uint64_t hash = hash_of(r, hello);
    pthread_mutex_lock(&r->lock);
    int failed = has(&r->young, hash) || has(&r->old, hash)
                     ? kn_fail(err, KN_E_AUTH, "this hello was used before: it was captured and replayed")
                     : remember(r, hash, wall_ns, err);
    pthread_mutex_unlock(&r->lock);
    return failed;
}
