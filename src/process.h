/* process - exit codes, signal handlers and limits of knbl and its agent. */
#ifndef KN_PROCESS_H
#define KN_PROCESS_H

enum { EXIT_SCRIPT = 1, EXIT_USAGE = 2, EXIT_NO_CLUSTER = 3, EXIT_INTERRUPTED = 130 };

void kn_process_signals(void (*handler)(int)); /* SIGINT, SIGTERM, SIGALRM, and SIGHUP unless it is ignored */
void kn_process_limits(void);                  /* raises the limit of open files to the hard limit */

#endif
