/* meter/proc - the tables of /proc as text. Each function finds what it is asked for or gives KN_ABSENT; none trusts that
 * a text is whole, or that it is such a table at all. For the meter's own files, their tests and their fuzzer. */
#ifndef KN_METER_PROC_H
#define KN_METER_PROC_H

#include <net/if.h>
#include <stddef.h>
#include <stdint.h>

#include "meter/meter.h"

uint64_t kn_proc_number(const char *text);   /* a number that is all there is on its line */

/* /proc/stat: what each CPU did, in ticks. Nice is user, hard interrupts are system's, waiting for disks is idle. */
enum kn_cpu_kind { KN_CPU_USER, KN_CPU_SYSTEM, KN_CPU_SOFTIRQ, KN_CPU_STEAL, KN_CPU_IDLE, KN_CPU_KINDS };
/* Fills ticks[cpu * KN_CPU_KINDS + kind] for the CPUs below `cpus`. Returns one more than the highest CPU it names. */
unsigned kn_proc_cpus(const char *text, uint64_t *ticks, unsigned cpus);

/* /proc/net/snmp and netstat: pairs of lines, "GROUP: NAME…" and "GROUP: NUMBER…". */
uint64_t kn_proc_pair(const char *text, const char *group, const char *name);
/* /proc/net/sockstat: "GROUP: NAME NUMBER NAME NUMBER…". */
uint64_t kn_proc_word(const char *text, const char *group, const char *name);
/* "NAME  NUMBER" at the start of a line: /proc/meminfo ("MemFree:"), /proc/net/snmp6. */
uint64_t kn_proc_line(const char *text, const char *name);
/* /proc/net/softnet_stat: a line a CPU of hexadecimal numbers; the sum of one column. */
uint64_t kn_proc_hex_column(const char *text, unsigned column);
/* /proc/net/stat/nf_conntrack: the same under a line of names. */
uint64_t kn_proc_hex_named(const char *text, const char *name);

/* /proc/net/dev. Takes the interface at `text`, moves to the next; NULL at the end. */
enum { KN_DEV_RX_BYTES, KN_DEV_RX_PACKETS, KN_DEV_RX_ERRORS, KN_DEV_RX_DROPS,
       KN_DEV_TX_BYTES = 8, KN_DEV_TX_PACKETS, KN_DEV_TX_ERRORS, KN_DEV_TX_DROPS, KN_DEV_COUNTERS = 16 };
const char *kn_proc_interface(const char *text, char name[IF_NAMESIZE], uint64_t counters[KN_DEV_COUNTERS]);

#endif
