/* agent_command - `knbl agent`: options, messages and the exit code.
 *
 * Used by knbl and by the static agent (static/main.c). It prints, so it is beside main.c. */
#ifndef KN_AGENT_COMMAND_H
#define KN_AGENT_COMMAND_H

/* Serves until SIGTERM, SIGINT or SIGHUP and returns the exit code. Ignores argv[0]. */
int kn_agent_command(int argc, char **argv);

#endif
