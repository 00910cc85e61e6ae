/* core/thread - starts threads with all signals blocked, so that only the main thread handles them; their locks. */
#ifndef KN_CORE_THREAD_H
#define KN_CORE_THREAD_H

#include <pthread.h>

/* Returns 0 or the error of pthread_create. `name` has at most 15 characters. */
int kn_thread_start(pthread_t *thread, const char *name, void *(*main)(void *), void *argument);
/* Timed waits for `changed` are until a kn_now_ns(). */
void kn_lock_init(pthread_mutex_t *lock, pthread_cond_t *changed);

#endif
