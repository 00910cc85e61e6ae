#include "agent/lease.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"

#define TICK_NS (KN_NS_PER_S / 4) /* the precision of limits */
#define KEEP_OVER 4               /* results that are kept, in multiples of `most` */

void kn_leases_init(struct kn_leases *t, const struct kn_lease_ops *ops, void *context, unsigned most,
                    uint64_t orphan_ns)
{
    *t = (struct kn_leases){.ops = ops, .context = context, .most = most, .orphan_ns = orphan_ns};
    pthread_mutex_init(&t->lock, NULL);
}

static void free_list(struct kn_leases *t, struct kn_lease *list)
{
    while (list) {
        struct kn_lease *lease = list;
        list = lease->next;
        t->ops->free(lease);
    }
}

void kn_leases_fini(struct kn_leases *t)
{
    if (!t->ops)
        return; /* never initialised */
    free_list(t, t->all);
    pthread_mutex_destroy(&t->lock);
}

/* ---- with the lock held ---- */

static bool is_over(struct kn_leases *t, struct kn_lease *lease)
{
    return t->ops->is_over && t->ops->is_over(lease);
}

static unsigned count_active(struct kn_leases *t)
{
    unsigned n = 0;
    for (struct kn_lease *lease = t->all; lease; lease = lease->next)
        n += !is_over(t, lease);
    return n;
}

/* Where the one of that id stands in the list; NULL: no such id. */
static struct kn_lease **find(struct kn_leases *t, const char *id)
{
    for (struct kn_lease **at = &t->all; *at; at = &(*at)->next)
        if (!(*at)->forgotten && !strcmp((*at)->id, id))
            return at;
    return NULL;
}

static struct kn_lease *unlink_at(struct kn_lease **at)
{
    struct kn_lease *lease = *at;
    *at = lease->next;
    lease->next = NULL;
    return lease;
}

/* The oldest result that is not being fetched, where there are too many. */
static struct kn_lease *take_excess(struct kn_leases *t)
{
    struct kn_lease **last = NULL;
    unsigned n = 0;
    for (struct kn_lease **at = &t->all; *at; at = &(*at)->next, n++)
        if (is_over(t, *at) && !(*at)->users)
            last = at;
    return last && n >= t->most * KEEP_OVER ? unlink_at(last) : NULL;
}

/* ---- by request ---- */

int kn_lease_id(const char *given, char id[KN_ID_SIZE], struct kn_error *err)
{
    char quoted[KN_QUOTE_MAX];
    uint8_t random[(KN_ID_SIZE - 1) / 2];
    if (given && (strlen(given) != KN_ID_SIZE - 1 || strspn(given, "0123456789abcdef") != KN_ID_SIZE - 1))
        return kn_fail(err, KN_E_ARGUMENT, "\"id\" must be %d hexadecimal digits, got %s", KN_ID_SIZE - 1,
                       kn_quote(quoted, given));
    if (given) {
        memcpy(id, given, KN_ID_SIZE);
        return 0;
    }
    randombytes_buf(random, sizeof random);
    sodium_bin2hex(id, KN_ID_SIZE, random, sizeof random);
    return 0;
}

int kn_leases_add(struct kn_leases *t, struct kn_lease *lease, struct kn_error *err)
{
    int rc = 0;
    struct kn_lease *excess = NULL;
    lease->asked_ns = kn_now_ns();
    pthread_mutex_lock(&t->lock);
    if (t->closed)
        rc = kn_fail(err, KN_E_REFUSED, "the agent is shutting down");
    else if (find(t, lease->id))
        rc = 1;
    else if (count_active(t) >= t->most)
        rc = kn_fail(err, KN_E_LIMIT, "%s limit reached (%u)", t->ops->what, t->most);
    else if (!t->ops->start || (rc = t->ops->start(lease, err)) == 0) {
        excess = take_excess(t);
        lease->next = t->all;
        t->all = lease;
    }
    pthread_mutex_unlock(&t->lock);
    free_list(t, excess);
    return rc;
}

