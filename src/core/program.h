/* core/program - what this very program is made of on disk, so that it can be had elsewhere: in an image, in a guest. */
#ifndef KN_CORE_PROGRAM_H
#define KN_CORE_PROGRAM_H

#include "core/error.h"

#define KN_PROGRAM_SELF "/proc/self/exe"

/* The shared objects that it runs on, the dynamic loader among them, each under the name by which it is asked for
 * ("libc.so.6"), with the file to read: `take` is called for each until it returns other than 0, which is returned. */
int kn_program_libraries(int (*take)(const char *name, const char *file, void *arg), void *arg);
/* Where a program expects its dynamic loader: "/lib64/ld-linux-x86-64.so.2"; NULL where it has none. */
const char *kn_program_loader(void);

#endif
