/* run/wait - receives by the way that `wait` says. Auto: poll and yield for up to 50 µs, then block. It
 * stops polling if fewer than half of the waits are hits, the round trip exceeds the budget, or the cgroup is
 * throttled. */
#ifndef KN_RUN_WAIT_H
#define KN_RUN_WAIT_H

#include <sys/types.h>

#include "core/spec.h"
#include "run/spin.h"

struct kn_waiter {
    uint64_t mode, budget_ns;
    struct kn_spin spin;
    uint64_t eager_ns;                             /* how long it polls before the first yield */
    uint32_t eager_tries, eager_late, eager_retry; /* eager_late: answers that came only after a yield */
    uint64_t spun, blocked;
};
void kn_waiter_init(struct kn_waiter *w, enum kn_wait mode);
ssize_t kn_recv_wait(struct kn_waiter *w, int fd, void *buf, size_t size, int flags); /* as recv() */

#endif
