/* One agent for all tests of a program, whose set_up() configures and starts it. */
#ifndef KN_TESTS_AGENT_ONE_H
#define KN_TESTS_AGENT_ONE_H

#include "live.h"

static struct live l;

static inline int end_agent(void **state)
{
    (void)state;
    live_end(&l);
    return 0;
}

#endif
