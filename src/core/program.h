/* core/program - the files of the running program, to copy them into an image. */
#ifndef KN_CORE_PROGRAM_H
#define KN_CORE_PROGRAM_H

#define KN_PROGRAM_SELF "/proc/self/exe"

/* Calls `take` for each loaded shared object, including the dynamic loader, with the name by which it is loaded
 * ("libc.so.6") and its file. Stops when `take` returns a value other than 0, and returns that value. */
int kn_program_libraries(int (*take)(const char *name, const char *file, void *arg), void *arg);

#endif
