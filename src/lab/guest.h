/* lab/guest - what runs inside a guest: this program as the first process of a kernel that has nothing but the
 * initramfs that the lab packed (initramfs.c).
 *
 * It reads GUEST_CONFIG, loads modules, brings up the link and runs the agent; when that ends, or nothing works, the
 * guest ends. What the lab must know it says on the console, in lines that begin with GUEST_SAYS. */
#ifndef KN_LAB_GUEST_H
#define KN_LAB_GUEST_H

#define GUEST_WORD "guest"          /* the argument that makes the program a guest's first process */
#define GUEST_CONFIG "/knbl.json"
#define GUEST_MODULES "/modules"    /* "0.ko", "1.ko", … */
#define GUEST_SAYS "knbl: "
#define GUEST_READY "ready"

int kn_guest_main(void); /* never returns where it is the first process; 1 elsewhere */

#endif
