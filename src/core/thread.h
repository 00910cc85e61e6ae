/* core/thread - starts threads with all signals blocked, so that only the main thread handles them. */
#ifndef KN_CORE_THREAD_H
#define KN_CORE_THREAD_H

#include <pthread.h>

/* Returns 0 or the error of pthread_create. `name` has at most 15 characters. */
int kn_thread_start(pthread_t *thread, const char *name, void *(*main)(void *), void *argument);

#endif