static int missing(const struct kn_leases *t, const char *id, struct kn_error *err)
{
    char quoted[KN_QUOTE_MAX];
    int times = t->ops->is_over ? 2 : 1; /* a result is kept for as long again */
    return kn_fail(err, KN_E_LOST, "no %s %s: it was deleted, or it expired: not polled for %.6g s", t->ops->what,
                   kn_quote(quoted, id), (double)t->orphan_ns * times / 1e9);
}

unsigned kn_leases_active(struct kn_leases *t)
{
    pthread_mutex_lock(&t->lock);
    unsigned n = count_active(t);
    pthread_mutex_unlock(&t->lock);
    return n;
}

int kn_leases_touch(struct kn_leases *t, const char *id, struct kn_error *err)
{
    pthread_mutex_lock(&t->lock);
    struct kn_lease **at = find(t, id);
    if (at)
        (*at)->asked_ns = kn_now_ns();
    pthread_mutex_unlock(&t->lock);
    return at ? 0 : missing(t, id, err);
}

struct kn_lease *kn_leases_remove(struct kn_leases *t, const char *id, struct kn_error *err)
{
    pthread_mutex_lock(&t->lock);
    struct kn_lease **at = find(t, id), *lease = at ? unlink_at(at) : NULL;
    pthread_mutex_unlock(&t->lock);
    if (!lease)
        missing(t, id, err);
    return lease;
}

struct kn_lease *kn_leases_take(struct kn_leases *t, const char *id, struct kn_error *err)
{
    pthread_mutex_lock(&t->lock);
    struct kn_lease **at = find(t, id), *lease = at ? *at : NULL;
    if (lease) {
        lease->users++;
        lease->asked_ns = kn_now_ns();
    }
    pthread_mutex_unlock(&t->lock);
    if (!lease)
        missing(t, id, err);
    return lease;
}

void kn_leases_give_back(struct kn_leases *t, struct kn_lease *lease, bool forget)
{
    struct kn_lease **at = &t->all;
    pthread_mutex_lock(&t->lock);
    lease->users--;
    lease->asked_ns = kn_now_ns();
    lease->forgotten |= forget;
    bool last = lease->forgotten && lease->users == 0;
    while (last && *at != lease)
        at = &(*at)->next;
    if (last)
        unlink_at(at);
    pthread_mutex_unlock(&t->lock);
    if (last)
        t->ops->free(lease);
}

/* ---- by time ---- */

/* Stops what is due. True: it goes. */
static bool expires(struct kn_leases *t, struct kn_lease *lease, uint64_t now_ns)
{
    uint64_t silent_ns = now_ns > lease->asked_ns && !lease->users ? now_ns - lease->asked_ns : 0;
    uint64_t allowed_ns = lease->patience_ns > t->orphan_ns ? lease->patience_ns : t->orphan_ns;
    bool over = is_over(t, lease), due = silent_ns > allowed_ns || now_ns > lease->limit_ns;
    if (!over && t->ops->check)
        t->ops->check(lease, t->context);
    if (!over && due && t->ops->stop)
        t->ops->stop(lease);
    return !lease->users && (t->ops->is_over ? over && silent_ns > 2 * allowed_ns : due);
}

uint64_t kn_leases_tick(struct kn_leases *t, uint64_t now_ns)
{
    struct kn_lease *gone = NULL;
    pthread_mutex_lock(&t->lock);
    for (struct kn_lease **at = &t->all; *at;) {
        if (!expires(t, *at, now_ns)) {
            at = &(*at)->next;
            continue;
        }
        struct kn_lease *lease = unlink_at(at);
        lease->next = gone;
        gone = lease;
    }
    bool any = t->all != NULL;
    pthread_mutex_unlock(&t->lock);
    free_list(t, gone);
    return any ? now_ns + TICK_NS : UINT64_MAX;
}

void kn_leases_close(struct kn_leases *t)
{
    pthread_mutex_lock(&t->lock);
    t->closed = true;
    for (struct kn_lease *lease = t->all; lease && t->ops->stop; lease = lease->next)
        t->ops->stop(lease);
    pthread_mutex_unlock(&t->lock);
}
