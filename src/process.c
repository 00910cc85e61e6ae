#include "process.h"

#include <signal.h>
#include <stddef.h>
#include <sys/resource.h>

void kn_process_signals(void (*handler)(int))
{
    struct sigaction act = {.sa_handler = handler, .sa_flags = SA_RESTART};
    sigemptyset(&act.sa_mask);
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGTERM, &act, NULL);
    sigaction(SIGALRM, &act, NULL);
    struct sigaction hup; /* sent when the terminal closes; nohup ignores it, and that is kept */
    if (!sigaction(SIGHUP, NULL, &hup) && hup.sa_handler != SIG_IGN)
        sigaction(SIGHUP, &act, NULL);
    signal(SIGPIPE, SIG_IGN);
}

/* The soft limit is 1024 on most machines because of select(), which knbl does not use. */
void kn_process_limits(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}
