/* run/loop - how one thread waits for many sockets.
 *
 * Most sockets are registered once, for all edges: the handler of an event reads everything, or remembers that there is
 * more. Depending on `wait`, the loop blocks, polls for a while first (auto, as long as that pays: run/spin.h), or
 * always polls. */
#ifndef KN_RUN_LOOP_H
#define KN_RUN_LOOP_H

#include <stdatomic.h>
#include <sys/epoll.h>

#include "core/error.h"
#include "core/spec.h"
#include "run/spin.h"

#define KN_LOOP_EVENTS 256
#define KN_LOOP_STEP_NS (50 * KN_NS_PER_MS) /* longest wait, so that a stop is noticed */
#define KN_LOOP_ALL (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)
#define KN_LOOP_ENDS (EPOLLRDHUP | EPOLLHUP | EPOLLERR)

struct kn_loop {
    int ep; /* -1: not open */
    enum kn_wait wait;
    struct kn_spin spin;
    const atomic_bool *stop;
    struct epoll_event events[KN_LOOP_EVENTS];
};

/* How a loop over the flows of a run waits. Over many flows with a rate, `auto` blocks: there is nearly always a
 * request that is due soon, so that polling would never end, and what it takes from the other side makes both late. */
static inline enum kn_wait kn_loop_wait_of(const struct kn_spec *spec)
{
    bool blocks = spec->wait == KN_WAIT_AUTO && spec->flows > 1 && kn_spec_open_loop(spec);
    return blocks ? KN_WAIT_BLOCK : (enum kn_wait)spec->wait;
}
int kn_loop_init(struct kn_loop *l, enum kn_wait wait, const atomic_bool *stop, struct kn_error *err);
void kn_loop_fini(struct kn_loop *l); /* idempotent; also takes a loop that is all zeros but ep = -1 */
/* -1 with errno. */
int kn_loop_add(const struct kn_loop *l, int fd, uint32_t events, epoll_data_t data);
int kn_loop_change(const struct kn_loop *l, int fd, uint32_t events, epoll_data_t data);
void kn_loop_remove(const struct kn_loop *l, int fd); /* closing the socket does it too */
/* Waits until a socket is ready, until `until_ns`, or for KN_LOOP_STEP_NS from `now_ns`. Returns how many of `events`
 * it filled; 0 if the time is over or a signal came. */
unsigned kn_loop_wait(struct kn_loop *l, uint64_t now_ns, uint64_t until_ns);

#endif
