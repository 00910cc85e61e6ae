#include "core/thread.h"

#include <signal.h>

int kn_thread_start(pthread_t *thread, const char *name, void *(*main)(void *), void *argument)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(thread, NULL, main, argument);
    if (rc == 0)
        pthread_setname_np(*thread, name);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}
