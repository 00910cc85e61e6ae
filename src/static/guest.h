/* static/guest - the static agent as the first process of a guest, whose file system is the initramfs that the lab
 * packed (lab/initramfs.c).
 *
 * It reads GUEST_CONFIG, loads modules, brings up the link and runs the agent. When the agent ends, or on an error, the
 * guest ends. Messages to the lab are lines on the console that begin with GUEST_SAYS. */
#ifndef KN_STATIC_GUEST_H
#define KN_STATIC_GUEST_H

#define GUEST_WORD "guest" /* the argument that makes the agent a guest's first process */
#define GUEST_CONFIG "/knbl.json"
#define GUEST_MODULES "/modules" /* "0.ko", "1.ko", … */
#define GUEST_SAYS "knbl: "
#define GUEST_READY "ready"

int kn_guest_main(void); /* Does not return in the first process; returns 1 in others. */

#endif
