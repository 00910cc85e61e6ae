/* The server of a test program, over loopback: it is started before the tests, and stopped after them. */
#ifndef TESTS_SERVER_H
#define TESTS_SERVER_H

#include "loopback.h"

static struct loopback server;

static inline int start(void **state)
{
    (void)state;
    loopback_start(&server);
    return 0;
}

static inline int stop(void **state)
{
    (void)state;
    loopback_stop(&server);
    return 0;
}

#endif
