/* static/main - the agent as a static binary of its own, for machines, pods and guests where nothing else is. */
#include <string.h>
#include <unistd.h>

#include "agent_command.h"
#include "process.h"
#include "static/guest.h"

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], GUEST_WORD) == 0 && getpid() == 1)
        return kn_guest_main();
    kn_process_limits();
    int word = argc > 1 && strcmp(argv[1], "agent") == 0; /* `knbl agent OPTIONS` works with either binary */
    return kn_agent_command(argc - word, argv + word);
}
