/* core/thread - a thread without signals: they belong to the program's own. */
#ifndef KN_CORE_THREAD_H
#define KN_CORE_THREAD_H

#include <pthread.h>

/* 0, or the error of pthread_create. `name`: at most 15 characters. */
int kn_thread_start(pthread_t *thread, const char *name, void *(*main)(void *), void *argument);

#endif
